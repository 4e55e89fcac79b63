"""Means over severities and over corruptions, and errors relative to a baseline."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hahbench.corruptions import BENCHMARK, OFFICIAL, PAPER
from hahbench.metrics import PROCEDURAL_FROST, WITHOUT_FROST, corruption_attack, relative_error, scores
from hahbench.outcome import outcome_frame
from hahbench.reports.display import score_text

REGENERATED = "CIFAR-10-C (regenerated)"


def run(
    model: str, right: dict[tuple[str, int], list[bool]], source: str = REGENERATED, attack: str = "", seed: int = 0
) -> pd.DataFrame:
    """Cells and outcomes in one frame: a corruption at a severity, and which samples it left right."""
    n = len(next(iter(right.values())))
    parts = []
    for (corruption, severity), kept in right.items():
        zeros = np.zeros(n)
        told = {"member": np.full(n, ""), "step": zeros, "forwards": zeros, "backwards": zeros, "seconds": zeros}
        norms = {"l0": zeros, "l1": zeros, "l2": zeros, "linf": zeros}
        ones = np.ones(n)
        frame = outcome_frame(index=np.arange(n), label=ones, clean_pred=ones, adv_pred=np.array(kept), **norms, **told)
        cell = {
            "key": f"{model} {attack} {corruption} {severity}",
            "dataset": "dots",
            "data_digest": "d",
            "model": model,
            "model_digest": model,
            "attack": attack or corruption_attack(corruption),
            "level": float(severity),
            "seed": seed,
            "kind": "corruption",
            "norm": "",
            "params": json.dumps({"corruption": corruption}),
            "attack_version": source,
            "worst_case": False,
            "verdict": "",
            "created": "2024-01-01",
        }
        parts.append(frame.join(pd.DataFrame([cell] * n).add_prefix("cell_")))
    return pd.concat(parts, ignore_index=True)


def scored(*runs: pd.DataFrame) -> pd.DataFrame:
    both = pd.concat(runs, ignore_index=True)
    of_cell = [name for name in map(str, both.columns) if name.startswith("cell_")]
    cells = both[of_cell].drop_duplicates().rename(columns=lambda name: name.removeprefix("cell_"))
    outcomes = both.drop(columns=of_cell).assign(key=both["cell_key"])
    return scores(cells, outcomes)


def value(frame: pd.DataFrame, model: str, attack: str, metric: str = "accuracy") -> float:
    found = frame[(frame["model"] == model) & (frame["attack"] == attack) & (frame["metric"] == metric)]
    found = found[found["level"].isna()]
    assert len(found) == 1
    return float(found["value"].iloc[0])


def constant(corruptions: Iterable[str], right: list[bool]) -> dict[tuple[str, int], list[bool]]:
    return {(corruption, severity): right for corruption in corruptions for severity in range(1, 6)}


def test_the_mean_over_five_severities_with_its_interval_over_the_samples() -> None:
    kept = {("fog", severity): [True, severity <= 1, severity <= 3, False] for severity in range(1, 6)}
    row = scored(run("m", kept)).query("level.isna()").iloc[0]
    right = np.array([1, 0.2, 0.6, 0])
    assert row["attack"] == "corruption-fog"
    assert row["value"] == pytest.approx(right.mean())
    interval = stats.binomtest(9, 20).proportion_ci(method="wilson")
    assert row["low"] < interval.low
    assert row["high"] > interval.high
    # Wilson's formula for 1.8 out of 4 samples.
    z, p, n = stats.norm.isf(0.025), 0.45, 4
    middle, half = (p + z**2 / (2 * n)), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert row["low"] == pytest.approx((middle - half) / (1 + z**2 / n))
    assert row["high"] == pytest.approx((middle + half) / (1 + z**2 / n))
    assert row["n"] == 4


def test_a_corruption_that_lacks_a_severity_has_no_mean() -> None:
    kept = {("fog", severity): [True, False] for severity in (1, 2, 3, 5)}
    frame = scored(run("m", kept))
    assert len(frame) == 4
    assert frame["level"].notna().all()


def test_another_attack_with_the_same_corruption_is_not_mixed_in() -> None:
    frame = scored(
        run("m", constant(PAPER, [True, True])), run("m", {("fog", 5): [False, False]}, attack="my-fog", seed=7)
    )
    assert value(frame, "m", "corruption-fog") == 1
    assert value(frame, "m", "corruptions-paper") == 1
    assert frame.query("attack == 'my-fog'")["level"].tolist() == [5]


def test_a_baseline_that_never_errs_gives_no_relative_error() -> None:
    frame = scored(run("Standard", constant(PAPER, [True, True])), run("m", constant(PAPER, [True, False])))
    assert value(frame, "m", "corruptions-paper") == 0.5
    assert "relative_error" not in set(frame["metric"])


def test_scores_say_where_the_images_came_from() -> None:
    frame = scored(run("m", constant(["fog"], [True, False]), "CIFAR-10-C, published files"))
    assert set(frame["attack_version"]) == {"CIFAR-10-C, published files"}


def test_the_sets_of_16_15_and_19_corruptions() -> None:
    """Of four samples, 1 is right under the paper's corruptions alone, 1 under RobustBench's alone, 1 under both."""
    kept = {
        (name, severity): [name in PAPER, name in BENCHMARK, True, False]
        for name in OFFICIAL
        for severity in range(1, 6)
    }
    frame = scored(run("m", kept))
    both = len(set(PAPER) & set(BENCHMARK))
    assert len(PAPER) == 16
    assert len(BENCHMARK) == 15
    assert value(frame, "m", "corruptions-paper") == pytest.approx((1 + both / 16 + 1) / 4)
    assert value(frame, "m", "corruptions-robustbench") == pytest.approx((both / 15 + 1 + 1) / 4)
    assert value(frame, "m", "corruptions-all") == pytest.approx((16 / 19 + 15 / 19 + 1) / 4)
    assert not frame["attack"].str.endswith((WITHOUT_FROST, PROCEDURAL_FROST)).any()


def test_procedural_frost_is_kept_out_of_the_mean_that_has_the_paper_s_name() -> None:
    others = [name for name in OFFICIAL if name != "frost"]
    kept = constant(others, [True, True]) | constant(["frost_procedural"], [False, False])
    frame = scored(run("m", kept))
    assert "corruptions-paper" not in set(frame["attack"])
    assert value(frame, "m", "corruptions-paper-without-frost") == 1
    assert value(frame, "m", "corruptions-paper-procedural-frost") == pytest.approx(15 / 16)


def test_corruptions_of_two_sources_are_not_averaged_together() -> None:
    kept = constant(PAPER, [True, False])
    published = {key: right for key, right in kept.items() if key[0] == "fog"}
    regenerated = {key: right for key, right in kept.items() if key[0] != "fog"}
    frame = scored(run("m", published, "CIFAR-10-C, published files"), run("m", regenerated))
    assert value(frame, "m", "corruption-fog") == 0.5
    assert "corruptions-paper" not in set(frame["attack"])


def test_the_error_relative_to_the_baseline_is_averaged_over_the_corruptions() -> None:
    """HaH makes half of the errors of Standard under fog, and all of them elsewhere."""
    standard = constant(PAPER, [True, True, False, False])
    hah = standard | constant(["fog"], [True, True, True, False])
    frame = scored(run("cifar10/Standard", standard), run("HaH", hah))
    assert value(frame, "HaH", "corruptions-paper", "relative_error") == pytest.approx((15 + 0.5) / 16)
    assert value(frame, "cifar10/Standard", "corruptions-paper", "relative_error") == 1


@pytest.mark.parametrize("corruptions", [1, 4])
def test_the_interval_of_a_relative_error_covers_the_truth_as_often_as_it_says(corruptions: int) -> None:
    """Errors of model and baseline are correlated, as those of two networks on the same images are."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        hard = random.random((500, 1))
        base = (random.random((500, corruptions)) < 0.2 + 0.6 * hard).astype(float)
        errors = (random.random((500, corruptions)) < 0.6 * (0.2 + 0.6 * hard)).astype(float)
        found, low, high, n = relative_error(errors, base)
        assert n == 500
        assert low <= found <= high
        covered += low <= 0.6 <= high
    # 95 %, give or take three standard errors of 400 trials.
    assert math.isclose(covered / 400, 0.95, abs_tol=0.033)


def test_few_errors_leave_a_relative_error_open() -> None:
    """The delta method would say [0, 0] of a model that makes none."""
    base, errors = np.zeros((2, 100, 1))
    base[:20] = 1
    for wrong, interval in ((0, (0, math.inf)), (9, (0, math.inf)), (10, None)):
        errors[:wrong] = 1
        found, low, high, _ = relative_error(errors, base)
        assert found == pytest.approx(wrong / 20)
        assert (low, high) == interval if interval else 0 < low < found < high < math.inf
    assert score_text("relative_error", 0.5, 0, math.inf) == "50.0 [0.0, ∞]"
