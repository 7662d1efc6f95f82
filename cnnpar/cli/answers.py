"""Options of `cnnpar predict` that say where the answers go, and the outputs that they stand for."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

from cyclopts import Parameter

from cnnpar.cli.console import say
from cnnpar.cli.options import OUTPUT, Place, Whole, option
from cnnpar.errors import InputError, RunError, reason

if TYPE_CHECKING:
    from cnnpar.report.predictions import Output, Shown


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """Options that say what is shown of each sample, and where."""

    top: Annotated[Whole, option("Show so many of the likeliest classes (default: 1).", OUTPUT)] = 1
    proba: Annotated[bool, option("Show the probability of every class.", OUTPUT)] = False
    out: Annotated[Place | None, option("Write the answers to FILE.csv or FILE.json.", OUTPUT)] = None
    submission: Annotated[bool, option("Write ids and classes to --out, as Kaggle takes them.", OUTPUT)] = False
    like: Annotated[
        Place | None, option("The same, with header, ids and order of a sample_submission.csv.", OUTPUT)
    ] = None
    overwrite: Annotated[bool, option("Replace an --out that begins as such a file does.", OUTPUT)] = False

    @property
    def submits(self) -> bool:
        """Tell whether a submission is wanted."""
        return self.submission or self.like is not None

    def check(self, inputs: Sequence[Path]) -> None:
        """Raise InputError for options that do not go together, and where `out` may not be written; inputs never."""
        if self.top < 1:
            raise InputError(f"--top {self.top}: expected 1 or more")
        if self.proba and self.top > 1:
            raise InputError("--top and --proba: the latter has every class; give one of them")
        if self.submits:
            self._check_submission()
        if self.out is None:
            if self.overwrite:
                raise InputError("--overwrite: goes with --out FILE")
            return
        out = self.out
        if out.suffix.lower() not in (".csv", ".json"):
            raise InputError(f"--out {out}: unknown ending; expected FILE.csv or FILE.json")
        if not out.parent.is_dir():
            raise InputError(f"--out {out}: no such folder; make {out.parent} first")
        for place in (*inputs, *([self.like] if self.like else [])):
            if os.path.realpath(place) == os.path.realpath(out):
                raise InputError(f"--out {out}: is an input; choose another name")
        if os.path.lexists(out) and not self.overwrite:
            raise InputError(f"--out {out}: is there already; --overwrite replaces it")

    def _check_submission(self) -> None:
        name = "--submission" if self.submission else "--like"
        if self.out is None or self.out.suffix.lower() != ".csv":
            raise InputError(f"{name}: goes with --out FILE.csv")
        if self.top > 1 or self.proba:
            what = "has one answer for each id" + ", or the probabilities of its columns" * (self.like is not None)
            raise InputError(f"{name}: {what}; leave --top and --proba out")

    def may_replace(self, mark: str) -> None:
        """Raise InputError where `out` is a file that does not begin with `mark`: of another kind."""
        from cnnpar.storage.atomic import may_replace

        out = self.out or Path()
        try:
            beginning = mark.encode(errors="surrogateescape")
            known = may_replace(out, beginning, len(beginning))
        except OSError as error:
            raise InputError(f"--out {out}: cannot be replaced: {reason(error)}") from error
        if not known:
            raise InputError(f"--out {out}: is there, and no output of this kind; choose another name")


@contextmanager
def opened_outputs(options: AnswerOptions, class_names: tuple[str, ...], json: bool) -> Iterator[list["Output"]]:
    """Yield where the answers go; a file is there, whole, when the block ends without an error.

    Raises InputError for options that do not fit the model.
    """
    from cnnpar.report.predictions import Json, Shown, Table

    if options.top > len(class_names):
        raise InputError(f"--top {options.top}: the model has {len(class_names)} classes")
    shown = Shown(class_names, options.top, options.proba)
    with ExitStack() as stack:
        outputs: list[Output] = []
        if options.out is not None:
            make = _file_output(options, shown)
            outputs.append(make(stack.enter_context(_written(options.out))))
        if json:
            outputs.append(Json(shown, partial(say, stream=sys.stdout, end="")))
        elif options.out is None:
            outputs.append(Table(shown, partial(say, stream=sys.stdout), sys.stdout.isatty()))
        yield outputs


def _file_output(options: AnswerOptions, shown: "Shown") -> "Callable[[TextIO], Output]":
    """Return what makes the output of `--out`, once the file is open. Raises InputError as `may_replace`."""
    from cnnpar.report.predictions import CSV_MARK, JSON_MARK, Csv, Json
    from cnnpar.report.submission import SampledSubmission, Submission, header_line, read_sample

    names = shown.class_names
    if options.like is not None:
        note = partial(say, stream=sys.stderr)
        sample = read_sample(options.like, names, note)
        options.may_replace(header_line(sample.header))
        return lambda file: SampledSubmission(names, file, sample, note)
    if options.submission:
        return lambda file: Submission(names, file, options.may_replace)
    if options.out is not None and options.out.suffix.lower() == ".json":
        options.may_replace(JSON_MARK)
        return lambda file: Json(shown, file.write)
    options.may_replace(CSV_MARK)
    return lambda file: Csv(shown, file)


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """Yield a text file, which is there when the block ends, or not at all. Raises RunError where it can't be."""
    from cnnpar.storage.atomic import replaced

    try:
        with replaced(path) as file:
            text = TextIOWrapper(file, "utf-8", "surrogateescape", newline="")  # names of files may be no UTF-8
            yield text
            text.flush()
            text.detach()
    except OSError as error:
        if error.filename is None or str(error.filename).startswith(f".{path.name}"):
            raise RunError(f"--out {path}: cannot be written: {reason(error)}") from error
        raise
