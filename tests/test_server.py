"""The server and its in-process worker: what a step's sums are, and what they do not depend on."""

import numpy as np
import pytest

from cnnpar.errors import RunError
from cnnpar.parallel.compute import Computer, most_slots
from cnnpar.parallel.plan import Node, Span, Tree, cut
from cnnpar.parallel.server import Server
from cnnpar.parallel.transport import Answer, InProcess, Lost
from cnnpar.parallel.work import Kind, Step, Vector
from tests.toys import fail, in_process, made_run


class Several:
    """Several workers in this process that answer in an order, and die at moments, that the test chooses."""

    def __init__(self, run, workers: int, seed: int, deaths: int = 0) -> None:  # type: ignore[no-untyped-def]
        _, work, data = run
        self.workers = workers
        self._random = np.random.default_rng(seed)
        self._deaths = deaths
        self._slots = [np.full((most_slots(work), work.size), np.nan, np.float32) for _ in range(workers)]
        self._computers = [Computer(work.with_data(data), slots) for slots in self._slots]
        self._jobs: list[tuple[int, int, Step, Span]] = []
        self._dead: set[int] = set()

    def home(self, parameters: Vector) -> Vector:
        return parameters

    def publish(self, parameters: Vector) -> None:
        self._parameters = parameters

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:
        assert worker not in self._dead
        self._jobs.append((worker, job, step, span))

    def wait(self, seconds: float) -> list[Answer | Lost]:
        if not self._jobs:
            return []
        worker, job, step, span = self._jobs.pop(self._random.integers(len(self._jobs)))
        if self._deaths and self._random.random() < 0.3:
            self._deaths -= 1
            self._dead.add(worker)
            return [Lost(worker, "killed")]
        blocks = self._computers[worker].compute(step, span, self._parameters)
        return [Answer(worker, job, [(node, self._slots[worker][slot], sums) for node, slot, sums in blocks])]

    def drop(self, worker: int, reason: str) -> None:
        self._dead.add(worker)

    def close(self) -> None:
        pass


def sums_of_run(server: Server, parameters: Vector) -> list[object]:
    results: list[object] = []
    for epoch, number in [(0, 0), (0, 6), (1, 3)]:
        vector, sums = server.gradient(parameters, epoch, number)
        results += [vector.tobytes(), sums]
    return [*results, server.evaluate(parameters, Kind.VALIDATION), server.evaluate(parameters, Kind.TEST)]


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5, 8, 13])
def test_any_number_of_workers_in_any_order_gives_the_same_bits(workers: int) -> None:
    run = made_run()
    parameters = run[1].network.init(0)
    expected = sums_of_run(in_process(run[1], run[2]), parameters)
    for seed in range(3):
        server = Server(run[1], Several(run, workers, seed), 60.0, fail)
        assert sums_of_run(server, parameters) == expected


@pytest.mark.parametrize("seed", range(12))
def test_workers_that_die_leave_the_bits_as_they_were(seed: int) -> None:
    run = made_run()
    parameters = run[1].network.init(0)
    expected = sums_of_run(in_process(run[1], run[2]), parameters)
    warnings: list[str] = []
    server = Server(run[1], Several(run, 5, seed, deaths=4), 60.0, warnings.append)
    assert sums_of_run(server, parameters) == expected
    assert len(warnings) == 5 - server.workers


def test_when_all_workers_are_dead_the_error_says_why() -> None:
    run = made_run()

    class Dying(Several):
        def wait(self, seconds: float) -> list[Answer | Lost]:
            lost: list[Answer | Lost] = [Lost(worker, "out of memory") for worker, *_ in self._jobs]
            self._jobs = []
            return lost

    server = Server(run[1], Dying(run, 2, 0), 60.0, lambda _: None)
    with pytest.raises(RunError, match=r"no worker is left.*out of memory"):
        server.gradient(run[1].network.init(0), 0, 0)


