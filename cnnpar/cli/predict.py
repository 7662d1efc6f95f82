"""`cnnpar predict`: the classes of pictures, by the model of a checkpoint."""

import sys
from typing import Annotated

from cyclopts import Parameter

from cnnpar.cli.console import say, say_json
from cnnpar.cli.options import DATA, Channels, Debug, Json, Place, option, size_of
from cnnpar.errors import InputError, RunError


def predict(
    model: Annotated[Place, Parameter(help="The checkpoint: a model.json, or the run's directory.")],
    /,
    *pictures: Annotated[Place, Parameter(help="Files, or folders of files, at any depth.")],
    size: Annotated[str | None, option("HEIGHT,WIDTH that pictures get (default: as in the training).", DATA)] = None,
    channels: Annotated[
        Channels | None,
        option("Channels that they get: 1, grey, or 3, colour (default: as in the training).", DATA),
    ] = None,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Predict the classes of pictures: the most likely one of each, and its probability.

    Each file that cannot be read is a line on standard error; the exit code
    is then 1, or 2 if none can be read.
    """
    if not pictures:
        raise InputError("which pictures? Name files behind the checkpoint, or a folder of files")
    changes = {"size": size_of(size) if size else None, "channels": channels}
    import msgspec

    from cnnpar.data.readers.unlabelled import files_of
    from cnnpar.run.predict import predict as predict_pictures
    from cnnpar.run.resume import settings_of
    from cnnpar.storage.checkpoint import read
    from cnnpar.storage.rundir import newest_in

    path = newest_in(model)
    payload = read(path)
    given = {key: value for key, value in changes.items() if value is not None}
    settings = msgspec.structs.replace(settings_of(payload).data, **given)
    files = [file for picture in pictures for file in files_of(picture)]
    found, unreadable = predict_pictures(payload, str(path), files, settings)
    for each in unreadable:
        say(f"cnnpar: error: {each.error}", sys.stderr)
    if json and found:
        failed = [each._asdict() for each in unreadable]
        say_json({"predictions": [prediction.facts() for prediction in found], "failed": failed})
    elif found:
        say("\n".join(map(str, found)), sys.stdout)
    if unreadable:
        return RunError.exit_code if found else InputError.exit_code
    return 0
