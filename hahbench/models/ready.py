"""What every model goes through before it is attacked, in a run and in ``evaluate``."""

from __future__ import annotations

import warnings

from torch import nn

from hahbench.device import full_float32
from hahbench.models.conventions import PROBED, broken_conventions
from hahbench.models.load import check_classifier, raising_in_one_line
from hahbench.models.prepare import PreparedModel, prepare
from hahbench.outcome import Samples

TRIED = 64
"""Samples that a model is tried on."""


def make_ready(model: nn.Module, samples: Samples, classes: int, name: str) -> PreparedModel:
    """The model prepared for attacks, once it has shown to be a classifier; what conventions it breaks is warned of.

    Args:
        model: in evaluation mode, on the device of the samples; it stays as it is.
        samples: of which the first ``TRIED`` count.
        classes: the number of logits expected.
        name: of the model, for messages.

    Raises:
        ModelError: as for ``check_classifier``; or more images make the model raise.
    """
    some = samples[:TRIED]
    with full_float32():
        check_classifier(model, some.images[:2], classes, name)
        # Batches shrink to one image before an attack ends.
        check_classifier(model, some.images[:1], classes, name)
        probed = some[:PROBED]
        with raising_in_one_line(name, probed.images):
            signs = broken_conventions(model, probed.images, probed.labels)
        for sign in signs:
            # Of the line that called evaluate or plan: between are evaluate and its decorator, or plan and _made_ready.
            warnings.warn(f"model {name!r} {sign}", stacklevel=4)
        return prepare(model, some.images)
