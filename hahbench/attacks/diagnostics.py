"""Signs that an attack failed and the model is not robust: Athalye, Carlini and Wagner 2018
(https://arxiv.org/abs/1802.00420, section 3.1) and Carlini et al. 2019 (https://arxiv.org/abs/1902.06705).

The accuracy under an attack is an upper bound of the robust accuracy, and a loose one where gradients tell nothing.
Each check asks what an honest model answers one way and a model that hides its gradients another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from hahbench.attacks.apgd import Apgd, ApgdLanes
from hahbench.attacks.apgd_l1 import ApgdL1
from hahbench.attacks.engine import Lanes, Stepper, drive
from hahbench.attacks.losses import cross_entropy, errs, margin
from hahbench.attacks.square import Square
from hahbench.device import seeded
from hahbench.logits import SPREAD_MOVED, moved
from hahbench.outcome import Samples

_Norm: TypeAlias = Literal["l1", "l2", "linf"]

_PROBED = 32
_ASKED_AGAIN = 3
_ASKED_ALONE = 8
_ITERATIONS = 20
_ITERATIONS_UNBOUNDED = 50
_QUERIES = 100

# An honest model shows none of these signs but on single samples, such as an image with an activation right on a
# threshold, or one that only a lucky start breaks. So a sign counts on 2 samples, and on 1 in 20 where there are more.
_FEWEST = 2
_SMALLEST_SHARE = 0.05
# Outcomes cover more samples than probes do, and Square takes less than 1 % from honest models that white-box attacks
# were through with.
_SMALLEST_SHARE_OF_SQUARE = 0.02
_VANISHING = 1e-6
_VANISHING_SHARE = 0.9
_SATURATED = 1e-6
_UNLIKELY = 1e-3


def diagnose(
    model: nn.Module,
    samples: Samples,
    outcomes: pd.DataFrame,
    *,
    norm: Literal["l1", "l2", "linf"],
    epsilon: float,
    seed: int,
    others: Mapping[str, nn.Module],
) -> list[str]:
    """Reasons to doubt a robust accuracy, most telling first; empty when there is none.

    At most 32 of the samples that the model classifies correctly are probed, those that the attack left robust first,
    with up to 75 forward and backward passes each, some 115 more forward passes, and some 22 of each on every other
    model.

    Args:
        model: in evaluation mode with frozen weights, on the device of the samples.
        samples: those attacked.
        outcomes: what the judge found, a row per sample in their order.
        norm: of the attack.
        epsilon: its budget.
        seed: of the probes, and of the model's own draws while it is probed.
        others: models whose adversarial images are shown to this one, by name.

    Returns:
        A sentence each.
    """
    correct = (outcomes["clean_pred"] == outcomes["label"]).to_numpy()
    robust = (outcomes["adv_pred"] == outcomes["label"]).to_numpy()
    by_square = (outcomes["member"] == "square").to_numpy()
    probed, left_robust, left_by_gradients = (
        samples[_first(wanted, robust)] for wanted in (correct, robust, robust | by_square)
    )
    if len(probed) == 0:
        return []
    probe = _Probe(norm, epsilon, seed)
    with seeded(seed, samples.images.device):
        reasons = [*_signs_of_model(model, probed), *_unbounded(model, probed, seed)]
        # An attack that sees no gradient leaves much to others on any model.
        if (outcomes["backwards"] != 0).any():
            reasons += [
                *_square_ahead(by_square.sum(), (robust | by_square).sum(), correct.sum()),
                *_black_box(model, left_robust, probe),
                *_transfer(model, left_robust, others, probe),
                *_single_step(model, left_by_gradients, probe),
                *_larger_epsilon(model, left_robust, 1 - robust.sum() / correct.sum(), probe),
            ]
    return reasons


def diagnose_minimum_norm(model: nn.Module, samples: Samples, outcomes: pd.DataFrame, *, seed: int) -> list[str]:
    """Reasons to doubt minimum norms, most telling first; empty when there is none.

    At most 32 of the samples that the model classifies correctly are probed, with two backward and up to eight
    forward passes each.

    Args:
        model: as for ``diagnose``.
        samples: those attacked.
        outcomes: what the judge found, a row per sample in their order.
        seed: of the model's own draws while it is probed.

    Returns:
        A sentence each.
    """
    correct = (outcomes["clean_pred"] == outcomes["label"]).to_numpy()
    unbroken = correct & (outcomes["adv_pred"] == outcomes["label"]).to_numpy()
    probed = samples[_first(correct, unbroken)]
    if len(probed) == 0:
        return []
    reasons = []
    if _telling(unbroken.sum(), correct.sum()):
        reasons.append(f"{unbroken.sum()} of {correct.sum()} samples were not broken at any distance")
    with seeded(seed, samples.images.device):
        return reasons + list(_signs_of_model(model, probed))


def _signs_of_model(model: nn.Module, probed: Samples) -> Iterator[str]:
    """What no attack is asked for."""
    yield from _unsteady_output(model, probed)
    yield from _flat_output(model, probed)
    yield from _useless_gradient(model, probed)


def _first(wanted: np.ndarray, preferred: np.ndarray) -> Tensor:
    """Up to 32 of the rows that are wanted, the preferred ones first."""
    rows = np.flatnonzero(wanted)
    return torch.from_numpy(rows[np.argsort(~preferred[rows], kind="stable")][:_PROBED])


def _telling(count: int, total: int) -> bool:
    return count >= max(_FEWEST, _SMALLEST_SHARE * total)


@torch.no_grad()
def _logits(model: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = model(images)
    return logits.float()


def _unsteady_output(model: nn.Module, samples: Samples) -> Iterator[str]:
    """Whether the output depends on something else than the image."""
    images = samples.images
    logits = _logits(model, images)
    again = torch.stack([_logits(model, images) for _ in range(_ASKED_AGAIN)])
    if change := _change(logits, again):
        yield f"the output is random: {change} when the same images are asked again"
        # The other comparisons would find the same.
        return
    with torch.enable_grad():
        differentiated = model(images.detach().requires_grad_()).detach().float()
    if change := _change(logits, differentiated.unsqueeze(0)):
        yield f"the output is another one when gradients are asked for: {change}"
    alone = torch.cat([_logits(model, images[row : row + 1]) for row in range(min(_ASKED_ALONE, len(images)))])
    if change := _change(logits[:_ASKED_ALONE], alone.unsqueeze(0)):
        yield f"the output depends on the other images of a batch: {change} when images are asked alone"


def _change(logits: Tensor, again: Tensor) -> str | None:
    """How logits of other times (T, N, classes) differ from ``logits`` (N, classes) by more than round-off."""
    count = len(logits)
    changed = int(moved(logits, again).sum())
    if not _telling(changed, count):
        return None
    logits, again = logits.nan_to_num(), again.nan_to_num()
    if predictions := int((again.argmax(dim=2) != logits.argmax(dim=1)).any(dim=0).sum()):
        return f"{predictions} of {count} predictions change"
    return f"the logits of {changed} of {count} images change by more than {SPREAD_MOVED:.0%} of their spread"


def _flat_output(model: nn.Module, samples: Samples) -> Iterator[str]:
    """Whether the output is a decision, which has no slope, and not logits."""
    logits = _logits(model, samples.images)
    falling = logits.sort(dim=1, descending=True).values
    largest, smallest = falling[:, 0], falling[:, -1]
    # Of two logits, one always stands alone.
    one_hot = (falling[:, 1] - smallest <= _SATURATED * (largest - smallest)) & (logits.shape[1] > 2)
    saturated = (smallest >= 0) & (largest <= 1) & (1 - largest <= _SATURATED) & (falling[:, 1] <= _SATURATED)
    flat = int((one_hot | saturated).sum())
    if _telling(flat, len(samples)):
        yield f"{flat} of {len(samples)} outputs are one-hot or saturated probabilities, which have no slope"


def _useless_gradient(model: nn.Module, samples: Samples) -> Iterator[str]:
    """Whether gradients are missing, not finite, or zero in nearly every colour value that the model reads.

    Behind steep steps, colour values that lie on an edge alone have a gradient; in honest models nearly all have one.
    Zero tells for the margin alone: the cross-entropy of a model that is merely sure of itself underflows, which other
    losses do not mind.
    """
    with torch.enable_grad():
        images = samples.images.detach().requires_grad_()
        logits = model(images)
        if not logits.requires_grad:
            yield "the logits have no gradient"
            return
        found = [
            torch.autograd.grad(loss(logits, samples.labels).sum(), images, retain_graph=True, allow_unused=True)[0]
            for loss in (margin, cross_entropy)
        ]
    size = torch.stack([torch.zeros_like(images) if gradient is None else gradient for gradient in found])
    size = size.detach().flatten(2).abs()
    count = len(samples)
    not_finite = int((~size.isfinite()).any(dim=2).any(dim=0).sum())
    if _telling(not_finite, count):
        yield f"the gradient of {not_finite} of {count} samples is NaN or infinite"
    zero = size[0] <= _VANISHING * size[0].amax(dim=1, keepdim=True)
    zero = zero[:, ~_unread(model, samples.images, zero)]
    vanishing = int((zero.float().mean(dim=1) > _VANISHING_SHARE).sum())
    if _telling(vanishing, count):
        where = f"zero in over {_VANISHING_SHARE:.0%} of the colour values"
        yield f"the gradient of {vanishing} of {count} samples is {where}"


def _unread(model: nn.Module, images: Tensor, zero: Tensor) -> Tensor:
    """The colour values (C * H * W,) without gradients in any image that may take any value, as where a model begins by
    leaving out pixels; ``zero`` says where an image's gradient is 0, (N, C * H * W)."""
    never = zero.all(dim=0)
    if never.all():
        # Of a model that reads nothing the gradient is 0 indeed.
        return ~never
    others = torch.where(never.view(images.shape[1:]), 1 - images, images)
    changes = moved(_logits(model, images), _logits(model, others).unsqueeze(0)).any()
    return never & ~changes


