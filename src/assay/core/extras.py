"""Optional libraries: imported when first used, and named with their extra when missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from assay.catalogue import MissingExtra

__all__ = ["MissingExtra", "require"]


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or say in one line which extra brings it.

    Parameters
    ----------
    module : str
        Import name of the library, e.g. ``"skops.io"``.
    extra : str
        Extra of the package that installs it, e.g. ``"skops"``.
    purpose : str
        What the library is needed for, to begin the message with.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.split(".")[0]
        message = f"{purpose} needs {library}, which the extra {extra!r} brings: pip install {library}"
        raise MissingExtra(message) from error
