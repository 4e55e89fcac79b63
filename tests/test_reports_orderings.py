"""What a paper concludes, tested on outcomes whose answer is known."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

from hahbench.corruptions import PAPER
from hahbench.metrics import corruption_attack
from hahbench.outcome import outcome_frame
from hahbench.reports.orderings import orderings, orderings_text
from hahbench.reports.published import Ordering, Published

NOISE = {"attack": "gaussian-noise", "level": 0.1}


def paper(*asked: Ordering) -> Published:
    printed = pd.DataFrame(
        [("table1", "HaH", "gaussian-noise", 0.1, 0.64), ("table1", "Standard", "gaussian-noise", 0.1, 0.266)],
        columns=["table", "model", "attack", "level", "published"],
    )
    return Published("citation", "networks", "cifar10", printed, asked)


class Store:
    def __init__(self) -> None:
        self.cells: list[dict[str, Any]] = []
        self.outcomes: list[pd.DataFrame] = []

    def add(self, model: str, right: np.ndarray, **facts: Any) -> Store:
        """Add a cell in which the samples were classified correctly or not, as told."""
        key, n = str(len(self.cells)), len(right)
        cell = {
            "key": key,
            "model": model,
            "model_digest": f"digest of {model}",
            "data_digest": "d",
            "attack": "clean",
            "attack_version": "1",
            "kind": facts.get("attack", "clean"),
            "norm": "",
            "params": "{}",
            "level": math.nan,
            "seed": 0,
            "worst_case": False,
            "created": "2024-01-01",
        }
        self.cells.append({**cell, **facts})
        zeros, ones = np.zeros(n), np.ones(n)
        others = dict.fromkeys(("l0", "l1", "l2", "linf", "step", "forwards", "backwards", "seconds"), zeros)
        frame = outcome_frame(
            index=np.arange(n), label=ones, clean_pred=ones, adv_pred=right, member=np.full(n, ""), **others
        )
        # As a store that was filled in another order gives them.
        self.outcomes.append(frame.assign(key=key).sample(frac=1, random_state=0))
        return self

    def tested(self, *asked: Ordering) -> pd.DataFrame:
        networks = {(cell["model"], cell["model_digest"]): self.network(cell["model"]) for cell in self.cells}
        return orderings(paper(*asked), pd.DataFrame(self.cells), pd.concat(self.outcomes), networks)

    def network(self, model: str) -> str:
        return f"of {model.removesuffix('-BPDA')}" if "HaH" in model else ""


def flags(n: int, right: int) -> np.ndarray:
    return np.arange(n) < right


def agresti_min(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Agresti and Min 2005, https://doi.org/10.1002/sim.1781: Wald's interval after adding 1/2 to each cell."""
    b, c, total = gained + 0.5, lost + 0.5, n + 2
    half = 1.96 * math.sqrt(b + c - (b - c) ** 2 / total) / total
    return (b - c) / total - half, (b - c) / total + half


HIGHER = Ordering("HaH", "Standard", "gaussian-noise", 0.1, 0.0)


def test_flags_are_compared_by_mcnemars_exact_test() -> None:
    """Of 40 samples, 10 are right in HaH alone and 2 in Standard alone."""
    ours, theirs = flags(40, 30), flags(40, 20)
    theirs[-2:] = True
    row = Store().add("cifar10/HaH", ours, **NOISE).add("Standard", theirs, **NOISE).tested(HIGHER).iloc[0]
    assert row["difference"] == pytest.approx(8 / 40)
    assert row["published"] == pytest.approx(0.64 - 0.266)
    assert row["p_value"] == pytest.approx(stats.binomtest(2, 12, 0.5).pvalue)
    assert (row["low"], row["high"]) == pytest.approx(agresti_min(10, 2, 40), abs=0.003)
    assert (row["n"], row["verdict"], row["higher_digest"]) == (40, "holds", "digest of cifar10/HaH")


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"), [(30, 10, "holds"), (10, 30, "fails"), (22, 20, "undecided"), (20, 20, "undecided")]
)
def test_verdicts(ours: int, theirs: int, verdict: str) -> None:
    store = Store().add("HaH", flags(60, ours), **NOISE).add("Standard", flags(60, theirs), **NOISE)
    assert list(store.tested(HIGHER)["verdict"]) == [verdict]