class _Probe:
    """Makes short attacks within a budget, from other random starts than those of the attack in doubt."""

    def __init__(self, norm: _Norm, epsilon: float, seed: int) -> None:
        self.norm, self.epsilon, self.seed = norm, epsilon, seed + 1

    def apgd(self, model: nn.Module, samples: Samples, iterations: int, *, radii: float = 1.0) -> Apgd:
        """APGD on ``model``, within ``radii`` times epsilon."""
        ranking = _logits(model, samples.images).argsort(dim=1, descending=True)
        # Unlike cross-entropy, the difference of logits ratio does not underflow; it needs three classes.
        loss: Literal["dlr", "ce"] = "dlr" if ranking.shape[1] > 2 else "ce"
        apgd = ApgdL1 if self.norm == "l1" else Apgd
        return apgd(self.norm, radii * self.epsilon, loss, ranking=ranking, seed=self.seed, iterations=iterations)


def _unbounded(model: nn.Module, probed: Samples, seed: int) -> Iterator[str]:
    """Whether samples stay robust where any image may take their place: the l_inf ball of radius 1 holds them all."""
    attack = _Probe("linf", 1.0, seed).apgd(model, probed, _ITERATIONS_UNBOUNDED)
    left = len(probed) - _broken(model, probed, attack)
    if _telling(left, len(probed)):
        yield f"{left} of {len(probed)} samples stay robust when the perturbation is unbounded"


