"""A model whose forward passes are counted, so that an attack by a library can tell how far it is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

_PASSES_BETWEEN_REPORTS = 5


class WatchedModel(nn.Module):
    """The model, counting its forward passes.

    Attributes:
        rows: images seen since ``start``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self.start(1, lambda part: None)

    def start(self, expected: int, report: Callable[[float], None]) -> None:
        """Count anew; ``report`` is called now and then with the part done of the ``expected`` passes."""
        self.rows = 0
        self._passes = 0
        self._expected, self._report = expected, report

    def forward(self, images: Tensor) -> Tensor:
        """The model's logits."""
        logits: Tensor = self.model(images)
        self.rows += len(images)
        self._passes += 1
        if self._passes % _PASSES_BETWEEN_REPORTS == 0:
            self._report(min(1.0, self._passes / self._expected))
        return logits
