"""Check, before a Ray of our own is started, that this machine has cores and memory for the workers asked for."""

import resource
from collections.abc import Callable

from cnnpar.config.sections import Engine
from cnnpar.errors import InputError
from cnnpar.machine import available_memory, usable_cores

_RAY_BYTES = 500 << 20  # that Ray's own processes take
_ADDRESSES = 1_800_000_000  # bytes of addresses that the largest of Ray's processes take, whatever they use of them
_WORKER_BYTES = 110 << 20  # that a worker takes besides samples and parameters, which are shared


def check_room(engine: Engine, warn: Callable[[str], None]) -> int:
    """Return the number of workers that this machine has room for: at least LOW, and beyond that one for each core.

    `warn` gets a line of text where LOW is above the cores. Raises InputError where they do not fit into memory,
    or `ulimit -v` lets no Ray start.
    """
    addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    if addresses != resource.RLIM_INFINITY and addresses < _ADDRESSES:
        raise InputError(
            f"`ulimit -v` leaves each process {addresses / 1e9:.1f} GB of addresses, and Ray needs "
            f"{_ADDRESSES / 1e9:g} GB; raise it, or use --workers 0, which needs no Ray"
        )
    cores, memory = usable_cores(), available_memory()
    workers = max(engine.fewest, min(engine.most, cores))
    needed = _RAY_BYTES + workers * _WORKER_BYTES
    if needed > memory:
        raise InputError(
            f"{workers} workers need about {needed / 1e9:.1f} GB ({_WORKER_BYTES >> 20} MB each), and this machine has "
            f"{memory / 1e9:.1f} GB left; ask for fewer --workers (0: in this process, without Ray)"
        )
    if workers > cores:
        warn(f"{workers} workers share {cores} core{'s' * (cores > 1)}: more than that make a run slower, not faster")
    return workers
