"""``pytest --hahbench-baseline FILE``: a test for each cell of a baseline; and the fixture ``robustness``.

Nothing else of hahbench is imported before one of them is used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hahbench.regress.assertions import Robustness
    from hahbench.regress.baseline import BaselineCell
    from hahbench.regress.check import Checked
    from hahbench.regress.compare import Comparison
    from hahbench.store import Store

_TOLERANCE = 0.01
_STORE: pytest.StashKey[Store] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("hahbench", "robustness of image classifiers")
    group.addoption(
        "--hahbench-baseline",
        type=Path,
        metavar="FILE",
        help="Collect a test for each cell of this file of 'hahbench baseline'.",
    )
    group.addoption(
        "--hahbench-model",
        action="append",
        default=[],
        metavar="MODEL",
        help="What was changed, compared with the baseline's model of the same name; repeatable; default: the "
        "baseline's own models, with the same weights.",
    )
    group.addoption("--hahbench-data", type=Path, metavar="PATH", help="Folder that the data set is read from.")
    group.addoption(
        "--hahbench-store", type=Path, metavar="DIR", help="Folder of finished cells; default: a temporary one."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect the baseline beside the tests that are asked for."""
    path = config.getoption("--hahbench-baseline")
    # pytest-xdist gives its workers the arguments of the process that starts them.
    if path is not None and str(path) not in config.args:
        config.args.append(str(path))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """The baseline's cells."""
    path = parent.config.getoption("--hahbench-baseline")
    if path is None or file_path.resolve() != path.resolve():
        return None
    return BaselineFile.from_parent(parent, path=file_path)


class BaselineFile(pytest.File):
    """A baseline, checked against the models, the data and the code that there are now."""

    def collect(self) -> Iterator[pytest.Item]:
        """A test for each cell."""
        from hahbench.device import choose_device
        from hahbench.errors import HahbenchError
        from hahbench.regress.baseline import read_baseline
        from hahbench.regress.check import prepare_check
        from hahbench.reports.display import score_title

        option = self.config.getoption
        try:
            checked = prepare_check(
                read_baseline(self.path),
                option("--hahbench-model"),
                option("--hahbench-data"),
                device=choose_device("auto"),
            )
        except HahbenchError as error:
            raise self.CollectError(str(error)) from error
        for cell in checked.cells:
            name = f"{cell.model} {score_title(cell.attack.name, cell.level, cell.metric)}"
            yield CellItem.from_parent(self, name=name, checked=checked, cell=cell)


class CellItem(pytest.Item):
    """Fails where a cell is worse than in the baseline, or has come to be suspect.

    Tests may run in several processes, which do not know each other's p-values: each is at alpha over the number of
    cells, Bonferroni's bound, where ``hahbench check`` has Holm's.
    """

    def __init__(self, *, checked: Checked, cell: BaselineCell, **options: Any) -> None:
        super().__init__(**options)
        self._checked = checked
        self._cell = cell

    def runtest(self) -> None:
        """Measure what the store does not hold, and compare."""
        from hahbench.regress.check import Quiet, measure_whole
        from hahbench.regress.compare import ALPHA, compare
        from hahbench.regress.render import sentence

        pairs = measure_whole(self._checked, [self._cell], _store(self.config), Quiet())
        (comparison,) = compare(pairs, alpha=ALPHA / len(self._checked.cells), tolerance=_TOLERANCE)
        self.user_properties.append(("verdict", comparison.verdict))
        if comparison.verdict == "worse":
            unit = " points" if comparison.metric == "accuracy" else "%"
            lost = f"{100 * comparison.drop:.1f}{unit}"
            raise CellError(f"less robust than in the baseline by {lost}", comparison)
        if comparison.is_suspect:
            raise CellError("suspect: the attack may have come to fail, and hide a loss", comparison)
        self.add_report_section("call", "robustness", sentence(comparison))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The comparison as a table; errors that the user can mend as one line."""
        from hahbench.errors import HahbenchError

        if isinstance(excinfo.value, CellError):
            return excinfo.value.table()
        return str(excinfo.value) if isinstance(excinfo.value, HahbenchError) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """The headline of a failure; a name that ended the node's id would be shown with "::" for its points."""
        return self.path, None, f"{self.name} against {self.path.name}"


class CellError(AssertionError):
    """What there is to say against a cell."""

    def __init__(self, message: str, comparison: Comparison) -> None:
        super().__init__(message)
        self.comparison = comparison

    def table(self) -> str:
        """What happened, and a line for each fact."""
        from hahbench.regress.render import row

        facts = [f"  {heading:<24}{text}" for heading, text in row(self.comparison).items()]
        return "\n".join([str(self), *facts])


@pytest.fixture(scope="session")
def robustness(request: pytest.FixtureRequest) -> Robustness:
    """``robustness(model).under("linf", 2 / 255).at_least(0.2)`` fails where the interval's lower end is below."""
    from hahbench.regress.assertions import Robustness

    return Robustness(_store(request.config))


def _store(config: pytest.Config) -> Store:
    from hahbench.store import Store

    if _STORE not in config.stash:
        folder = config.getoption("--hahbench-store")
        if folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="hahbench-")
            config.add_cleanup(temporary.cleanup)
            folder = Path(temporary.name)
        config.stash[_STORE] = Store(folder)
    return config.stash[_STORE]
