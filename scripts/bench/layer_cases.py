"""The layers that layers.py measures: every type, with the settings that matter, at typical shapes of one sample."""

from typing import Any

from cnnpar.nn.shapes import Shape

Rows = list[tuple[str, list[dict[str, Any]], Shape]]  # what is printed, layers, shape of a sample

_ACTIVATIONS = ("relu", "leakyrelu", "sigmoid", "tanh", "elu", "silu", "gelu")


def _conv(words: str, shape: Shape, channels: int, kernel: int = 3, **more: Any) -> Rows:
    table = {"type": "conv2d", "channels": channels, "kernel": kernel, **more}
    name = " ".join(filter(None, ("conv", f"{kernel} x {kernel}", words, f"to {channels}")))
    return [(name, [table], shape)]


def _layer(kind: str, shape: Shape, words: str = "", **settings: Any) -> Rows:
    return [(f"{kind} {words}".strip(), [{"type": kind, **settings}], shape)]


_CONVOLUTIONS: Rows = [
    *_conv("", (16, 16, 64), 128, 1),
    *_conv("", (8, 8, 128), 256, 1),
    *_conv("stride 2", (32, 32, 16), 32, 1, stride=2),
    *_conv("", (28, 28, 1), 16),
    *_conv("", (32, 32, 3), 32),
    *_conv("", (28, 28, 16), 32),
    *_conv("", (16, 16, 64), 64),
    *_conv("", (28, 28, 1), 6, 5),
    *_conv("", (14, 14, 6), 16, 5, padding="valid"),
    *_conv("", (16, 16, 32), 64, 5),
    *_conv("", (16, 16, 16), 16, 7),
    *_conv("stride 2", (64, 64, 3), 32, 7, stride=2, padding=3),
    *_conv("stride 2", (32, 32, 16), 32, stride=2, padding=1),
    *_conv("stride 2", (16, 16, 32), 64, stride=2, padding=1),
    *_conv("dilation 2", (16, 16, 32), 32, dilation=2),
    *_conv("dilation 4", (32, 32, 16), 16, dilation=4),
    *_conv("dilation 2", (28, 28, 1), 16, dilation=2),
    *_conv("2 groups", (16, 16, 64), 64, groups=2),
    *_conv("4 groups", (16, 16, 64), 64, groups=4),
    *_conv("8 groups", (16, 16, 64), 64, groups=8),
    *_conv("16 groups", (16, 16, 64), 64, groups=16),
    *_conv("32 groups", (16, 16, 64), 64, groups=32),
    *_conv("4 groups", (16, 16, 64), 64, 1, groups=4),
    *_conv("8 groups stride 2", (16, 16, 64), 64, groups=8, stride=2, padding=1),
    *_conv("4 groups dilation 2", (16, 16, 64), 64, groups=4, dilation=2),
    *_conv("depthwise", (32, 32, 32), 32, groups=32),
    *_conv("depthwise", (8, 8, 256), 256, groups=256),
    *_conv("depthwise stride 2", (32, 32, 64), 64, groups=64, stride=2, padding=1),
    *_conv("depthwise", (16, 16, 64), 64, 5, groups=64),
    *_conv("depthwise dilation 2", (16, 16, 64), 64, groups=64, dilation=2),
    *_conv("depthwise, 2 each", (16, 16, 32), 64, groups=32),
    *_layer("convtranspose2d", (16, 16, 32), "2 x 2 stride 2 to 32", channels=32, kernel=2, stride=2),
    *_layer("convtranspose2d", (16, 16, 32), "4 x 4 stride 2 to 16", channels=16, kernel=4, stride=2, padding=1),
    *_layer("convtranspose2d", (16, 16, 32), "3 x 3 to 32", channels=32, padding=1),
]

CASES: Rows = [
    *_CONVOLUTIONS,
    *_layer("maxpool2d", (28, 28, 16)),
    *_layer("maxpool2d", (8, 8, 128)),
    *_layer("maxpool2d", (32, 32, 16), "3 x 3 stride 2", size=3, stride=2),
    *_layer("avgpool2d", (28, 28, 16)),
    *_layer("avgpool2d", (8, 8, 128)),
    *_layer("avgpool2d", (32, 32, 16), "3 x 3 stride 2", size=3, stride=2),
    *_layer("globalavgpool2d", (8, 8, 64)),
    *_layer("upsample2d", (16, 16, 32)),
    *_layer("upsample2d", (16, 16, 32), "bilinear", mode="bilinear"),
    *_layer("batchnorm2d", (32, 32, 16)),
    *_layer("batchnorm2d", (8, 8, 128)),
    *_layer("groupnorm", (32, 32, 16), "8 groups", groups=8),
    *_layer("groupnorm", (8, 8, 128), "8 groups", groups=8),
    *_layer("layernorm", (32, 32, 16)),
    *_layer("layernorm", (256,)),
    *(row for kind in _ACTIVATIONS for shape in ((28, 28, 16), (256,)) for row in _layer(kind, shape)),
    *_layer("softmax", (16, 16, 32)),
    *_layer("softmax", (100,)),
    *_layer("dropout", (28, 28, 16)),
    *_layer("dropout", (256,)),
    *_layer("dense", (1568,), "to 128", units=128),
    *_layer("dense", (128,), "to 10", units=10),
    ("flatten, dense to 128", [{"type": "flatten"}, {"type": "dense", "units": 128}], (7, 7, 32)),
    (
        "residual, 2 conv 3 x 3",
        [{"type": "residual", "layers": [{"type": "conv2d", "channels": 32}] * 2}],
        (16, 16, 32),
    ),
]

PRESET_SHAPES: dict[str, tuple[int, int, int]] = {"lenet5": (28, 28, 1)}  # of images; of all other presets:
IMAGES = (32, 32, 3)
