"""What is said of a score: nothing where nobody looked, ``ok``, or ``suspect:`` and why it may flatter the model."""

from __future__ import annotations

from collections.abc import Iterable

OK, SUSPECT = "ok", "suspect"
_PREFIX = f"{SUSPECT}: "


def verdict_from(doubts: Iterable[str]) -> str:
    """``ok`` where there are no doubts, else ``suspect:`` and all of them; empty ones are none."""
    found = "; ".join(filter(None, doubts))
    return _PREFIX + found if found else OK


def worst(verdicts: Iterable[str]) -> str:
    """Of several the one that says most against a score."""
    # "suspect: ..." sorts after "ok", and that after "".
    return max(verdicts, default="")


def doubt_in(verdict: str) -> str:
    """What a verdict says against a score; empty for ``ok``, and where there is none."""
    return verdict.removeprefix(_PREFIX) if verdict.startswith(_PREFIX) else ""
