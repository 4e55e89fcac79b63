"""Which differences between logits count."""

from __future__ import annotations

from torch import Tensor

ROUND_OFF = 2e-5
"""Of the largest logit of an image: a lead that is no larger is none. It is twice what preparing a model may change."""

SPREAD_MOVED = 0.01
"""Of the spread of an image's logits. Round-off moves them by some 1e-5 of it, but where it takes an activation across
a threshold."""


def moved(logits: Tensor, again: Tensor) -> Tensor:
    """Which images' logits changed by more than round-off, (N,) bool.

    Args:
        logits: (N, classes).
        again: (T, N, classes), at T other times.
    """
    logits, again = logits.nan_to_num(), again.nan_to_num()
    spread = logits.amax(dim=1) - logits.amin(dim=1)
    return (again - logits).abs().amax(dim=(0, 2)) > SPREAD_MOVED * spread
