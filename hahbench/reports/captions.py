"""What stands under a table or figure: the data, the seeds, what its numbers mean, and how it was made."""

from __future__ import annotations

import collections
import json

import pandas as pd

from hahbench import __version__
from hahbench.reports import markdown
from hahbench.reports.display import escape
from hahbench.reports.orderings import EXPLAINED
from hahbench.reports.published import Published
from hahbench.reports.tables import verdicts

_EXPLAINED = {
    "difference": EXPLAINED,
    "accuracy": "Accuracies in percent, severities and draws of noise averaged; in brackets Wilson's 95 % interval "
    "over the samples, which is conservative for averages.",
    "relative_error": "Relative errors, in percent, are errors over those of Standard, averaged over the corruptions; "
    "in brackets the 95 % interval over the samples by the delta method.",
    "median_norm": "Median norms in pixel values of [0, 1] (l0: changed colour values), 0 where the model was wrong "
    "already and ∞ where the attack failed; in brackets the exact 95 % interval between order statistics.",
}

_VERDICTS = (
    "Gradients can mislead an attack, and a robust accuracy is then too high. Each was examined for output that is "
    "random or depends on how it is asked for, missing gradients, a black-box attack that breaks more than the others, "
    "a single step that does as well as many, a larger epsilon that does not help, an unbounded perturbation that does "
    "not break everything, and perturbations made on the other models of the run that do better, on up to 32 of the "
    "samples. What the same network loses when it is attacked through other gradients, and, beside a median norm, what "
    "attacks of the same norm break nearer, was looked up for all of them."
)


def caption(
    cells: pd.DataFrame, shown: pd.DataFrame, command: str, *notes: str, published: Published | None = None
) -> str:
    """The caption, in Markdown.

    Args:
        cells: of one data set, as the store gives them, the newest last.
        shown: the scores, with ``attack`` and ``metric``.
        command: that makes the report.
        notes: sentences that come first.
        published: the paper, where its numbers are shown.
    """
    newest = cells.iloc[-1]
    shown_cells = cells["attack"].isin(shown["attack"])
    if shown["attack"].str.startswith("corruptions-").any():
        shown_cells |= cells["kind"].str.startswith("corruption")
    lines = [
        *(f"- {note}" for note in notes),
        f"- Data: {escape(str(newest['dataset']))} ({escape(str(newest['source']))}), "
        f"the first {newest['n']} test samples, digest {newest['data_digest'][:8]}.",
        f"- Seeds: {_seeds(cells[shown_cells])}.",
        *_parameters(cells[shown_cells]),
        *(f"- {_EXPLAINED[metric]}" for metric in shown["metric"].unique()),
    ]
    corrupted = cells[cells["kind"].str.startswith("corruption") & shown_cells]
    if not corrupted.empty:
        sources = corrupted["attack_version"].str.partition(", judge")[0].unique()
        lines.append(f"- Corruptions: {escape('; '.join(sorted(sources)))}.")
    if published:
        paper = f"{escape(published.citation)}. {escape(published.networks)}"
        if "difference" in set(shown["metric"]):
            lines.append(f"- Paper: {paper}")
        else:
            lines.append(f'- After "paper": {paper} In brackets ours less the paper\'s, in percentage points.')
    return "\n".join([*lines, f"- Made with hahbench {__version__} by:"]) + f"\n\n  {markdown.code(command)}"


def verdicts_section(shown: pd.DataFrame) -> str:
    """The verdicts on the robust accuracies of ``shown``, as ``grid`` gives it, in Markdown; empty without any."""
    rows = verdicts(shown)
    if rows.empty:
        return ""
    return "\n\n".join(["## Verdicts", _VERDICTS, markdown.table(rows)])


def _parameters(cells: pd.DataFrame) -> list[str]:
    """A line with the parameters of each attack that has any; what a corruption is says its name."""
    attacks: dict[str, list[str]] = collections.defaultdict(list)
    given = cells[~cells["kind"].str.startswith("corruption") & (cells["params"] != "{}")]
    for name, params in given.groupby("attack")["params"].last().items():
        said = json.loads(params).items()
        text = ", ".join(f"{key} {_joined(value)}" for key, value in said)
        attacks[text].append(str(name))
    texts = [f"{text} of {', '.join(names)}" for text, names in attacks.items()]
    return [f"- Parameters: {escape('; '.join(texts))}."] if texts else []


def _joined(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _seeds(cells: pd.DataFrame) -> str:
    """The seeds, and where attacks were drawn differently, those of each."""
    of_attack: dict[str, str] = {
        str(name): ", ".join(map(str, sorted(part["seed"].unique()))) for name, part in cells.groupby("attack")
    }
    usual, *others = [seeds for seeds, _ in collections.Counter(of_attack.values()).most_common()] or ["none"]
    if not others:
        return usual
    apart = [
        f"{seeds} of {', '.join(escape(name) for name, drawn in of_attack.items() if drawn == seeds)}"
        for seeds in others
    ]
    return "; ".join([usual, *apart])
