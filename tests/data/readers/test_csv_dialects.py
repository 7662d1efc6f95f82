"""CSV in any dialect: the samples that pandas reads with the dialect told, or an InputError."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from cnnpar.config.data import Data
from cnnpar.data.load import load_splits
from cnnpar.errors import InputError

pandas = pytest.importorskip("pandas")

WHOLE = st.integers(0, 255).map(str)
NUMBERS = {
    "bytes": WHOLE,
    "whole": st.integers(-70_000, 70_000).map(str),
    "floats": st.floats(-1000, 1000, width=32).map(repr),
    "unit": st.floats(0, 1).map(lambda value: f"{value:.4f}"),
    "mixed": st.one_of(WHOLE, WHOLE, WHOLE, st.floats(-1e9, 1e9).map(repr), st.sampled_from(["1e2", ".5", "7.", "+3"])),
}
LABELS: dict[str, Any] = {
    "whole": st.integers(0, 3).map(str),
    "floats": st.integers(0, 3).map(lambda value: f"{value}.0"),
    "text": st.sampled_from(["cat", "dog", "a,b", "x;y", 'say "hi"', "two words", "n\xe9e"]),
    "odd": st.sampled_from(["0", "1", "", "cat", "-1", "0.5", "nan", "1e0"]),
}
ODD = st.sampled_from(["", "x", "nan", "inf", "1,5", "1e400", '"', "--", "0x1f", "1_0", " 7 "])


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, dict[str, Any], bool, int, int, int]:
    """Draw the text of a CSV file; and how pandas is to read it: dialect, header, places of index and label, pixels."""
    rows, pixels = draw(st.integers(1, 6)), draw(st.sampled_from([1, 4, 9]))
    cells = draw(
        st.lists(
            st.lists(NUMBERS[draw(st.sampled_from(sorted(NUMBERS)))], min_size=pixels, max_size=pixels),
            min_size=rows,
            max_size=rows,
        )
    )
    labels = draw(st.lists(LABELS[draw(st.sampled_from(sorted(LABELS)))], min_size=rows, max_size=rows))
    if draw(st.integers(0, 4)) == 0:
        cells[draw(st.integers(0, rows - 1))][draw(st.integers(0, pixels - 1))] = draw(ODD)
    last, header, index = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    table = [[*row, label] if last else [label, *row] for row, label in zip(cells, labels, strict=True)]
    names = [f"p{number}" for number in range(pixels)]
    names = [*names, "label"] if last else ["label", *names]
    text = [[isinstance(as_number(cell), str) for cell in row] for row in table]
    assume(header or index or not text[0][0] or text[0] == text[:2][-1])  # text above numbers would be a header
    if index:
        table = [[str(number), *row] for number, row in enumerate(table)]
        names = [draw(st.sampled_from(["", "id", "Unnamed: 0"])), *names]
    dialect: dict[str, Any] = {
        "delimiter": draw(st.sampled_from([",", ",", ";", "\t"])),
        "quoting": draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        "lineterminator": draw(st.sampled_from(["\n", "\r\n"])),
    }
    stream = io.StringIO()
    csv.writer(stream, **dialect).writerows([names] * header + table)
    return stream.getvalue(), dialect, header, int(index), (pixels if last else 0) + index, pixels


@given(tables(), st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_csv_is_read_as_pandas_reads_it_or_refused(tmp_path: Path, table: Any, placed: bool) -> None:
    text, dialect, header, index, label, pixels = table
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    first = label == index  # which is what no header and no setting mean
    place = ("first" if first else "last") if placed or not (first or header) else ""
    try:
        found = load_splits(
            Data(train=str(tmp_path / "a.csv"), labels="as they are", label=place, validation=0.0)
        ).train
    except InputError:
        event("refused")
        return
    event("read")
    frame = pandas.read_csv(
        io.StringIO(text, newline=""),
        sep=dialect["delimiter"],
        header=0 if header else None,
        keep_default_na=False,
    )
    expected = frame.iloc[:, [c for c in range(frame.shape[1]) if c >= index and c != label]].to_numpy()
    assert found.image_shape == (round(pixels**0.5), round(pixels**0.5), 1)
    np.testing.assert_allclose(found.images.reshape(len(frame), -1), expected.astype(float), rtol=1e-6, atol=1e-30)
    names = [found.class_names[number] for number in found.labels]
    assert [as_number(name) for name in names] == [as_number(str(name)) for name in frame.iloc[:, label]]


def as_number(name: str) -> float | str:
    """Return a label as a number, if it is one: pandas may read "1" as 1.0."""
    try:
        return float(name)
    except ValueError:
        return name
