"""The engine, driven by an attack that breaks each sample at a given step of a given attempt."""

from __future__ import annotations

import dataclasses
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hahbench.attacks.engine import Driven, Lanes, drive
from hahbench.outcome import Samples

STEPS, ATTEMPTS = 6, 3
NEVER = 99


@dataclasses.dataclass
class PlannedLanes(Lanes):
    """``breaks_at``: (L,), the step that breaks the lane's sample in this attempt."""

    breaks_at: Tensor


class Planned:
    """Shows an image that says which attempt it is at step ``plan[i, attempt]`` of sample i, clean ones before."""

    steps = STEPS

    def __init__(self, plan: Tensor) -> None:
        self.plan = plan
        self.attempts = ATTEMPTS

    def start(self, lanes: Lanes) -> PlannedLanes:
        return PlannedLanes(**vars(lanes), breaks_at=self.plan[lanes.index, lanes.attempt])

    def step(self, model: nn.Module, lanes: PlannedLanes) -> None:
        due = (lanes.step + 1 == lanes.breaks_at).view(-1, 1, 1, 1)
        shown = torch.where(due, lanes.attempt.view(-1, 1, 1, 1) + 1.0, lanes.images)
        lanes.broken = model(shown).argmax(dim=1) != lanes.labels
        lanes.forwards += 1
        lanes.candidate = torch.where(lanes.broken.view(-1, 1, 1, 1), shown, lanes.candidate)
        lanes.done = lanes.broken | (lanes.step + 1 == STEPS)


class Counting(nn.Module):
    """Counts the images that it sees in each pass; label 1 for the images of ``Planned``, 0 for clean ones."""

    def __init__(self, wrong_from: float = 0.5) -> None:
        super().__init__()
        self.wrong_from = wrong_from
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        wrong = images[:, 0, 0, 0] >= self.wrong_from
        return torch.stack([~wrong, wrong], dim=1).float()


def samples(n: int) -> Samples:
    return Samples(torch.arange(n), torch.zeros(n, 1, 1, 1), torch.zeros(n, dtype=torch.int64))


def same_outcome(one: Driven, other: Driven) -> bool:
    names = ("broken", "candidates", "attempt", "step")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.parametrize("batch_size", [1, 16, 33, 100])