def test_a_step_is_the_sum_over_its_batch_divided_nowhere() -> None:
    settings, work, data = made_run()
    server = in_process(work, data)
    parameters = work.network.init(0)
    vector, sums = server.gradient(parameters, 0, 0)
    assert sums.count == settings.train.batch_size
    assert vector.shape == (work.size,)
    last = work.steps_per_epoch - 1
    assert server.gradient(parameters, 0, last)[1].count == 5 * 70 - last * settings.train.batch_size
    assert server.evaluate(parameters, Kind.VALIDATION).count == len(data[Kind.VALIDATION])


def test_the_gradient_sum_is_that_of_the_network_on_each_microbatch() -> None:
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


def test_inputs_prepared_ahead_are_those_prepared_in_time() -> None:
    _, work, data = made_run()
    ready = work.with_data(data)
    parameters = work.network.init(0)
    ahead, late = (Computer(ready, np.empty((most_slots(work), work.size), np.float32)) for _ in range(2))
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


def test_buffers_of_earlier_steps_do_not_shine_through() -> None:
    _, work, data = made_run()
    parameters = work.network.init(0)
    transport = InProcess(work.with_data(data))
    server = Server(work, transport, 60.0, fail)
    first = server.gradient(parameters, 0, 0)[0].copy()
    transport._slots[:] = np.nan
    assert server.gradient(parameters, 0, 0)[0].tobytes() == first.tobytes()


def test_a_span_returns_the_blocks_of_its_tree() -> None:
    _, work, data = made_run()
    step = Step(Kind.TRAIN, 0, 0)
    leaves = work.microbatches(step)
    slots = np.empty((most_slots(work), work.size), np.float32)
    for span in cut(Span(0, leaves), 3):
        blocks = Computer(work.with_data(data), slots).compute(step, span, work.network.init(0))
        expected: Tree[int] = Tree(leaves, lambda left, right: left + right)
        for leaf in range(*span):
            expected.put(Node(0, leaf), 1)
        assert [block.node for block in blocks] == [node for node, _ in expected]
        assert len({block.slot for block in blocks}) == len(blocks)


class Held(Several):
    """The first wait lasts far beyond every deadline, as when this process was stopped; then all answers are there."""

    now = 0.0

    def wait(self, seconds: float) -> list[Answer | Lost]:
        if seconds > 0:
            self.now += 1000.0
            return []
        return super().wait(seconds)


def test_a_server_that_was_held_up_reads_the_answers_before_it_looks_at_deadlines() -> None:
    run = made_run()
    parameters = run[1].network.init(0)
    transport = Held(run, 3, 0)
    server = Server(run[1], transport, 60.0, fail, clock=lambda: transport.now)
    expected = in_process(run[1], run[2]).gradient(parameters, 0, 0)[0].tobytes()
    assert server.gradient(parameters, 0, 0)[0].tobytes() == expected
    assert server.workers == 3


class AllAtOnce(Several):
    """A worker answers and is lost in the same moment, while another one's loss frees a span."""

    def wait(self, seconds: float) -> list[Answer | Lost]:
        if len(self._jobs) == 2 and not self._dead:
            (first, second), self._jobs = self._jobs, []
            self._dead |= {first[0], second[0]}
            return [Lost(second[0], "killed"), *self._answer(first), Lost(first[0], "killed")]
        return super().wait(seconds)

    def _answer(self, job: tuple[int, int, Step, Span]) -> list[Answer | Lost]:
        self._jobs = [job]
        return Several.wait(self, 0.0)


def test_a_span_is_not_given_to_a_worker_lost_in_the_same_moment() -> None:
    run = made_run()
    warnings: list[str] = []
    server = Server(run[1], AllAtOnce(run, 2, 0), 60.0, warnings.append)
    with pytest.raises(RunError, match="no worker is left"):
        server.gradient(run[1].network.init(0), 0, 0)
    assert warnings == ["worker 1 is lost: killed", "worker 0 is lost: killed"]
