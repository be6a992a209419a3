"""Means and deviations that a search by several models needs again and again, kept in memory and in a file."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mrnn.data.progress import Progress
from mrnn.evaluate.search.index_file import new_index, open_index


class Moments:
    """Mean and deviation of each of n things: computed when first asked for, and kept."""

    def __init__(
        self,
        label: str,
        count: int,
        compute: Callable[[np.ndarray], np.ndarray],
        *,
        block: int,
        file: Path | None,
        about: Mapping[str, Any],
    ) -> None:
        """
        label : of the progress bar, in the plural
        count : n
        compute : from the numbers of some, (m,), to their means and deviations, (m, 2)
        block : largest m
        file : where they are kept for the next process; None to keep them in memory only
        about : plain values that identify what they depend on
        """
        self._label, self._compute, self._block, self._file = label, compute, block, file
        self._about = {**about, "kind": f"moments of {label}", "count": count}
        stored = open_index(file, self._about)
        self._known = np.full((count, 2), np.nan, np.float32) if stored is None else stored.get_tensor("moments")
        self._lock = threading.Lock()

    def __call__(self, chosen: np.ndarray) -> np.ndarray:
        """Those of some, by their numbers: (m, 2) float32, rounded as the evaluation rounds them."""
        with self._lock:
            missing = chosen[np.isnan(self._known[chosen, 0])]
            if len(missing):
                self._add(missing)
            return self._known[chosen]

    def _add(self, missing: np.ndarray) -> None:
        try:
            with Progress(f"normalising {self._label}", len(missing), unit=self._label) as progress:
                for start in range(0, len(missing), self._block):
                    part = missing[start : start + self._block]
                    self._known[part] = self._compute(part)
                    progress.add(len(part))
        finally:  # an interrupted search loses no more than a block
            if self._file is not None:
                with new_index(self._file, self._about, {"moments": ("F32", self._known.shape)}) as arrays:
                    arrays["moments"][:] = self._known
