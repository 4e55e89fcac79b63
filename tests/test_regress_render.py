"""What people and machines read of a check."""

from __future__ import annotations

import dataclasses
import json
import math
from xml.etree import ElementTree

import pytest
from rich.console import Console

from hahbench.regress import render
from hahbench.regress.compare import Comparison, Verdict
from hahbench.regress.expect import Floor, FloorResult
from hahbench.regress.report import Report

UNKNOWN = (math.nan, math.nan, math.nan)
WORSE = Comparison(
    "m|<b>", "gaussian-noise", 0.1, "accuracy", "worse", 1000, 1000, (0.64, 0.61, 0.67), (0.6, 0.57, 0.63), -0.04,
    60, 20, 15, 1e-5, None, "", True, False,
)  # fmt: skip
SAME = Comparison(
    "m|<b>", "fmn-l2", None, "median_norm", "same", 1000, 1000, (0.4, 0.35, 0.45), (math.inf, 0.35, math.inf), 0.005,
    3, 8, 0, 0.8, None, "", True, False,
)  # fmt: skip
OPEN = Comparison(
    "m|<b>", "clean", None, "accuracy", "inconclusive", 64, 1000, (0.9, 0.8, 1.0), (0.88, 0.8, 1.0), -0.02,
    2, 1, 2, 1.0, 3400.0, "", True, False,
)  # fmt: skip
SKIPPED = Comparison(
    "m|<b>",
    "apgd-linf",
    2 / 255,
    "accuracy",
    "inconclusive",
    0,
    1000,
    UNKNOWN,
    UNKNOWN,
    0.0,
    0,
    0,
    0,
    1.0,
    math.inf,
    "",
    True,
    False,
)
DOUBTFUL = Comparison(
    "m|<b>", "pgd-linf", 0.03, "accuracy", "better", 1000, 1000, (0.3, 0.27, 0.33), (0.99, 0.98, 1.0), 0.69,
    0, 690, 0, 1e-9, None, "the gradient of 32 of 32 samples is zero", False, False,
)  # fmt: skip
BROKEN = FloorResult(
    Floor("m", "clean", None, 0.95, "pyproject.toml: expect 1"), "accuracy", (0.88, 0.8, 1.0), 64, True, (0.8, 1.0)
)
UNDECIDED = dataclasses.replace(BROKEN, complete=False)
UNMEASURED = FloorResult(
    Floor("m", "apgd-linf", 2 / 255, 0.1, "f.toml: expect 2"), "accuracy", UNKNOWN, 0, False, (math.nan, math.nan)
)


def report(*comparisons: Comparison, floors: tuple[FloorResult, ...] = ()) -> Report:
    return Report("b.json", comparisons, floors, 0.01, 0.01, 12.3)


ALL = report(SAME, OPEN, SKIPPED, WORSE, floors=(BROKEN,))


@pytest.mark.parametrize(
    ("checked", "code"),
    [
        (report(SAME), 0),
        (report(SAME, OPEN), 0),
        (report(SAME, SKIPPED), 2),
        (report(WORSE, SKIPPED), 1),
        (report(SAME, DOUBTFUL), 2),
        (report(WORSE, DOUBTFUL), 1),
        (report(SAME, dataclasses.replace(DOUBTFUL, verdict="same")), 0),
        (report(SKIPPED), 2),
        (report(), 2),
        (report(SAME, WORSE), 1),
        (report(SAME, floors=(BROKEN,)), 1),
        (report(SAME, floors=(UNMEASURED,)), 2),
        (report(SAME, floors=(UNDECIDED,)), 2),
        (report(WORSE, floors=(UNMEASURED,)), 1),
    ],
)
def test_exit_codes(checked: Report, code: int) -> None:
    assert checked.exit_code == code


def test_a_budget_is_not_blamed_for_an_empty_baseline() -> None:
    assert render.summary(report(SAME, SKIPPED))[1] == "not all could be checked; a larger --budget allows it"
    assert render.summary(report())[1] == "the baseline holds nothing to check"


def test_a_line_says_what_happened() -> None:
    assert render.sentence(WORSE) == (
        "m|<b>, Gaussian noise sigma 0.1: worse, 64.0 [61.0, 67.0] then, 60.0 [57.0, 63.0] now "
        "(-4.0 points, p = 1e-05, n = 1000)"
    )
    assert "inconclusive, settled by n of about 3,400" in render.sentence(OPEN)
    assert "64 of 1000" in render.sentence(OPEN)
    assert render.sentence(SKIPPED) == "m|<b>, APGD l_inf 2/255: not measured"


