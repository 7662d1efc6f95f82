"""What the processes of all peers share: jobs and answers, their images, and how a rate is measured.

A process prints {"ready": true} once it is. Then it reads one JSON object a line, such as
{"action": "measure", "task": "small", "batch": 128, "variant": "channels-last eager", "seconds": 4}, and prints one:
samples per second of all processes of its group together, or the error that the variant raised; and the CPU seconds
that it used since its last answer. Every process of a group must get the same lines.
"""

import gc
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.network import Labels
from cnnpar.nn.shapes import Array
from scripts.bench.networks import TASKS, make_data

WARM_UP_SECONDS = 0.5

Action = Callable[..., dict[str, Any]]


def serve(start: Callable[[], Mapping[str, Action]]) -> None:
    """Do the jobs that standard input names until it ends; `start` returns the actions by name."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not look like an answer
    actions = start()
    print(json.dumps({"ready": True}), file=answers)
    cpu = time.process_time()
    for line in sys.stdin:
        idle = time.process_time() - cpu  # spent between two jobs
        try:
            job = json.loads(line)
            answer = actions[job.pop("action")](**job)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        gc.collect()
        cpu = time.process_time()
        print(json.dumps({**answer, "idle": idle}), file=answers)


def measured_rate(
    advance: Callable[[int], float], batch: int, seconds: float, agree: Callable[[float], float] = float
) -> float:
    """Measure samples per second over about so many seconds, after a warm-up.

    `advance` does so many steps, waits for the last, and returns its loss; `agree` makes one number of those that all
    processes have. Raises FloatingPointError when the loss is not finite.
    """

    def timed(steps: int) -> float:
        began = time.perf_counter()
        if not math.isfinite(advance(steps)):
            raise FloatingPointError("the loss is not finite")
        return agree(time.perf_counter() - began) / steps

    per_step = timed(2)
    per_step = timed(max(round(WARM_UP_SECONDS / per_step), 2))
    return batch / timed(max(round(seconds / per_step), 3))


def images_and_labels(task: str, channels_first: bool) -> tuple[Array, Labels]:
    """Make all images, normalised, as rows of pixels (N, H * W * C) in the layout's order, and labels (N,)."""
    data, preprocessing = make_data(TASKS[task])
    images = preprocessing.normalise(data.images)
    if channels_first:
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return images.reshape(len(images), -1), data.labels


def batches(samples: int, batch: int) -> NDArray[np.int64]:
    """Draw an epoch's whole batches: indices (steps, batch)."""
    order = np.random.default_rng(0).permutation(samples)
    return order[: samples // batch * batch].reshape(-1, batch)
