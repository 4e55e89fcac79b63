"""The code that functions and classes run, to tell whether it changed."""

from __future__ import annotations

import ast
import contextlib
import inspect
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import hahbench

_INSTALLED = ("site-packages", "dist-packages")


def source_code(definitions: Iterable[Any]) -> list[str]:
    """The code of the files of these functions, classes and modules, and of the files of the user that those import.

    Files of torch, torchvision and the standard library are left out. Comments, docstrings and layout do not count.
    What has no file stands for itself, by its name.
    """
    codes: dict[str, str] = {}
    imported: dict[Path, str] = {}
    for definition in definitions:
        is_module = isinstance(definition, types.ModuleType)
        module = str(getattr(definition, "__name__" if is_module else "__module__", ""))
        package = module.partition(".")[0]
        if package in ("torch", "torchvision") or package in sys.stdlib_module_names or module in codes:
            continue
        try:
            path = Path(inspect.getsourcefile(inspect.unwrap(definition)) or "")
            tree = ast.parse(path.read_bytes())
        except (OSError, TypeError, ValueError, SyntaxError):
            name = f"{module}.{getattr(definition, '__qualname__', '')}"
            codes[name] = name
            continue
        codes[module] = _without_comments(tree)
        if _is_users(path):
            imported.setdefault(path.resolve(), codes[module])
            _follow(path, tree, imported)
    return sorted({*codes.values(), *imported.values()})


def _follow(path: Path, tree: ast.Module, imported: dict[Path, str]) -> None:
    """Add to ``imported`` the user's files that this one imports, directly or not."""
    for search, name in _imports(path, tree):
        for found in _files(search, name):
            if found not in imported and _is_users(found):
                try:
                    its_tree = ast.parse(found.read_bytes())
                except (OSError, ValueError, SyntaxError):
                    continue
                # Before what it imports, which may import it.
                imported[found] = _without_comments(its_tree)
                _follow(found, its_tree, imported)


def _imports(path: Path, tree: ast.Module) -> Iterator[tuple[Sequence[str], str]]:
    """Where to look for each module that is imported, and its dotted name there."""
    beside = str(path.parent)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (beside, *sys.path), alias.name
        elif isinstance(node, ast.ImportFrom):
            search = (str(path.resolve().parents[node.level - 1]),) if node.level else (beside, *sys.path)
            for alias in node.names:
                # It is a module of the package, or else a name in it.
                yield search, f"{node.module}.{alias.name}" if node.module else alias.name


def _files(search: Sequence[str], name: str) -> Iterator[Path]:
    """The files of a module and of the packages that it lies in, as far as they are there; nothing is executed."""
    if name.partition(".")[0] in sys.stdlib_module_names:
        return
    parts = name.split(".")
    for length, part in enumerate(parts, start=1):
        # By its full name a folder without __init__.py is one of a package that would have to be imported first.
        spec = PathFinder.find_spec(part, search) or _hooked(".".join(parts[:length]), search if length > 1 else None)
        if spec is None:
            return
        if spec.origin and spec.origin.endswith(".py"):
            yield Path(spec.origin).resolve()
        if not spec.submodule_search_locations:
            return
        search = list(spec.submodule_search_locations)


def _hooked(name: str, search: Sequence[str] | None) -> ModuleSpec | None:
    """What other finders have of a module, such as those of packages that are installed in editable mode."""
    for finder in sys.meta_path:
        if finder is not PathFinder:
            # Somebody else's code, made for imports.
            with contextlib.suppress(Exception):
                if (spec := finder.find_spec(name, search)) is not None:
                    return spec
    return None


def _is_users(path: Path) -> bool:
    """Whether a file is neither hahbench's nor of an installed package, which have versions."""
    file = path.resolve()
    others = (Path(hahbench.__file__).parent, Path(sysconfig.get_path("stdlib")))
    return not set(_INSTALLED) & set(file.parts) and not any(file.is_relative_to(other.resolve()) for other in others)


def _without_comments(tree: ast.Module) -> str:
    """The syntax tree without docstrings and other bare constants, which do nothing."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                part for part in body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]
    return ast.dump(tree)