def test_the_summary_counts_and_names_what_was_skipped() -> None:
    assert render.summary(ALL) == [
        "1 worse, 1 same, 2 inconclusive: against b.json, alpha 0.01, tolerance 0.01, 12 s",
        "0 of 1 floors hold",
        "samples skipped: m|<b>, Clean: 936 of 1000; m|<b>, APGD l_inf 2/255: 1000 of 1000",
    ]


def test_a_terminal_of_eighty_columns_shows_every_number() -> None:
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        for table in render.tables(ALL):
            console.print(table)
    text = captured.get()
    for shown in (
        "m|<b>",
        "64.0",
        "60.0",
        "-4.0 points",
        "1e-05",
        "worse",
        "0.400",
        "∞",
        "+0.5 %",
        "64 of 1000",
        "88.0 [80.0, 100.0]",
        "broken",
    ):
        assert shown in text
    assert "…" not in text


def test_markdown_begins_with_regressions_and_escapes_names() -> None:
    text = render.markdown(ALL)
    rows = [line for line in text.splitlines() if line.startswith("| m&#124;&lt;b&gt;")]
    assert [row.split("|")[9].split(",")[0].strip() for row in rows] == [
        "worse",
        "same",
        "inconclusive",
        "inconclusive",
    ]
    assert "60 (15), 20" in rows[0]
    assert "<b>" not in text


def test_junit_fails_what_is_worse_or_below_its_floor() -> None:
    suite = ElementTree.fromstring(render.junit(ALL))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "2", "1")
    failed = {case.get("name") for case in suite if case.find("failure") is not None}
    assert failed == {"Gaussian noise sigma 0.1", "floor of Clean"}
    assert [case.get("name") for case in suite if case.find("skipped") is not None] == ["APGD l_inf 2/255"]


def test_a_check_that_could_not_be_made_is_an_error_and_says_why() -> None:
    why = "model 'm|<b>' has other weights"
    suite = ElementTree.fromstring(render.junit_of_failure("b.json", why))
    assert [suite.get(count) for count in ("tests", "failures", "errors", "skipped")] == ["1", "0", "1", "0"]
    assert [case.find("error").get("message") for case in suite] == [why]  # type: ignore[union-attr]
    assert "Against b.json, no check could be made: model 'm&#124;&lt;b&gt;' has" in render.markdown_of_failure(
        "b.json", why
    )
    assert render.github_annotation_of_failure(why) == f"::error title=hahbench check could not be made::{why}"


def test_github_gets_an_error_for_each_regression_and_one_notice() -> None:
    lines = render.github_annotations(ALL)
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::error", "::notice"]
    assert lines[0].startswith("::error title=m|<b> is less robust::m|<b>, Gaussian noise sigma 0.1: worse")
    assert "%0A" in lines[2]
    assert all("\n" not in line for line in lines)


def test_json_has_no_number_that_json_lacks() -> None:
    found = json.loads(json.dumps(render.as_json(ALL), allow_nan=False))
    assert found["exit_code"] == 1
    assert [cell["verdict"] for cell in found["cells"]] == ["same", "inconclusive", "inconclusive", "worse"]
    assert found["cells"][0]["now"] == ["inf", 0.35, "inf"]
    assert found["cells"][2]["now"] == [None, None, None]
    assert found["floors"][0]["held"] is False


@pytest.mark.parametrize(("verdict", "was_ok"), [("better", False), ("inconclusive", True)])
def test_a_score_that_is_in_doubt_is_called_so_everywhere(verdict: Verdict, was_ok: bool) -> None:
    """As where a commit masks the gradients: the attack fails, and the score rises, or a loss does not show."""
    found = report(SAME, dataclasses.replace(DOUBTFUL, verdict=verdict, was_ok=was_ok))
    said = f"{verdict}, suspect: the gradient of 32 of 32 samples is zero"
    assert said in render.markdown(found)
    assert f'message="m|&lt;b&gt;, PGD l_inf 0.03: {said}' in render.junit(found)
    assert f"::error title=m|<b> is suspect::m|<b>, PGD l_inf 0.03: {said}" in render.github_annotations(found)[0]
    assert render.as_json(found)["cells"][1]["doubt"] == DOUBTFUL.doubt
    assert "1 suspect: the attack may have come to fail, and hide a loss" in render.summary(found)
    assert render.tables(found)


def test_a_score_that_was_in_doubt_before_is_called_so_and_passes() -> None:
    found = report(dataclasses.replace(DOUBTFUL, verdict="same"))
    assert "| same, suspect |" in render.markdown(found)
    assert found.exit_code == 0
