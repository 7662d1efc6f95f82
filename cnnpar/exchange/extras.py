"""Optional packages: imported when they are needed, and named with what installs them."""

from importlib import import_module
from typing import Any

from cnnpar.errors import InputError, reason


def required(package: str, purpose: str) -> Any:
    """Import an optional package, whose name is that of cnnpar's extra too. Raises InputError where that fails."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise InputError(f"{purpose} needs the package {package}: pip install 'cnnpar[{package}]'") from error
    except Exception as error:  # a package that is broken, or does not fit numpy's version
        raise InputError(f"{purpose}: the package {package} cannot be imported: {reason(error)}") from error
