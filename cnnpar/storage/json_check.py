"""Checks of JSON text from an unknown source, made before any of its parts is decoded."""

import json
import re

from cnnpar.text import plain, shown

_DEEPEST = 16  # objects and lists within each other; a checkpoint has 7, and 13 with residual layers in one another
_LONGEST_TEXT = 1 << 15  # bytes; the longest path of Linux, spelled in six bytes a character, is shorter
_DATA_LEVEL = 4  # file, payload, list, array: there a long text is an array's `data`

# A text, and the colon that makes it a key; a bracket; a run of numbers. Possessive: no text is scanned twice.
_TOKENS = re.compile(rb'"([A-Za-z0-9+/=]*+(?:[^"\\]++|\\.)*+)"(\s*+:)?|[][{}]|[-+0-9.eE,\s]{8,}+', re.DOTALL)


def check_json(content: bytes) -> None:
    """Raises ValueError where valid JSON is none of ours, in time linear in its length and in next to no memory.

    That is: a key twice in one object, of which some readers take the first and others the last, nesting, or a text,
    beyond all that is ever written.
    """
    levels: list[tuple[bytes, set[bytes]]] = []  # of each object and list around this place: its key, and those in it
    key = b""  # of what comes next; none in a list
    for token in _TOKENS.finditer(content):
        first = content[token.start() : token.start() + 1]
        if first in (b"{", b"["):
            levels.append((key, set()))
            key = b""
            if len(levels) > _DEEPEST:
                raise ValueError(f"{_path(levels)}: nested more than {_DEEPEST} deep")
        elif first in (b"}", b"]"):
            levels.pop()
            key = b""
        elif first == b'"':
            length = token.end(1) - token.start(1)
            if length > _LONGEST_TEXT and (key != b"data" or len(levels) != _DATA_LEVEL):
                raise ValueError(f"{_path(levels)}: a text of {length:,} bytes; {_LONGEST_TEXT:,} are the most")
            if token.end(2) < 0:
                continue
            key = token[1]
            if b"\\" in key:
                key = json.loads(b'"%s"' % key).encode()
            if key in levels[-1][1]:
                raise ValueError(f"{_path(levels)}: the key {shown(key.decode(errors='replace'))} stands there twice")
            levels[-1][1].add(key)


def _path(levels: list[tuple[bytes, set[bytes]]]) -> str:
    """The place of the innermost level, in which list it may be left open."""
    return "$" + "".join(f".{plain(key.decode(errors='replace'), 60)}" if key else "[]" for key, _ in levels[1:])
