"""What a worker does, in whatever process it lives: turn (parameters, span) into the values of its blocks."""

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums, add_sums
from cnnpar.parallel.tree import Node, Span, Tree, slots_needed
from cnnpar.parallel.work import Block, Kind, Prepared, Step, Work

Slots = NDArray[np.float32]  # (n, size): one row for each value that a span may hold at a time


def slots_shape(work: Work) -> tuple[int, int]:
    """Rows and columns of `Slots` that any span of any step of this work can need."""
    steps = [step for kind in Kind if work.length(step := Step(kind, 0, 0))]
    rows = max((slots_needed(work.microbatches(step)) for step in steps), default=1)
    return rows, max((work.length(step) for step in steps), default=0)


class Computer:
    """Computes spans into a fixed set of buffers, and prepares the inputs of the next span ahead."""

    def __init__(self, work: Work, slots: Slots) -> None:
        """`slots`: of `slots_shape(work)`; results lie there until the next `compute`."""
        self._work = work
        self._slots = slots
        self._ahead: dict[tuple[Step, int], Prepared] = {}

    def compute(self, step: Step, span: Span, parameters: Vector) -> list[Block]:
        """The maximal aligned blocks of the span. What has sums only leaves the slots alone."""
        pieces = self.pieces(step, span, parameters)
        while True:
            try:
                next(pieces)
            except StopIteration as done:
                blocks: list[Block] = done.value
                return blocks

    def pieces(self, step: Step, span: Span, parameters: Vector) -> Generator[None, None, list[Block]]:
        """The same, with a pause after each microbatch."""
        length = self._work.length(step)
        slots = self._slots[:, :length]
        free = list(range(len(slots)))[::-1]

        def add(left: tuple[int, Sums], right: tuple[int, Sums]) -> tuple[int, Sums]:
            if length:
                np.add(slots[left[0]], slots[right[0]], out=slots[left[0]])
                free.append(right[0])
            return left[0], add_sums(left[1], right[1])

        tree = Tree(self._work.microbatches(step), add)
        for microbatch in range(*span):
            # A diverging run is found by its loss, with the step named; numpy need not warn before that.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                prepared = self._ahead.pop((step, microbatch), None)
                if prepared is None:
                    prepared = self._work.prepare(step, microbatch)
                slot = free.pop() if length else 0
                sums = self._work.compute(step, microbatch, prepared, parameters, slots[slot])
                tree.put(Node(0, microbatch), (slot, sums))
            yield
        return [Block(node, slot, sums) for node, (slot, sums) in tree]

    def prepare(self, step: Step | None, span: Span) -> None:
        """Prepare the same span of the step that will probably be asked for next."""
        self._ahead.clear()
        if step is not None:
            for microbatch in range(span.start, min(span.stop, self._work.microbatches(step))):
                self._ahead[step, microbatch] = self._work.prepare(step, microbatch)
