"""The files in which a check says what came of it."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path

from hahbench.atomic import check_writable, replacing
from hahbench.errors import HahbenchError
from hahbench.regress import render
from hahbench.regress.report import Report


@dataclasses.dataclass(frozen=True)
class Pages:
    """Where the Markdown page and the JUnit XML go; None for nowhere.

    Raises:
        HahbenchError: a file cannot be written.
    """

    markdown: Path | None
    junit: Path | None

    def __post_init__(self) -> None:
        for path in filter(None, (self.markdown, self.junit)):
            try:
                check_writable(path.parent)
            except OSError as error:
                raise _unwritable(path, error) from error

    def write(self, report: Report) -> None:
        """Write what came of a check.

        Raises:
            HahbenchError: a file cannot be written.
        """
        self._write(render.markdown(report), render.junit(report))

    def write_failure(self, baseline: str, why: str) -> None:
        """Write that a check could not be made; else the pages of an earlier one would be taken for its own."""
        # What is wrong with the check is to be said, not what is wrong with its pages.
        with suppress(HahbenchError):
            self._write(render.markdown_of_failure(baseline, why), render.junit_of_failure(baseline, why))

    def _write(self, markdown: str, junit: str) -> None:
        for path, text in ((self.markdown, markdown), (self.junit, junit)):
            if path is not None:
                try:
                    with replacing(path) as temporary:
                        temporary.write_text(text, encoding="utf-8")
                except OSError as error:
                    raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> HahbenchError:
    return HahbenchError(f"{path}: cannot be written: {error.strerror}")
