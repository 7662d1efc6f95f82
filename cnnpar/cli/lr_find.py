"""`cnnpar lr-find`: a learning rate is looked for."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cnnpar.cli.console import say, say_json
from cnnpar.cli.options import (
    LR_FIND_DEFAULTS,
    OUTPUT,
    TRAINING,
    Assignments,
    ConfigFile,
    Debug,
    Json,
    LrFindOptions,
    NameOrPlace,
    Place,
    Whole,
    option,
)
from cnnpar.cli.settings import chosen, resolve_options, take_words
from cnnpar.errors import InputError, Stopped, reason, reason_of_any
from cnnpar.run.stop import StopSignal
from cnnpar.training.lr_curve import Range


def lr_find(
    *paths: Annotated[NameOrPlace, Parameter(help="[FILE.toml] [DATA]: --config, --data or --train-data.")],
    config: ConfigFile = None,
    options: LrFindOptions = LR_FIND_DEFAULTS,
    from_: Annotated[float, option("The first learning rate (default: 1e-6).", TRAINING, "--from")] = 1e-6,
    to: Annotated[float, option("The last one (default: 10).", TRAINING, "--to")] = 10.0,
    steps: Annotated[Whole | None, option("How many (default: as in an epoch, but 50 to 200).", TRAINING)] = None,
    picture: Annotated[Place, option("File for the picture (default: lr-find.png).", OUTPUT)] = Path("lr-find.png"),
    set_: Assignments = (),
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Find a learning rate: raise it from step to step, and watch the loss.

    The steps are those of `cnnpar train`; the weights are forgotten, and
    nothing but the picture is written.
    """
    _check_picture(picture)
    config, options = take_words(paths, config, options)
    wanted = Range(from_, to, steps)
    resolved = resolve_options(config, None, chosen(options), set_)
    from cnnpar.report.lr_find import as_text, draw_curve, facts
    from cnnpar.report.progress import Progress
    from cnnpar.run.lr_find import lr_find as find

    stream = sys.stderr if json else sys.stdout
    with StopSignal() as stop:
        try:
            curve, exact = find(resolved, wanted, Progress("auto", stream), stop)
        except Stopped:
            assert stop.received is not None, "nothing else stops the finder"
            say(f"stopped by {stop.received.name}; nothing was written", stream)
            return 128 + stop.received
    say(as_text(curve), stream)
    drawn: Path | None = picture
    try:
        draw_curve(curve, picture, f"Learning-rate finder of {config.stem if config else resolved.data.title}")
        say(f"drawn as {picture}", stream)
    except Exception as error:  # a broken font of matplotlib must not cost the result either
        drawn = None
        say(f"{picture}: cannot draw the picture: {reason_of_any(error)}", sys.stderr)
    if json:
        say_json(facts(curve, exact, drawn))
    return 0


def _check_picture(picture: Path) -> None:
    """Raise InputError where the picture could not be written."""
    if picture.suffix != ".png" or picture.is_dir() or not picture.parent.is_dir():
        raise InputError(f"--picture {picture}: expected FILE.png in a folder that is there")
    from tempfile import TemporaryFile  # here, as no help needs it

    try:
        TemporaryFile(dir=picture.parent).close()  # has no name where the system can do without
    except OSError as error:
        raise InputError(f"--picture {picture}: cannot write in its folder: {reason(error)}") from error
