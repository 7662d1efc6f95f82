"""Spans of a batch and the reduction tree that adds up their values: pure arithmetic, without processes or arrays.

The microbatches of a batch are the leaves 0 .. m-1 of a binary tree. Node (level, number) covers the leaves from
number * 2**level up to, and without, (number + 1) * 2**level, as far as they exist. Its value is left + right, or the
left child's value alone where the right child covers no leaf. A worker adds up the nodes that lie within its span, and
returns the values of the remaining, maximal ones; the server adds those. Each addition of the tree is done exactly
once, in one place or another, between the same two operands: so the sum has the same bits for any cut into spans.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Span(NamedTuple):
    """A run of consecutive microbatches of one batch: start .. stop-1."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of microbatches."""
        return self.stop - self.start


class Node(NamedTuple):
    """A node of the tree; leaves have level 0."""

    level: int
    number: int


def microbatch_count(samples: int, microbatch: int) -> int:
    """Return the number of microbatches that a batch is cut into; the last one may be shorter."""
    return -(-samples // microbatch)  # rounded up


def first_run(microbatches: Sequence[int]) -> Span:
    """Return the longest span of consecutive numbers at the start of an ascending list; an empty one if it is empty."""
    if not microbatches:
        return Span(0, 0)
    start = microbatches[0]
    # The first number that is not where it would be if none were missing ends the run.
    length = next((n for n, number in enumerate(microbatches) if number != start + n), len(microbatches))
    return Span(start, start + length)


def covers(nodes: Iterable[Node], span: Span, leaves: int) -> bool:
    """Tell whether all nodes exist in a tree of so many leaves, and cover each leaf of the span once, and no other."""
    start = span.start  # leaves before it are covered
    for level, number in sorted(nodes, key=lambda node: node.number << node.level):  # by first leaf
        stop = min((number + 1) << level, leaves)
        if level > top_level(leaves) or number << level != start or stop <= start:
            return False
        start = stop
    return start == span.stop


def top_level(leaves: int) -> int:
    """Return the level of the root of a tree."""
    return max(leaves - 1, 0).bit_length()


def slots_needed(leaves: int) -> int:
    """Return the most values that a `Tree` holds at any time while the leaves of one span are put in order."""
    # At most two blocks of each level below the root wait, one at each end of the span, beside the new leaf.
    return 2 * top_level(leaves) + 1


class Tree(Generic[T]):
    """Adds up the values of nodes, put in any order, with the additions of the tree and no others."""

    def __init__(self, leaves: int, add: Callable[[T, T], T]) -> None:
        """Add with `add(left, right)`, which may reuse its operands."""
        self._leaves = leaves
        self._add = add
        self._held: dict[Node, T] = {}  # values whose siblings have not come yet
        self._top = top_level(leaves)

    def put(self, node: Node, value: T) -> None:
        """Put the value of a node none of whose leaves is covered yet, and add as far up the tree as possible."""
        while node.level < self._top:
            sibling = Node(node.level, node.number ^ 1)
            # A sibling beyond the last leaf does not exist: the parent then has this node's value.
            if sibling.number << sibling.level < self._leaves:
                if sibling not in self._held:
                    break
                other = self._held.pop(sibling)
                # The lower leaves are the left operand, whichever of the two came first.
                value = self._add(value, other) if node.number < sibling.number else self._add(other, value)
            node = Node(node.level + 1, node.number >> 1)  # the parent
        self._held[node] = value

    def __iter__(self) -> Iterator[tuple[Node, T]]:
        """Yield the nodes that wait for a sibling, with their values: of one whole span, its maximal aligned blocks."""
        return iter(self._held.items())

    def replace(self, change: Callable[[T], T]) -> None:
        """Replace each held value by `change(value)`, which must be equal to the bit."""
        self._held = {node: change(value) for node, value in self._held.items()}

    @property
    def root(self) -> T:
        """Sum of all leaves. Raises KeyError while one is missing."""
        return self._held[Node(self._top, 0)]
