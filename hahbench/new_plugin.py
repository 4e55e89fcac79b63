"""A package to start from, for models, attacks, data sets and reports of one's own."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path

from hahbench.atomic import replacing
from hahbench.errors import HahbenchError

_TEMPLATE = Path(__file__).parent / "plugin_template"
_NAME, _PACKAGE = "my-plugin", "my_plugin"


def write_plugin(name: str, out: Path) -> list[Path]:
    """Write a package that adds a model and an attack to hahbench, with a test and a README.

    Args:
        name: of the distribution, such as ``my-plugin``; the import package has ``_`` for ``-``.
        out: the folder in which the package's folder is made.

    Returns:
        The files.

    Raises:
        HahbenchError: the name is not allowed or taken, or the folder is there already or cannot be written.
    """
    package = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) or keyword.iskeyword(package):
        raise HahbenchError(
            f"name {name!r}; allowed: small letters, digits and hyphens after a letter, but no keyword of Python, such "
            "as 'my-plugin'"
        )
    if importlib.util.find_spec(package) is not None:
        raise HahbenchError(f"name {name!r} is that of a module {package!r} that is there already; choose another name")
    folder = out / name
    if folder.exists():
        raise HahbenchError(f"{folder}: is there already; choose another name or --out")
    paths = []
    for source in sorted(path for path in _TEMPLATE.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        text = source.read_text(encoding="utf-8").replace(_NAME, name).replace(_PACKAGE, package)
        path = folder / source.relative_to(_TEMPLATE).as_posix().replace(_PACKAGE, package)
        try:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise HahbenchError(f"{path}: cannot be written: {error.strerror}") from error
        paths.append(path)
    return paths
