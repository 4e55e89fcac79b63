"""Models that look robust because their gradients mislead, one for each of five ways; all wrap an honest classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Masked(nn.Module):
    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images)
        return logits


class QuantizedInput(_Masked):
    """Rounds to 17 values a channel; the derivative of rounding is 0."""

    def forward(self, images: Tensor) -> Tensor:
        return self.logits((16 * images).round() / 16)


class SteepSigmoid(_Masked):
    """Steps like those of ``QuantizedInput``, of sigmoids whose slope is 0 or huge."""

    steepness = 3e4

    def forward(self, images: Tensor) -> Tensor:
        scaled = 16 * images
        lower = scaled.detach().floor()
        return self.logits((lower + torch.sigmoid(self.steepness * (scaled - lower - 0.5))) / 16)


class RandomResizing(_Masked):
    """Shrinks the image by up to an eighth and pads it to its size, at random in each pass (Xie et al. 2018)."""

    def forward(self, images: Tensor) -> Tensor:
        side = images.shape[-1]
        smaller = int(torch.randint(side - side // 8, side + 1, ()))
        left, top = (int(torch.randint(0, side - smaller + 1, ())) for _ in range(2))
        resized = functional.interpolate(images, size=(smaller, smaller), mode="bilinear", antialias=True)
        return self.logits(functional.pad(resized, (left, side - smaller - left, top, side - smaller - top)))


class OneHotOutput(_Masked):
    """Returns the decision; its gradient is that of a softmax saturated by a factor of 1e6."""

    def forward(self, images: Tensor) -> Tensor:
        return (1e6 * self.logits(images)).softmax(dim=1)


class HonestWithoutGradients(_Masked):
    """Answers as the classifier does when it is evaluated, and for another image when it is differentiated."""

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self.logits(images.flip(-1).roll(images.shape[-1] // 2, dims=-1))
        return self.logits(images)
