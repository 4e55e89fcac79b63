"""The parts of pages in Markdown."""

from __future__ import annotations

import pandas as pd


def page(title: str, *sections: str) -> str:
    """A page of ``sections`` under its title; empty ones are left out."""
    return "\n\n".join([f"# {title}", *filter(None, sections)]) + "\n"


def table(rows: pd.DataFrame) -> str:
    """``rows`` of texts, under the names of their columns."""
    text: str = rows.to_markdown(index=False, disable_numparse=True)
    return text


def code(line: str) -> str:
    """One line of code, whatever breaks it has."""
    return "    " + " ".join(line.splitlines())
