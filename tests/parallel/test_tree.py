"""The reduction tree gives the same bits for any cut, order and number of parts."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.parallel.tree import Node, Span, Tree, covers, first_run, microbatch_count, slots_needed, top_level

leaf_counts = st.integers(1, 70)


def paired(left: str, right: str) -> str:
    """Add in a way that is neither commutative nor associative: the result shows the order of the additions."""
    return f"({left}+{right})"


def serial(leaves: int) -> str:
    """Sum by recursion, as the tree is defined."""

    def node(start: int, size: int) -> str | None:
        if start >= leaves:
            return None
        if size == 1:
            return str(start)
        left, right = node(start, size // 2), node(start + size // 2, size // 2)
        return left if right is None else paired(str(left), right)

    size = 1
    while size < leaves:
        size *= 2
    return str(node(0, size))


def blocks(span: Span, leaves: int) -> list[tuple[Node, str]]:
    tree = Tree(leaves, paired)
    for leaf in range(*span):
        tree.put(Node(0, leaf), str(leaf))
    return list(tree)


def cuts(leaves: int) -> st.SearchStrategy[list[Span]]:
    """Draw a cut of a batch into spans."""
    edges = st.sets(st.integers(1, leaves - 1)).map(sorted) if leaves > 1 else st.just([])
    return edges.map(lambda edges: [Span(a, b) for a, b in zip([0, *edges], [*edges, leaves], strict=True)])


@given(leaf_counts, st.data())
def test_any_cut_in_any_order_makes_the_same_additions(leaves: int, data: st.DataObject) -> None:
    spans = data.draw(cuts(leaves))
    parts = [block for span in spans for block in blocks(span, leaves)]
    tree = Tree(leaves, paired)
    for node, value in data.draw(st.permutations(parts)):
        tree.put(node, value)
    assert tree.root == serial(leaves)


@given(leaf_counts, st.integers(0, 2**32 - 1), st.data())
def test_float32_sums_are_identical_to_the_bit_for_any_cut(leaves: int, seed: int, data: st.DataObject) -> None:
    values = np.random.default_rng(seed).standard_normal((leaves, 3)).astype(np.float32) * np.float32(1e3)

    def total(spans: list[Span]) -> bytes:
        whole = Tree(leaves, np.add)
        for span in spans:
            part = Tree(leaves, np.add)
            for leaf in range(*span):
                part.put(Node(0, leaf), values[leaf])
            for node, value in part:
                whole.put(node, value)
        return bytes(whole.root.tobytes())

    assert total(data.draw(cuts(leaves))) == total([Span(0, leaves)])


@given(leaf_counts, st.data())
def test_a_span_never_holds_more_values_than_it_has_slots(leaves: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, leaves - 1))
    span = Span(start, data.draw(st.integers(start + 1, leaves)))
    tree = Tree(leaves, paired)
    most = 0
    for leaf in range(*span):
        most = max(most, len(list(tree)) + 1)  # the values held, and the new leaf beside them
        tree.put(Node(0, leaf), str(leaf))
    assert most <= slots_needed(leaves)


@pytest.mark.parametrize(("leaves", "parts"), [(8, 1), (8, 2), (8, 4), (8, 8), (64, 16)])
def test_a_split_into_a_power_of_two_returns_one_value_a_worker(leaves: int, parts: int) -> None:
    size = leaves // parts
    assert [len(blocks(Span(start, start + size), leaves)) for start in range(0, leaves, size)] == [1] * parts


@given(st.sets(st.integers(0, 40)))
def test_successive_first_runs_hold_each_microbatch_once(microbatches: set[int]) -> None:
    left = sorted(microbatches)
    runs = []
    while left:
        runs.append(first_run(left))
        left = left[runs[-1].length :]
    assert [microbatch for run in runs for microbatch in range(*run)] == sorted(microbatches)
    assert all(one.stop < other.start for one, other in pairwise(runs)), "a run ends only where a neighbour is missing"


def test_the_first_run_of_no_microbatches_is_empty() -> None:
    assert first_run([]).length == 0


@given(leaf_counts, st.data())
def test_the_blocks_of_a_span_cover_it_and_no_other_span(leaves: int, data: st.DataObject) -> None:
    span = data.draw(cuts(leaves).flatmap(st.sampled_from))
    nodes = [node for node, _ in blocks(span, leaves)]
    assert covers(data.draw(st.permutations(nodes)), span, leaves)
    other = data.draw(cuts(leaves).flatmap(st.sampled_from))
    assert covers(nodes, other, leaves) == (other == span)
    damaged = data.draw(st.sampled_from([nodes[1:], [*nodes, nodes[0]], [*nodes, Node(0, span.stop)]]))
    assert not covers(damaged, span, leaves)


@given(leaf_counts, st.integers(1, 8), st.integers(0, 70))
def test_a_node_above_the_root_covers_nothing(leaves: int, above: int, number: int) -> None:
    node = Node(top_level(leaves) + above, number)
    assert not covers([node], Span(0, leaves), leaves), "the tree would hold it, but never reach its root"


def test_the_root_is_missing_while_a_leaf_is() -> None:
    tree = Tree(3, paired)
    tree.put(Node(0, 0), "0")
    tree.put(Node(0, 2), "2")
    with pytest.raises(KeyError):
        _ = tree.root


@given(st.integers(1, 1000), st.integers(1, 100))
def test_microbatch_count_is_the_least_that_holds_all_samples(samples: int, microbatch: int) -> None:
    count = microbatch_count(samples, microbatch)
    assert (count - 1) * microbatch < samples <= count * microbatch
