"""The report of a check for people and for CI."""

from __future__ import annotations

import dataclasses
import math
from typing import Any
from xml.etree import ElementTree

import pandas as pd
from rich.table import Table
from rich.text import Text

from hahbench import __version__
from hahbench.regress.compare import Comparison
from hahbench.regress.expect import FloorResult
from hahbench.regress.report import UNCHECKED, Report
from hahbench.reports import display

_VERDICTS = ("worse", "better", "same", "inconclusive")
_COLOURS = {
    "worse": "bold red",
    "broken": "bold red",
    "better": "green",
    "held": "green",
    "same": "",
    "inconclusive": "",
}
_NUMBERS = ("Baseline", "Floor", "Now", "Change", "n", "p")


def row(comparison: Comparison) -> dict[str, str]:
    """A comparison as text, by heading."""
    measured = comparison.n > 0
    metric = comparison.metric
    return {
        "Model": comparison.model,
        "Attack": title(comparison),
        "Baseline": display.score_text(metric, *comparison.before) if measured else display.MISSING,
        "Now": display.score_text(metric, *comparison.now) if measured else display.MISSING,
        "Change": _change(comparison) if measured else "",
        "Lost (clean), gained": f"{comparison.lost} ({comparison.lost_clean}), {comparison.gained}" if measured else "",
        "n": str(comparison.n) if not _is_partial(comparison) else f"{comparison.n} of {comparison.baseline_n}",
        "p": f"{comparison.p_value:.2g}",
        "Verdict": _verdict(comparison),
    }


def title(comparison: Comparison) -> str:
    """The attack, level and metric."""
    return display.score_title(comparison.attack, comparison.level, comparison.metric)


def sentence(comparison: Comparison) -> str:
    """A comparison on one line."""
    text = row(comparison)
    if not comparison.n:
        return f"{text['Model']}, {text['Attack']}: not measured"
    return (
        f"{text['Model']}, {text['Attack']}: {text['Verdict']}, {text['Baseline']} then, {text['Now']} now "
        f"({text['Change']}, p = {text['p']}, n = {text['n']})"
    )


def floor_row(result: FloorResult) -> dict[str, str]:
    """A floor as text, by heading."""
    floor = result.floor
    return {
        "Model": floor.model,
        "Attack": display.score_title(floor.attack, floor.level, result.metric),
        "Floor": display.percent(floor.least) if result.metric == "accuracy" else f"{floor.least:.4g}",
        "Now": display.score_text(result.metric, *result.value) if result.n else display.MISSING,
        "n": str(result.n),
        "Verdict": _floor_verdict(result),
    }


def summary(report: Report) -> list[str]:
    """Lines that say what came of it, and what was skipped."""
    counts = pd.Series([comparison.verdict for comparison in report.comparisons]).value_counts()
    said = [f"{counts[verdict]} {verdict}" for verdict in _VERDICTS if verdict in counts]
    lines = [
        f"{', '.join(said) or 'no cells'}: against {report.baseline}, alpha {report.alpha:g}, tolerance "
        f"{report.tolerance:g}, {report.seconds:.0f} s"
    ]
    if report.floors:
        lines.append(f"{sum(floor.held for floor in report.floors)} of {len(report.floors)} floors hold")
    suspect = sum(comparison.is_suspect for comparison in report.comparisons)
    unexamined = sum(comparison.unexamined for comparison in report.comparisons)
    if unexamined:
        lines.append(f"{unexamined} not examined for masked gradients; a larger --budget allows it")
    if suspect:
        lines.append(f"{suspect} suspect: the attack may have come to fail, and hide a loss")
    elif report.exit_code == UNCHECKED:
        more = "not all could be checked; a larger --budget allows it"
        lines.append(more if report.comparisons else "the baseline holds nothing to check")
    if report.skipped:
        left = "; ".join(
            f"{cell.model}, {title(cell)}: {cell.baseline_n - cell.n} of {cell.baseline_n}" for cell in report.skipped
        )
        lines.append(f"samples skipped: {left}")
    return lines


def tables(report: Report) -> list[Table]:
    """For a terminal, a table for each model, without intervals, for which it is too narrow, and one of the floors."""
    by_model: dict[str, list[dict[str, str]]] = {}
    for comparison in report.comparisons:
        by_model.setdefault(comparison.model, []).append(row(comparison))
    made = [_table(model, [_short(cells) for cells in rows]) for model, rows in by_model.items()]
    if report.floors:
        made.append(_table("Floors", [floor_row(floor) for floor in report.floors]))
    return made


def _short(cells: dict[str, str]) -> dict[str, str]:
    left_out = ("Model", "Lost (clean), gained")
    return {heading: text.partition(" [")[0] for heading, text in cells.items() if heading not in left_out}


