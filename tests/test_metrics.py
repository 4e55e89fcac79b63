"""Scores: hand-computed values, intervals that cover the truth, draws, infinities and ties."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hahbench.metrics import (
    SCORE_COLUMNS,
    accuracy,
    by_predictions,
    comparable_cells,
    mean_norm,
    median_norm,
    right_per_sample,
    scores,
)
from hahbench.outcome import OUTCOME_COLUMNS, outcome_frame

CELL = {
    "key": "k",
    "dataset": "dots",
    "data_digest": "d",
    "model": "m",
    "model_digest": "w",
    "attack": "a",
    "level": 0.1,
    "seed": 0,
    "kind": "k",
    "norm": "",
    "params": "{}",
    "attack_version": "1",
    "worst_case": False,
    "verdict": "",
    "created": "2024-01-01",
}
FMN = {"attack": "fmn-l2", "level": math.nan, "norm": "l2", "worst_case": True}
BOUNDED = {"attack": "autoattack-l2", "level": 0.5, "norm": "l2", "worst_case": True, "verdict": "ok"}


def cells(*changes: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([{**CELL, **change} for change in changes])


def outcomes(
    key: str, right: list[bool], l2: list[float] | None = None, clean: list[bool] | None = None
) -> pd.DataFrame:
    """Samples of label 1; ``right`` says which are classified correctly after the attack, ``clean`` which before."""
    n = len(right)
    zeros = np.zeros(n)
    norms = zeros if l2 is None else l2
    clean_pred = np.ones(n) if clean is None else clean
    columns = {"clean_pred": clean_pred, "adv_pred": right, "l0": zeros, "l1": zeros, "l2": norms, "linf": zeros}
    untold = {"member": np.full(n, ""), "step": zeros, "forwards": zeros, "backwards": zeros}
    frame = outcome_frame(index=np.arange(n), label=np.ones(n), seconds=zeros, **columns, **untold)  # type: ignore[arg-type]
    return frame.assign(key=key)


def only(frame: pd.DataFrame) -> dict[str, Any]:
    assert len(frame) == 1
    return {str(name): value for name, value in frame.iloc[0].items()}


def test_accuracy_is_the_share_of_samples_classified_correctly() -> None:
    score = only(scores(cells({}), outcomes("k", [True] * 8 + [False] * 2)))
    # Wilson 1927: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with p = 0.8, n = 10, z = 1.959964.
    assert score["value"] == pytest.approx(0.8)
    assert score["low"] == pytest.approx(0.490162, abs=1e-6)
    assert score["high"] == pytest.approx(0.943318, abs=1e-6)
    assert (score["metric"], score["level"], score["n"], score["draws"]) == ("accuracy", 0.1, 10, 1)
    assert (score["dataset"], score["data_digest"], score["model"], score["model_digest"]) == ("dots", "d", "m", "w")


def test_draws_are_pooled_sample_by_sample() -> None:
    asked = cells({"key": "first"}, {"key": "second", "seed": 1})
    happened = pd.concat(
        [outcomes("first", [True, True, False, False]), outcomes("second", [True, False, False, False])]
    )
    score = only(scores(asked, happened))
    assert (score["value"], score["n"], score["draws"]) == (0.375, 4, 2)
    assert (score["low"], score["high"]) == accuracy(np.array([1, 0.5, 0, 0]))[1:3]


def test_what_any_draw_of_an_attack_breaks_is_broken() -> None:
    """Where noise would be right half of the time, two starts of an attack leave nothing."""
    asked = cells({"key": "first", **BOUNDED}, {"key": "second", **BOUNDED, "seed": 1})
    happened = pd.concat([outcomes("first", [True, False, True]), outcomes("second", [False, True, True])])
    score = only(scores(asked, happened))
    assert (score["value"], score["n"], score["draws"]) == (pytest.approx(1 / 3), 3, 2)
    counted = right_per_sample(asked, happened, "autoattack-l2", 0.5)
    assert counted is not None
    assert (counted.right.tolist(), counted.of) == ([0, 0, 1], 1)


@pytest.mark.parametrize("older", [{"params": '{"steps": 10}'}, {"kind": "j"}, {"norm": "l1"}])
def test_an_attack_that_was_made_otherwise_on_another_model_does_not_stand_beside_it(older: dict[str, Any]) -> None:
    asked = cells(
        {"key": "new", "created": "2024-01-02"},
        {"key": "old", "model": "n", **older},
        {"key": "clean", "model": "n", "attack": "clean"},
        {"key": "elsewhere", "model": "n", "data_digest": "e", **older},
    )
    found, left_out = comparable_cells(asked)
    assert set(found["key"]) == {"new", "clean", "elsewhere"}
    assert left_out == {"a": ["n"]}


def test_networks_are_told_apart_by_what_they_predict() -> None:
    """The old code of one network was another than the new."""
    asked = cells(*({"key": name, "model": name} for name in ("old", "new", "new-bpda", "unknown")))
    happened = [outcomes(name, [True, False], clean=[True, name != "old"]) for name in asked["key"]]
    same = {(name, "w"): "weights" for name in ("old", "new", "new-bpda")}
    found = by_predictions(same, asked, pd.concat(happened))
    assert set(found) == set(same)
    assert found["new", "w"] == found["new-bpda", "w"] != found["old", "w"]


def test_severities_count_alike_however_often_each_was_drawn() -> None:
    """Wrong at severities 1 to 4, three times each, and right at 5."""
    fog = {"attack": "corruption-fog", "kind": "corruption"}
    asked = cells(
        *(
            {**fog, "key": f"{level} {seed}", "level": float(level), "seed": seed}
            for level in range(1, 6)
            for seed in range(1 if level == 5 else 3)
        )
    )
    happened = pd.concat([outcomes(key, [key.startswith("5")] * 10) for key in asked["key"]])
    found = scores(asked, happened)
    assert only(found[found["level"].isna()])["value"] == pytest.approx(0.2)
    # Counts cannot weigh them alike.
    assert right_per_sample(asked, happened, "corruption-fog", None) is None
    assert right_per_sample(asked[asked["seed"] == 0], happened, "corruption-fog", None) is not None


@pytest.mark.parametrize("older", [{"attack_version": "0"}, {"params": '{"steps": 10}'}, {"kind": "j"}])
def test_the_newest_way_of_carrying_out_an_attack_replaces_the_older(older: dict[str, Any]) -> None:
    asked = cells(
        {"key": "new", "created": "2024-01-02"}, {"key": "old", **older}, {"key": "older", "seed": 1, **older}
    )
    happened = [outcomes("old", [False] * 4), outcomes("older", [False] * 4), outcomes("new", [True] * 4)]
    score = only(scores(asked, pd.concat(happened)))
    assert (score["value"], score["n"], score["draws"]) == (1.0, 4, 1)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"level": 0.2}, id="level"),
        pytest.param({"attack": "b"}, id="attack"),
        pytest.param({"model": "m2"}, id="model"),
        pytest.param({"model_digest": "w2"}, id="weights"),
        pytest.param({"data_digest": "d2"}, id="data"),
    ],
)
def test_only_seeds_are_pooled(change: dict[str, Any]) -> None:
    asked = cells({"key": "one"}, {"key": "other", **change})
    found = scores(asked, pd.concat([outcomes("one", [True]), outcomes("other", [False])]))
    assert sorted(found["value"]) == [0.0, 1.0]


def test_clean_accuracy_has_no_level() -> None:
    score = only(scores(cells({"attack": "clean", "level": math.nan}), outcomes("k", [True, False])))
    assert (score["attack"], score["metric"], score["value"]) == ("clean", "accuracy", 0.5)
    assert math.isnan(score["level"])


def test_minimum_norm_attacks_have_norms_and_no_accuracy() -> None:
    norms = [0.0, 0.0, 0.3, 0.1, 0.2, math.inf, 0.4]
    clean = [False, False, True, True, True, True, True]
    happened = outcomes("k", [norm == math.inf for norm in norms], l2=norms, clean=clean)
    found = scores(cells(FMN), happened).set_index("metric")
    assert set(found.index) == {"median_norm", "mean_norm"}
    assert found.loc["median_norm", "value"] == 0.2
    # Seven samples: the smallest and the largest enclose the median with probability 1 - 2 / 2^7.
    assert (found.loc["median_norm", "low"], found.loc["median_norm", "high"]) == (0.0, math.inf)
    assert found.loc["median_norm", "n"] == 7
    # Mean 0.25 of 0.1 .. 0.4, standard error sqrt(0.05 / 3) / 2, Student's t with 3 degrees of freedom 3.182446.
    assert found.loc["mean_norm", "value"] == pytest.approx(0.25)
    assert found.loc["mean_norm", "low"] == pytest.approx(0.25 - 3.182446 * 0.0645497, abs=1e-6)
    assert found.loc["mean_norm", "high"] == pytest.approx(0.25 + 3.182446 * 0.0645497, abs=1e-6)
    assert found.loc["mean_norm", "n"] == 4


def test_of_the_draws_of_a_minimum_norm_attack_the_smallest_norm_counts() -> None:
    asked = cells({**FMN, "key": "first"}, {**FMN, "key": "second", "seed": 1})
    happened = pd.concat(
        [outcomes("first", [False, True], l2=[0.5, math.inf]), outcomes("second", [False, False], l2=[0.7, 0.9])]
    )
    found = scores(asked, happened).set_index("metric")
    assert found.loc["median_norm", "value"] == pytest.approx(0.7)
    assert (found.loc["median_norm", "n"], found.loc["median_norm", "draws"]) == (2, 2)


def test_an_attack_that_broke_nothing_has_an_infinite_median_and_no_mean() -> None:
    score = only(scores(cells(FMN), outcomes("k", [True] * 8, l2=[math.inf] * 8)))
    assert (score["metric"], score["value"], score["low"], score["high"]) == ("median_norm", *[math.inf] * 3)


def test_median_of_a_hundred_lies_between_the_40th_and_the_61st() -> None:
    # The order statistics that tables of the sign test give for n = 100 at 95 %.
    assert median_norm(np.arange(100.0) + 1) == (50.5, 40.0, 61.0, 100)


def test_median_copes_with_ties_at_zero_and_with_infinity() -> None:
    assert median_norm(np.array([0.0] * 61 + [math.inf] * 39)) == (0.0, 0.0, 0.0, 100)
    value, low, high, _ = median_norm(np.array([0.0] * 50 + [math.inf] * 50))
    assert (value, low, high) == (math.inf, 0.0, math.inf)


def test_too_few_samples_leave_the_interval_open() -> None:
    assert median_norm(np.array([0.1, 0.2, 0.3])) == (0.2, 0.0, math.inf, 3)
    assert mean_norm(np.array([0.3])) == (0.3, 0.0, math.inf, 1)


def test_mean_norm_is_never_below_zero() -> None:
    assert mean_norm(np.array([0.01, 5.0]))[1] == 0.0


@pytest.mark.parametrize("truth", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("draws", [1, 3])
def test_accuracy_interval_covers_the_truth(truth: float, draws: int) -> None:
    random = np.random.default_rng(0)
    # Every sample has its own chance to be classified correctly; their mean over the population is ``truth``.
    chances = random.beta(2 * truth, 2 * (1 - truth), (400, 200))
    rights = (random.random((draws, 400, 200)) < chances).mean(0)
    assert np.mean([low <= truth <= high for _, low, high, _ in map(accuracy, rights)]) >= 0.93


def test_median_interval_covers_the_truth() -> None:
    random = np.random.default_rng(0)
    # A fifth already wrong, a tenth never broken, the rest exponential: P(norm <= x) = 0.2 + 0.7 (1 - exp(-x)) = 1/2.
    truth = -math.log(1 - 0.3 / 0.7)
    kind = random.random((400, 151))
    norms = np.where(kind < 0.2, 0, np.where(kind < 0.3, math.inf, random.exponential(size=(400, 151))))
    assert np.mean([low <= truth <= high for _, low, high, _ in map(median_norm, norms)]) >= 0.93


def test_mean_interval_covers_the_truth() -> None:
    norms = np.random.default_rng(0).gamma(4.0, 0.25, (400, 100))
    assert np.mean([low <= 1.0 <= high for _, low, high, _ in map(mean_norm, norms)]) >= 0.93


def test_norms_are_suspect_where_another_attack_breaks_what_they_call_far() -> None:
    """Of 40 samples another attack breaks 10 within 0.5; this one's norms of two, or of one, of these are larger."""
    right = [False] * 10 + [True] * 30
    for far, verdict in ((2, "suspect: autoattack-l2 broke 2 of 40 samples within 0.5 "), (1, "ok")):
        norms = [0.7] * far + [0.5] * (10 - far) + [2.0] * 30
        asked = cells({"key": "fmn", **FMN, "verdict": "ok"}, {"key": "bounded", **BOUNDED})
        scored = scores(asked, pd.concat([outcomes("fmn", [False] * 40, norms), outcomes("bounded", right)]))
        assert scored.loc[scored["metric"] == "median_norm", "verdict"].item().startswith(verdict)
        assert scored.loc[scored["attack"] == "autoattack-l2", "verdict"].item() == "ok"


