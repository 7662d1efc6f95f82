"""`cnnpar export`: the model of a checkpoint, for other programs."""

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from cnnpar.cli.console import say, say_json
from cnnpar.cli.options import OUTPUT, Debug, Json, Overwrite, Place, option
from cnnpar.errors import InputError


def export(
    model: Annotated[Place, Parameter(help="The checkpoint: a model.json, or the run's directory.")],
    file: Annotated[Place | None, Parameter(help="The file: --to.")] = None,
    /,
    *,
    to: Annotated[Place | None, option("The file: NAME.onnx, NAME.safetensors or NAME.npz.", OUTPUT)] = None,
    layout: Annotated[
        Literal["nhwc", "nchw", "hwio", "torch", "keras"] | None,
        option("Of .onnx: nhwc, the default, or nchw; of others: hwio, torch or keras.", OUTPUT),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Export the model of a checkpoint: to ONNX, or its weights by name.

    ONNX: `images` of the model's size go in, of the type of the training's,
    not normalised, and `logits` and `probabilities` come out. Pictures are
    resized by whoever reads them.
    Weights: hwio is cnnpar's own layout; torch is a state dict of modules of
    the same names, whose nn.Flatten gets (N, C, H, W); keras has Keras' names,
    such as conv1/kernel. The file's entry `cnnpar` has the scale, mean and std
    that images are normalised by.
    """
    if file is not None and to is not None:
        raise InputError(f"{file} and --to: two ways to say the same; give one of them")
    to = to or file
    if to is None:
        raise InputError("which file? Name it behind the model: NAME.onnx, NAME.safetensors or NAME.npz")
    from cnnpar.exchange.export import export as export_network
    from cnnpar.exchange.trained import Trained
    from cnnpar.storage.checkpoint import read
    from cnnpar.storage.find import newest_in

    path = newest_in(model)
    exported = export_network(Trained.of(read(path), str(path)), to, layout, overwrite)
    if json:
        say_json(exported)
    else:
        say(str(exported), sys.stdout)
    return 0
