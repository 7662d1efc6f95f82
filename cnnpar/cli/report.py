"""`cnnpar report`: a page on a run, with its curves, mistakes and filters."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cnnpar.cli.console import say, say_json
from cnnpar.cli.options import DATA, FILES, Debug, Json, NameOrPlace, Place, option
from cnnpar.cli.settings import is_data_name
from cnnpar.errors import InputError


def report(
    run: Annotated[Place, Parameter(help="A run's directory, or a checkpoint.")],
    out: Annotated[Place | None, Parameter(help="The HTML file (default: report.html in the directory).")] = None,
    /,
    *,
    test_data: Annotated[
        NameOrPlace | None,
        option("Images to answer: files, or digits or mnist (default: those that the run held out).", DATA),
    ] = None,
    png: Annotated[Place | None, option("Folder that the pictures are written to as well.", FILES)] = None,
    overwrite: Annotated[bool, option("Replace files that cnnpar has not written.", FILES)] = False,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Write a page on a run: curves, scores, mistakes, calibration, filters, and what the run was.

    It is one HTML file that needs no network.
    """
    if out is not None and out.suffix not in (".html", ".htm"):
        raise InputError(f"{out}: the report is a file whose name ends with .html")
    source = None
    if test_data is not None:
        source = str(test_data) if is_data_name(test_data) else str(test_data.absolute())
    from cnnpar.compiling import telling
    from cnnpar.run.report import write_report
    from cnnpar.storage.find import newest_in

    path = newest_in(run)
    own_name = path.with_name(f"{path.name.removesuffix('.json')}.html")
    page = out or (path.with_name("report.html") if path != run else own_name)

    def note(text: str) -> None:
        say(text, sys.stderr)

    with telling(note):
        files, contents = write_report(path, page, png, source, note, overwrite=overwrite)
    if json:
        judged = contents.judged.facts() if contents.judged else {}
        say_json({"report": str(page), "pictures": [str(file) for file in files[1:]], **judged})
    else:
        more = f", and {len(files) - 1} pictures in {png}" if png is not None else ""
        say(f"{_size(page)}: {page}{more}", sys.stdout)
    return 0


def _size(file: Path) -> str:
    return f"report of {file.stat().st_size / 1e6:.1f} MB"
