"""A network as an ONNX model: pixels go in as they are, logits and probabilities come out."""

import json
from typing import Literal

import numpy as np
from onnx import TensorProto, checker, helper

from cnnpar.config.choices import BinaryCrossEntropy
from cnnpar.errors import InputError
from cnnpar.exchange.onnx_graph import Graph, Place
from cnnpar.exchange.onnx_layers import convert
from cnnpar.exchange.trained import Trained
from cnnpar.version import __version__

OPSET, IR = 17, 8  # versions that runtimes of 2022 and later read; onnx itself would write its newest ones
IMAGES, LOGITS, PROBABILITIES = "images", "logits", "probabilities"
Channels = Literal["nhwc", "nchw"]  # where the images have their channels

_LARGEST = 2**31 - 2**20  # bytes of weights: what protobuf's messages hold, with room for the graph
_PIXELS = {"uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16, "float32": TensorProto.FLOAT}


def encode(trained: Trained, channels: Channels, name: str) -> bytes:
    """Return the bytes of an ONNX model, checked by `onnx.checker`.

    Its input `images` is (N, H, W, C), or (N, C, H, W) with "nchw", of the pixels' own type and range; normalisation is
    part of the graph. So is `data.scale`: with one, images are float32, as they were before it. Outputs are `logits`
    and `probabilities` (N, classes). Raises InputError for layers that ONNX has no operators for, and for weights that
    its format cannot hold.
    """
    network, known = trained.network, trained.preprocessing
    if trained.weights.nbytes > _LARGEST:
        raise InputError(f"{trained.weights.nbytes:,} bytes of weights: an .onnx file holds 2 GiB, .safetensors more")
    graph = Graph()
    place = Place(graph, "", network.input_shape, trained.arrays())
    last = convert(network.chain.layers, _normalised(graph, trained, channels), place)
    logits = graph.node("Identity", [last], LOGITS)
    if isinstance(trained.loss, BinaryCrossEntropy):
        graph.node("Sigmoid", [logits], PROBABILITIES)
    else:
        graph.node("Softmax", [logits], PROBABILITIES, axis=1)
    height, width, depth = known.image_shape
    shape = ["N", height, width, depth] if channels == "nhwc" else ["N", depth, height, width]
    outputs = [
        helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", network.classes])
        for output in (LOGITS, PROBABILITIES)
    ]
    images = helper.make_tensor_value_info(IMAGES, _PIXELS["float32" if trained.scale != 1 else known.pixels], shape)
    model = helper.make_model(
        helper.make_graph(graph.nodes, name, [images], outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="cnnpar",
        producer_version=__version__,
    )
    said = {
        "class_names": json.dumps(known.class_names, ensure_ascii=False),
        "scale": json.dumps(trained.scale),
        "weights_sha256": trained.weights_sha256,
    }
    helper.set_model_props(model, said)
    checker.check_model(model, full_check=True)
    encoded: bytes = model.SerializeToString()
    return encoded


def _normalised(graph: Graph, trained: Trained, channels: Channels) -> str:
    """Append the normalisation of the images; return the name of (N, C, H, W), with mean 0 and variance 1.

    Its names have a slash, as those of no layer.
    """
    known = trained.preprocessing
    spread = (-1,) if channels == "nhwc" else (-1, 1, 1)
    mean, std = (np.array(values, np.float32).reshape(spread) for values in (known.mean, known.std))
    x = IMAGES
    if trained.scale != 1:
        x = graph.node("Mul", [x, graph.constant("images/scale", trained.scale)], "images/scaled")
        x = x if known.pixels == "float32" else graph.node("Round", [x], "images/rounded")
    elif known.pixels != "float32":
        x = graph.node("Cast", [x], "images/floats", to=TensorProto.FLOAT)
    x = graph.node("Sub", [x, graph.constant("images/mean", mean)], "images/centred")
    x = graph.node("Div", [x, graph.constant("images/std", std)], "images/normalised")
    return x if channels == "nchw" else graph.node("Transpose", [x], "images/channels_first", perm=(0, 3, 1, 2))
