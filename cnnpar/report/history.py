"""The history of a run as arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cnnpar.training.state import EpochRecord

History = dict[str, NDArray[np.generic]]


def as_arrays(records: Sequence[EpochRecord]) -> History:
    """Return the fields of the records by name, one number an epoch; NaN where nothing was measured.

    `epoch` counts from 1, accuracies are in 0..1, `seconds` are those of each epoch.
    """
    return {
        name: np.array([getattr(record, name) for record in records], np.int64 if name == "epoch" else np.float64)
        for name in EpochRecord.__struct_fields__
    }
