"""Text for messages: short, on one line, without control characters."""

import json
import re
from collections.abc import Iterable, Sequence

# Control characters other than the line's end and the tabulator, and marks that turn the direction of writing.
_DRIVING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def shown(value: object) -> str:
    """Return the repr of a value, cut to 60 characters; it holds no control characters."""
    try:
        text = repr(value)
    except ValueError:  # Python writes numbers of a few thousand digits at most
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


def one_line(text: str, longest: int = 300) -> str:
    """Return a text from elsewhere, which may quote anything, as at most `longest` characters of one line."""
    return harmless(" ".join(text[:longest].split()))


def harmless(text: str) -> str:
    """Escape control characters as JSON does, so that a terminal shows them and JSON stays the same JSON."""
    return _DRIVING.sub(lambda found: json.dumps(found[0])[1:-1], text)


def is_plain(text: str) -> bool:
    """Tell whether a text is one line without control characters that files can hold as UTF-8."""
    return harmless(text) == text and not {"\n", "\t"} & set(text) and text == text.encode(errors="replace").decode()


def dimensions(sizes: Iterable[int]) -> str:
    """Return sizes as people write them: 28 x 28 x 1."""
    return " x ".join(map(str, sizes))


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return the first names, and "..." where there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def did_you_mean(word: object, names: Iterable[object]) -> str:
    """Return " (did you mean NAME?)" for the name that is most like an unknown word; "" where none is like it."""
    import difflib  # here, as it is seldom needed, and every command starts with this file

    by_small = {str(name).lower(): str(name) for name in names}
    alike = difflib.get_close_matches(str(word)[:100].lower(), by_small, n=1)
    return f" (did you mean {by_small[alike[0]]}?)" if alike else ""
