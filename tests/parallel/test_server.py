"""The server's sums of a step: the same for any number, order and failure of workers, and those of one process."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Engine
from cnnpar.data.dataset import Dataset
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums, add_sums
from cnnpar.parallel.compute import Computer, slots_shape
from cnnpar.parallel.in_process import InProcess
from cnnpar.parallel.server import Server
from cnnpar.parallel.tree import Node, Span, Tree, microbatch_count
from cnnpar.parallel.work import Kind, Prepared, Step, Work
from tests.helpers.made_runs import fail, in_process, made_run, opened, rich_run
from tests.helpers.random_workers import RandomWorkers, served


def sums_of_run(server: Server, parameters: Vector) -> list[object]:
    results: list[object] = []
    for epoch, number in [(0, 0), (0, 3), (1, 2)]:
        vector, sums = server.gradient(parameters, epoch, number)
        results += [vector.tobytes(), sums]
    for kind in (Kind.VALIDATION, Kind.TEST):
        sums, counts = server.evaluate(parameters, kind)
        results += [sums, counts.tolist()]
    return results


@pytest.mark.parametrize("run", [made_run, rich_run])
@pytest.mark.parametrize(
    "workers", [1, 3, 8, *(pytest.param(number, marks=pytest.mark.slow) for number in (2, 4, 5, 13))]
)
def test_any_number_of_workers_in_any_order_gives_the_same_bits(workers: int, run: Any) -> None:
    _, work, data = run()
    parameters = work.network.init(0)
    expected = sums_of_run(in_process(work, data), parameters)
    for seed in range(3):
        server = served(RandomWorkers(work, data, Random(seed)), workers)
        assert sums_of_run(server, parameters) == expected


@pytest.mark.parametrize("seed", range(12))
def test_dying_workers_are_replaced_and_leave_the_same_bits(seed: int) -> None:
    _, work, data = made_run()
    parameters = work.network.init(0)
    expected = sums_of_run(in_process(work, data), parameters)
    warnings: list[str] = []
    transport = RandomWorkers(work, data, Random(seed), deaths=4)
    server = served(transport, 5, warnings.append)
    assert sums_of_run(server, parameters) == expected
    for _ in range(9):  # those that died before they had answered are not replaced at once
        transport.now += 0.9
        server.evaluate(parameters, Kind.VALIDATION)
    assert server.workers == 5
    assert sorted(text.split()[-1] for text in warnings) == 4 * ["come"] + 4 * ["killed"]


@dataclass(frozen=True)
class Counted:
    """A work of `samples` samples: each one's gradient is its noise times the parameters."""

    samples: int
    microbatch: int
    size: int = 2
    libraries: frozenset[str] = frozenset()

    def load_loops(self) -> None:
        pass

    def with_data(self, data: Mapping[Kind, Dataset]) -> Work:
        return self

    def microbatches(self, step: Step) -> int:
        return microbatch_count(self.samples, self.microbatch)

    def length(self, step: Step) -> int:
        return self.size

    def following(self, step: Step) -> Step | None:
        return None

    def prepare(self, step: Step, microbatch: int) -> Prepared:
        noise = np.random.default_rng(step).standard_normal((self.samples, self.size), np.float32)
        return noise[microbatch * self.microbatch : (microbatch + 1) * self.microbatch]

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        np.multiply(prepared.sum(axis=0), parameters, out=out)
        return Sums(float(prepared.sum()), 1 << microbatch, len(prepared))

    def serial(self, step: Step, parameters: Vector) -> tuple[Vector, Sums]:
        """Sum a step by recursion, as the reduction tree is defined."""

        def node(start: int, size: int) -> tuple[Vector, Sums]:
            if size == 1:
                out = np.empty(self.size, np.float32)
                return out, self.compute(step, start, self.prepare(step, start), parameters, out)
            left = node(start, size // 2)
            if start + size // 2 >= self.microbatches(step):
                return left
            right = node(start + size // 2, size // 2)
            return left[0] + right[0], add_sums(left[1], right[1])

        return node(0, 1 << (self.microbatches(step) - 1).bit_length())


@given(
    samples=st.integers(1, 90),
    microbatch=st.integers(1, 8),
    workers=st.integers(1, 8),
    deaths=st.integers(0, 3),
    random=st.builds(Random, st.integers(0, 2**32)),
)
def test_the_reduction_equals_the_serial_one_under_any_faults(
    samples: int, microbatch: int, workers: int, deaths: int, random: Random
) -> None:
    work = Counted(samples, microbatch)
    server = served(RandomWorkers(work, {}, random, deaths), workers, lambda _: None, give_up_after=0.5)
    parameters = np.array([0.3, -1.7], np.float32)
    for number in range(3):
        expected, sums = work.serial(Step(Kind.TRAIN, 0, number), parameters)
        got = server.gradient(parameters, 0, number)
        assert (got.vector.tobytes(), got.sums) == (expected.tobytes(), sums)
        parameters += got.vector / np.float32(samples)


def test_a_steps_sums_count_each_sample_of_its_batch() -> None:
    settings, work, data = made_run()
    server = in_process(work, data)
    parameters = work.network.init(0)
    vector, sums = server.gradient(parameters, 0, 0)
    assert sums.count == settings.train.batch_size
    assert vector.shape == (work.size,)
    last = work.steps_per_epoch - 1
    assert server.gradient(parameters, 0, last)[1].count == 5 * 70 - last * settings.train.batch_size
    assert server.evaluate(parameters, Kind.VALIDATION).sums.count == len(data[Kind.VALIDATION])


def test_gradient_is_the_sum_of_the_microbatches_gradients() -> None:
    _, work, data = made_run()
    ready = work.with_data(data)
    parameters = work.network.init(0)
    step = Step(Kind.TRAIN, 0, 1)
    total = np.zeros(work.size)
    out = np.empty(work.size, np.float32)
    for microbatch in range(work.microbatches(step)):
        ready.compute(step, microbatch, ready.prepare(step, microbatch), parameters, out)
        total += out
    vector, _ = in_process(work, data).gradient(parameters, 0, 1)
    np.testing.assert_allclose(vector, total, rtol=1e-4, atol=1e-4)


def test_inputs_prepared_ahead_give_the_same_blocks() -> None:
    _, work, data = made_run()
    ready = work.with_data(data)
    parameters = work.network.init(0)
    ahead, late = (Computer(ready, np.empty(slots_shape(work), np.float32)) for _ in range(2))
    step: Step | None = Step(Kind.TRAIN, 0, work.steps_per_epoch - 2)
    while step is not None and step.epoch < 2:
        span = Span(1, work.microbatches(step))
        assert ahead.compute(step, span, parameters) == late.compute(step, span, parameters)
        step = work.following(step)
        ahead.prepare(step, span)


def test_the_next_step_is_known_ahead_also_across_epochs() -> None:
    _, work, _ = made_run()
    last = work.steps_per_epoch - 1
    assert work.following(Step(Kind.TRAIN, 0, 0)) == Step(Kind.TRAIN, 0, 1)
    assert work.following(Step(Kind.TRAIN, 0, last)) == Step(Kind.TRAIN, 1, 0)
    assert work.following(Step(Kind.TEST, 0, 0)) is None


def test_old_contents_of_the_buffers_do_not_enter_a_gradient() -> None:
    _, work, data = made_run()
    parameters = work.network.init(0)
    transport = InProcess(work.with_data(data))
    server = opened(Server(work, transport, Engine(workers=0), fail))
    first = server.gradient(parameters, 0, 0)[0].copy()
    transport._slots[:] = np.nan
    assert server.gradient(parameters, 0, 0)[0].tobytes() == first.tobytes()


def test_a_span_returns_the_blocks_of_its_tree() -> None:
    _, work, data = made_run()
    step = Step(Kind.TRAIN, 0, 0)
    leaves = work.microbatches(step)
    slots = np.empty(slots_shape(work), np.float32)
    for span in (Span(0, 3), Span(3, 5), Span(5, leaves), Span(0, leaves)):
        blocks = Computer(work.with_data(data), slots).compute(step, span, work.network.init(0))
        expected: Tree[int] = Tree(leaves, lambda left, right: left + right)
        for leaf in range(*span):
            expected.put(Node(0, leaf), 1)
        assert [block.node for block in blocks] == [node for node, _ in expected]
        assert len({block.slot for block in blocks}) == len(blocks)


def test_gradient_has_the_size_of_a_network_smaller_than_counts() -> None:
    layers = [{"type": "avgpool2d", "size": 8}, {"type": "flatten"}, {"type": "dense"}]
    _, work, data = made_run(settings=resolve({"model": {"layers": layers}}))
    server = in_process(work, data)
    assert work.size < work.length(Step(Kind.TEST, 0, 0))
    assert server.gradient(work.network.init(0), 0, 0).vector.shape == (work.size,)
    assert len(server.evaluate(work.network.init(0), Kind.TEST).counts) == work.length(Step(Kind.TEST, 0, 0))