@pytest.mark.parametrize(
    ("other", "broken", "verdict"),
    [
        ({"level": 0.5}, 2, "suspect: other broke 2 of 30 samples that withstood this attack, within 0.5"),
        ({"level": 0.4}, 2, "suspect: other broke 2 of 30 samples that withstood this attack, within 0.5"),
        ({"level": math.nan}, 2, "suspect: other broke 2 of 30 samples that withstood this attack, within 0.5"),
        ({"level": 1.0}, 2, "suspect: other broke 2 of 30 samples that withstood this attack, within 0.5"),
        ({"level": 0.5}, 1, "ok"),
        ({"level": 0.5, "norm": "linf"}, 2, "ok"),
        ({"level": 0.5, "model_digest": "x"}, 2, "ok"),
    ],
)
def test_a_robust_accuracy_is_suspect_where_another_attack_breaks_more(
    other: dict[str, Any], broken: int, verdict: str
) -> None:
    """An attack that may go beyond the epsilon breaks one sample more at a norm of 0.6, which does not count."""
    attack = {**BOUNDED, "key": "other", "attack": "other", **other}
    beyond = 0 if other["level"] <= 0.5 else 1
    norms = [0.3] * broken + [0.6] * beyond + [math.inf] * (40 - broken - beyond)
    right = [False] * (broken + beyond) + [True] * (40 - broken - beyond)
    happened = pd.concat([outcomes("weak", [True] * 30 + [False] * 10), outcomes("other", right, norms)])
    scored = scores(cells({"key": "weak", **BOUNDED}, attack), happened)
    assert scored.loc[scored["attack"] == "autoattack-l2", "verdict"].item() == verdict


