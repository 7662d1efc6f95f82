"""`cnnpar inspect`: what a checkpoint holds, or the network that settings describe."""

import sys
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from cnnpar.cli.console import say, say_json
from cnnpar.cli.options import DATA, Assignments, Debug, Json, Place, Whole, option
from cnnpar.cli.settings import resolve_options
from cnnpar.errors import InputError


def inspect(
    file: Annotated[Place, Parameter(help="A checkpoint, a run's directory, or settings (.toml).")],
    /,
    *,
    shape: Annotated[
        str | None, option("H,W,C of the images that settings are for (default: those of data).", DATA)
    ] = None,
    classes: Annotated[
        Whole | None, Parameter(validator=Number(gte=1)), option("Number of their classes.", DATA)
    ] = None,
    set_: Assignments = (),
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Show what a checkpoint holds: position, accuracy, network, digest of the weights.

    Of settings: the network that they describe.
    """
    if file.suffix == ".toml":
        from cnnpar.report.inspection import outline, outline_facts, outlined

        network = outlined(resolve_options(file, None, (), set_), shape, classes)
        if json:
            say_json(outline_facts(network))
        else:
            say(outline(network), sys.stdout)
        return 0
    if shape or classes or set_:
        raise InputError(f"{file}: --shape, --classes and --set are for settings, which are a .toml file")
    from cnnpar.report.inspection import describe, facts
    from cnnpar.storage.checkpoint import read
    from cnnpar.storage.find import newest_in
    from cnnpar.storage.packing import unpack

    path = newest_in(file)
    payload = read(path)
    network, state = unpack(payload, str(path))
    if json:
        say_json(facts(payload, network, state))
    else:
        say(describe(payload, network, state), sys.stdout)
    return 0
