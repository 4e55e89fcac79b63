"""A model made ready for attacks: the same function of the image, faster."""

from __future__ import annotations

import bisect
import copy
import functools
import itertools
import warnings

import torch
from torch import Tensor, nn
from torch.fx.experimental import optimization
from torch.nn import functional

from hahbench.device import has_fast_bfloat16
from hahbench.logits import moved
from hahbench.models.layers import ImplicitNormConv2d, RegularBlock
from hahbench.models.vgg import VGG
from hahbench.registry import FOREIGN_ERRORS

_LOGIT_TOLERANCE = 1e-5
_GRADIENT_TOLERANCE = 0.01
_SHARE_OF_GRADIENTS = 0.5
_ASKED_ALONE = 8
# Of the range of the logits; a VGG-16 stays below 0.011 on 64 images. A HaH network, whose thresholds jump, goes up to
# 0.3, and stays below 0.005 where all of its blocks with thresholds are in float32.
_LOW_PRECISION_TOLERANCE = 0.012
_LOW_PRECISION_COSINE = 0.5
_SHARE_OF_LOW_PRECISION = 0.9


class PreparedModel(nn.Module):
    """A frozen model in evaluation mode that takes images in any memory format.

    Args:
        model: the network.
        memory_format: in which it is given the images.

    Attributes:
        low_precision: the same in bfloat16, or the latter half of it or more, for attacks that can do with approximate
            logits; None where that is not faster on the device, or changes the logits too much.
        is_random: whether it answers otherwise when it is asked again.
        depends_on_batch: whether it answers otherwise when images are asked alone.
    """

    low_precision: nn.Module | None
    is_random: bool
    depends_on_batch: bool

    def __init__(self, model: nn.Module, memory_format: torch.memory_format) -> None:
        super().__init__()
        self.model = model
        self.memory_format = memory_format
        self.low_precision = None
        self.is_random = False
        self.depends_on_batch = False
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """The logits (N, classes) of images (N, C, H, W)."""
        logits: Tensor = self.model(images.contiguous(memory_format=self.memory_format))
        return logits


def prepare(model: nn.Module, images: Tensor) -> PreparedModel:
    """A copy of the model for attacks; the model itself stays as it is.

    Weights are frozen; those that are normalised in every pass are normalised once; batch norm that follows a
    convolution is folded into it; a VGG's max-pools come before what commutes with them. Convolutions get the
    channels-last memory format, the fastest on CPUs and on tensor cores. What changes the logits of ``images`` by more
    than a relative 1e-5, or their gradients, or makes the forward or the backward pass fail, is left out: rewriting a
    model may lose gradients of its own, such as those of BPDA. A model that answers at random, or otherwise where no
    gradient is asked for, is left as it is.

    Args:
        model: maps images to logits.
        images: some images to try, (N, C, H, W), on the device of the model.
    """
    plain = PreparedModel(model, torch.contiguous_format)
    try:
        with torch.no_grad():
            once, again = plain(images), plain(images)
            alone = torch.cat([plain(image) for image in torch.split(images[:_ASKED_ALONE], 1)])
        plain.is_random = not _agree(again, once)
        # One image may lie on a threshold.
        plain.depends_on_batch = int(moved(once[:_ASKED_ALONE], alone.unsqueeze(0)).sum()) > 1
        prepared = PreparedModel(copy.deepcopy(model).requires_grad_(False), torch.contiguous_format)
        wanted, gradients = _logits_and_gradients(prepared, images)
    except FOREIGN_ERRORS:
        # Any module may be given; what cannot be copied or has no gradient is attacked as it is.
        return plain
    if plain.is_random or not _agree(once, wanted):
        plain.is_random = True
        return plain
    for change in (_normalize_weights_once, _pool_early, _fold_batch_norm, _lay_channels_last):
        try:
            changed = change(prepared)
            found, its_gradients = _logits_and_gradients(changed, images)
        except FOREIGN_ERRORS:
            # Nor must a change fit every module.
            continue
        if _agree(found, wanted) and _same_gradients(its_gradients, gradients):
            prepared = changed
    prepared.depends_on_batch = plain.depends_on_batch
    if has_fast_bfloat16(images.device):
        try:
            prepared.low_precision = _in_low_precision(prepared, images, wanted, gradients)
        except FOREIGN_ERRORS:
            # Nor bfloat16, which NumPy lacks.
            return prepared
    return prepared


def _in_low_precision(
    prepared: PreparedModel, images: Tensor, wanted: Tensor, gradients: Tensor
) -> _LowPrecision | None:
    """The model with as few of its first convolutions in float32 as logits and gradients near those of float32 ask for;
    None where those are more than half.

    It is taken that the error falls with their number; where it does not, more than needed may stay in float32.
    """

    @functools.cache
    def borne(exact: int) -> _LowPrecision | None:
        candidate = _LowPrecision(prepared, exact)
        found, its_gradients = _logits_and_gradients(candidate, images)
        error = (found - wanted).abs().amax(dim=1) / (wanted.amax(dim=1) - wanted.amin(dim=1))
        bears = float(error.max()) < _LOW_PRECISION_TOLERANCE and _alike(its_gradients, gradients)
        return candidate if bears else None

    most = sum(isinstance(module, nn.Conv2d) for module in prepared.modules()) // 2
    if (whole := borne(0)) is not None:
        return whole
    exact = bisect.bisect_left(range(most + 1), True, lo=1, key=lambda exact: borne(exact) is not None)
    return borne(exact) if exact <= most else None


