"""Attaching to a standing Ray cluster, or starting one of our own; in the control process."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.job_config import JobConfig

from cnnpar.errors import RunError
from cnnpar.parallel.on_ray.errors import first_line
from cnnpar.parallel.on_ray.orders import Begin

_STORE_BYTES = 256 << 20  # of Ray's object store, besides those for what is put there
_QUIET: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}


def connect(begin: Begin) -> None:
    """Attach to the standing cluster of the run, or start a Ray of our own. Raises RunError."""
    if begin.address:
        _attach(begin.address, begin.runtime_env)
    else:
        data_bytes = begin.layout.size if begin.settings.transport == "ray" else 0
        _start(begin.directory, begin.cpus, data_bytes)


def disconnect() -> None:
    """Leave the cluster, and end a Ray of our own."""
    ray.shutdown()


def _attach(address: str, runtime_env: Mapping[str, Any] | None) -> None:
    """Attach to a standing cluster, with the runtime environment of the run's process, if it has one."""
    more = {"runtime_env": dict(runtime_env)} if runtime_env else {}
    try:
        ray.init(address=address, job_config=_Job(_own_folders()), **_QUIET, **more)
    except Exception as error:
        raise RunError(
            f"cannot attach to the Ray cluster at {address}: {first_line(error)}; "
            f"start one with `ray start --head`, or leave --address out"
        ) from error


def _start(directory: str, cpus: int, data_bytes: int) -> None:
    """Start a Ray with its files in a private directory; `data_bytes`: size of what is put into its object store."""
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=data_bytes * 5 // 4 + _STORE_BYTES,
            _temp_dir=directory,
            job_config=_Job(sys.path),
            **_QUIET,
        )
    except Exception as error:
        raise RunError(f"Ray did not start on this machine: {first_line(error)}") from error


class _Job(JobConfig):  # type: ignore[misc]  # it has no types
    """Ray's settings of a job whose workers import from the folders that are given, before their own.

    Ray alone would have them import from the current folder first, even if this process does not: there, in /tmp for
    example, another account may have put a numpy.py.
    """

    def __init__(self, folders: list[str]) -> None:
        super().__init__(_py_driver_sys_path=folders[::-1])  # each is put before those before it

    def _runtime_env_has_working_dir(self) -> bool:
        """Say that it has one, for which Ray adds no folder; where it really has one, nothing comes before that."""
        if super()._runtime_env_has_working_dir():
            self._py_driver_sys_path: list[str] = []
        return True


def _own_folders() -> list[str]:
    """Return the folders that other nodes should look in, too: the script's and the current one, if this one does."""
    with suppress(OSError):  # the current folder was removed
        return [folder for folder in (str(Path(sys.argv[0]).resolve().parent), str(Path.cwd())) if folder in sys.path]
    return []
