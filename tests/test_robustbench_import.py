"""RobustBench's import is mended where it is broken, and only there."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pyautoattack
import pytest

from hahbench.errors import ModelError
from hahbench.models.robustbench_import import import_robustbench

Write = Callable[..., None]

# What release 1.1.1 imports and how it uses it.
RELEASE = {
    "__init__.py": "from .eval import AutoAttack\nfrom .loaders import where\ndef load_model(): ...",
    "eval.py": "from autoattack import AutoAttack\nfrom autoattack.state import EvaluationState",
    "loaders.py": "import pkg_resources\nwhere = pkg_resources.resource_filename(__name__, 'helper_files/ids.txt')",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules, without which there is neither a RobustBench nor what its release misses."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in imported():
        monkeypatch.delitem(sys.modules, name)
    for name in ("robustbench", "autoattack", "autoattack.state", "pkg_resources"):
        monkeypatch.setitem(sys.modules, name, None)

    def write(files: dict[str, str], package: str = "robustbench") -> None:
        for name, text in files.items():
            path = tmp_path / package / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        for name in (package, f"{package}.state"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()

    yield write
    for name in imported():
        del sys.modules[name]


def imported() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in ("robustbench", "autoattack")]


def test_the_release_is_imported_where_its_two_modules_cannot_be_had(write: Write, tmp_path: Path) -> None:
    write(RELEASE)
    package = import_robustbench()
    assert package.AutoAttack is pyautoattack.AutoAttack
    assert package.where == str(tmp_path / "robustbench" / "helper_files" / "ids.txt")
    assert import_robustbench() is package


def test_the_stand_ins_are_seen_by_robustbench_alone(write: Write) -> None:
    write(RELEASE)
    import_robustbench()
    assert not isinstance(sys.modules.get("autoattack"), types.ModuleType)
    assert not isinstance(sys.modules.get("pkg_resources"), types.ModuleType)


def test_a_repaired_release_is_imported_as_it_is(write: Write) -> None:
    repaired = {"__init__.py": "import sys\nseen = sys.modules.get('autoattack')\ndef load_model(): ..."}
    write(repaired)
    assert import_robustbench().seen is None


def test_a_module_that_is_installed_is_not_replaced(write: Write) -> None:
    write({"__init__.py": "AutoAttack = 'theirs'", "state.py": "EvaluationState = 'theirs'"}, "autoattack")
    write(RELEASE)
    assert import_robustbench().AutoAttack == "theirs"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_module", "RobustBench cannot be imported: ModuleNotFoundError: No module named"),
        ("1 / 0", "RobustBench cannot be imported: ZeroDivisionError: division by zero"),
        (
            "version = 3",
            "is not RobustBench but a package of the same name, such as the one that torchattacks installs",
        ),
    ],
)
def test_what_cannot_be_mended_is_one_line(write: Write, text: str, message: str) -> None:
    write({"__init__.py": text})
    with pytest.raises(ModelError, match=message) as caught:
        import_robustbench()
    assert "\n" not in str(caught.value)


def test_without_robustbench_it_says_how_to_get_it(write: Write) -> None:
    with pytest.raises(ModelError, match=r"not installed; pip install 'hahbench\[robustbench\]' does that"):
        import_robustbench()
