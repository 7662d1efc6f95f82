"""A Jupyter kernel of its own process, with what its cells put out."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT

Output = dict[str, Any]  # content of a message: text of a stream, data of a display, or an error


class Kernel:
    """A running kernel."""

    def __init__(self, manager: Any, client: Any) -> None:
        self.manager, self._client = manager, client

    def run(self, code: str, watch: Callable[[str], None] = lambda _: None) -> list[Output]:
        """Run a cell, and return its outputs; `watch` sees each text of a display or stream as it comes."""
        outputs: list[Output] = []

        def keep(message: Any) -> None:
            if message["msg_type"] != "status":
                outputs.append({"type": message["msg_type"], **message["content"]})
                data = message["content"].get("data", {})
                watch(data.get("text/plain", message["content"].get("text", "")))

        self._client.execute_interactive(code, output_hook=keep, timeout=HANGING, allow_stdin=False)
        return [output for output in outputs if output["type"] != "execute_input"]


@contextmanager
def started_kernel(folder: Path) -> Iterator[Kernel]:
    """Start a kernel in a folder, and end it."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(cwd=str(folder), env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
