"""Commands about the program itself: versions, the schema of the settings, completion in shells."""

import platform
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from cyclopts import App

from cnnpar.cli.console import say
from cnnpar.cli.options import OUTPUT, Debug, option
from cnnpar.errors import InputError, reason
from cnnpar.version import __version__

Shell = Literal["bash", "zsh", "fish"]


def versions() -> str:
    """Return the versions that a report of a fault should name; neither Ray nor numba is imported for them."""
    from cnnpar.fingerprint import fingerprint

    own = fingerprint()
    lines = [f"cnnpar {__version__}", f"Python {platform.python_version()}", f"numpy {own['numpy']}, {own['blas']}"]
    return "\n".join([*lines, *map(_installed, ("numba", "ray"))])


def _installed(package: str) -> str:
    """Return the name and the version of a package."""
    from importlib.metadata import PackageNotFoundError, version  # takes 15 ms

    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def schema(*, debug: Debug = False) -> int:  # noqa: ARG001
    """Print the JSON schema of the settings, for editors.

    Save it, and begin a settings file with the line `#:schema ./FILE.json`:
    Taplo and Even Better TOML then complete and check its keys.
    """
    from cnnpar.report.schema import settings_schema

    say(settings_schema(), sys.stdout)
    return 0


def install_completion(apps: Sequence[App]) -> Callable[..., int]:
    """Return the command that installs completion of the programs of these applications."""

    def install(
        *,
        shell: Annotated[Shell | None, option("The shell (default: the one that this runs in).", OUTPUT)] = None,
        debug: Debug = False,  # noqa: ARG001
    ) -> int:
        """Install completion of commands and options in bash, zsh or fish."""
        from cyclopts.completion.detect import ShellDetectionError, detect_shell

        try:
            found = shell or detect_shell()
            for app in apps:
                say(f"{app.name[0]}: {app.install_completion(shell=found)}", sys.stdout)
        except ShellDetectionError as error:
            raise InputError("cannot tell which shell this is; give --shell bash, zsh or fish") from error
        except OSError as error:
            raise InputError(f"{error.filename}: cannot install completion: {reason(error)}") from error
        say(f"a new {found} completes them", sys.stdout)
        return 0

    return install