def test_workers_share_lanes_and_keep_what_the_model_stores_apart(batch_size: int) -> None:
    class Storing(Counting):
        def forward(self, images: Tensor) -> Tensor:
            self.seen = images
            time.sleep(0.001)
            assert self.seen is images
            return super().forward(self.seen)

    plan = torch.randint(1, 2 * STEPS, (60, ATTEMPTS), generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        driven = drive(Planned(plan), Storing(), samples(60), batch_size=batch_size)
    finally:
        torch.set_num_threads(before)
    assert same_outcome(driven, drive(Planned(plan), Counting(), samples(60), batch_size=7, workers=1))


PLANS = st.lists(
    st.lists(st.sampled_from([1, 2, 5, STEPS, NEVER, NEVER]), min_size=ATTEMPTS, max_size=ATTEMPTS), max_size=12
)


@settings(deadline=None)
@given(plan=PLANS, batch_size=st.integers(1, 80), threads=st.sampled_from([1, 2]))
def test_the_first_attempt_that_breaks_a_sample_counts_whatever_the_lanes(
    plan: list[list[int]], batch_size: int, threads: int
) -> None:
    table = torch.tensor(plan, dtype=torch.int64).view(-1, ATTEMPTS)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        driven = drive(Planned(table), Counting(), samples(len(plan)), batch_size=batch_size)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for row, steps in enumerate(plan):
        first = next((attempt for attempt, step in enumerate(steps) if step <= STEPS), None)
        assert bool(driven.broken[row]) == (first is not None)
        assert int(driven.attempt[row]) == (-1 if first is None else first)
        assert int(driven.step[row]) == (-1 if first is None else steps[first])
        assert float(driven.candidates[row]) == (0 if first is None else first + 1)
        if first is None:
            assert int(driven.forwards[row]) == ATTEMPTS * STEPS


def test_a_lane_is_taken_again_at_once_and_no_pass_is_spent_on_a_broken_sample() -> None:
    """Of 20 samples in 4 lanes, half break in the first step and half in the second."""
    model, stepper = Counting(), Planned(torch.tensor([[1 + row % 2] for row in range(20)]))
    stepper.attempts = 1
    driven = drive(stepper, model, samples(20), batch_size=4)
    assert driven.forwards.tolist() == [1 + row % 2 for row in range(20)]
    assert sum(model.batches) == 30
    # Full until the queue is empty, but for the last step.
    assert model.batches[:-1] == [4] * 7


def test_samples_at_given_rows_alone_are_attacked_and_entered_among_the_rest() -> None:
    plan = torch.tensor([[1], [1], [NEVER], [2], [1]])
    stepper = Planned(plan)
    stepper.attempts = 1
    rows, images = torch.tensor([4, 2, 3]), torch.full((5, 1, 1, 1), 7.0)
    driven = drive(stepper, Counting(), samples(5), batch_size=2, rows=rows, candidates=images)
    assert driven.candidates is images
    assert images.flatten().tolist() == [7, 7, 7, 1, 1]
    assert driven.broken.tolist() == [True, False, True]
    assert driven.step.tolist() == [1, -1, 2]


def test_free_lanes_take_the_next_attempts_of_samples_that_are_under_way() -> None:
    model = Counting()
    drive(Planned(torch.full((2, ATTEMPTS), NEVER)), model, samples(2), batch_size=100)
    assert model.batches == [2 * ATTEMPTS] * STEPS


def test_an_attempt_that_comes_too_late_is_stopped() -> None:
    """The first attempt breaks the sample at step 2; the others, which run beside it, would go on to step 6."""
    model = Counting()
    driven = drive(Planned(torch.tensor([[2, NEVER, 1]])), model, samples(1), batch_size=10)
    # The third breaks it at step 1, but the first is waited for.
    assert model.batches == [3, 2]
    assert (int(driven.attempt[0]), int(driven.step[0]), int(driven.forwards[0])) == (0, 2, 5)


def test_what_breaks_the_approximate_model_alone_is_tried_again_on_the_model_itself() -> None:
    plan = torch.tensor([[2, NEVER, NEVER], [NEVER, 3, NEVER], [NEVER, NEVER, NEVER]])
    exact, approximate = Counting(wrong_from=1.5), Counting()
    driven = drive(Planned(plan), exact, samples(3), batch_size=2, approximate=approximate)
    # The image of the first attempt is 1 and does not break the exact model; that of the second is 2 and does.
    assert driven.broken.tolist() == [False, True, False]
    assert int(driven.step[1]) == 3
    # Each claim is checked, and the attempt that was refused made again.
    assert exact.batches == [1, 1] + [1] * STEPS
    assert same_outcome(driven, drive(Planned(plan), exact, samples(3), batch_size=7, approximate=approximate))


def test_progress_goes_forward_and_tells_the_share_that_is_not_broken() -> None:
    told: list[tuple[float, float]] = []
    plan = torch.full((40, ATTEMPTS), NEVER)
    plan[:10] = 1
    drive(Planned(plan), Counting(), samples(40), batch_size=4, progress=lambda *values: told.append(values))
    done, unbroken = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert 0 < done[0] < 0.2 < done[-1] == 1
    assert unbroken[-1] == pytest.approx(0.75)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_the_model_ends_the_attack_and_leaves_the_threads_as_they_were(threads: int) -> None:
    class Failing(Counting):
        """Raises for one of the samples, which only one worker has; the others would go on for minutes."""

        def forward(self, images: Tensor) -> Tensor:
            if (images == 3).any():
                raise ValueError("no such layer")
            time.sleep(0.005)
            return super().forward(images)

    endless = samples(2000)
    endless.images[0] = 3
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with pytest.raises(ValueError, match="no such layer"):
            drive(Planned(torch.full((2000, ATTEMPTS), NEVER)), Failing(), endless, batch_size=32)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