@pytest.mark.parametrize("missed", [0, 9])
def test_what_speaks_against_norms_by_themselves_comes_first(missed: int) -> None:
    masked = "suspect: 9 of 9 samples were not broken at any distance"
    asked = cells({"key": "fmn", **FMN, "verdict": masked}, {"key": "bounded", **BOUNDED})
    broken = outcomes("bounded", [False] * missed + [True] * (9 - missed))
    scored = scores(asked, pd.concat([outcomes("fmn", [True] * 9, [math.inf] * 9), broken]))
    more = f"; autoattack-l2 broke {missed} of 9 samples within 0.5 for which this attack found nothing as near"
    assert set(scored.loc[scored["attack"] == "fmn-l2", "verdict"]) == {masked + more * bool(missed)}


def test_norms_that_were_not_examined_are_not_called_ok() -> None:
    asked = cells({"key": "fmn", **FMN}, {"key": "bounded", **BOUNDED})
    scored = scores(asked, pd.concat([outcomes("fmn", [True] * 9, [math.inf] * 9), outcomes("bounded", [True] * 9)]))
    assert set(scored.loc[scored["attack"] == "fmn-l2", "verdict"]) == {""}


def test_what_speaks_against_one_draw_is_not_said_of_all() -> None:
    masked = "suspect: 3 of 9 samples were not broken at any distance"
    asked = cells({"key": "a", **FMN, "verdict": masked}, {"key": "b", **FMN, "seed": 1, "verdict": "ok"})
    happened = pd.concat([outcomes("a", [False] * 9, [2.0] * 9), outcomes("b", [False] * 9, [0.2] * 9)])
    found = set(scores(asked, happened)["verdict"])
    assert found == {"suspect: in one draw or more, 3 of 9 samples were not broken at any distance"}


