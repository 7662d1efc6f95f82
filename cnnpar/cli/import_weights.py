"""`cnnpar import`: weights of a file become a checkpoint."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cnnpar.cli.console import say, say_json
from cnnpar.cli.options import DATA, OUTPUT, Debug, Json, Overwrite, Place, option
from cnnpar.cli.settings import resolve_options
from cnnpar.config.resolve import read_toml
from cnnpar.errors import InputError


def import_weights(
    file: Annotated[Place, Parameter(help="The weights: a .safetensors or .npz file.")],
    /,
    *,
    like: Annotated[
        Place | None, option("Whose network it is: a checkpoint, a run's directory, or .toml settings.", DATA)
    ] = None,
    layout: Annotated[
        Literal["hwio", "torch", "keras"] | None,
        option("Layout of a file that does not say its own, as cnnpar's files do.", DATA),
    ] = None,
    to: Annotated[Place | None, option("The checkpoint: NAME.json.", OUTPUT)] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Make a checkpoint of the weights in a file, to test, use or train it.

    Names and shapes must be those of the network that --like has, or
    describes. Images and classes are what the file says, as cnnpar's files do,
    or else those of --like. [model] init_from takes the same files, and as
    much of them as fits.
    """
    if like is None:
        raise InputError("which network is it? --like RUN, a checkpoint of the same network, or --like SETTINGS.toml")
    if to is None or to.suffix.lower() != ".json":
        raise InputError(f"--to {to}: expected NAME.json" if to else "which checkpoint shall it be? --to NAME.json")
    from cnnpar.exchange.array_files import is_array_file
    from cnnpar.exchange.export import check_writable, write_whole
    from cnnpar.run.imported import import_like_checkpoint, import_like_settings
    from cnnpar.storage.checkpoint import encode, read
    from cnnpar.storage.find import newest_in
    from cnnpar.storage.lock import require_free

    if not is_array_file(file):
        raise InputError(f"{file}: expected weights, a .safetensors or .npz file")
    check_writable(to, overwrite)
    require_free(to.parent)
    if like.suffix.lower() == ".toml":
        config, data = resolve_options(like, None, (), ()), read_toml(like).get("data", {})
        unnamed = f"{like} names no data, so images and classes are those of {config.data.name}"
        named = data.get("name") or data.get("train")
        imported = import_like_settings(file, config, layout, "" if named else unnamed)
    else:
        path = newest_in(like)
        imported = import_like_checkpoint(file, read(path), str(path), layout)
    payload = imported.payload
    write_whole(to, encode(payload))
    if imported.doubt:
        say(imported.doubt, sys.stderr)
    arrays = len(payload.parameters) + len(payload.buffers)
    if json:
        say_json({"file": str(to), "arrays": arrays, "weights_sha256": payload.state.weights_sha256})
    else:
        uses = _uses(shlex.quote(str(to)), like, has_data=bool(payload.data_fingerprint))
        say("\n  ".join([f"{to}: {arrays} arrays of {file}", *uses]), sys.stdout)
    return 0


def _uses(checkpoint: str, like: Path, *, has_data: bool) -> list[str]:
    """Return the commands that test and train a checkpoint; `has_data`: on the data of a run that it can go on with."""
    if has_data:
        return [f"cnnpar test {checkpoint}", f"cnnpar train --resume {checkpoint}"]
    settings = shlex.quote(str(like)) if like.suffix.lower() == ".toml" else "FILE.toml"
    return [f"cnnpar test {checkpoint} [DATA]", f"cnnpar train {settings} [DATA] --set model.init_from={checkpoint}"]