def _square_ahead(by_square: int, asked: int, correct: int) -> Iterator[str]:
    """Whether the attack's own Square, which comes last, broke a share of all samples that tells."""
    if by_square >= max(_FEWEST, _SMALLEST_SHARE_OF_SQUARE * correct):
        yield f"Square, which sees no gradient, broke {by_square} of {asked} samples that the white-box attacks did not"


def _black_box(model: nn.Module, robust: Samples, probe: _Probe) -> Iterator[str]:
    """Whether few queries break samples, as they may where the attack had no Square; for l1 there is none."""
    if probe.norm == "l1":
        return
    broken = _broken(model, robust, Square(probe.norm, probe.epsilon, seed=probe.seed, queries=_QUERIES))
    if _telling(broken, len(robust)):
        who = f"{_QUERIES} queries of Square, which sees no gradient,"
        yield f"{who} broke {broken} of {len(robust)} samples left robust"


def _transfer(model: nn.Module, robust: Samples, others: Mapping[str, nn.Module], probe: _Probe) -> Iterator[str]:
    """Whether images perturbed on another model break what the attack on the model itself did not."""
    if len(robust) == 0:
        return
    found = []
    for name, other in others.items():
        attack = _Strongest(probe.apgd(other, robust, _ITERATIONS))
        broken = _wrong(model, robust, drive(attack, other, robust, batch_size=_PROBED).candidates)
        if _telling(broken, len(robust)):
            found.append((broken, name))
    if len(found) == 1:
        broken, name = found[0]
        yield f"images perturbed on model {name} broke {broken} of {len(robust)} samples left robust"
    elif found:
        most, name = max(found)
        models = f"{len(found)} of {len(others)} other models"
        yield f"images perturbed on {models} broke up to {most} of {len(robust)} samples left robust, most on {name}"


