"""Check of JSON text from an untrusted source, before it is decoded."""

import json
import re

from cnnpar.text import one_line, shown

_DEEPEST = 16  # levels of nesting; a checkpoint has 7, or 13 with nested residual layers
_LONGEST_TEXT = 1 << 15  # bytes; above the longest path of Linux, 4096 characters escaped to six bytes each
_DATA_LEVEL = 4  # level of an array's `data`, the only long text: file, payload, list, array

# A string, with the colon that makes it a key; a bracket; a run of numbers. Possessive quantifiers (++ and *+) do not
# backtrack, which keeps the time linear.
_TOKENS = re.compile(rb'"([A-Za-z0-9+/=]*+(?:[^"\\]++|\\.)*+)"(\s*+:)?|[][{}]|[-+0-9.eE,\s]{8,}+', re.DOTALL)


def check_json(content: bytes) -> None:
    """Raise ValueError for valid JSON that no checkpoint contains; takes linear time and little memory.

    Refused are a key that occurs twice in an object (readers disagree on which one counts), nesting deeper than
    `_DEEPEST`, and strings longer than `_LONGEST_TEXT` other than an array's data.
    """
    levels: list[tuple[bytes, set[bytes]]] = []  # of each open object or list: its own key, and the keys seen in it
    key = b""  # key of the next value; empty in a list
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
                raise ValueError(f"{_path(levels)}: the key {shown(key.decode(errors='replace'))} occurs twice")
            levels[-1][1].add(key)


def _path(levels: list[tuple[bytes, set[bytes]]]) -> str:
    """Return the place of the innermost level, such as $.payload.parameters[]; positions in lists are not counted."""
    return "$" + "".join(f".{one_line(key.decode(errors='replace'), 60)}" if key else "[]" for key, _ in levels[1:])
