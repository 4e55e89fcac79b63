"""The digest of a model follows the files that its own imports, and no others."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import pytest

from hahbench.models.source_code import source_code

FILES = {
    "net.py": "import json, torch, hahbench\nfrom edited.scale import one\nfrom pkg.block import block\n"
    "def make():\n    return one * block()\n",
    "pkg/__init__.py": "",
    "pkg/block.py": "from . import ops\nfrom .deep.scale import scale\ndef block():\n    return ops.two() * scale\n",
    "pkg/ops.py": "from pkg import block\ndef two():\n    import late, folder.inner.deep\n    return 2\n",
    "pkg/deep/scale.py": "from ..named import scale\n",
    "pkg/named.py": "scale = 3\n",
    "pkg/unused.py": "unused = 1\n",
    "late.py": "late = 1\n",
    "folder/inner/deep.py": "deep = 1\n",
    "elsewhere/edited/__init__.py": "",
    "elsewhere/edited/scale.py": "one = 1\n",
}


class Editable(MetaPathFinder):
    """Finds one package, as setuptools lets those be found that were installed in editable mode."""

    def __init__(self, package: Path) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(fullname, [str(self.package.parent)]) if fullname == self.package.name else None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Editable(tmp_path / "elsewhere" / "edited")])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("pkg/block.py", True),
        ("pkg/ops.py", True),
        ("pkg/deep/scale.py", True),
        ("pkg/named.py", True),
        ("late.py", True),
        ("folder/inner/deep.py", True),
        ("elsewhere/edited/scale.py", True),
        ("pkg/unused.py", False),
    ],
)
def test_what_a_file_imports_counts(file: str, counts: bool, folder: Path) -> None:
    make = importlib.import_module("net").make
    before = source_code([make])
    text = (folder / file).read_text()
    (folder / file).write_text(f'"""Changed."""\n# Changed.\n{text}')
    assert source_code([make]) == before
    (folder / file).write_text(f"{text}changed = True\n")
    assert (source_code([make]) != before) is counts


def test_nothing_is_executed(folder: Path) -> None:
    make = importlib.import_module("net").make
    (folder / "late.py").write_text("raise RuntimeError")
    assert len(source_code([make])) == 9
    assert "late" not in sys.modules


def test_what_does_not_parse_or_is_not_there_is_passed_over(folder: Path) -> None:
    make = importlib.import_module("net").make
    (folder / "late.py").write_text("def")
    (folder / "pkg" / "named.py").unlink()
    assert len(source_code([make])) == 7