@pytest.mark.parametrize("change", [{"norm": "linf"}, {"model_digest": "x"}, {"data_digest": "x"}])
def test_norms_are_compared_with_the_same_threat_model_on_the_same_samples(change: dict[str, Any]) -> None:
    asked = cells({"key": "fmn", **FMN}, {"key": "bounded", **BOUNDED, **change})
    scored = scores(asked, pd.concat([outcomes("fmn", [False] * 9, [2.0] * 9), outcomes("bounded", [False] * 9)]))
    assert set(scored.loc[scored["attack"] == "fmn-l2", "verdict"]) == {""}


def test_of_several_draws_the_doubt_counts() -> None:
    asked = cells({"key": "a", **BOUNDED}, {"key": "b", **BOUNDED, "seed": 1, "verdict": "suspect: it is random"})
    happened = pd.concat([outcomes("a", [True] * 3), outcomes("b", [True] * 3)])
    assert only(scores(asked, happened))["verdict"] == "suspect: it is random"


def test_what_breaks_a_network_through_other_gradients_is_said_of_both_of_its_models() -> None:
    linf = {"attack": "aa", "norm": "linf", "worst_case": True, "verdict": "ok"}
    measured = cells(
        {**linf, "key": "plain", "model": "plain"},
        {**linf, "key": "bpda", "model": "bpda"},
        {**linf, "key": "farther", "model": "bpda", "level": 0.2},
        {**linf, "key": "stranger", "model": "stranger"},
        {"key": "noisy", "model": "plain", "attack": "noise"},
        {"key": "noisy too", "model": "bpda", "attack": "noise"},
    )
    # Of 100 samples, 40 withstand either attack; one loses 5 more to the other, and that 1 more, which is too few.
    withstand = {"plain": range(45), "bpda": [*range(40), 50], "farther": range(0), "stranger": range(90)}
    withstand |= {"noisy": range(100), "noisy too": range(50)}
    happened = {key: outcomes(key, [row in right for row in range(100)]) for key, right in withstand.items()}
    happened["farther"]["linf"] = 0.2
    found = scores(
        measured,
        pd.concat(happened.values()),
        {("plain", "w"): "network", ("bpda", "w"): "network", ("stranger", "w"): ""},
    )
    verdicts = found.set_index(["model", "attack", "level"])["verdict"].to_dict()
    assert verdicts["plain", "aa", 0.1] == (
        "suspect: attacked through other gradients, the same network loses 5 of the 45 samples that withstood; "
        "40.0 % withstand both"
    )
    del verdicts["plain", "aa", 0.1]
    assert set(verdicts.values()) == {"ok", ""}


