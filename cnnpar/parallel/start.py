"""Start of a server as the settings describe it: in this process, or with workers on Ray."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from cnnpar.blas import use_one_thread
from cnnpar.compiling import loading
from cnnpar.config.sections import Engine
from cnnpar.data.dataset import Dataset
from cnnpar.parallel.direct.samples import Samples
from cnnpar.parallel.direct.transport import DirectTransport
from cnnpar.parallel.in_process import InProcess
from cnnpar.parallel.on_ray.launcher import RayLauncher
from cnnpar.parallel.server import Server
from cnnpar.parallel.transport import Transport
from cnnpar.parallel.work import Kind, Work


def start(
    settings: Engine,
    work: Work,
    data: Mapping[Kind, Dataset],
    warn: Callable[[str], None],
    stopped: Callable[[], bool],
    load: Callable[[], object] = lambda: None,
) -> Server:
    """Start workers and return their server.

    `warn` and `stopped` are as for `Server`. Meanwhile compiled loops are loaded, those of the work and, by `load`,
    those of the caller: so a machine's first run compiles here, once, and its workers wait. Raises InputError for
    settings that cannot be met, and RunError when the workers are not there within `settings.start_timeout` seconds.
    """
    use_one_thread()

    def load_all() -> None:
        work.load_loops()
        load()

    with ExitStack() as undone:
        with loading(load_all, warn):
            server = Server(work, _transport(settings, work, data, warn), settings, warn, stopped)
            undone.callback(server.close)
            server.open()
        undone.pop_all()
    return server


def _transport(settings: Engine, work: Work, data: Mapping[Kind, Dataset], warn: Callable[[str], None]) -> Transport:
    """Return the transport of the settings. Raises as `start`."""
    if settings.most == 0:
        return InProcess(work.with_data(data))
    samples = Samples.of(data)
    try:
        launcher = RayLauncher(settings, work, samples, warn)
    except BaseException:
        samples.memory.close()
        raise
    return DirectTransport(work, launcher, settings.start_timeout, samples)
