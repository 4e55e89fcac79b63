"""Square attack (Andriushchenko, Croce, Flammarion and Hein 2020, https://arxiv.org/abs/1912.00049): random search over
square windows, from the model's answers alone."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hahbench.attacks import random
from hahbench.attacks.engine import Lanes
from hahbench.attacks.losses import errs, margin
from hahbench.attacks.projections import per_image, unit

# The window's area halves after these queries out of 10,000; the budget scales them.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_SCHEDULE_LENGTH = 10_000
# Of the image, what the first windows cover: p in the paper.
_FIRST_FRACTION = 0.8
_TILES_ACROSS = 5
# Of the range of the logits: below it a margin in bfloat16 is not trusted. It is twice the largest error measured on
# 512 images of CIFAR-10 (VGG-16), 0.011; the median is 0.0015.
_SLACK = 0.02
_TINY = 1e-12
# Proposals are made ahead as long as fewer than this are expected to be kept; the share kept is averaged over as many
# steps as the inverse of the second number.
_USEFUL = 0.3
_FORGETTING = 0.05


@dataclasses.dataclass
class SquareLanes(Lanes):
    """The state of Algorithm 1: ``candidate`` is the best image so far, ``step`` the next query; query 0 is the start.

    Attributes:
        key: (L,) of the random draws.
        margin: (L,) that of the best image.
        slack: (L,) the margin at that image below which an approximate one is not trusted.
    """

    key: Tensor
    margin: Tensor
    slack: Tensor


class Square:
    """Square attack on the margin, within a ball; a lane is done when its sample breaks or its queries are spent.

    A window lies anywhere in the image, as in the paper; the reference implementation never reaches the last row and
    column. A proposal that is the best image itself is a query used up, but the model is not asked.

    Args:
        norm: of the ball.
        epsilon: its radius.
        seed: of the random draws.
        queries: proposals per sample, after the start.
        batch_size: proposals made at once. With fewer lanes the next ones of each are tried too, and those after one
            that is kept are thrown away, so that results do not depend on it.
        approximate: a faster model that gives nearly the same logits, which is asked first; the model itself answers
            wherever a sample may be broken.
    """

    attempts = 1

    def __init__(
        self,
        norm: Literal["l2", "linf"],
        epsilon: float,
        *,
        seed: int,
        queries: int = 5000,
        batch_size: int = 1,
        approximate: nn.Module | None = None,
    ) -> None:
        self.norm, self.epsilon, self.seed = norm, epsilon, seed
        self.queries, self.batch_size, self.approximate = queries, batch_size, approximate
        # How many of the proposals are kept, lately: it decides how many are made at once, and no result.
        self.kept_share = 1.0
        # The start is evaluated too.
        self.steps = queries + 1

    def start(self, lanes: Lanes) -> SquareLanes:
        """Vertical stripes for l_inf, a grid of bumps for l2: sections 3.2 and 3.3."""
        key = random.keys(self.seed, "square", lanes.index, lanes.attempt)
        delta = _stripes(key, lanes.images) if self.norm == "linf" else unit(_grid_of_bumps(key, lanes.images))
        lanes.candidate = (lanes.images + self.epsilon * delta).clamp_(0, 1)
        unknown = torch.full_like(lanes.images[:, 0, 0, 0], torch.inf)
        return SquareLanes(**vars(lanes), key=key, margin=unknown, slack=torch.zeros_like(unknown))

    def step(self, model: nn.Module, lanes: SquareLanes) -> None:
        """Queries of every lane, up to the first that lowers the margin."""
        count = len(lanes.row)
        ahead = max(1, min(self.batch_size // count, int(_USEFUL / max(self.kept_share, _TINY))))
        row = torch.arange(count, device=lanes.row.device).repeat_interleave(ahead)
        query = lanes.step[row] + torch.arange(ahead, device=row.device).repeat(count)
        best = lanes.candidate[row]
        propose = self._propose_linf if self.norm == "linf" else self._propose_l2
        proposal = propose(lanes.images[row], best, lanes.key[row], query)
        new = (proposal - best).abs_().amax(dim=(1, 2, 3)) > 0
        asked = ((new | (query == 0)) & (query <= self.queries)).nonzero().squeeze(1)
        margins = torch.full_like(lanes.margin[row], torch.inf)
        slack = torch.zeros_like(margins)
        close = (lanes.margin < lanes.slack)[row[asked]]
        for rows, exact in ((asked[close], True), (asked[~close], self.approximate is None)):
            if len(rows) > 0:
                margins[rows], slack[rows] = self._ask(model, proposal[rows], lanes, row[rows], exact)

        better = (margins < lanes.margin[row]).view(count, ahead)
        kept, first = better.max(dim=1)
        self.kept_share += _FORGETTING * (float(kept.float().mean()) / ahead - self.kept_share)
        chosen = torch.arange(count, device=row.device) * ahead + first
        lanes.candidate = torch.lerp(lanes.candidate, proposal[chosen], per_image(kept.float()))
        lanes.margin = torch.where(kept, margins[chosen], lanes.margin)
        lanes.slack = torch.where(kept, slack[chosen], lanes.slack)
        # The engine adds one more.
        lanes.step += torch.where(kept, first, ahead - 1).minimum(self.queries - lanes.step)
        lanes.broken = lanes.margin < 0
        lanes.done = lanes.broken | (lanes.step == self.queries)

    def _ask(
        self, model: nn.Module, images: Tensor, lanes: SquareLanes, row: Tensor, exact: bool
    ) -> tuple[Tensor, Tensor]:
        """The margins of images of the lanes at ``row`` and the slack; an approximate margin below it is asked anew."""
        labels, one = lanes.labels[row], torch.ones_like(row)
        asked = model if exact or self.approximate is None else self.approximate
        logits = asked(images).to(images.dtype)
        lanes.forwards.index_add_(0, row, one)
        margins = _margin(logits, labels)
        if self.approximate is None:
            return margins, torch.zeros_like(margins)
        slack = _SLACK * (logits.amax(dim=1) - logits.amin(dim=1)).nan_to_num()
        near = (margins < slack).nonzero().squeeze(1)
        if not exact and len(near) > 0:
            margins[near] = _margin(model(images[near]).to(images.dtype), labels[near])
            lanes.forwards.index_add_(0, row[near], one[near])
        return margins, slack

    def _propose_linf(self, images: Tensor, best: Tensor, key: Tensor, query: Tensor) -> Tensor:
        """Algorithm 2: a window in which each channel lies at one end of the ball."""
        channels, height, width = images.shape[1:]
        size = torch.tensor(self._window_sizes(height, width), device=images.device)[self._level(query)]
        rows, columns, two = height + 1 - size, width + 1 - size, torch.full_like(size, 2)
        drawn = random.integers(key, query, torch.stack([rows, columns, *[two] * channels], dim=1))
        window = _window(drawn[:, 0], drawn[:, 1], size, height, width)
        shift = self.epsilon * (2.0 * drawn[:, 2:] - 1).view(-1, channels, 1, 1)
        # A mask of floats takes a tenth of the time of torch.where on a CPU, and is as exact.
        return torch.lerp(best, (images + shift).clamp_(0, 1), window)

    def _propose_l2(self, images: Tensor, best: Tensor, key: Tensor, query: Tensor) -> Tensor:
        """Algorithm 3: a bump is added in one window, to which the norm of a second one moves, and what is left of
        epsilon."""
        channels, height, width = images.shape[1:]
        sizes, level = self._window_sizes(height, width), self._level(query)
        size = torch.tensor(sizes, device=images.device)[level]
        rows, columns, two = height + 1 - size, width + 1 - size, torch.full_like(size, 2)
        bounds = torch.stack([rows, columns, rows, columns, two, *[two] * channels], dim=1)
        top, left, other_top, other_left, turned, *signs = random.integers(key, query, bounds).unbind(dim=1)
        window = _window(top, left, size, height, width)
        either = torch.maximum(window, _window(other_top, other_left, size, height, width))
        bump = _placed(_bump_table(sizes, images.device), 2 * level + turned, top, left, height, width)
        sign = (2.0 * torch.stack(signs, dim=1) - 1).view(-1, channels, 1, 1)

        delta = best - images
        squares = delta.square()
        left_over = self.epsilon**2 - squares.sum(dim=(1, 2, 3), keepdim=True)
        budget = (_sum(squares * either) + left_over / channels).clamp_min_(0)
        old_norm = _sum(squares.mul_(window)).sqrt_().clamp_min_(_TINY)
        new = (delta * (window / old_norm)).addcmul_(bump, sign)
        new *= (budget / _sum(new.square()).clamp_min_(_TINY)).sqrt_()
        return delta.lerp_(new, either).add_(images).clamp_(0, 1)

    def _level(self, query: Tensor) -> Tensor:
        """The place in ``_window_sizes`` of each query's size; the start, query 0, has a window without pixels."""
        halvings = torch.tensor(_HALVINGS, device=query.device)
        level = 1 + torch.bucketize((query - 1) * _SCHEDULE_LENGTH // self.queries, halvings)
        return level * (query > 0)

    def _window_sizes(self, height: int, width: int) -> tuple[int, ...]:
        """0, then the sides of the windows, falling."""
        fractions = (_FIRST_FRACTION / 2**halvings for halvings in range(len(_HALVINGS) + 1))
        sizes = [round(math.sqrt(fraction * height * width)) for fraction in fractions]
        if self.norm == "l2":
            sizes = [max(size, 3) // 2 * 2 + 1 for size in sizes]
        return (0, *(min(max(size, 1), height, width) for size in sizes))


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The margin (N,), below 0 wherever the judge finds an error: also at some ties, and where a logit is NaN."""
    # Two infinite logits have no margin.
    margins = margin(logits, labels).nan_to_num(0.0, torch.inf, -torch.inf)
    margins = torch.where(errs(logits, labels), margins.clamp(max=-_TINY), margins)
    return margins.masked_fill(logits.isnan().any(dim=1), -torch.inf)


def _window(top: Tensor, left: Tensor, size: Tensor, height: int, width: int) -> Tensor:
    """(L, 1, H, W), 1 inside the square and 0 outside."""
    rows, columns = _inside(top, size, height), _inside(left, size, width)
    return (rows.unsqueeze(2) * columns.unsqueeze(1)).unsqueeze(1)


def _inside(start: Tensor, size: Tensor, length: int) -> Tensor:
    offset = torch.arange(length, device=start.device) - start.unsqueeze(1)
    return ((offset >= 0) & (offset < size.unsqueeze(1))).float()


def _placed(table: Tensor, entry: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """(L, 1, H, W), an entry of the table (entries, S, S) with its corner at ``top`` and ``left``; its last row and
    column, of zeros, elsewhere."""
    side = table.shape[-1]
    rows, columns = _offsets(top, height, side), _offsets(left, width, side)
    return table.take(((entry.view(-1, 1) * side + rows) * side).unsqueeze(2) + columns.unsqueeze(1)).unsqueeze(1)


def _offsets(start: Tensor, length: int, side: int) -> Tensor:
    offset = torch.arange(length, device=start.device) - start.unsqueeze(1)
    return offset.masked_fill_(offset < 0, side - 1).clamp_(max=side - 1)


@functools.lru_cache(maxsize=8)
def _bump_table(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """(2 len(sizes), S, S), the two bumps of each size in the upper left corner, then zeros."""
    side = max(sizes) + 1
    table = torch.zeros(len(sizes), 2, side, side)
    for entry, size in zip(table, sizes, strict=True):
        entry[:, :size, :size] = _bumps(size)
    return table.flatten(0, 1).to(device)


def _bumps(size: int) -> Tensor:
    """(2, size, size), of unit norm: one half positive and one negative, upper and lower or left and right; eq. 3."""
    half = size // 2
    bump = torch.cat([_pyramid(half, size), -_pyramid(size - half, size)])
    bump = functional.normalize(bump.flatten(), dim=0).view(size, size)
    return torch.stack([bump, bump.T])


def _pyramid(height: int, width: int) -> Tensor:
    """(height, width), of unit norm, highest in the middle: eq. 2."""
    rows = (torch.arange(height) - height // 2).abs()
    columns = (torch.arange(width) - width // 2).abs()
    inverse_squares = torch.arange(1.0, max(height, width) // 2 + 2) ** -2
    heights = inverse_squares.flip(0).cumsum(0).flip(0)
    return functional.normalize(heights[torch.maximum(rows[:, None], columns)].flatten(), dim=0).view(height, width)


def _stripes(key: Tensor, images: Tensor) -> Tensor:
    """-1 or 1 in each column of each channel."""
    _, channels, _, width = images.shape
    return random.signs(key, 0, channels * width).view(-1, channels, 1, width).expand_as(images)


def _grid_of_bumps(key: Tensor, images: Tensor) -> Tensor:
    """Bumps side by side, each turned and signed at random, in the middle of the image."""
    _, channels, height, width = images.shape
    size = max(min(height, width) // _TILES_ACROSS, 1)
    down, across = height // size, width // size
    tiles = down * across
    drawn = random.signs(key, 0, (channels + 1) * tiles)
    turned, sign = drawn[:, :tiles] > 0, drawn[:, tiles:]
    bumps = _bumps(size).to(images.device)[turned.long()]
    grid = sign.view(-1, channels, down, across, 1, 1) * bumps.view(-1, 1, down, across, size, size)
    grid = grid.transpose(3, 4).reshape(-1, channels, down * size, across * size)
    top, left = (height - down * size) // 2, (width - across * size) // 2
    delta = torch.zeros_like(images)
    delta[:, :, top : top + down * size, left : left + across * size] = grid
    return delta


def _sum(values: Tensor) -> Tensor:
    """Of each channel, (L, C, 1, 1)."""
    return values.sum(dim=(2, 3), keepdim=True)
