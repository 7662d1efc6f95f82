"""The settings of all runs: large enough for faults to hit steps, evaluations and checkpoints."""

from typing import Any

EPOCH = 6  # steps: five batches, and a short one
SETTINGS: dict[str, Any] = {
    "model": {
        "layers": [
            {"type": "conv2d", "channels": 24, "kernel": 3, "padding": "same"},
            {"type": "relu"},
            {"type": "conv2d", "channels": 32, "kernel": 3, "padding": "same"},
            {"type": "relu"},
            {"type": "maxpool2d", "size": 2},
            {"type": "flatten"},
            {"type": "dense", "units": 256},
            {"type": "relu"},
            {"type": "dropout", "rate": 0.25},
            {"type": "dense"},
        ]
    },
    "augment": {"shift": 1},
    "train": {"batch_size": 256, "microbatch": 16},
    "engine": {"give_up_after": 4.0, "start_timeout": 60.0},
    "checkpoint": {"every_seconds": 0.5},
    "report": {"every_steps": 1},
}
