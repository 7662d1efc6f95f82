"""Errors of cnnpar, by their exit codes; and the errors of other libraries in one line."""


class CnnparError(Exception):
    """An error whose text is meant for the user: what, where, what to do, in one or two lines."""

    exit_code = 1


class InputError(CnnparError):
    """Wrong usage, configuration or input file. Nothing was started; exit code 2."""

    exit_code = 2


class RunError(CnnparError):
    """A run that could not start or go on. The last good checkpoint stays; exit code 1."""


class DivergedError(RunError):
    """A loss, gradient or weight that is not finite: the state must not be saved."""


class Stopped(Exception):  # noqa: N818  # nothing went wrong
    """Raised when the run was asked to stop while a step was under way; the step is dropped."""


def reason(error: BaseException) -> str:
    """Return what an error of the system or of a library says, in one line."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or str(error).partition("\n")[0] or type(error).__name__


def reason_of_any(error: BaseException) -> str:
    """Return the same of any error, with its type unless it is an OSError."""
    return reason(error) if isinstance(error, OSError) else repr(error)
