"""`cnnpar compare`: what differs between runs, and which model is better."""

import sys
from typing import Annotated

from cyclopts import Parameter

from cnnpar.cli.console import say, say_json
from cnnpar.cli.options import DATA, Debug, Json, NameOrPlace, Place, option
from cnnpar.cli.settings import is_data_name
from cnnpar.errors import InputError


def compare(
    *runs: Annotated[Place, Parameter(help="Two or more: checkpoints, or runs' directories.")],
    test_data: Annotated[
        NameOrPlace | None,
        option("Images to answer: files, or digits or mnist (default: those that the first run held out).", DATA),
    ] = None,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Compare runs: settings, the first step that differs, accuracies, and whether a difference may be chance.

    Of three or more that differ only in the seed: the mean accuracy and its
    interval.
    """
    if len(runs) < 2:
        raise InputError("which runs? Name two or more, as checkpoints or runs' directories")
    source = None
    if test_data is not None:
        source = str(test_data) if is_data_name(test_data) else str(test_data.absolute())
    from cnnpar.compiling import telling
    from cnnpar.report.comparison_text import as_text
    from cnnpar.run.compare import compare as compare_runs

    def note(text: str) -> None:
        say(text, sys.stderr)

    with telling(note):
        found = compare_runs(runs, source, note)
    if json:
        say_json(found)
    else:
        say(as_text(found), sys.stdout)
    return 0
