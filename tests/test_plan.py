"""The reduction tree gives the same bits for any cut, order and number of parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.parallel.plan import Node, Span, Tree, cut, microbatch_count, slots_needed

leaf_counts = st.integers(1, 70)


def paired(left: str, right: str) -> str:
    """An addition that is neither commutative nor associative, and remembers what it did."""
    return f"({left}+{right})"


def serial(leaves: int) -> str:
    """The tree's sum as its definition says it, by recursion."""

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


@given(leaf_counts, st.data())
def test_any_cut_in_any_order_makes_the_same_additions(leaves: int, data: st.DataObject) -> None:
    edges = sorted(data.draw(st.sets(st.integers(1, leaves - 1)))) if leaves > 1 else []
    spans = [Span(a, b) for a, b in zip([0, *edges], [*edges, leaves], strict=True)]
    parts = [block for span in spans for block in blocks(span, leaves)]
    tree = Tree(leaves, paired)
    for node, value in data.draw(st.permutations(parts)):
        tree.put(node, value)
    assert tree.root == serial(leaves)


@given(leaf_counts, st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_float32_sums_are_identical_to_the_bit_for_any_number_of_parts(leaves: int, parts: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((leaves, 3)).astype(np.float32) * np.float32(1e3)

    def total(parts: int) -> bytes:
        whole = Tree(leaves, np.add)
        for span in cut(Span(0, leaves), parts):
            part = Tree(leaves, np.add)
            for leaf in range(*span):
                part.put(Node(0, leaf), values[leaf])
            for node, value in part:
                whole.put(node, value)
        return bytes(whole.root.tobytes())

    assert total(parts) == total(1)


@given(leaf_counts, st.data())
def test_a_span_never_holds_more_values_than_it_has_slots_for(leaves: int, data: st.DataObject) -> None:
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
    assert [len(blocks(span, leaves)) for span in cut(Span(0, leaves), parts)] == [1] * parts


@given(st.integers(0, 100), st.integers(1, 100), st.integers(1, 20))
def test_a_cut_covers_each_microbatch_once_in_nearly_equal_parts(start: int, length: int, parts: int) -> None:
    spans = cut(Span(start, start + length), parts)
    assert [leaf for span in spans for leaf in range(*span)] == list(range(start, start + length))
    assert len(spans) == min(parts, length)
    lengths = [span.length for span in spans]
    assert max(lengths) - min(lengths) <= 1


def test_an_empty_span_has_no_parts() -> None:
    assert cut(Span(3, 3), 4) == []


def test_the_root_is_missing_while_a_leaf_is() -> None:
    tree = Tree(3, paired)
    tree.put(Node(0, 0), "0")
    tree.put(Node(0, 2), "2")
    with pytest.raises(KeyError):
        _ = tree.root


@given(st.integers(1, 1000), st.integers(1, 100))
def test_microbatches_hold_all_samples_and_only_the_last_may_be_short(samples: int, microbatch: int) -> None:
    count = microbatch_count(samples, microbatch)
    assert (count - 1) * microbatch < samples <= count * microbatch