def test_of_two_attacks_on_one_network_what_withstands_both_is_tested() -> None:
    """Samples 0 to 29 withstand the one, 20 to 59 the other."""
    store = Store().add("HaH", flags(60, 30), **NOISE).add("HaH-BPDA", ~flags(60, 20), **NOISE)
    store.add("Standard", flags(60, 0), **NOISE)
    assert store.tested(HIGHER)["difference"].tolist() == [pytest.approx(10 / 60)]


def test_corruptions_that_were_made_otherwise_are_not_compared() -> None:
    store = Store().add("HaH", flags(60, 30), **NOISE, attack_version="files")
    store.add("Standard", flags(60, 10), **NOISE, attack_version="regenerated")
    assert store.tested(HIGHER)["n"].tolist() == [0]


def test_draws_of_a_sample_count_together() -> None:
    """Three draws of six samples, in all of which HaH is right alone: six pairs, not eighteen."""
    store = Store()
    for seed in range(3):
        store.add("HaH", flags(6, 6), **NOISE, seed=seed).add("Standard", flags(6, 0), **NOISE, seed=seed)
    row = store.tested(HIGHER).iloc[0]
    assert (row["n"], row["difference"]) == (6, 1.0)
    assert row["p_value"] == pytest.approx(2 / 2**6)


@pytest.mark.parametrize(("lost", "verdict"), [(0, "holds"), (10, "undecided"), (40, "fails")])
def test_a_loss_may_be_allowed(lost: int, verdict: str) -> None:
    """Less than 10 points below, on 100 samples: -0.1 is outside the interval, or not."""
    ours, theirs = flags(100, 90 - lost), flags(100, 90)
    theirs[0], ours[99] = False, True
    row = (
        Store()
        .add("HaH", ours)
        .add("Standard", theirs)
        .tested(Ordering("HaH", "Standard", "clean", None, -10.0))
        .iloc[0]
    )
    low, high = agresti_min(1, lost + 1, 100)
    assert (row["p_value"] < 0.05) == (not low < -0.1 < high)
    assert row["verdict"] == verdict


@pytest.mark.parametrize(("gained", "lost", "margin"), [(0, 0, -10), (3, 9, -10), (0, 7, -10), (12, 1, 5), (0, 0, 5)])
def test_a_margin_is_tested_at_the_likeliest_chances_that_it_allows(gained: int, lost: int, margin: float) -> None:
    """Tango 1998, with the chance of a loss found by search: that of a gain is larger by the margin."""
    n = 60
    gained_flags, lost_flags = np.arange(n) < gained, np.arange(n) >= n - lost
    store = Store().add("HaH", ~lost_flags).add("Standard", ~gained_flags)
    row = store.tested(Ordering("HaH", "Standard", "clean", None, margin)).iloc[0]

    def unlikeliness(chance: float) -> float:
        chances = np.array([chance + margin / 100, chance, 1 - 2 * chance - margin / 100])
        return -float(special.xlogy([gained, lost, n - gained - lost], chances).sum())

    bounds = max(0.0, -margin / 100), (1 - margin / 100) / 2
    chance = optimize.minimize_scalar(unlikeliness, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    variance = (2 * chance + margin / 100 - (margin / 100) ** 2) / n
    z = ((gained - lost) / n - margin / 100) / math.sqrt(variance)
    assert row["p_value"] == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-4)


