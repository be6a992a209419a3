"""A writer of caches of schema version 1, as mrnn 0.1 wrote them, so that tests can see that they still open."""

import json
from pathlib import Path

import h5py
import numpy as np

from mrnn.data.cache_layout import MUTABLE, static_digest
from mrnn.data.cache_tables import write_tables
from mrnn.data.cache_writer import done_checksum
from mrnn.data.captions import Corpus


def write_version_1(path: Path, corpus: Corpus, features: np.ndarray, *, pending: tuple[int, ...] = ()) -> None:
    """A cache of (N, D) features, some images pending."""
    n = len(corpus.images)
    states = np.array([0 if i in pending else 1 for i in range(n)], np.uint8)
    sums = [done_checksum(image.id, row) for image, row in zip(corpus.images, features, strict=True)]
    tables = {
        "features": features,
        "state": states,
        "checksum": np.where(states, sums, 0).astype("<u4"),
        "reason": np.zeros(n, "S200"),
    }
    with h5py.File(path, "w", libver="earliest", userblock_size=512, locking=False) as file:
        place = {"dataset": corpus.name, "root": str(corpus.root), "first": 0, "total": n}
        file.attrs.update({**place, "integer_ids": corpus.integer_ids})
        file.create_group("provenance").attrs.update({"backbone": "alexnet", "layer": "fc7"})
        write_tables(file, corpus)
        del file["boxes/words"], file["boxes/kind"]
        for name in MUTABLE[1]:
            file.create_dataset(name, data=tables[name], track_times=False)
        file["features"].attrs["rows_per_image"] = 1
        ranges = {name: [file[name].id.get_offset(), file[name].id.get_storage_size()] for name in MUTABLE[1]}
    size = path.stat().st_size
    header = {"format": "mrnn-features", "version": 1, "size": size, "mutable": ranges}
    header["sha256"] = static_digest(path, ranges, size, version=1)
    with path.open("r+b") as stream:
        stream.write(json.dumps(header).encode().ljust(511) + b"\n")
