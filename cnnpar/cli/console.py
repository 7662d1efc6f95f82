"""A command as a program: spelling of its arguments, standard streams, signals, errors and exit codes."""

import gc
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

import msgspec
from cyclopts import App, CycloptsError, UnknownOptionError

from cnnpar.errors import CnnparError, InputError, RunError, reason
from cnnpar.files import STANDARD_INPUT
from cnnpar.run.stop import SIGNALS
from cnnpar.text import harmless, one_line


def end(command: App) -> NoReturn:
    """Run a command with the arguments of this process, and end the process."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, _terminate)
    _keep_standard_streams()
    code = run(command, sys.argv[1:])
    _ignore_signals()
    try:
        sys.stdout.flush()
    except OSError:  # which `run` has told of
        _discard(sys.stdout)
    gc.freeze()  # or Python would search all that it imported for cycles before it ends
    sys.exit(code)


def run(command: App, arguments: Sequence[str]) -> int:
    """Run a command and turn whatever happens into an exit code, and at most two lines on standard error."""
    program = command.name[0]
    sys.stdout, sys.stderr = _usable(sys.stdout), _usable(sys.stderr)
    try:
        code = command(_spelled(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        if isinstance(error, UnknownOptionError) and (ways := _ways_to_set(error, arguments)):
            say(f"{program}: error: {ways}", sys.stderr)
            return InputError.exit_code
        named = [word for word in arguments[:1] if word in list(command)]  # the one of several commands
        say(f"{program}: error: {error}\nSee `{' '.join([program, *named])} --help`.", sys.stderr)
        return InputError.exit_code
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        _ignore_signals()
        say(f"{program}: terminated", sys.stderr)
        return 128 + signal.SIGTERM
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        say(f"{program}: error: {_reason(error, command, arguments)}", sys.stderr)
        return error.exit_code if isinstance(error, CnnparError) else RunError.exit_code
    except KeyboardInterrupt:
        _ignore_signals()
        say(f"{program}: interrupted", sys.stderr)
        return 128 + signal.SIGINT
    return code or 0


def _ways_to_set(error: UnknownOptionError, arguments: Sequence[str]) -> str:
    """Return an error that says how the setting is changed that an unknown option names; "" where it names none."""
    from cnnpar.cli.unknown_option import ways_to_set

    known = {name for argument in error.argument_collection for name in argument.names}
    return ways_to_set(error.token.keyword or error.token.value, arguments, known)


def _in_shell_words(text: str, command: App, arguments: Sequence[str]) -> str:
    """Return an error with the options of the command in place of settings; see `cnnpar.cli.shell_words`."""
    from cnnpar.cli.shell_words import as_typed

    _, apps, _ = command.parse_commands(arguments)
    known = {name for argument in apps[-1].assemble_argument_collection() for name in argument.names}
    return as_typed(text, known)


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """End on SIGTERM as Ray does: what is open is closed on the way out."""
    raise SystemExit(number)


def _ignore_signals() -> None:
    """Ignore signals while Python ends: an interrupt there would print a traceback."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _reason(error: BaseException, command: App, arguments: Sequence[str]) -> str:
    """Return the message of an error. One that is not cnnpar's comes from a file that failed while it was in use."""
    if isinstance(error, CnnparError):
        text = str(error)
        return _in_shell_words(text, command, arguments) if "data." in text else text
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return "the current folder was removed; change to another one"  # of which only its own path says nothing
    if isinstance(error, OSError):
        return f"{error.filename or 'input or output'}: {reason(error)}"
    if isinstance(error, MemoryError):
        return "out of memory; a smaller network, microbatch or data set needs less"
    return f"{one_line(repr(error))}; this is a fault of the program, and --debug shows where"


def _keep_standard_streams() -> None:
    """Open /dev/null for standard streams that the caller has closed: no file of a run may get their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _usable(stream: TextIO | None) -> TextIO:
    """Return the stream, set to take any text; one that the caller has closed is replaced by /dev/null."""
    if stream is None:
        return Path(os.devnull).open("w")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _spelled(arguments: Sequence[str]) -> list[str]:
    """Spell words as the parser knows them.

    `--train_data` is `--train-data`, a bare `--resume` is `--resume=`, and `-` is the system's name of standard input.
    """
    spelled = []
    for position, argument in enumerate(arguments):
        if not argument.isascii() and argument.encode(errors="replace").decode() != argument:
            raise InputError(f"{argument!r}: not UTF-8, which files of a run are written in; rename it")
        argument = STANDARD_INPUT if argument == "-" else argument
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            argument = name.replace("_", "-") + equals + value
        following = arguments[position + 1] if position + 1 < len(arguments) else "--"
        spelled.append("--resume=" if argument == "--resume" and following.startswith("--") else argument)
    return spelled


def _discard(stream: TextIO) -> None:
    """Drop what a stream could not write: Python would try once more at its end, and fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say(text: str, stream: TextIO, end: str = "\n") -> None:
    """Print text without control characters, and what ends it; a reader that has closed the pipe is no error."""
    try:
        print(harmless(text), file=stream, end=end, flush=True)
    except OSError as error:
        _discard(stream)
        if not isinstance(error, BrokenPipeError) and stream is sys.stdout:
            raise RunError(f"cannot write to standard output: {reason(error)}") from error


def say_json(facts: object) -> None:
    """Print one JSON object, on one line of standard output; what is no UTF-8, such as a file's name, is escaped."""
    try:
        text = msgspec.json.encode(facts).decode()
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(facts))
    say(text, sys.stdout)
