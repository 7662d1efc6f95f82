"""What reading data costs: memory beside the data, as the system counts it."""

from pathlib import Path
from typing import Any

from cnnpar.config.data import Data
from cnnpar.data.load import load_splits
from cnnpar.errors import InputError
from scripts.fuzz.data import memory

MB = 1e6
MOST_BESIDE = 100 * MB


def read_cheaply(source: Path, **others: Any) -> str:
    """Load data, and check that it takes at most 100 MB beside the arrays; return the error, or ""."""
    Path("/proc/self/clear_refs").write_text("5")  # the most memory so far is what there is now
    before, message, size = memory("VmRSS"), "", 0
    try:
        splits = load_splits(Data(train=str(source), **{"validation": 0.1} | others))
        parts = [part for part in (splits.train, splits.validation) if part is not None]
        size = sum(part.images.nbytes + part.labels.nbytes for part in parts)
    except InputError as error:
        message = str(error)
    beside = memory("VmHWM") - before - size
    assert beside <= MOST_BESIDE, f"{beside / MB:.0f} MB beside {size / MB:.0f} MB: {message}"
    assert "\n" not in message
    return message
