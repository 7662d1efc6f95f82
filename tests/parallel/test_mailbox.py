"""The mailbox between threads: no item is lost, `take` waits no longer than its timeout, closing does no harm."""

import select
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from cnnpar.parallel.mailbox import Mailbox

pytestmark = pytest.mark.usefixtures("in_time")


def test_each_item_is_taken_once_in_the_order_of_its_thread() -> None:
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


def test_take_waits_for_an_item_or_until_its_timeout() -> None:
    with closing(Mailbox[str]()) as box, ThreadPoolExecutor(1) as pool:
        assert box.take(0.01) == []
        taken = pool.submit(box.take, 60.0)
        box.put("a letter")
        assert taken.result() == ["a letter"]
        assert select.select([box], [], [], 0.0)[0] == []


def test_a_closed_mailbox_accepts_put_and_close() -> None:
    box: Mailbox[str] = Mailbox()
    box.close()
    box.put("too late")
    box.close()
