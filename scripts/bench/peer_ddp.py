"""Train in PyTorch, alone or under DDP with gloo: one process of the peer that cnnpar is measured against.

    MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 python -m scripts.bench.peer_ddp --rank 0 --processes 1

throughput.py and accuracy.py start these processes. Each prints {"ready": true} once the group is complete. Then it
reads one JSON object a line, such as
{"action": "measure", "task": "small", "batch": 128, "variant": "channels-last eager", "seconds": 4}, and prints one:
samples per second of all processes together, or the error that the variant raised. {"action": "train", ...} is a whole
training (peer_recipe.py). Between jobs it waits in a read, and does not spin. Every process of a group must get the
same lines.

The peer has what makes it fast: normalised float32 images prepared ahead, one thread per process, buckets as views, a
static graph, gradients set to None, the faster one of fused and foreach SGD, no loss read before the end.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

try:
    import torch
    import torch.distributed as dist
    from torch import nn
except ModuleNotFoundError:
    sys.exit("scripts.bench.peer_ddp needs PyTorch: pip install torch")

from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array
from scripts.bench.networks import LEARNING_RATE, MOMENTUM, TASKS, make_data, make_network
from scripts.bench.peer_recipe import Recipe, train
from scripts.bench.torch_layers import FORMATS, WithLoss, build
from scripts.harness import make_parser

WARM_UP_SECONDS = 0.5


_NORM_NAMES = {"weight": "scale", "bias": "shift"}


def load(twin: nn.Sequential, network: Network, parameters: Array) -> None:
    """Copy cnnpar's parameters (size,) to the twin, in torch's order of axes."""
    views = network.layout.views(parameters)
    shape: tuple[int, ...] = network.input_shape
    flattened: tuple[int, ...] = ()  # (H, W, C) of the image whose pixels are the next dense layer's features
    for layer, module in zip(network.layers, twin, strict=True):
        for name, target in module.named_parameters():
            own = _NORM_NAMES[name] if isinstance(module, nn.BatchNorm2d) else name
            source = torch.from_numpy(views[f"{layer.name}.{own}"].copy())
            if name == "weight" and flattened:
                source = source.reshape(*flattened, -1)
            if source.ndim == 4:
                source = source.permute(3, 2, 0, 1)  # (h, w, C, channels) to (channels, C, h, w)
            elif source.ndim == 2:
                source = source.T
            with torch.no_grad():
                target.copy_(source.reshape(target.shape))
        if not isinstance(module, nn.ReLU | nn.BatchNorm2d):
            flattened = shape if isinstance(module, nn.Flatten) else ()
        shape = layer.output_shape(shape)


class Peer:
    """The models of this process; each is made when a job first needs it, and kept."""

    def __init__(self, rank: int, processes: int) -> None:
        self.rank, self.processes = rank, processes
        self._data: dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]] = {}
        self._steps: dict[tuple[str, int, str], tuple[Callable[[], torch.Tensor], str]] = {}

    def measure(self, task: str, batch: int, variant: str, seconds: float) -> dict[str, Any]:
        """Measure samples per second of the whole group for about so many seconds; and name the update rule's kind."""
        place = task, batch, variant
        if place not in self._steps:
            self._steps[place] = self._prepare(*place)
        step, rule = self._steps[place]
        per_step = self._agree(_time(step, 10) / 10)
        self._agree(_time(step, max(round(WARM_UP_SECONDS / per_step), 5)))
        per_step = self._agree(_time(step, 10) / 10)
        steps = max(round(seconds / per_step), 5)
        spent = self._agree(_time(step, steps))
        if not torch.isfinite(step()):
            raise FloatingPointError("the loss is not finite")
        return {"rate": steps * batch / spent, "rule": rule}

    def train(self, tables: dict[str, Any], variant: str, every: int) -> dict[str, Any]:
        """Train by a configuration to the end; the curve of seconds, samples and test accuracy."""
        layout, mode = variant.split()
        recipe = Recipe(tables, FORMATS[layout], self.rank, self.processes)
        twin = build(recipe.network)
        load(twin, recipe.network, recipe.network.init(recipe.config.train.seed))
        return {"curve": train(recipe, twin, mode == "compiled", every)}

    def _agree(self, seconds: float) -> float:
        """Return the longest time that any process took, the same number in all of them."""
        if self.processes == 1:
            return seconds
        value = torch.tensor([seconds], dtype=torch.float64)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return float(value)

    def _prepare(self, task: str, batch: int, variant: str) -> tuple[Callable[[], torch.Tensor], str]:
        """Make one training step as a function, and name the SGD that it uses."""
        layout, mode = variant.split()
        network = make_network(TASKS[task])
        twin = build(network)
        load(twin, network, network.init(0))
        model: nn.Module = WithLoss(twin).to(memory_format=FORMATS[layout])
        height, width, channels = network.input_shape
        images, labels = self._images(task, layout)
        share = batch // self.processes
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        own = order[: len(order) // batch * batch].reshape(-1, self.processes, share)[:, self.rank]  # (steps, share)
        position = 0

        def draw() -> tuple[torch.Tensor, torch.Tensor]:
            nonlocal position
            chosen = own[position % len(own)]
            position += 1
            pixels = images[chosen]
            if layout == "channels-last":
                return pixels.view(-1, height, width, channels).permute(0, 3, 1, 2), labels[chosen]
            return pixels.view(-1, channels, height, width), labels[chosen]

        if mode == "compiled":
            # Compute gradients once before DDP wraps the model: a compiler that fails should fail alone.
            model = torch.compile(model, fullgraph=True, dynamic=False)
        model(*draw()).backward()
        rule, optimizer = _faster_sgd(model)
        if self.processes > 1:
            model = nn.parallel.DistributedDataParallel(
                model, broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=True
            )

        def step() -> torch.Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss: torch.Tensor = model(*draw())
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step, rule

    def _images(self, task: str, layout: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Make all images, normalised, as rows of pixels (N, H * W * C) in the layout's order, and labels (N,)."""
        if (task, layout) not in self._data:
            data, preprocessing = make_data(TASKS[task])
            images = torch.from_numpy(preprocessing.normalise(data.images))
            if layout == "channels-first":
                images = images.permute(0, 3, 1, 2)
            self._data[task, layout] = images.flatten(1).contiguous(), torch.from_numpy(data.labels)
        return self._data[task, layout]


def _faster_sgd(model: nn.Module) -> tuple[str, torch.optim.Optimizer]:
    """Choose fused or foreach by a trial at rate 0 on the gradients of one step."""

    def make(rule: str, rate: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), rate, MOMENTUM, nesterov=True, **{rule: True})

    def trial(rule: str) -> float:
        return min(_time(make(rule, 0.0).step, 30) for _ in range(3))

    rule = min(("fused", "foreach"), key=trial)
    return rule, make(rule, LEARNING_RATE)


def _time(action: Callable[[], object], times: int) -> float:
    """Measure the seconds of so many calls."""
    began = time.perf_counter()
    for _ in range(times):
        action()
    return time.perf_counter() - began


def main() -> None:
    parser = make_parser(__doc__, json=False)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--processes", type=int, required=True)
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not look like an answer
    torch.set_num_threads(1)
    if options.processes > 1:
        dist.init_process_group("gloo", rank=options.rank, world_size=options.processes, timeout=timedelta(seconds=300))
    peer = Peer(options.rank, options.processes)
    print(json.dumps({"ready": True}), file=answers)
    cpu = time.process_time()
    for line in sys.stdin:
        idle = time.process_time() - cpu  # spent between two jobs
        try:
            job = json.loads(line)
            action: Callable[..., dict[str, Any]] = peer.train if job.pop("action") == "train" else peer.measure
            answer = action(**job)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps({**answer, "idle": idle}), file=answers)
        gc.collect()
        cpu = time.process_time()


if __name__ == "__main__":
    main()
