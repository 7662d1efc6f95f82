"""Measure every layer, forward and backward, and whole networks, beside PyTorch.

    python -m scripts.bench.layers [--json] [--isa native|avx2|avx512] [--only gelu,conv] [--seconds 1] [--samples 32]

A row is a layer on a microbatch of images (H, W, C) or vectors: float32, one thread, in training, with the gradients of
input and parameters. Rows named after a preset are whole networks, with loss and all gradients, without an optimizer.
`torch` is the faster of PyTorch's layouts, channels-last and channels-first, in eager mode. All take turns in this
process, for `--seconds` a row; times are lower quartiles of processor time, in milliseconds, and `times as fast` is
PyTorch's divided by cnnpar's, with a star where that misses the aim. A flatten alone is left out: PyTorch computes
nothing there.

Aims: no layer slower than 0.8 times PyTorch, and each network at least 1.2 times as fast. It takes about two minutes,
and the first time on a machine longer, as loops are compiled. It needs PyTorch.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    import torch
except ModuleNotFoundError:
    sys.exit("scripts.bench.layers needs PyTorch: pip install torch")

from cnnpar import rng
from cnnpar.blas import use_one_thread
from cnnpar.config.presets import PRESETS, preset_layers
from cnnpar.nn.chain import Chain
from cnnpar.nn.loops import interface
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array, Shape
from cnnpar.nn.tables import named_layers
from cnnpar.nn.workspace import Scratch
from scripts.bench.layer_cases import CASES, IMAGES, PRESET_SHAPES
from scripts.bench.torch_layers import FORMATS, WithLoss, build, twin
from scripts.harness import Report, Table, make_parser
from scripts.isa import add_option, restart_with

SLOWEST_LAYER, SLOWEST_NETWORK = 0.8, 1.2
CLASSES = 10

Pass = Callable[[], object]


def generators(place: int) -> np.random.Generator:
    """Return the random stream of the layer at a place, of one step."""
    return rng.dropout(0, 0, 0, place)


def layer_passes(tables: list[dict[str, Any]], shape: Shape, samples: int) -> dict[str, Pass]:
    """Return a forward and backward pass through layers, for cnnpar and for each layout of PyTorch."""
    random = np.random.default_rng(0)
    chain = Chain(named_layers(tables, CLASSES), shape)
    work = chain.workspaces(Scratch(), interface.compiled_loops() or interface.NUMPY)
    for own, parameters, buffers in zip(work, chain.parameters, chain.buffers, strict=True):
        own.p = {name: part.draw(random).astype(np.float32) for name, part in parameters.items()}
        own.p |= {name: np.full(part.shape, part.start, np.float32) for name, part in buffers.items()}
        own.g = {name: np.empty_like(part) for name, part in own.p.items()}
    x, dy = (numbers(random, end, samples) for end in (shape, chain.shapes[-1]))

    def ours() -> object:
        chain.forward(x, work, True, generators)
        return chain.backward(dy, work, wanted=True)

    def theirs(layout: str) -> Pass:
        module = twin(chain.layers, shape).to(memory_format=FORMATS[layout])
        image, gradient = (to_torch(array, layout) for array in (x, dy))
        inputs = [image.requires_grad_(), *module.parameters()]
        return lambda: torch.autograd.grad(module(image), inputs, gradient)

    layouts = FORMATS if len(shape) == 3 or len(chain.shapes[-1]) == 3 else ["channels-first"]
    return {"cnnpar": ours, **{layout: theirs(layout) for layout in layouts}}


def network_passes(preset: str, samples: int) -> dict[str, Pass]:
    """Return a pass through a network with loss and gradients, for cnnpar and for each layout of PyTorch."""
    random, shape = np.random.default_rng(0), PRESET_SHAPES.get(preset, IMAGES)
    network = Network.from_tables(preset_layers(preset), shape, CLASSES)
    parameters, gradient = network.init(0), np.empty(network.layout.size, np.float32)
    images = random.standard_normal((samples, *shape), np.float32)
    labels = random.integers(0, CLASSES, samples)

    def theirs(layout: str) -> Pass:
        model = WithLoss(build(network)).to(memory_format=FORMATS[layout])
        pixels, targets = to_torch(images.transpose(1, 2, 0, 3), layout), torch.from_numpy(labels)
        weights = list(model.parameters())
        return lambda: torch.autograd.grad(model(pixels, targets), weights)

    return {
        "cnnpar": lambda: network.loss_and_gradient(parameters, images, labels, generators, gradient),
        **{layout: theirs(layout) for layout in FORMATS},
    }


def numbers(random: np.random.Generator, shape: Shape, samples: int) -> Array:
    """Draw a microbatch in cnnpar's layout, (H, W, N, C) or (N, features)."""
    return random.standard_normal((*shape[:-1], samples, shape[-1]), np.float32)


