"""Values that are computed once, by one of several threads, and kept."""

import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any


class Once:
    """Keeps a value for each key. Threads that ask for one value wait for it; those that ask for another do not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._values: dict[Hashable, Any] = {}

    def __call__(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key; the first time it is what `make` returns."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._values:
                self._values[key] = make()
            return self._values[key]

    def __iter__(self) -> Iterator[Hashable]:
        """The keys of the values that there are."""
        return iter([*self._values])
