"""msgspec's errors in plain words: what was expected of a setting, without the forms of JSON and of Python."""

import re

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": 'a list (on a command line \'["a", "b"]\' or [1, 2])',
    "object": "a table",
    "null": "nothing",
}
_GOT = {"float": "one with decimals", "array": "a list"}
_COMPARED = {">=": "of at least", "<=": "of at most", ">": "above", "<": "below"}
_EXPECTED = re.compile(r"Expected `([a-z| ]+)`(?: (of length )?([<>]=?) ([-+.\de]+))?(?:, got `(\w+)`)?$")
_OTHERS = (
    ("Object contains unknown field", "unknown key"),
    ("Object missing required field", "missing key"),
    ("Invalid enum value", "unknown value"),
    ("Invalid value", "unknown value"),
    ("Expected `str` matching regex", "expected text of the form"),
)


_NO_NUL = "'^[^\\\\0]*$'"  # of paths


def in_plain_words(message: str) -> str:
    """Return a message of msgspec, without its place, as "expected a whole number of at least 1", and so on.

    What is no message of msgspec's stays.
    """
    if found := _EXPECTED.match(message):
        kinds, length, comparison, bound, got = found.groups()
        words = f"expected {' or '.join(_TYPES.get(kind, kind) for kind in kinds.split(' | '))}"
        if length:
            words += f" {_COMPARED[comparison]} {bound} {'characters' if kinds == 'str' else 'elements'}"
        elif comparison:
            words += f" {_COMPARED[comparison]} {bound.removesuffix('.0')}"
            words = re.sub(r"a number of at most 1\.79\S*e\+?308", "a finite number", words)
        return words + (f", not {_GOT.get(got, _TYPES.get(got, got))}" if got else "")
    if message == f"Expected `str` matching regex {_NO_NUL}":
        return "expected a path without zero bytes"
    for theirs, ours in _OTHERS:
        if message.startswith(theirs):
            return ours + message.removeprefix(theirs)
    return message
