"""How a batch is cut into microbatches and spans, and how their values are added up again.

Pure arithmetic: nothing here knows of processes, arrays or time. The microbatches of a batch are the leaves
0 .. m-1 of a binary tree. Node (level, number) covers the leaves number * 2**level up to (number + 1) * 2**level,
as far as they exist; its value is left + right, or the left one alone where the right one covers no leaf. Whoever
holds a span adds up what lies whole inside it and passes the remaining nodes on. Every addition of the tree is
done exactly once, somewhere, between the same two operands: so the sum has the same bits for any cut into spans.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Span(NamedTuple):
    """The microbatches start .. stop-1 of one batch."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of microbatches."""
        return self.stop - self.start


class Node(NamedTuple):
    """A place in the tree; leaves have level 0."""

    level: int
    number: int


def microbatch_count(samples: int, microbatch: int) -> int:
    """Microbatches of a batch; the last one may be shorter."""
    return -(-samples // microbatch)


def first_run(microbatches: Sequence[int]) -> Span:
    """The first run of neighbours in an ascending list; an empty span of an empty list."""
    if not microbatches:
        return Span(0, 0)
    start = microbatches[0]
    length = next((n for n, number in enumerate(microbatches) if number != start + n), len(microbatches))
    return Span(start, start + length)


def covers(nodes: Iterable[Node], span: Span, leaves: int) -> bool:
    """Whether the nodes are some of the tree's, and hold each leaf of the span once, and no other."""
    start = span.start
    for level, number in sorted(nodes, key=lambda node: node.number << node.level):
        stop = min((number + 1) << level, leaves)
        if level > top_level(leaves) or number << level != start or stop <= start:
            return False
        start = stop
    return start == span.stop


def top_level(leaves: int) -> int:
    """The root's level."""
    return max(leaves - 1, 0).bit_length()


def slots_needed(leaves: int) -> int:
    """The most values that a `Tree` holds at any moment while the leaves of any one span are put in order."""
    return 2 * top_level(leaves) + 1


class Tree(Generic[T]):
    """Adds up the values of a tree's nodes as they come, in any order, always between the same operands."""

    def __init__(self, leaves: int, add: Callable[[T, T], T]) -> None:
        self._leaves = leaves
        self._add = add
        self._held: dict[Node, T] = {}
        self._top = top_level(leaves)

    def put(self, node: Node, value: T) -> None:
        """Take the value of a node whose leaves were not covered before, and add as far up as possible."""
        while node.level < self._top:
            sibling = Node(node.level, node.number ^ 1)
            if sibling.number << sibling.level < self._leaves:
                if sibling not in self._held:
                    break
                other = self._held.pop(sibling)
                value = self._add(value, other) if node.number < sibling.number else self._add(other, value)
            node = Node(node.level + 1, node.number >> 1)
        self._held[node] = value

    def __iter__(self) -> Iterator[tuple[Node, T]]:
        """The nodes that wait for a sibling: after the leaves of a span, its maximal aligned blocks."""
        return iter(self._held.items())

    def replace(self, change: Callable[[T], T]) -> None:
        """Put another object in the place of each held value; it must be equal to the bit."""
        self._held = {node: change(value) for node, value in self._held.items()}

    @property
    def root(self) -> T:
        """The sum of all leaves. Raises KeyError while any is missing."""
        return self._held[Node(self._top, 0)]
