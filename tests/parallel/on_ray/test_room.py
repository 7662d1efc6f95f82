"""Room for the workers of a Ray of our own: cores, memory and addresses that this process may use."""

import resource

import pytest

from cnnpar.config.sections import Engine
from cnnpar.errors import InputError
from cnnpar.parallel.on_ray import room
from cnnpar.parallel.on_ray.room import check_room
from tests.helpers.made_runs import fail


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have four cores and 3 GB."""
    monkeypatch.setattr(room, "usable_cores", lambda: 4)
    monkeypatch.setattr(room, "available_memory", lambda: 3_000_000_000)


@pytest.mark.parametrize(("asked", "got"), [(1, 1), (4, 4), ("1:8", 4), ("1:2", 2), ("2:4096", 4)])
def test_as_many_workers_as_cores_between_low_and_high(asked: int | str, got: int) -> None:
    assert check_room(Engine(workers=asked), fail) == got


@pytest.mark.parametrize(("asked", "got"), [(5, 5), ("6:8", 6)])
def test_more_workers_than_cores_are_warned_of(asked: int | str, got: int) -> None:
    warnings: list[str] = []
    assert check_room(Engine(workers=asked), warnings.append) == got
    assert warnings == [f"{got} workers share 4 cores: more than that make a run slower, not faster"]


@pytest.mark.parametrize("asked", [30, 2000, "30:31"])
def test_more_workers_than_memory_holds_are_refused(asked: int | str) -> None:
    with pytest.raises(InputError, match=r"workers need about .* GB \(110 MB each\), and this machine has 3\.0 GB"):
        check_room(Engine(workers=asked), fail)


def test_too_few_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_000_000_000, resource.RLIM_INFINITY))
    with pytest.raises(InputError, match=r"`ulimit -v` leaves each process 1\.0 GB of addresses"):
        check_room(Engine(workers=1), fail)
