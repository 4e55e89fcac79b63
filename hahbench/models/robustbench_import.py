"""RobustBench, which its release 1.1.1 keeps from being imported on a fresh machine.

Two of its imports cannot be had from a package index any more; a stand-in takes the place of each:

- ``autoattack``: the release requires ``pyautoattack``, the same code under another name, but imports the old one.
- ``pkg_resources``: setuptools has dropped it with version 82. RobustBench asks it for the path of a file.

A stand-in is put in place only after an import failed for want of it, so a repaired release finds nothing mended. What
does not concern the import stays as it is: ``robustbench.benchmark`` still passes pyautoattack arguments that it
does not take. A third party's package ``robustbench``, such as the one that torchattacks 3.5.1 installs, is refused.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path

from hahbench.errors import ModelError
from hahbench.registry import one_line


def import_robustbench() -> types.ModuleType:
    """The package ``robustbench``, mended as far as its import needs it.

    Raises:
        ModelError: it is not installed, cannot be imported for another reason, or is not RobustBench.
    """
    with warnings.catch_warnings():
        # Of what it imports, much is deprecated.
        warnings.simplefilter("ignore")
        package = _import(dict(_STAND_INS))
    if not hasattr(package, "load_model"):
        raise ModelError(
            f"{getattr(package, '__file__', None)} is not RobustBench but a package of the same name, such as the one "
            "that torchattacks installs; put RobustBench into an environment without it"
        )
    return package


def _import(stand_ins: dict[str, Callable[[], dict[str, types.ModuleType]]]) -> types.ModuleType:
    try:
        return importlib.import_module("robustbench")
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == "robustbench":
            raise ModelError("RobustBench is not installed; pip install 'hahbench[robustbench]' does that") from None
        if missing not in stand_ins:
            raise ModelError(f"RobustBench cannot be imported: {one_line(error)}") from error
    except Exception as error:
        raise ModelError(f"RobustBench cannot be imported: {one_line(error)}") from error
    supplied = stand_ins.pop(missing)()
    sys.modules.update(supplied)
    try:
        return _import(stand_ins)
    finally:
        # Others who look for these modules shall find what is installed.
        for name in supplied:
            sys.modules.pop(name, None)


def _autoattack() -> dict[str, types.ModuleType]:
    try:
        return {
            "autoattack": importlib.import_module("pyautoattack"),
            "autoattack.state": importlib.import_module("pyautoattack.state"),
        }
    except ImportError as error:
        raise ModelError(f"RobustBench needs pyautoattack, which cannot be imported: {one_line(error)}") from error


def _pkg_resources() -> dict[str, types.ModuleType]:
    stand_in = types.ModuleType("pkg_resources")
    stand_in.resource_filename = _resource_filename  # type: ignore[attr-defined]
    return {"pkg_resources": stand_in}


def _resource_filename(module: str, name: str) -> str:
    """The path of a file that lies beside a module."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / name)


_STAND_INS = {"autoattack": _autoattack, "pkg_resources": _pkg_resources}
