"""The thread that does the work of the models: order, batches, errors, a full queue, and its end."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError

import pytest

from mrnn.evaluate.web.work import Busy, Worker


class Gate:
    """Something to do that waits until it is opened, so that jobs gather behind it."""

    def __init__(self) -> None:
        self.opened, self.reached = threading.Event(), threading.Event()

    def many(self, items: Sequence[object]) -> Sequence[object]:
        self.reached.set()
        assert self.opened.wait(30)
        return items


class Noted:
    """Doubles numbers, refuses 13, and notes what it was given at once."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def many(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(waiting=8, batch=3)
    yield worker
    worker.stop()


@pytest.fixture
def gate(worker: Worker) -> Iterator[Gate]:
    """The worker has taken a job that waits."""
    gate = Gate()
    worker.submit(gate.many, None)
    assert gate.reached.wait(30)
    yield gate
    gate.opened.set()


def test_what_waits_is_done_together_in_order(worker: Worker, gate: Gate) -> None:
    one, other = Noted(), Noted()
    results = [worker.submit(each.many, n) for n, each in enumerate([one, other, one, one, other, one])]
    gate.opened.set()
    assert [result.result(30) for result in results] == [0, 2, 4, 6, 8, 10]
    assert one.calls == [[0, 2, 3], [5]], "three at most"
    assert other.calls == [[1, 4]]


def test_an_error_belongs_to_its_own_request(worker: Worker, gate: Gate) -> None:
    noted = Noted()
    results = [worker.submit(noted.many, number) for number in (1, 13, 2)]
    gate.opened.set()
    assert (results[0].result(30), results[2].result(30)) == (2, 4)
    with pytest.raises(ValueError, match="13"):
        results[1].result(30)
    assert worker.submit(noted.many, 5).result(30) == 10, "the thread goes on"


def test_a_full_queue_refuses_at_once(worker: Worker, gate: Gate) -> None:
    results = [worker.submit(Noted().many, number) for number in range(8)]
    with pytest.raises(Busy):
        worker.submit(Noted().many, 8)
    gate.opened.set()
    assert [result.result(30) for result in results] == [2 * number for number in range(8)]


def test_what_was_given_up_is_not_done(worker: Worker, gate: Gate) -> None:
    noted = Noted()
    results = [worker.submit(noted.many, number) for number in range(3)]
    assert results[1].cancel()
    gate.opened.set()
    assert (results[0].result(30), results[2].result(30)) == (0, 4)
    assert noted.calls == [[0, 2]]


def test_stopping_finishes_the_job_in_hand_and_cancels_the_rest() -> None:
    worker, gate = Worker(), Gate()
    first = worker.submit(gate.many, "done")
    assert gate.reached.wait(30)
    later = worker.submit(Noted().many, 1)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    gate.opened.set()
    stopping.join(30)
    assert not stopping.is_alive()
    assert first.result(30) == "done"
    with pytest.raises(CancelledError):
        later.result(30)
    with pytest.raises(Busy):
        worker.submit(Noted().many, 1)
