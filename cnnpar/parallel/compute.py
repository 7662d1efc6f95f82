"""The worker's part of a step, in any process: compute the values of a span's blocks from the parameters."""

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums, add_sums
from cnnpar.parallel.tree import Node, Span, Tree, slots_needed
from cnnpar.parallel.work import Block, Kind, Prepared, Step, Work

Slots = NDArray[np.float32]  # (slots, size): a row for each vector that a span may hold at a time


def slots_shape(work: Work) -> tuple[int, int]:
    """Return the shape (rows, columns) of `Slots` that is large enough for any span of any step of the work."""
    steps = [step for kind in Kind if work.length(step := Step(kind, 0, 0))]
    rows = max((slots_needed(work.microbatches(step)) for step in steps), default=1)
    return rows, max((work.length(step) for step in steps), default=0)


class Computer:
    """Computes spans into a fixed set of slots, and prepares the inputs of the next span ahead of time."""

    def __init__(self, work: Work, slots: Slots) -> None:
        """Compute into `slots`, of shape `slots_shape(work)`; results stay there until the next `compute`."""
        self._work = work
        self._slots = slots
        self._rows: dict[int, list[Vector]] = {}  # by length: the same arrays each time, by which networks know them
        self._ahead: dict[tuple[Step, int], Prepared] = {}  # inputs that `prepare` made, by step and microbatch

    def compute(self, step: Step, span: Span, parameters: Vector) -> list[Block]:
        """Return the maximal aligned blocks of the span; their vectors, if the step has any, lie in the slots.

        `parameters`: (size,) float32.
        """
        pieces = self.pieces(step, span, parameters)
        while True:
            try:
                next(pieces)
            except StopIteration as done:
                blocks: list[Block] = done.value
                return blocks

    def pieces(self, step: Step, span: Span, parameters: Vector) -> Generator[None, None, list[Block]]:
        """Do the same as `compute`, as a generator that yields after each microbatch."""
        length = self._work.length(step)
        if length not in self._rows:
            self._rows[length] = [row[:length] for row in self._slots]
        slots = self._rows[length]
        parameters = parameters.view()
        parameters.flags.writeable = False  # they keep their values: what follows from them is computed once
        free = list(range(len(slots)))[::-1]  # a stack, so that few rows are used and stay in the cache

        def add(left: tuple[int, Sums], right: tuple[int, Sums]) -> tuple[int, Sums]:
            # The sum takes the left operand's row; the right one's is free for the next microbatch.
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
                sums = self._work.compute(step, microbatch, prepared, parameters, slots[slot])  # fills (length,)
                tree.put(Node(0, microbatch), (slot, sums))
            yield
        return [Block(node, slot, sums) for node, (slot, sums) in tree]

    def prepare(self, step: Step | None, span: Span) -> None:
        """Prepare the span's inputs for `step`, the step that is likely to be computed next; None: forget them."""
        # Most workers get the same span in every step. A wrong guess costs the time, and nothing else.
        self._ahead.clear()
        if step is not None:
            for microbatch in range(span.start, min(span.stop, self._work.microbatches(step))):
                self._ahead[step, microbatch] = self._work.prepare(step, microbatch)
