"""`cnnpar predict`: the classes of pictures, by the model of a checkpoint."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cnnpar.cli.console import say, say_json
from cnnpar.cli.options import DATA, Channels, Debug, Json, Place, option, size_of
from cnnpar.errors import InputError


def predict(
    model: Annotated[Place, Parameter(help="The checkpoint: a model.json, or the run's directory.")],
    /,
    *pictures: Annotated[Place, Parameter(help="Files, or folders of files.")],
    size: Annotated[str | None, option("HEIGHT,WIDTH that pictures get (default: as in the training).", DATA)] = None,
    channels: Annotated[
        Channels | None,
        option("Channels that they get: 1, grey, or 3, colour (default: as in the training).", DATA),
    ] = None,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Predict the classes of pictures: the most likely one of each, and its probability."""
    files = [file for picture in pictures for file in _files(picture)]
    if not files:
        raise InputError("which pictures? Name files behind the checkpoint, or a folder of files")
    changes = {"size": size_of(size) if size else None, "channels": channels}
    import msgspec

    from cnnpar.run.predict import predict as predict_pictures
    from cnnpar.run.resume import settings_of
    from cnnpar.storage.checkpoint import read
    from cnnpar.storage.rundir import newest_in

    path = newest_in(model)
    payload = read(path)
    given = {key: value for key, value in changes.items() if value is not None}
    settings = msgspec.structs.replace(settings_of(payload).data, **given)
    found = predict_pictures(payload, str(path), files, settings)
    if json:
        say_json({"predictions": [prediction.facts() for prediction in found]})
    else:
        say("\n".join(map(str, found)), sys.stdout)
    return 0


def _files(picture: Path) -> list[Path]:
    """Return the file, or those in a folder, sorted, without hidden ones."""
    if not picture.is_dir():
        return [picture]
    return sorted(file for file in picture.iterdir() if file.is_file() and not file.name.startswith("."))
