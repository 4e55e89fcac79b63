"""The kinds of files that reports are made of; each is written whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from hahbench.atomic import replacing


def write_text(path: Path, text: str) -> Path:
    """Write text, and give its path back.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_csv(path: Path, numbers: pd.DataFrame) -> Path:
    """Write numbers as they are, and give the path back.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as temporary:
        numbers.to_csv(temporary, index=False, lineterminator="\n")
    return path


def write_latex(path: Path, title: str, caption: str, text: pd.DataFrame) -> Path:
    """Write a table to be input, with the title and caption as comments, and give its path back.

    It needs the packages booktabs and, for the ∞ of a norm, amssymb.

    Raises:
        OSError: the file cannot be written.
    """
    rows = tabulate(text, headers="keys", showindex=False, disable_numparse=True, tablefmt="latex_booktabs")
    # A hyphen before a number is a minus.
    rows = re.sub(r"(?<![\w-])-(?=\d)", "$-$", rows).replace("∞", r"$\infty$")
    comments = "".join(f"% {line}\n" for line in [title, *caption.splitlines()] if line)
    return write_text(path, comments + rows + "\n")
