"""Tell from LLVM's optimised code which innermost loops of a compiled function go through several numbers at a time.

LLVM marks what its vectoriser has made of a loop, `llvm.loop.isvectorized`: a loop with vectors, and one for the
numbers that are left over. A loop that it left alone has no such mark. A loop with vectors that has branches in it, as
for stores under a condition that the processor has no instruction for, goes number by number: it counts as alone.

Source: LLVM, "Auto-Vectorization in LLVM" and the language reference, "'llvm.loop.isvectorized' Metadata".
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

_FUNCTION = re.compile(r"^define [^\n]*@(?P<name>\S+?)\([^\n]*\{\n(?P<body>.*?)^\}", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^(?P<label>[\w.$-]+):", re.MULTILINE)
_NEXT = re.compile(r"label %([\w.$-]+)")
_VECTOR = re.compile(r"<\d+ x (?:float|double|i8|i32)>")

_LEFT_OVER = re.compile(r"\.(?:prol|epil)\b")  # numbers that unrolling has left over

Graph = dict[str, set[str]]


class Counts(NamedTuple):
    """Innermost loops of a function: how many go through several numbers at a time; the code of those that do not."""

    vectors: int
    alone: tuple[str, ...]


def counted(code: str, name: str) -> Counts:
    """Count the innermost loops of the function of that name in a module's code."""
    marked = _marked(code)
    vectors, alone = 0, []
    for function in _FUNCTION.finditer(code):
        if name not in function["name"] or function["name"].startswith(("_ZN7cpython", "cfunc")):  # those call it
            continue
        blocks = _blocks(function["body"])
        for labels in _innermost({label: set(_NEXT.findall(text)) & set(blocks) for label, text in blocks.items()}):
            if any(_LEFT_OVER.search(label) for label in labels):
                continue
            text = "\n".join(f"{label}:{blocks[label]}" for label in blocks if label in labels)
            made = bool(marked & set(re.findall(r"!llvm\.loop !(\d+)", text)))
            if made and _VECTOR.search(text) and len(labels) == 1:
                vectors += 1
            elif not made or _VECTOR.search(text):  # without vectors: what was left over
                alone.append(text)
    return Counts(vectors, tuple(alone))


def _marked(code: str) -> set[str]:
    """Return the numbers of the loops that the vectoriser has made."""
    marks = set(re.findall(r'^!(\d+) = !\{!"llvm\.loop\.isvectorized", i32 1\}', code, re.MULTILINE))
    loops = re.findall(r"^!(\d+) = distinct !\{([^}]*)\}", code, re.MULTILINE)
    return {number for number, parts in loops if marks & set(re.findall(r"!(\d+)", parts))}


def _blocks(body: str) -> dict[str, str]:
    """Return the blocks of a function by label; the first one, which no jump leads to, is left out."""
    labels = list(_BLOCK.finditer(body))
    ends = [label.start() for label in labels[1:]] + [len(body)]
    return {label["label"]: body[label.end() : end] for label, end in zip(labels, ends, strict=True)}


def _innermost(graph: Graph) -> Iterator[set[str]]:
    """Yield the labels of each loop that has no other loop in it."""
    for labels in _circles(graph):
        if len(labels) == 1:
            yield labels
            continue
        entries = {label for label in labels if any(label in graph[other] for other in graph if other not in labels)}
        header = min(entries or labels)
        inner = {label: graph[label] & labels - {header} for label in labels - {header}}
        loops = list(_innermost(inner))
        yield from loops or [labels]


def _circles(graph: Graph) -> Iterator[set[str]]:
    """Yield the sets of labels that lead to each other."""
    names = list(graph)
    jumps = np.array([[other in graph[label] for other in names] for label in names], bool).reshape(
        len(names), len(names)
    )
    _, numbers = connected_components(csr_array(jumps), connection="strong")
    for number in set(numbers):
        part = {names[i] for i in np.flatnonzero(numbers == number)}
        if len(part) > 1 or part <= graph[min(part)]:
            yield part
