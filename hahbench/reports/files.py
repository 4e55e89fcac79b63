"""The kinds of files that reports are made of; each is written whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from hahbench.atomic import replacing

_TO_INPUT = (
    r"\resizebox{{\textwidth}}{{!}}{{\input{{{name}}}}}, with the packages amssymb, booktabs, graphicx and makecell"
)


def write_text(path: Path, text: str) -> Path:
    """Write text, and give its path back.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as temporary:
        # A path may hold bytes that no text can.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
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

    What the paper has stands below what is ours.

    Raises:
        OSError: the file cannot be written.
    """
    rows = tabulate(text, headers="keys", showindex=False, disable_numparse=True, tablefmt="latex_booktabs")
    # A hyphen before a number is a minus.
    rows = re.sub(r"(?<![\w-])-(?=\d)", "$-$", rows).replace("∞", r"$\infty$").replace(r"l\_inf", r"$\ell_\infty$")
    rows = re.sub(r"(?<=& )([^&]+), (paper [\d.]+(?: \([^)]*\))?)", r"\\makecell[l]{\1\\\\\2}", rows)
    lines = [title, _TO_INPUT.format(name=path.stem), *caption.splitlines()]
    comments = "".join(f"% {line}\n" for line in lines if line)
    return write_text(path, comments + rows + "\n")
