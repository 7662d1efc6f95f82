"""Start of a server as the settings describe it: in this process, or with workers on Ray."""

from collections.abc import Callable, Mapping

from cnnpar.blas import use_one_thread
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
) -> Server:
    """Start workers and return their server.

    `warn` and `stopped` are as for `Server`. Raises InputError for settings that cannot be met, and RunError when the
    workers are not there within `settings.start_timeout` seconds.
    """
    use_one_thread()
    transport: Transport
    if settings.most == 0:
        transport = InProcess(work.with_data(data))
    else:
        samples = Samples.of(data)
        try:
            launcher = RayLauncher(settings, work, samples, warn)
        except BaseException:
            samples.memory.close()
            raise
        transport = DirectTransport(work, launcher, settings.start_timeout, samples)
    server = Server(work, transport, settings, warn, stopped)
    try:
        server.open()
    except BaseException:
        server.close()
        raise
    return server
