from __future__ import annotations

import fractions
import subprocess
import sys
from pathlib import Path

import pytest

from hahbench.errors import DuplicateNameError, HahbenchError, UnknownNameError
from hahbench.registry import Registry, import_attribute


@pytest.fixture
def numbers() -> Registry[object]:
    registry: Registry[object] = Registry("number")
    registry.register("one", 1)
    registry.register("half", "fractions:Fraction")
    return registry


def test_a_name_gives_back_what_was_registered(numbers: Registry[object]) -> None:
    assert numbers["one"] == 1


def test_a_path_is_imported_when_it_is_looked_up(numbers: Registry[object]) -> None:
    assert numbers["half"] is fractions.Fraction


def test_names_are_listed_in_order(numbers: Registry[object]) -> None:
    assert list(numbers) == ["half", "one"]
    assert "one" in numbers
    assert "two" not in numbers


def test_a_taken_name_is_refused(numbers: Registry[object]) -> None:
    with pytest.raises(DuplicateNameError, match="number 'one' is registered already"):
        numbers.register("one", 11)
    assert numbers["one"] == 1


def test_what_one_file_defines_again_takes_its_own_place(numbers: Registry[object]) -> None:
    def define() -> object:
        def three() -> int:
            return 3

        return three

    first, again = define(), define()
    numbers.register("three", first)
    numbers.register("three", again)
    assert numbers["three"] is again
    with pytest.raises(DuplicateNameError):
        numbers.register("three", lambda: 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("onee", "unknown number 'onee'; did you mean 'one'?"),
        ("HALF", "unknown number 'HALF'; did you mean 'half'?"),
        ("zzz", "unknown number 'zzz'; allowed: half, one"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(numbers: Registry[object], given: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        numbers[given]
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("fractions", "'fractions' must have the form 'module:attribute'"),
        ("no_such_module:thing", "cannot be imported"),
        ("fractions:Half", "module 'fractions' has no attribute 'Half'"),
    ],
)
def test_a_wrong_path_says_what_is_wrong(path: str, message: str) -> None:
    with pytest.raises(HahbenchError, match=message):
        import_attribute(path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise TypeError('two\\n  lines')", "TypeError: two lines"),
        ("[].no_such_method", "AttributeError: 'list' object has no attribute 'no_such_method'"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("thing = (", "SyntaxError: '(' was never closed (broken_plugin.py, line 1)"),
        ("def __getattr__(name): raise OSError('no disk')", "OSError: no disk"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why_in_one_line(
    body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_plugin.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_plugin", raising=False)
    with pytest.raises(HahbenchError) as caught:
        import_attribute("broken_plugin:thing")
    assert str(caught.value) == f"'broken_plugin:thing' cannot be imported: {message}"


def test_listing_names_imports_no_torch() -> None:
    code = "import sys, hahbench.catalog as c; list(c.models()), list(c.attacks()), list(c.suites())"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)