def _table(name: str, rows: list[dict[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, title=Text(name), title_justify="left")
    for heading in rows[0]:
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", no_wrap=heading in _NUMBERS)
    for cells in rows:
        style = _COLOURS[cells["Verdict"].partition(",")[0]]
        table.add_row(*(Text(text, style if heading == "Verdict" else "") for heading, text in cells.items()))
    return table


def markdown(report: Report) -> str:
    """For the summary of a job: regressions first."""
    order = sorted(report.comparisons, key=lambda comparison: _VERDICTS.index(comparison.verdict))
    parts = ["# Robustness check", *(display.escape(line) for line in summary(report))]
    for rows in ([row(comparison) for comparison in order], [floor_row(floor) for floor in report.floors]):
        if rows:
            frame = pd.DataFrame([{name: display.escape(cell) for name, cell in cells.items()} for cells in rows])
            parts.append(str(frame.to_markdown(index=False, disable_numparse=True)))
    parts.append(
        "Accuracies in percent with Wilson's 95 % interval, norms with the exact interval of the median. Lost and "
        "gained count samples that became less and more robust; in brackets those of them whose clean image is now "
        f"classified wrongly. p is adjusted by Holm's method. Made with hahbench {__version__}."
    )
    return "\n\n".join(parts) + "\n"


def markdown_of_failure(baseline: str, why: str) -> str:
    """For the summary of a job whose check could not be made."""
    said = f"Against {display.escape(baseline)}, no check could be made: {display.escape(why)}"
    return f"# Robustness check\n\n{said}\n\nMade with hahbench {__version__}.\n"


def junit(report: Report) -> str:
    """JUnit XML: a test case for each cell and floor."""
    failures = sum(comparison.verdict == "worse" or comparison.is_suspect for comparison in report.comparisons)
    failures += sum(floor.broken for floor in report.floors)
    skipped = sum(not comparison.n for comparison in report.comparisons)
    skipped += sum(not floor.decided for floor in report.floors)
    suite = ElementTree.Element(
        "testsuite",
        name="hahbench check",
        tests=str(len(report.comparisons) + len(report.floors)),
        failures=str(failures),
        errors="0",
        skipped=str(skipped),
        time=f"{report.seconds:.1f}",
    )
    for comparison in report.comparisons:
        case = ElementTree.SubElement(suite, "testcase", classname=comparison.model, name=title(comparison))
        if not comparison.n:
            ElementTree.SubElement(case, "skipped", message="not measured within the budget")
        elif comparison.verdict == "worse" or comparison.is_suspect:
            ElementTree.SubElement(case, "failure", message=sentence(comparison))
        else:
            ElementTree.SubElement(case, "system-out").text = sentence(comparison)
    for floor in report.floors:
        text = floor_row(floor)
        case = ElementTree.SubElement(suite, "testcase", classname=text["Model"], name=f"floor of {text['Attack']}")
        if floor.broken:
            ElementTree.SubElement(case, "failure", message=floor_sentence(floor))
        elif not floor.held:
            ElementTree.SubElement(case, "skipped", message="not decided within the budget")
    return _xml(suite)


def junit_of_failure(baseline: str, why: str) -> str:
    """JUnit XML of a check that could not be made: one test case, in error."""
    suite = ElementTree.Element("testsuite", name="hahbench check", tests="1", failures="0", errors="1", skipped="0")
    case = ElementTree.SubElement(suite, "testcase", classname="hahbench check", name=baseline)
    ElementTree.SubElement(case, "error", message=why)
    return _xml(suite)


def _xml(suite: ElementTree.Element) -> str:
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def floor_sentence(result: FloorResult) -> str:
    """A floor on one line."""
    text = floor_row(result)
    return (
        f"{text['Model']}, {text['Attack']}: {text['Now']}, n = {text['n']}; the interval's lower end is to reach "
        f"{text['Floor']} ({result.floor.where})"
    )


def github_annotations(report: Report) -> list[str]:
    """GitHub's workflow commands: an error for each regression, and a notice with the summary."""
    lines = [
        _annotation("error", f"{comparison.model} is less robust", sentence(comparison))
        for comparison in report.comparisons
        if comparison.verdict == "worse"
    ]
    lines += [
        _annotation("error", f"{comparison.model} is suspect", sentence(comparison))
        for comparison in report.comparisons
        if comparison.is_suspect
    ]
    lines += [
        _annotation("error", f"{result.floor.model} is below its floor", floor_sentence(result))
        for result in report.floors
        if result.broken
    ]
    return [*lines, _annotation("notice", "hahbench check", "\n".join(summary(report)))]


def github_annotation_of_failure(why: str) -> str:
    """GitHub's workflow command for a check that could not be made."""
    return _annotation("error", "hahbench check could not be made", why)


def as_json(report: Report) -> dict[str, Any]:
    """As plain data; infinity is a string, what was not measured is null."""
    return {
        "baseline": report.baseline,
        "alpha": report.alpha,
        "tolerance": report.tolerance,
        "seconds": round(report.seconds, 1),
        "exit_code": report.exit_code,
        "cells": [_plain(dataclasses.asdict(comparison)) for comparison in report.comparisons],
        "floors": [
            _plain(
                {
                    **dataclasses.asdict(result.floor),
                    "value": result.value,
                    "n": result.n,
                    "held": result.held,
                    "broken": result.broken,
                }
            )
            for result in report.floors
        ],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _annotation(level: str, heading: str, message: str) -> str:
    # What GitHub gives a meaning in a message, and in the title before it.
    text = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    title_text = heading.replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title_text}::{text}"


def _floor_verdict(result: FloorResult) -> str:
    if result.decided:
        return "held" if result.held else "broken"
    return "inconclusive" if result.n else "inconclusive, not measured"


def _change(comparison: Comparison) -> str:
    percent = f"{100 * comparison.change:+.1f}"
    return f"{percent} points" if comparison.metric == "accuracy" else f"{percent} %"


def _verdict(comparison: Comparison) -> str:
    said, needed = str(comparison.verdict), comparison.samples_to_settle
    if needed is not None and math.isinf(needed):
        said += ", at any n" if comparison.n else ", not measured"
    elif needed is not None:
        said += f", settled by n of about {needed:,.0f}"
    if comparison.is_suspect:
        return f"{said}, suspect: {comparison.doubt}"
    return f"{said}, suspect" if comparison.doubt and comparison.verdict != "worse" else said


def _is_partial(comparison: Comparison) -> bool:
    return comparison.n < comparison.baseline_n
