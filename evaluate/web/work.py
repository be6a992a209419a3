"""One thread that does all the work of the models, with a bounded queue before it.

Requests wait in the queue; what can be done together is done together (the captions of several pictures are one
search), and beyond the bound a request is turned away at once, so that memory stays flat under any load.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Many = Callable[[Sequence[Any]], Sequence[Any]]  # items -> a result for each


class Busy(Exception):
    """The queue is full, or the thread has been stopped."""


@dataclass(frozen=True)
class Job:
    """An item, what is done with it together with others, and where its result goes."""

    many: Many
    item: Any
    result: "Future[Any]" = field(default_factory=Future)


class Worker:
    """Works on jobs in the order in which they come, jobs of one function up to `batch` at a time."""

    def __init__(self, *, waiting: int = 64, batch: int = 16) -> None:
        """
        waiting : most jobs in the queue.
        batch : most items given to a function at once.
        """
        self._waiting, self._batch = waiting, batch
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)
        self._thread.start()

    def submit(self, many: Many, item: Any) -> "Future[Any]":
        """Put `many([item])` into the queue; the future gets the item's result or its error.

        Raises Busy if the queue is full.
        """
        job = Job(many, item)
        with self._changed:
            if self._stopped or len(self._jobs) >= self._waiting:
                raise Busy
            self._jobs.append(job)
            self._changed.notify()
        return job.result

    def stop(self) -> None:
        """Finish the job in hand, cancel those that wait, and end the thread."""
        with self._changed:
            self._stopped = True
            for job in self._jobs:
                job.result.cancel()
            self._jobs.clear()
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._next():
            work(jobs)

    def _next(self) -> list[Job]:
        """The jobs to do next, all of one function; [] once the worker is stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._stopped)
            if not self._jobs:
                return []
            many = self._jobs[0].many
            chosen = [job for job in self._jobs if job.many == many][: self._batch]
            taken = set(map(id, chosen))
            self._jobs = deque(job for job in self._jobs if id(job) not in taken)
        # A request that was given up has cancelled its future.
        return [job for job in chosen if job.result.set_running_or_notify_cancel()] or self._next()


def work(jobs: Sequence[Job]) -> None:
    """Do jobs of one function together; if that fails, one by one, so that each gets its own error."""
    try:
        results = jobs[0].many([job.item for job in jobs])
    except Exception as error:  # whatever it is, it belongs to the request, and the thread goes on
        if len(jobs) == 1:
            jobs[0].result.set_exception(error)
        else:
            for job in jobs:
                work([job])
        return
    for job, result in zip(jobs, results, strict=True):
        job.result.set_result(result)
