"""Arenas, whose arrays are disjoint, and scratch arrays, which are reused by name."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.nn.workspace import Arena, Scratch

SHAPES = st.lists(st.lists(st.integers(0, 9), max_size=3).map(tuple), max_size=12)


@given(SHAPES, st.booleans())
def test_arena_arrays_are_disjoint_and_aligned_to_64_bytes(shapes: list[tuple[int, ...]], large: bool) -> None:
    arena = Arena()
    sizes = [*shapes, *([(1_500_000, 2)] if large else []), *shapes]  # 12 MB: more than a piece has left
    arrays = [arena.empty(shape, np.dtype(np.float32 if len(shape) % 2 else np.float64)) for shape in sizes]
    for number, array in enumerate(arrays):
        array.fill(number)
    for number, (array, shape) in enumerate(zip(arrays, sizes, strict=True)):
        assert array.shape == shape
        assert (array == number).all()
        assert array.flags.c_contiguous
        assert not array.size or array.ctypes.data % 64 == 0


def test_scratch_of_one_name_is_reused_until_it_must_grow() -> None:
    scratch, dtype = Scratch(), np.dtype(np.float32)
    small = scratch.array("a", (2, 3), dtype)
    assert np.shares_memory(small, scratch.array("a", (5,), dtype))
    assert not np.shares_memory(small, scratch.array("b", (2, 3), dtype))
    assert not np.shares_memory(small, scratch.array("a", (7,), dtype))
