"""Users' Python files: running one, and importing what lies beside it or beside a card."""

from __future__ import annotations

import importlib.util
import sys
import types
from importlib.machinery import PathFinder
from pathlib import Path

from hahbench.errors import CatalogError, HahbenchError
from hahbench.registry import FOREIGN_ERRORS, one_line
from hahbench.spec import digest

_imported_from: list[str] = []


def run_file(path: Path) -> types.ModuleType:
    """The module that executing a Python file gives; the file may import what lies beside it.

    Args:
        path: of the file, resolved.

    Raises:
        CatalogError: the file raises, or imports a module that ``check_one_module_of_a_name`` refuses.
    """
    # The path tells apart two files of the same name.
    name = f"{path.stem}_{digest(str(path))[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Pickling and dataclasses look a module up by its name.
    sys.modules[name] = module
    import_from(path.parent)
    try:
        spec.loader.exec_module(module)
    except HahbenchError:
        raise
    except FOREIGN_ERRORS as error:
        said = f"{path}: running it raised {one_line(error)}"
        if isinstance(error, ImportError) and "no known parent package" in str(error):
            package = path.parent.name
            said += (
                f"; of a file in a package, give a card (.toml) beside the folder {package!r} instead, with loader = "
                f"'{package}.{path.stem}:NAME'"
            )
        raise CatalogError(said) from error
    check_one_module_of_a_name()
    return module


def import_from(folder: Path) -> None:
    """Let a user's file import, or name, the modules in the folder."""
    path = str(folder.resolve())
    if path not in sys.path:
        sys.path.insert(0, path)
        _imported_from.append(path)


def check_one_module_of_a_name() -> None:
    """Python keeps one module of a name: of two folders in use, files of one would run what lies in the other.

    Raises:
        CatalogError: a module of a folder in use was imported, and another folder in use has one of the same name that
            is not the same file, byte for byte, or is a package.
    """
    if len(_imported_from) < 2:
        return
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        folder = Path(file).resolve().parent if file else None
        if "." in name or folder is None or {str(folder), str(folder.parent)}.isdisjoint(_imported_from):
            continue
        found = [PathFinder.find_spec(name, [path]) for path in _imported_from]
        specs = [spec for spec in found if spec is not None and spec.origin]
        origins = sorted({str(Path(str(spec.origin)).resolve()) for spec in specs})
        # Of a package, the origin is one file of many.
        is_package = any(spec.submodule_search_locations is not None for spec in specs)
        if len(origins) > 1 and (is_package or len({Path(origin).read_bytes() for origin in origins}) > 1):
            raise CatalogError(
                f"two modules are named {name!r}: {' and '.join(origins)}; in one run there can be only one: "
                "rename one, or run their models apart, into one store"
            )


def is_importable_from(folder: Path, module: str) -> bool:
    """Whether a process that reads a card in ``folder``, and no other card or Python file, finds the module."""
    before = sys.path
    sys.path = [str(folder.resolve()), *(path for path in before if path not in _imported_from)]
    importlib.invalidate_caches()
    try:
        return any(finder.find_spec(module.partition(".")[0], None) for finder in sys.meta_path)
    finally:
        sys.path = before
