"""Comparison of the kernels of `model.kernels`, layer by layer: how long they take, and how their results differ.

Each layer gets the input that it has in the first step of the run, the same for all kernels, and a gradient of random
numbers. The reference is the textbook's numpy in float64. Layers are run one by one, unfused: so a number that rounding
puts to the other side of a relu, or of another pixel of its window, changes nothing but itself.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from statistics import median
from typing import get_args

import numpy as np

from cnnpar.config.sections import Config, Kernels
from cnnpar.errors import InputError
from cnnpar.nn.conv import dispatch
from cnnpar.nn.layers import Conv2D, Layer
from cnnpar.nn.loops import interface
from cnnpar.nn.network import Network
from cnnpar.nn.residual import Residual
from cnnpar.nn.shapes import Array, Vector
from cnnpar.nn.textbook.choose import with_kernels
from cnnpar.nn.workspace import Scratch, Workspace
from cnnpar.parallel.work import Kind, Step
from cnnpar.report.kernels import Comparison, LayerKernels
from cnnpar.run.prepare import by_kind, load_data
from cnnpar.run.resume import Resume
from cnnpar.storage.packing import unpack
from cnnpar.training.microbatch import Training

KERNELS: tuple[Kernels, ...] = get_args(Kernels)
_ENOUGH = 2.0  # seconds: what has taken as long is not repeated further
_FIRST = Step(Kind.TRAIN, 0, 0)

Pass = Callable[[], list[Array]]  # runs a layer forward and backward; returns its output and all gradients


def compare(config: Config, saved: Resume | None, repeats: int) -> Comparison:
    """Measure the network and data of a run, or the model of a checkpoint with its weights, on one thread.

    Raises InputError where data and network do not fit.
    """
    splits, preprocessing = load_data(config, saved.payload.preprocessing.hold_out if saved else "stratified")
    if saved is None:
        network = Network.from_config(config, preprocessing.image_shape, len(preprocessing.class_names))
        parameters = network.init(config.train.seed)
    else:
        network, state = unpack(saved.payload, str(saved.path))
        if splits.train.traits != saved.payload.preprocessing.traits:
            raise InputError(f"{saved.path}: these data are of other images or classes than its run's")
        preprocessing, parameters = saved.payload.preprocessing, state.parameters
    data = by_kind(splits)
    sizes = {kind: len(part) for kind, part in data.items()}
    tables, freeze = network.tables(), config.model.freeze
    works = {}
    for kernels in KERNELS:
        own = Network.from_tables(
            tables, network.input_shape, network.classes, loss=config.loss, freeze=freeze, kernels=kernels
        )
        work = Training(own, preprocessing, config.augment, config.train, sizes, config.data.balance)
        works[kernels] = work.with_data(data)
    prepared = works["fast"].prepare(_FIRST, 0)
    rows, same = _layers(works["fast"].network, prepared[0], parameters, repeats)
    out = np.empty_like(parameters)
    steps = {
        kernels: (lambda work=work: work.compute(_FIRST, 0, prepared, parameters, out))
        for kernels, work in works.items()
    }
    return Comparison(len(prepared[0]), repeats, rows, same, _milliseconds(steps, repeats))


def _layers(network: Network, images: Array, parameters: Vector, repeats: int) -> tuple[list[LayerKernels], list[str]]:
    """Measure the layers that have several kernels; return names of the others too."""
    loops = interface.choose_loops(network.dtype, sum(network.chain.products))
    scratch = Scratch()
    rows, same = [], []
    x = np.ascontiguousarray(images.transpose(1, 2, 0, 3))  # (H, W, N, C)
    for name, layer, own, views in _leaves(network.chain.layers, x, network.layout.views(parameters)):
        like = {kernels: with_kernels([layer], kernels)[0] for kernels in KERNELS}
        if like["numpy"] == layer:
            same.append(name)
            continue
        reference = _pass(like["numpy"], own.astype(np.float64), views, Workspace())()
        passes = {
            kernels: _pass(
                like[kernels], own, views, Workspace(scratch, loops if kernels == "fast" else interface.NUMPY)
            )
            for kernels in KERNELS
        }
        differences = {kernels: _difference(compute(), reference) for kernels, compute in passes.items()}
        tag, way = str(layer.__struct_config__.tag), _way(layer, own)
        rows.append(LayerKernels(name, tag, way, _milliseconds(passes, repeats), differences))
    return rows, same


def _leaves(
    layers: Sequence[Layer], x: Array, views: Mapping[str, Array], within: str = ""
) -> Generator[tuple[str, Layer, Array, Mapping[str, Array]], None, Array]:
    """Yield each layer, those within blocks instead of the blocks, with name, input, and its own parameters by name.

    Returns the output of the last one.
    """
    for layer in layers:
        name = f"{within}{layer.name}"
        if isinstance(layer, Residual):
            ends: list[Array] = []
            for branch, inner in layer.branches().items():
                prefix = f"{name}.{branch}." if branch else f"{name}."
                ends.append((yield from _leaves(inner, x, views, prefix)))
            x = ends[0] + ends[1]
            continue
        own = {key.removeprefix(f"{name}."): view for key, view in views.items() if key.startswith(f"{name}.")}
        yield name, layer, x, own
        work = _prepare(Workspace(), x, own)
        x = np.array(layer.forward(x, work))
    return x


def _pass(layer: Layer, x: Array, parameters: Mapping[str, Array], work: Workspace) -> Pass:
    """Return a function that runs a layer forward and backward, in arrays of its own, of the type of `x`."""
    p = {name: value.astype(x.dtype) for name, value in parameters.items()}
    _prepare(work, x, p)
    drawn = np.random.default_rng(0)

    def compute() -> list[Array]:
        work.y = layer.forward(x, work)
        if "dy" not in work.saved:
            work.saved["dy"] = (drawn.standard_normal(work.y.shape, np.float32).astype(x.dtype),)
        dx = layer.backward(work.saved["dy"][0], work)
        assert dx is not None
        return [work.y, dx, *work.g.values()]

    return compute


def _prepare(work: Workspace, x: Array, parameters: Mapping[str, Array]) -> Workspace:
    """Fill a workspace as a network does for a layer in training, with nothing random."""
    work.x, work.p, work.g = x, parameters, {name: np.empty_like(value) for name, value in parameters.items()}
    work.generator = work.generators = None
    return work


def _difference(found: Sequence[Array], reference: Sequence[Array]) -> float:
    """Return the largest difference of arrays from the reference, each relative to its largest number."""
    return max(
        float(np.abs(ours - exact).max() / max(np.abs(exact).max(), np.finfo(np.float32).tiny))
        for ours, exact in zip(found, reference, strict=True)
        if exact.size
    )


def _way(layer: Layer, x: Array) -> str:
    """Return the name of the way by which the engine convolves x (H, W, N, C); "" for other layers."""
    if not isinstance(layer, Conv2D):
        return ""
    kernel = layer.parameters((*x.shape[:2], x.shape[3]))["weight"].shape
    return dispatch.name(x.shape[:2], kernel, layer.windows(x.shape))


def _milliseconds(passes: Mapping[Kernels, Callable[[], object]], repeats: int) -> dict[Kernels, float]:
    """Return the median time of each pass; they take turns, after one that counts for none."""
    times: dict[Kernels, list[float]] = {kernels: [] for kernels in passes}
    for compute in passes.values():
        compute()
    for _ in range(repeats):
        for kernels, compute in passes.items():
            if sum(times[kernels]) < _ENOUGH:
                began = time.perf_counter()
                compute()
                times[kernels].append(time.perf_counter() - began)
    return {kernels: 1e3 * median(own) for kernels, own in times.items()}
