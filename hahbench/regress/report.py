"""What came of a check."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hahbench.regress.compare import Comparison
from hahbench.regress.expect import FloorResult

UNCHECKED = 2
"""The exit code of a check that does not say whether there is a regression."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Verdicts and floors.

    Attributes:
        baseline: the name of the file.
        comparisons: one for each cell of the baseline.
        floors: one for each floor.
        alpha: of the tests.
        tolerance: of the drops.
        seconds: that it took.
    """

    baseline: str
    comparisons: Sequence[Comparison]
    floors: Sequence[FloorResult]
    alpha: float
    tolerance: float
    seconds: float

    @property
    def skipped(self) -> list[Comparison]:
        """Those not compared on all samples."""
        return [comparison for comparison in self.comparisons if comparison.n < comparison.baseline_n]

    @property
    def exit_code(self) -> int:
        """1: a cell is worse or a floor broken; 2: one was not measured or is suspect, or a floor is undecided."""
        if any(comparison.verdict == "worse" for comparison in self.comparisons):
            return 1
        if any(floor.broken for floor in self.floors):
            return 1
        known = all(comparison.n and not comparison.is_suspect for comparison in self.comparisons)
        return 0 if self.comparisons and known and all(floor.held for floor in self.floors) else UNCHECKED
