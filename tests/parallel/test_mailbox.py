"""The mailbox between threads: nothing is lost, nobody waits in vain, and closing it harms nobody."""

import select
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from cnnpar.parallel.direct.mailbox import Mailbox

pytestmark = pytest.mark.usefixtures("in_time")


def test_what_threads_put_is_taken_once_and_in_each_ones_order() -> None:
    taken: list[tuple[int, int]] = []

    def put(thread: int) -> None:
        for number in range(2000):  # more than the bell's socket holds
            box.put((thread, number))

    with closing(Mailbox[tuple[int, int]]()) as box, ThreadPoolExecutor(4) as pool:
        for thread in range(4):
            pool.submit(put, thread)
        while len(taken) < 8000:
            select.select([box], [], [])
            taken += box.take()
    for thread in range(4):
        assert [number for who, number in taken if who == thread] == list(range(2000))


def test_a_taker_waits_until_something_is_put_and_no_longer_than_it_says() -> None:
    with closing(Mailbox[str]()) as box, ThreadPoolExecutor(1) as pool:
        assert box.take(0.01) == []
        taken = pool.submit(box.take, 60.0)
        box.put("a letter")
        assert taken.result() == ["a letter"]
        assert select.select([box], [], [], 0.0)[0] == []


def test_a_closed_mailbox_takes_letters_and_may_be_closed_again() -> None:
    box: Mailbox[str] = Mailbox()
    box.close()
    box.put("too late")
    box.close()
