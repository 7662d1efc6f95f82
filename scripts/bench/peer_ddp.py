"""Train in PyTorch, in one process or under DDP with gloo: one process of a peer that cnnpar is measured against.

    MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 python -m scripts.bench.peer_ddp --rank 0 --processes 1 --threads 2

throughput.py and accuracy.py start these processes; peer_protocol.py says what they read and print. {"action":
"train", ...} is a whole training (peer_recipe.py).

The peer has what makes it fast: normalised float32 images prepared ahead, buckets as views, a static graph, gradients
set to None, the faster one of fused and foreach SGD, no loss read before the end.
"""

import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

try:
    import torch
    import torch.distributed as dist
    from torch import nn
except ModuleNotFoundError:
    sys.exit("scripts.bench.peer_ddp needs PyTorch: pip install torch")

from scripts.bench.networks import LEARNING_RATE, MOMENTUM, TASKS, make_network
from scripts.bench.peer_protocol import Action, batches, images_and_labels, measured_rate, serve
from scripts.bench.peer_recipe import Recipe, train
from scripts.bench.torch_layers import FORMATS, WithLoss, build
from scripts.bench.torch_network import load
from scripts.harness import make_parser


class Peer:
    """The models of this process: each is made when a job first needs it, and kept while task and batch stay."""

    def __init__(self, rank: int, processes: int) -> None:
        self.rank, self.processes = rank, processes
        self._place: tuple[str, int] = "", 0  # task and batch
        self._data: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}  # by layout
        self._steps: dict[str, tuple[Callable[[int], float], str]] = {}  # by variant

    def measure(self, task: str, batch: int, variant: str, seconds: float) -> dict[str, Any]:
        """Measure samples per second of the whole group for about so many seconds; and name the update rule's kind."""
        if self._place != (task, batch):
            self._steps.clear()
            torch.compiler.reset()
            if self._place[0] != task:
                self._data.clear()
            self._place = task, batch
        if variant not in self._steps:
            self._steps[variant] = self._prepare(task, batch, variant)
        advance, rule = self._steps[variant]
        return {"rate": measured_rate(advance, batch, seconds, self._agree), "rule": rule}

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

    def _prepare(self, task: str, batch: int, variant: str) -> tuple[Callable[[int], float], str]:
        """Make a function that does training steps, and name the SGD that it uses."""
        layout, mode = variant.split()
        network = make_network(TASKS[task])
        twin = build(network)
        load(twin, network, network.init(0))
        model: nn.Module = WithLoss(twin).to(memory_format=FORMATS[layout])
        draw = self._drawing(task, batch, layout)
        if mode == "compiled":
            # Compute gradients once before DDP wraps the model: a compiler that fails should fail alone.
            model = torch.compile(model, fullgraph=True, dynamic=False)
        model(*draw()).backward()
        rule, optimizer = _faster_sgd(model)
        if self.processes > 1:
            model = nn.parallel.DistributedDataParallel(
                model, broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=True
            )

        def advance(steps: int) -> float:
            for _ in range(steps):
                optimizer.zero_grad(set_to_none=True)
                loss: torch.Tensor = model(*draw())
                loss.backward()
                optimizer.step()
            return float(loss.detach())

        return advance, rule

    def _drawing(self, task: str, batch: int, layout: str) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
        """Make a function that takes this process's share of the next batch: images (n, C, H, W) and labels (n,)."""
        if layout not in self._data:
            rows, classes = images_and_labels(task, layout == "channels-first")
            self._data[layout] = torch.from_numpy(rows), torch.from_numpy(classes)
        images, labels = self._data[layout]
        height, width, channels = TASKS[task].shape
        shares = batches(len(images), batch).reshape(-1, self.processes, batch // self.processes)
        own = torch.from_numpy(shares[:, self.rank].copy())  # (steps, share)
        position = 0

        def draw() -> tuple[torch.Tensor, torch.Tensor]:
            nonlocal position
            chosen = own[position % len(own)]
            position += 1
            pixels = images[chosen]
            if layout == "channels-last":
                return pixels.view(-1, height, width, channels).permute(0, 3, 1, 2), labels[chosen]
            return pixels.view(-1, channels, height, width), labels[chosen]

        return draw


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
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()

    def start() -> Mapping[str, Action]:
        torch.set_num_threads(options.threads)
        if options.processes > 1:
            patience = timedelta(seconds=300)
            dist.init_process_group("gloo", rank=options.rank, world_size=options.processes, timeout=patience)
        peer = Peer(options.rank, options.processes)
        return {"measure": peer.measure, "train": peer.train}

    serve(start)


if __name__ == "__main__":
    main()