def to_torch(x: Array, layout: str) -> "torch.Tensor":
    """Copy (H, W, N, C) to PyTorch's (N, C, H, W) in a layout; vectors as they are."""
    if x.ndim == 2:
        return torch.from_numpy(x.copy())
    return torch.from_numpy(x).permute(2, 3, 0, 1).contiguous(memory_format=FORMATS[layout])


def lower_quartiles(passes: dict[str, Pass], seconds: float) -> dict[str, float]:
    """Return the processor time of a pass in milliseconds, the lower quartile; they take turns for some seconds."""
    times: dict[str, list[float]] = {name: [] for name in passes}
    for compute in passes.values():
        for _ in range(3):
            compute()
    until = time.perf_counter() + seconds
    while len(times["cnnpar"]) < 5 or time.perf_counter() < until:
        for name, compute in passes.items():
            began = time.process_time()
            compute()
            times[name].append(1e3 * (time.process_time() - began))
    return {name: float(np.percentile(own, 25)) for name, own in times.items()}


def main() -> int:
    parser = make_parser(__doc__)
    add_option(parser)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[""], help="words that begin rows' names")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a row")
    parser.add_argument("--samples", type=int, default=32, help="of a microbatch")
    options = parser.parse_args()
    restart_with(options.isa)
    use_one_thread()
    torch.set_num_threads(1)
    report = Report()
    rows: list[dict[str, Any]] = []
    table = Table(f"{'layer':<37}", "input       ", "cnnpar ms", "torch ms", "its layout    ", "times as fast")
    cases = [(name, shape, tables) for name, tables, shape in CASES]
    cases += [(preset, PRESET_SHAPES.get(preset, IMAGES), []) for preset in PRESETS]
    for name, shape, tables in cases:
        if not name.startswith(tuple(options.only)):
            continue
        passes = layer_passes(tables, shape, options.samples) if tables else network_passes(name, options.samples)
        found = lower_quartiles(passes, options.seconds)
        ours = found.pop("cnnpar")
        layout = min(found, key=lambda each: found[each])
        factor = found[layout] / ours
        size = " x ".join(map(str, shape))
        place = layout if len(shape) == 3 else ""
        star = "" if factor >= (SLOWEST_LAYER if tables else SLOWEST_NETWORK) else " *"
        table.row(name, size, f"{ours:.3f}", f"{found[layout]:.3f}", place, f"{factor:.2f}{star}")
        rows.append({"name": name, "shape": shape, "network": not tables, "cnnpar_ms": ours, **found, "factor": factor})
    for kind, limit in (("layer", SLOWEST_LAYER), ("network", SLOWEST_NETWORK)):
        own = [(row["factor"], row["name"]) for row in rows if row["network"] == (kind == "network")]
        if own:
            least, name = min(own)
            missed = sum(factor < limit for factor, _ in own)
            about = (
                f"times as fast as PyTorch, the slowest {kind}, {name} ({missed} of {len(own)} are slower than that)"
            )
            report.check(about, least, "at least", limit)
    return report.end({"rows": rows}, options.json)


if __name__ == "__main__":
    sys.exit(main())
