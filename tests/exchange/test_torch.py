"""State dicts in the layout "torch": `load_state_dict` of twins made of PyTorch's own modules, and the same logits."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.config.presets import PRESETS, preset_layers
from cnnpar.exchange import array_files
from cnnpar.exchange.export import export
from cnnpar.exchange.matching import match
from cnnpar.exchange.trained import Trained
from cnnpar.nn.shapes import Shape, pair
from cnnpar.nn.windows import extent, pad_sizes
from tests.helpers.trained_networks import Tables, images_for, logits_of, made
from tests.nn.layers.test_layers import CASES

torch = pytest.importorskip("torch")
nn = torch.nn

DENSE: Tables = [{"type": "flatten"}, {"type": "dense"}]


def conv(layer: Any, shape: Shape) -> Any:
    """Return a convolution, with what PyTorch has no setting for in front of it: zeros on one side only."""
    kernel, stride, apart = pair(layer.kernel), pair(layer.stride), pair(layer.dilation)
    padding: Any = (layer.padding,) * 2 if isinstance(layer.padding, str) else pair(layer.padding)
    rows, columns = (
        pad_sizes(size, extent(taps, gap), step, zeros)
        for size, taps, gap, step, zeros in zip(shape, kernel, apart, stride, padding, strict=False)
    )

    class Padded(nn.Conv2d):  # type: ignore[misc, name-defined]
        """A convolution that pads, so that its names are those of the convolution."""

        def forward(self, x: Any) -> Any:
            return super().forward(nn.functional.pad(x, (*columns, *rows)))

    settings = {"stride": stride, "dilation": apart, "groups": layer.groups, "bias": layer.bias}
    return Padded(shape[2], layer.channels, kernel, **settings)


def transposed(layer: Any, shape: Shape) -> Any:
    settings = {"stride": pair(layer.stride), "padding": pair(layer.padding), "bias": layer.bias}
    more = pair(layer.output_padding)
    return nn.ConvTranspose2d(shape[2], layer.channels, pair(layer.kernel), output_padding=more, **settings)


def upsample(layer: Any, shape: Shape) -> Any:
    corners = False if layer.mode == "bilinear" else None
    return nn.Upsample(scale_factor=pair(layer.factor), mode=layer.mode, align_corners=corners)


def layernorm(layer: Any, shape: Shape) -> Any:
    return nn.LayerNorm((*shape[2:], *shape[:2]) if len(shape) == 3 else shape, eps=layer.epsilon)


class Block(nn.Module):  # type: ignore[misc, name-defined]
    """A residual block, with its layers as its own modules, and those of the shortcut in `shortcut`."""

    def __init__(self, layer: Any, shape: Shape) -> None:
        super().__init__()
        self.order = [inner.name for inner in layer.layers]
        for name, module in twin(layer.layers, shape).named_children():
            self.add_module(name, module)
        self.shortcut = twin(layer.shortcut, shape)

    def forward(self, x: Any) -> Any:
        y = x
        for name in self.order:
            y = getattr(self, name)(y)
        return y + self.shortcut(x)


TWINS: dict[str, Any] = {
    "avgpool2d": lambda layer, _: nn.AvgPool2d(pair(layer.size), layer.strides()),
    "batchnorm2d": lambda layer, shape: nn.BatchNorm2d(shape[2], eps=layer.epsilon),
    "conv2d": conv,
    "convtranspose2d": transposed,
    "dense": lambda layer, shape: nn.Linear(shape[0], layer.units),
    "dropout": lambda layer, _: nn.Dropout(layer.rate),
    "elu": lambda layer, _: nn.ELU(layer.alpha),
    "flatten": lambda *_: nn.Flatten(),
    "gelu": lambda *_: nn.GELU(),
    "globalavgpool2d": lambda *_: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "groupnorm": lambda layer, shape: nn.GroupNorm(layer.groups, shape[-1], eps=layer.epsilon),
    "layernorm": layernorm,
    "leakyrelu": lambda layer, _: nn.LeakyReLU(layer.slope),
    "maxpool2d": lambda layer, _: nn.MaxPool2d(pair(layer.size), layer.strides()),
    "relu": lambda *_: nn.ReLU(),
    "residual": Block,
    "sigmoid": lambda *_: nn.Sigmoid(),
    "silu": lambda *_: nn.SiLU(),
    "softmax": lambda *_: nn.Softmax(dim=1),
    "tanh": lambda *_: nn.Tanh(),
    "upsample2d": upsample,
}


def twin(layers: Sequence[Any], shape: Shape) -> Any:
    """Return modules of the same names as layers whose input is of `shape`."""
    modules = OrderedDict()
    for layer in layers:
        modules[layer.name] = TWINS[layer.__struct_config__.tag](layer, shape)
        shape = layer.output_shape(shape)
    return nn.Sequential(modules)


def loaded(file: Path) -> dict[str, Any]:
    """Return a state dict as a user of PyTorch reads it."""
    if file.suffix == ".safetensors":
        return dict(pytest.importorskip("safetensors.torch").load_file(file))
    with np.load(file) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != array_files.ENTRY}


def assert_twin_agrees(trained: Trained, file: Path) -> Any:
    """Load an exported file into a twin, which must take all of it, and compare the logits; return the twin."""
    export(trained, file, "torch")
    state = loaded(file)
    module = twin(trained.network.chain.layers, trained.network.input_shape).eval()
    module.load_state_dict(state)  # strict: no name is missing, and none unknown
    images = images_for(trained)
    x = torch.from_numpy(np.ascontiguousarray(trained.preprocessing.normalise(images).transpose(0, 3, 1, 2)))
    with torch.no_grad():
        found = module(x).numpy()
    wanted = logits_of(trained, images)
    assert (np.abs(found - wanted) <= 1e-4 * np.abs(wanted).max(axis=1, keepdims=True)).all()
    return module


@pytest.mark.parametrize(("kind", "table", "shapes"), [case for case in CASES if len(case[2][0]) == 3])
def test_each_layer_gives_the_same_in_torch(kind: str, table: dict[str, Any], shapes: Any, tmp_path: Path) -> None:
    last = DENSE[1:] if kind in ("globalavgpool2d", "flatten") else DENSE
    assert_twin_agrees(made([{"type": kind, **table}, *last], shapes[0], pixels="float32"), tmp_path / "a.npz")


@pytest.mark.parametrize(
    "between",
    [
        [{"type": "dense", "units": 6}, {"type": "gelu"}],
        [{"type": "layernorm"}, {"type": "elu"}, {"type": "dropout"}],
        [{"type": "groupnorm", "groups": 1}, {"type": "softmax"}],
        [{"type": "residual", "layers": [{"type": "tanh"}, {"type": "layernorm"}]}],
        [{"type": "dense", "units": 6}, {"type": "residual", "layers": [{"type": "dense", "units": 6}]}],
    ],
)
def test_flattened_features_are_in_torchs_order(between: Tables, tmp_path: Path) -> None:
    tables = [{"type": "conv2d", "channels": 3}, DENSE[0], *between, DENSE[1]]
    assert_twin_agrees(made(tables, (4, 5, 2)), tmp_path / "a.npz")


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_loads_into_torch_and_comes_back(name: str, tmp_path: Path) -> None:
    trained = made(preset_layers(name), (32, 32, 3), 10)
    module = assert_twin_agrees(trained, tmp_path / "a.safetensors")
    state = {key: value.numpy() for key, value in module.state_dict().items()}  # with num_batches_tracked
    found = match(tmp_path, state, "torch", trained.network)
    assert (found.only_there, found.only_here, found.reshaped) == ([], [], {})
    for key, values in trained.arrays().items():
        assert found.taken[key].tobytes() == values.tobytes()


def test_every_layer_has_a_twin() -> None:
    assert set(TWINS) == {case[0] for case in CASES}
