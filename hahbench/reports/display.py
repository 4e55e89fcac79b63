"""How attacks, levels, scores and names look on a page; the one place where numbers become text."""

from __future__ import annotations

import html
import math

from hahbench.spec import REFERENCE, level_text

MISSING = "missing"
SUSPECT = ", suspect"

_ATTACKS = {
    "clean": "Clean",
    "gaussian-noise": "Gaussian noise sigma {level}",
    "autoattack-linf": "AutoAttack l_inf {level}",
    "autoattack-l2": "AutoAttack l2 {level}",
    "apgd-linf": "APGD l_inf {level}",
    "apgd-l2": "APGD l2 {level}",
    "pgd-linf": "PGD l_inf {level}",
    "pgd-l2": "PGD l2 {level}",
    "carlini-wagner-l2": "Carlini-Wagner l2",
    "fmn-l0": "FMN l0",
    "fmn-l1": "FMN l1",
    "fmn-l2": "FMN l2",
    "fmn-linf": "FMN l_inf",
}
_CORRUPTION_SETS = {
    "corruptions-paper": "Mean of the paper's 16 corruptions",
    "corruptions-robustbench": "Mean of RobustBench's 15 corruptions",
    "corruptions-all": "Mean of all 19 corruptions",
}
_FROST = {"": "", "-without-frost": " but frost", "-procedural-frost": ", frost procedural"}
_ATTACKS |= {key + end: title + said for key, title in _CORRUPTION_SETS.items() for end, said in _FROST.items()}


_METRICS = {
    "accuracy": "",
    "relative_error": ", error relative to Standard",
    "median_norm": ", median norm",
    "mean_norm": ", mean norm",
}

_MARKDOWN = str.maketrans({sign: f"&#{ord(sign)};" for sign in "|`*[]\\"})


def score_title(attack: str, level: float | None, metric: str) -> str:
    """The heading of a column, such as ``AutoAttack l_inf 2/255``; attacks without a display name keep their own."""
    name = attack.removesuffix(REFERENCE)
    if name in _ATTACKS:
        title = _ATTACKS[name].format(level="" if level is None else level_text(level))
        if name != attack:
            title += " by the reference engine"
    elif name.startswith("corruption-"):
        title = (
            name.removeprefix("corruption-").replace("-", " ").replace("jpeg", "JPEG").replace("frost p", "frost, p")
        )
        title = title[0].upper() + title[1:] + ("" if level is None else f" severity {level:g}")
    else:
        title = attack if level is None else f"{attack} {level_text(level)}"
    return title + _METRICS[metric]


def score_text(metric: str, value: float, low: float, high: float) -> str:
    """A score with its interval: ``64.0 [62.1, 65.9]``, in percent, for accuracies; ``0.12 [0.11, 0.13]`` for norms."""
    return f"{score_number(metric, value)} [{score_number(metric, low)}, {score_number(metric, high)}]"


def score_number(metric: str, value: float) -> str:
    """A score without its interval."""
    return percent(value) if metric in ("accuracy", "relative_error") else _norm(value)


def percent(value: float) -> str:
    """A fraction in percent, with one decimal: 0.64 as ``64.0``."""
    return "∞" if math.isinf(value) else f"{100 * value:.1f}"


def difference(value: float) -> str:
    """A difference of fractions in percentage points, with its sign: -0.111 as ``-11.1``."""
    return f"{100 * value:+.1f}"


def _norm(value: float) -> str:
    if math.isinf(value):
        return "∞"
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}".removesuffix(".")


def one_line(text: str) -> str:
    """``text`` without line breaks."""
    return " ".join(text.split())


def escape(text: str) -> str:
    """``text`` on one line, with what HTML or Markdown would read as markup made literal."""
    return html.escape(one_line(text), quote=False).translate(_MARKDOWN)
