"""hahbench: how robust an image classifier really is."""

from importlib.metadata import version as _version

from hahbench.catalog import register_model
from hahbench.errors import HahbenchError

__all__ = ["HahbenchError", "register_model"]
__version__ = _version("hahbench")
