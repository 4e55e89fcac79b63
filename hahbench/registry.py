"""Names to things."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from hahbench.errors import DuplicateNameError, HahbenchError, UnknownNameError

T = TypeVar("T")

FOREIGN_ERRORS = (Exception, SystemExit)
"""What code that is not hahbench's may raise, and ends no more than itself: an error, or sys.exit."""

_ENTRY_POINT = re.compile(r"[\w.]+:[\w.]+")


def suggest(given: str, allowed: list[str]) -> str:
    """The end of an error message: the near misses of ``given`` in ``allowed``, else all that is allowed."""
    lower = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(given.lower(), lower, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(lower[name]) for name in close)}?"
    return f"allowed: {', '.join(sorted(allowed)) or 'nothing, none is registered'}"


def one_line(error: BaseException) -> str:
    """What somebody else's code raised, as a part of a message: the type, and the text on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def import_attribute(path: str) -> Any:
    """The attribute that ``module:attribute`` names.

    Raises:
        HahbenchError: the path is malformed, the module is missing or raises, or the attribute is missing.
    """
    module, separator, attribute = path.partition(":")
    if not (module and separator and attribute):
        raise HahbenchError(f"{path!r} must have the form 'module:attribute'")
    missing = object()
    try:
        found = getattr(importlib.import_module(module), attribute, missing)
    except FOREIGN_ERRORS as error:
        raise HahbenchError(f"{path!r} cannot be imported: {one_line(error)}") from error
    if found is missing:
        raise HahbenchError(f"{path!r}: module {module!r} has no attribute {attribute!r}")
    return found


def _is_again(one: object, other: object) -> bool:
    """Whether both are, or have as their loader, what one definition gives, as of a file that is run and imported."""
    found = _definition(one)
    return found is not None and found == _definition(other)


def _definition(thing: object) -> tuple[str, str] | None:
    """The file and the name in it of a function or class; None of anything else."""
    loader = getattr(thing, "loader", thing)
    name, module = getattr(loader, "__qualname__", None), getattr(loader, "__module__", None)
    if name is None or module is None or name.endswith("<lambda>"):
        return None
    # Of a notebook there is no file.
    file = getattr(sys.modules.get(module), "__file__", None)
    return (str(Path(file).resolve()) if file else module, name)


class Registry(Generic[T]):
    """A mapping from names to things, each name given once.

    A thing may be registered as a ``module:attribute`` path, which is imported when it is first looked up. Installed
    packages add theirs through the entry-point group, and are not imported before either. One whose name is taken is
    skipped with a warning; where several packages offer one name, all of them are, and so none hides another.

    Args:
        noun: what is registered, for messages, such as ``"data set"``.
        group: the entry-point group, such as ``"hahbench.datasets"``.
        plugin: makes a thing of an entry point's name and path; by default the path stands for what it names.
    """

    def __init__(
        self, noun: str, group: str | None = None, plugin: Callable[[str, str], T | str] = lambda name, path: path
    ) -> None:
        self.noun = noun
        self._group = group
        self._plugin = plugin
        self._entries: dict[str, T | str] = {}
        self._contested: dict[str, str] = {}

    def register(self, name: str, thing: T | str) -> None:
        """Give ``thing`` a name; what is defined again, by the same file or a cell of a notebook, takes its own place.

        Raises:
            DuplicateNameError: the name is taken.
        """
        if name in self._entries and not _is_again(self._entries[name], thing):
            raise DuplicateNameError(f"{self.noun} {name!r} is registered already; choose another name")
        self._entries[name] = thing

    def __getitem__(self, name: str) -> T:
        self._load_plugins()
        if name in self._contested and name not in self._entries:
            raise HahbenchError(self._contested[name])
        if name not in self._entries:
            raise UnknownNameError(f"unknown {self.noun} {name!r}; {suggest(name, list(self._entries))}")
        thing = self._entries[name]
        if isinstance(thing, str):
            thing = self._entries[name] = cast(T, import_attribute(thing))
        return thing

    def __contains__(self, name: object) -> bool:
        self._load_plugins()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(sorted(self._entries))

    def _load_plugins(self) -> None:
        group, self._group = self._group, None
        if group is None:
            return
        offered: dict[str, dict[str, str]] = {}
        for point in importlib.metadata.entry_points(group=group):
            package = point.dist.name if point.dist else "an unnamed package"
            if _ENTRY_POINT.fullmatch(point.value):
                offered.setdefault(point.name, {})[point.value] = package
            else:
                warnings.warn(
                    f"plug-in {point.value!r} of {package} is skipped: it must have the form 'module:attribute'",
                    stacklevel=3,
                )
        for name, packages in sorted(offered.items()):
            if len(packages) > 1:
                those = " and ".join(f"{package} ({path})" for path, package in sorted(packages.items()))
                self._contested[name] = f"{self.noun} {name!r} is offered by {those}; uninstall all of these but one"
                warnings.warn(f"plug-ins are skipped: {self._contested[name]}", stacklevel=3)
                continue
            ((path, package),) = packages.items()
            try:
                self.register(name, self._plugin(name, path))
            except DuplicateNameError as error:
                warnings.warn(f"plug-in {path!r} of {package} is skipped: {error}", stacklevel=3)
