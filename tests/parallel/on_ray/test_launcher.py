"""The launcher without Ray: what it makes of control processes that end."""

import pytest

from cnnpar.config.sections import Engine
from cnnpar.parallel.direct.samples import Samples
from cnnpar.parallel.launcher import News, Started
from cnnpar.parallel.on_ray import launcher as launcher_module
from cnnpar.parallel.on_ray.launcher import RayLauncher
from cnnpar.parallel.on_ray.orders import Failed, Up
from cnnpar.parallel.transport import ClusterBack, ClusterGivenUp, ClusterGone
from tests.helpers.made_runs import made_run

pytestmark = pytest.mark.usefixtures("in_time")


def test_a_ray_that_dies_before_it_has_a_worker_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    lives = 0

    def live(launcher: RayLauncher) -> Failed:
        """Live as long as a worker needs to come up, the first time, and then not even that long."""
        nonlocal lives
        lives += 1
        launcher._take(Up("127.0.0.1", "127.0.0.1:6379"))
        if lives == 1:
            launcher._take(Started(0, here=True))
        return Failed("out of memory")

    monkeypatch.setattr(RayLauncher, "_live", live)
    monkeypatch.setattr(launcher_module, "_PAUSES", (0.0,))
    monkeypatch.setattr(launcher_module, "_attached_to", lambda _: ("", None))  # other tests attach this process
    _, work, data = made_run()
    samples, news = Samples.of(data), list[News]()
    launcher = RayLauncher(Engine(workers=1), work, samples, lambda _: None)
    while not news or not isinstance(news[-1], ClusterGivenUp):
        news += launcher.news.take(0.1)
    launcher.close()
    samples.memory.close()
    # The last death is not told as one that a start follows: it might be one more than a step may cost.
    again = [ClusterGone, ClusterBack]
    assert [type(event) for event in news] == [Started, *again, *again, *again, ClusterGivenUp]