class _LowPrecision(nn.Module):
    """The model in bfloat16, but for its first convolutions and its last linear layer.

    bfloat16 logits would hide small changes, and thresholds turn small changes of what they compare into large ones.

    Args:
        prepared: the model.
        exact: the number of convolutions that stay in float32.
    """

    def __init__(self, prepared: PreparedModel, exact: int) -> None:
        super().__init__()
        self.model = copy.deepcopy(prepared)
        layers = [
            (module, name, child)
            for module in self.model.modules()
            for name, child in module.named_children()
            if isinstance(child, nn.Conv2d | nn.Linear)
        ]
        convolutions = [layer for layer in layers if isinstance(layer[2], nn.Conv2d)]
        linear = [layer for layer in layers if isinstance(layer[2], nn.Linear)]
        for module, name, child in [*convolutions[:exact], *linear[-1:]]:
            setattr(module, name, _InFloat32(child))
        for _, _, child in convolutions[exact:]:
            # Autocast would convert them in every pass.
            child.to(torch.bfloat16)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """The logits (N, classes), float32."""
        with torch.autocast(images.device.type, torch.bfloat16, cache_enabled=False):
            logits: Tensor = self.model(images)
        return logits.float()


class _InFloat32(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            output: Tensor = self.layer(x.float())
        return output


def _agree(found: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(found, wanted, rtol=0, atol=_LOGIT_TOLERANCE * float(wanted.abs().max()))


def _same_gradients(found: Tensor, wanted: Tensor) -> bool:
    """Whether half of the gradients or more are the same; round-off may take an activation across a threshold."""
    apart, size = ((gradients.flatten(1).norm(dim=1)) for gradients in (found - wanted, wanted))
    return float((apart <= _GRADIENT_TOLERANCE * size).float().mean()) >= _SHARE_OF_GRADIENTS


def _alike(found: Tensor, wanted: Tensor) -> bool:
    """Whether nearly all of the gradients point about the same way; of a saturated unit bfloat16 may have none."""
    found, wanted = found.flatten(1), wanted.flatten(1)
    known = wanted.any(dim=1)
    cosines = functional.cosine_similarity(found[known].double(), wanted[known].double())
    return not known.any() or float((cosines > _LOW_PRECISION_COSINE).float().mean()) >= _SHARE_OF_LOW_PRECISION


def _logits_and_gradients(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The logits, and the gradients of a sum of them that weighs each class otherwise; 0 where there are none."""
    point = images.clone().requires_grad_()
    gradients = None
    with torch.enable_grad():
        logits: Tensor = model(point)
        if logits.requires_grad:
            weights = torch.linspace(-1, 1, logits.shape[1], device=logits.device)
            (gradients,) = torch.autograd.grad((weights * logits).sum(), point, allow_unused=True)
    return logits.detach(), torch.zeros_like(images) if gradients is None else gradients


def _normalize_weights_once(prepared: PreparedModel) -> PreparedModel:
    changed = copy.deepcopy(prepared)
    for module in list(changed.modules()):
        for name, child in module.named_children():
            if type(child) is ImplicitNormConv2d:
                plain = nn.Conv2d(child.in_channels, child.out_channels, kernel_size=3, padding=1, bias=False)
                plain.weight = nn.Parameter(child.unit_weight(), requires_grad=False)
                setattr(module, name, plain)
    return changed.eval()


def _pool_early(prepared: PreparedModel) -> PreparedModel:
    """Max-pools of a VGG before the ReLU and the batch norm, which then have a quarter of the work.

    Both are monotone, the batch norm where its weights are not negative, so the outputs are the same to the last bit.
    """
    changed = copy.deepcopy(prepared)
    network = changed.model
    if isinstance(network, VGG):
        layers = list(network.features)
        for place, (block, pool) in enumerate(itertools.pairwise(network.features)):
            if (
                isinstance(block, RegularBlock)
                and isinstance(pool, nn.MaxPool2d)
                and (block.normalization.weight >= 0).all()
            ):
                layers[place] = nn.Sequential(block.conv, pool, block.relu, block.normalization)
                layers[place + 1] = nn.Identity()
        network.features = nn.Sequential(*layers)
    return changed


def _fold_batch_norm(prepared: PreparedModel) -> PreparedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folded = optimization.fuse(prepared.model)
    if _batch_norms(folded) == _batch_norms(prepared):
        return prepared
    return PreparedModel(folded.requires_grad_(False), prepared.memory_format)


def _batch_norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def _lay_channels_last(prepared: PreparedModel) -> PreparedModel:
    changed = copy.deepcopy(prepared).to(memory_format=torch.channels_last)
    changed.memory_format = torch.channels_last
    return changed
