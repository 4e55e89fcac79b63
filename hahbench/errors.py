"""The errors that a user can cause, each one line that says what was given, what is allowed and where."""


class HahbenchError(Exception):
    """A mistake in what was asked. The command line prints its one line and exits with code 2."""


class UnknownNameError(HahbenchError):
    """A name that nothing is registered under."""


class DuplicateNameError(HahbenchError):
    """A name that is taken."""


class CatalogError(HahbenchError):
    """A TOML file that does not say what its kind of file must say."""


class DataError(HahbenchError):
    """Images that are missing, damaged or of the wrong shape."""


class ModelError(HahbenchError):
    """A model that cannot be loaded, or that does not behave as a classifier of [0, 1] images."""


class StoreError(HahbenchError):
    """Results that cannot be read or written."""


class BaselineError(HahbenchError):
    """A baseline that cannot be made, read or compared with."""
