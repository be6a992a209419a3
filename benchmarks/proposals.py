"""How good regions are, before any network describes them: how many phrases have a region that could be found.

usage: python benchmarks/proposals.py --regions SOURCE --root FLICKR8K --boxes ENTITIES [--split test] [--images N]

For every phrase with a box (several boxes of one phrase are joined into their hull), whether the whole picture or one
of the best 19 regions overlaps it with an IoU of at least 0.5: the ceiling of any alignment of phrases and regions.
Beside it the whole picture alone, the first region, and the time per image, decoding included.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from mrnn.data.captions import Image
from mrnn.data.datasets import read_dataset
from mrnn.data.regions import whole_picture
from mrnn.extract.images import decode_picture
from mrnn.extract.regions import open_source

OVERLAP = 0.5


def hulls(image: Image) -> np.ndarray:
    """(phrases, 4) left, top, right, bottom: the hull of the boxes of each phrase."""
    corners = defaultdict(list)
    for number, box in enumerate(image.boxes):
        key = (box.sentence, box.words, box.phrase) if box.sentence >= 0 else (number, box.phrase)
        corners[key].append((box.left, box.top, box.left + box.width, box.top + box.height))
    found = [np.array(boxes) for boxes in corners.values()]
    return np.array([[*boxes[:, :2].min(0), *boxes[:, 2:].max(0)] for boxes in found]).reshape(-1, 4)


def overlaps(hull: np.ndarray, rectangles: np.ndarray) -> np.ndarray:
    """Intersection over union of (n, 4) corners and (m, 4) rectangles, (n, m)."""
    corners = np.concatenate([rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]], 1)
    lower, upper = (
        np.maximum(hull[:, None, :2], corners[None, :, :2]),
        np.minimum(hull[:, None, 2:], corners[None, :, 2:]),
    )
    inner = np.clip(upper - lower, 0, None).prod(2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (hull, corners)]
    return inner / (areas[0][:, None] + areas[1][None] - inner)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions")
    parser.add_argument("--dataset", default="flickr8k")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--boxes", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int)
    arguments = parser.parse_args()
    if arguments.regions is None:
        print("nothing is measured without --regions and a data set with boxes (--root, --boxes)")
        return
    corpus = read_dataset(arguments.dataset, arguments.root, boxes=arguments.boxes)
    images = [image for image in corpus.images if image.split == arguments.split][: arguments.images]
    source = open_source(arguments.regions, corpus, count=19, device=torch.device("cpu"))
    best, first, whole = [], [], []
    begin = time.perf_counter()
    for image in images:
        picture = decode_picture((corpus.root / image.path).read_bytes(), least=None)
        regions = source.find(image.id, picture.size, picture)
        rectangles = np.concatenate([whole_picture(*picture.size).rectangles, regions.rectangles])
        shares = overlaps(hulls(image), rectangles)
        best.append(shares.max(1))
        whole.append(shares[:, 0])
        first.append(shares[:, min(1, len(rectangles) - 1)])
    seconds = (time.perf_counter() - begin) / len(images)

    def percent(parts: list[np.ndarray]) -> str:
        return f"{100 * np.mean(np.concatenate(parts) >= OVERLAP):.1f} %"

    print(
        f"{arguments.regions}: {len(images)} images, {sum(map(len, best))} phrases: ceiling {percent(best)}, first "
        f"region {percent(first)}, whole picture {percent(whole)}; {1000 * seconds:.0f} ms per image"
    )


if __name__ == "__main__":
    main()
