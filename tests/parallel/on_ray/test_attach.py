"""Addresses of Ray clusters: one that cannot be used is an error at once that says what to do."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray

from cnnpar.errors import InputError, RunError
from cnnpar.parallel.on_ray.address import check_address
from cnnpar.parallel.on_ray.errors import first_line

pytestmark = pytest.mark.usefixtures("in_time")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://127.0.0.1:10001", "ray job submit"),
        ("nonsense", "expected `auto` or HOST:PORT"),
        ("127.0.0.1:99999", "expected `auto` or HOST:PORT"),
    ],
)
def test_an_unusable_address_is_refused_with_a_hint(address: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_address(address, given=True)


def test_an_address_where_nobody_answers_is_an_error_at_once() -> None:
    with pytest.raises(RunError, match=r"--address 127.0.0.1:1: nothing answers there"):
        check_address("127.0.0.1:1", given=True)


def test_an_address_that_is_not_rays_is_an_error_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as web, ThreadPoolExecutor(1) as pool:
        port = web.getsockname()[1]

        def answer() -> None:
            peer, _ = web.accept()
            with peer:
                peer.recv(100)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answered = pool.submit(answer)
        with pytest.raises(InputError, match="something answers there, but not Ray's head"):
            check_address(f"127.0.0.1:{port}", given=True)
        answered.result()


def test_the_cluster_that_runs_passes_the_check(ray_address: str) -> None:
    check_address(ray_address, given=True)


def test_a_remote_error_is_shown_with_its_file_and_line(ray_address: str) -> None:
    del ray_address

    def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError) as caught:
        ray.get(ray.remote(fail).remote())
    line = fail.__code__.co_firstlineno + 1
    assert first_line(caught.value) == f"KeyError: 'mine' ({__file__}, line {line})"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("what happened\nand where"), "ValueError: what happened"),
        (MemoryError(), "MemoryError"),
        (ray.exceptions.ActorDiedError(), "its process died"),
    ],
)
def test_an_error_is_shown_in_one_line(error: Exception, line: str) -> None:
    assert first_line(error) == line
