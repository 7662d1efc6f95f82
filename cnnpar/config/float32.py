"""Numbers among the settings that float32 does not hold: weights are computed in it, so they would mean another number.

Checked where settings are given, not where a checkpoint is read: one that was written with them stays readable.
"""

from collections.abc import Iterator
from typing import Annotated, Any, get_type_hints

from msgspec import Meta, Struct

SMALLEST = 2.0**-126  # above 0, at full precision
LARGEST = (2 - 2.0**-23) * 2.0**127
# A number below 1 that is used as it is: 1 less a decay, such as Adam's, is exact enough in float64.
Factor = Annotated[float, Meta(ge=0, lt=1, extra={"float32": "below 1"})]
_ROUNDED_TO_ONE = 1 - 2.0**-25  # the smallest number that is


def unfit_numbers(settings: Struct) -> Iterator[tuple[str, str]]:
    """Yield place (`points[1][0]`) and text of each number that float32 does not hold, or that it rounds up to 1."""
    hints = get_type_hints(type(settings), include_extras=True)
    for name in settings.__struct_fields__:
        below_one = hints[name] == Factor
        for place, number in _numbers(name, getattr(settings, name)):
            why = unfit(number, below_one)
            if why:
                yield place, why


def unfit(number: float, below_one: bool = False) -> str:
    """Say why a number from 0 up does not go into float32; empty for one that does."""
    if 0 < number < SMALLEST:
        return f"{number!r} is too small for float32, in which weights are computed"
    if number > LARGEST:
        return f"{number!r} is too large for float32, in which weights are computed"
    if below_one and number >= _ROUNDED_TO_ONE:
        return f"{number!r} is 1 in float32, in which weights are computed"
    return ""


def _numbers(place: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield place, value
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _numbers(f"{place}[{number}]", item)