@pytest.mark.parametrize("n", [20, 30, 40, 100])
def test_a_loss_as_large_as_the_margin_passes_for_less_as_seldom_as_said(n: int) -> None:
    """In 2.5 % of all data sets at most, summed over all numbers of losses, whose mean is a tenth of the samples."""
    chance = 0.0
    for lost in range(n // 10):
        store = Store().add("HaH", flags(n, n - lost)).add("Standard", flags(n, n))
        (verdict,) = store.tested(Ordering("HaH", "Standard", "clean", None, -10.0))["verdict"]
        chance += float(stats.binom.pmf(lost, n, 0.1)) * (verdict == "holds")
    assert chance < 0.025


def test_five_times_the_same_evidence_is_weaker_by_holms_method_of_the_same_model() -> None:
    """7 gained and none lost: p = 2 / 2^7 = 0.0156, which 0.05 allows alone and 0.05 / 5 does not."""
    store = Store().add("HaH", flags(20, 17), **NOISE).add("Standard", flags(20, 10), **NOISE)
    store.add("mine", flags(20, 17), **NOISE)
    mine = dataclasses.replace(HIGHER, higher="mine")
    assert list(store.tested(HIGHER)["verdict"]) == ["holds"]
    assert list(store.tested(*[HIGHER] * 5, mine)["verdict"]) == ["undecided"] * 5 + ["holds"]


def test_averages_of_corruptions_without_the_photographs_of_frost() -> None:
    """Standard loses one more sample under fog, at one severity of five, of 15 corruptions."""
    store = Store()
    for name in PAPER:
        for severity in range(1, 6):
            facts = {"attack": corruption_attack(name), "kind": "corruption", "level": float(severity)}
            if name != "frost":
                worse = name == "fog" and severity == 3
                store.add("HaH", flags(8, 4), **facts).add("Standard", flags(8, 3 if worse else 4), **facts)
    asked = [Ordering("HaH", "Standard", attack, None, 0.0) for attack in ("corruptions-paper", "corruption-fog")]
    mean, fog = (row for _, row in store.tested(*asked).iterrows())
    assert mean["attack"] == "corruptions-paper-without-frost"
    assert mean["difference"] == pytest.approx(1 / 8 / 75)
    assert fog["difference"] == pytest.approx(1 / 8 / 5)
    assert (mean["p_value"], fog["p_value"]) == (1.0, 1.0)


def test_what_was_not_measured_is_missing_and_models_not_measured_at_all_are_left_out() -> None:
    adv = Ordering("Standard", "Adv", "clean", None, 0.0)
    store = Store().add("HaH", flags(6, 5)).add("Standard", flags(6, 4), **NOISE)
    found = store.tested(HIGHER, adv)
    assert [(row["verdict"], row["n"], math.isnan(row["p_value"])) for _, row in found.iterrows()] == [("", 0, True)]
    assert list(orderings_text(found)["Here"]) == ["missing"]


def test_a_margin_of_averages_is_not_tested() -> None:
    store = Store()
    for seed in range(2):
        store.add("HaH", flags(9, 8), **NOISE, seed=seed).add("Standard", flags(9, 7), **NOISE, seed=seed)
    found = store.tested(Ordering("HaH", "Standard", "gaussian-noise", 0.1, -10.0))
    assert orderings_text(found)[["p", "Verdict"]].to_numpy().tolist() == [["", ""]]


def test_the_page_shows_points_with_their_sign() -> None:
    store = Store().add("HaH", flags(60, 30), **NOISE).add("Standard", flags(60, 10), **NOISE)
    store.add("HaH", flags(60, 30)).add("Standard", flags(60, 30))
    text = orderings_text(store.tested(HIGHER, Ordering("HaH", "Standard", "clean", None, -10.0)))
    assert text.to_dict("records") == [
        {
            "Conclusion": "HaH above Standard",
            "Under": "Gaussian noise sigma 0.1",
            "Paper": "+37.4",
            "Here": "+33.3 [+20.1, +44.4]",
            "p": "1.9e-06",
            "Verdict": "holds",
        },
        {
            "Conclusion": "HaH less than 10 points below Standard",
            "Under": "Clean",
            "Paper": "",
            "Here": "+0.0 [-3.2, +3.2]",
            "p": "0.0098",
            "Verdict": "holds",
        },
    ]