def test_the_same_weights_with_other_predictions_are_no_variant() -> None:
    """Such as those of a model whose code was mended."""
    linf = {"attack": "aa", "norm": "linf", "worst_case": True, "verdict": "ok"}
    measured = cells({**linf, "key": "plain", "model": "plain"}, {**linf, "key": "other", "model": "other"})
    clean = [row != 9 for row in range(10)]
    found = scores(
        measured,
        pd.concat([outcomes("plain", [True] * 10), outcomes("other", [False] * 10, clean=clean)]),
        {("plain", "w"): "network", ("other", "w"): "network"},
    )
    assert set(found["verdict"]) == {"ok"}


def test_no_cells_have_no_scores() -> None:
    empty = pd.DataFrame(columns=[*OUTCOME_COLUMNS, "key"]).astype({**OUTCOME_COLUMNS, "key": "str"})
    found = scores(cells({}).iloc[:0], empty)
    assert list(found.columns) == list(SCORE_COLUMNS)
    assert found.empty


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30),
    st.lists(st.one_of(st.just(math.inf), st.floats(0, 10)), min_size=1, max_size=30),
)
def test_scores_agree_with_arithmetic_on_arrays(rights: list[tuple[bool, bool, bool]], norms: list[float]) -> None:
    asked = cells({"key": "0"}, {"key": "1", "seed": 1}, {"key": "2", "seed": 2}, {**FMN, "key": "fmn"})
    noise = [
        outcomes(str(draw), [bool(right) for right in column]) for draw, column in enumerate(zip(*rights, strict=True))
    ]
    fmn = outcomes("fmn", [norm == math.inf for norm in norms], l2=norms, clean=[norm > 0 for norm in norms])
    shuffled = pd.concat([*noise, fmn]).sample(frac=1, random_state=0)
    found = scores(asked, shuffled).set_index("metric")

    assert found.loc["accuracy", "value"] == pytest.approx(sum(map(sum, rights)) / (3 * len(rights)))
    ordered = sorted(norms)
    middle = (ordered[(len(norms) - 1) // 2] + ordered[len(norms) // 2]) / 2
    assert found.loc["median_norm", "value"] == pytest.approx(middle)
    broken = [norm for norm in norms if 0 < norm < math.inf]
    assert ("mean_norm" in found.index) == bool(broken)
    if broken:
        assert found.loc["mean_norm", "value"] == pytest.approx(sum(broken) / len(broken))
    assert (found["low"] <= found["value"] + 1e-12).all()
    assert (found["value"] <= found["high"] + 1e-12).all()