class _Strongest:
    """APGD that goes on after an error and proposes the point of the largest loss, which transfers better."""

    attempts = 1

    def __init__(self, stepper: Apgd) -> None:
        self.stepper, self.steps = stepper, stepper.steps

    def start(self, lanes: Lanes) -> ApgdLanes:
        return self.stepper.start(lanes)

    def step(self, model: nn.Module, lanes: ApgdLanes) -> None:
        self.stepper.step(model, lanes)
        lanes.done = lanes.step + 1 == self.steps
        lanes.broken = lanes.done
        # A copy, for the stepper writes into candidates.
        lanes.candidate = lanes.best.clone()


def _single_step(model: nn.Module, left: Samples, probe: _Probe) -> Iterator[str]:
    """Whether one step breaks what many did not; APGD for l1 cannot do with one."""
    if len(left) == 0 or probe.norm == "l1":
        return
    broken = _broken(model, left, probe.apgd(model, left, 1))
    if _telling(broken, len(left)):
        yield f"a single step broke {broken} of {len(left)} samples that the white-box attacks did not"


def _larger_epsilon(model: nn.Module, robust: Samples, broken_share: float, probe: _Probe) -> Iterator[str]:
    """Whether twice the budget breaks nothing more although it should.

    Were a sample left robust at epsilon as likely to break before 2 epsilon as any was before epsilon, all N would stay
    robust with probability (1 - broken_share) ** N. Below 0.001, that none breaks is no accident.
    """
    if len(robust) == 0 or (1 - broken_share) ** len(robust) > _UNLIKELY:
        return
    if _broken(model, robust, probe.apgd(model, robust, _ITERATIONS, radii=2)) == 0:
        before = f"although epsilon broke {broken_share:.0%} of all"
        yield f"twice the epsilon broke none of {len(robust)} samples left robust, {before}"


def _broken(model: nn.Module, samples: Samples, stepper: Stepper[Any]) -> int:
    """How many samples an attack breaks."""
    if len(samples) == 0:
        return 0
    return _wrong(model, samples, drive(stepper, model, samples, batch_size=_PROBED).candidates)


def _wrong(model: nn.Module, samples: Samples, images: Tensor) -> int:
    return int(errs(_logits(model, images), samples.labels).sum())
