"""Extract the features of very many pictures and see that memory stays flat.

    python tests/flat_memory.py [--pictures 100000] [--photographs FOLDER]

A folder of links to a few pictures (drawn scenes, or up to 200 photographs of FOLDER) is extracted with a small network
by the command itself, in a process of its own, whose resident memory (with that of its children) is sampled twice a
second. Its peak after a fifth of the way must not be more than MEGABYTES above that of the tenth before. `make memory`
runs it.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mrnn.data.cache import STATE_PENDING, open_cache
from mrnn.data.scenes.reader import read_scenes

MEGABYTES = 48
SECONDS = 0.5
COMMAND = "from mrnn.extract.cli import main; main()"
NETWORK = ("--backbone", "torchvision:squeezenet1_1", "--weights", "random:0", "--resize", "48", "--crop", "48")


def make_data(root: Path, *, count: int, photographs: Path | None) -> None:
    """A `folder` data set of links, a caption each."""
    if photographs is None:
        scenes = root / "scenes"
        sources = [scenes / image.path for image in read_scenes(scenes).images[:200]]
    else:
        sources = sorted(path for path in photographs.iterdir() if path.suffix == ".jpg")[:200]
    pictures = root / "pictures"
    pictures.mkdir()
    names = []
    for number, source in zip(range(count), itertools.cycle(sources), strict=False):
        names.append(f"{number}{source.suffix}")
        (pictures / names[-1]).symlink_to(source)
    (pictures / "captions.csv").write_text("image,caption\n" + "".join(f"{name},a picture\n" for name in names))


def resident(process: int) -> float:
    """Megabytes of a process and its children; 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return 0.0
    return pages * 4096 / 1e6 + sum(resident(int(child)) for child in children)


def main() -> None:
    """Print memory along the way; exit with a message if it grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--photographs", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_data(root, count=options.pictures, photographs=options.photographs)
        output = root / "feats.h5"
        arguments = ["--dataset", "folder", "--root", root / "pictures", "--output", output, *NETWORK]
        begin = time.monotonic()
        samples: list[tuple[float, float]] = []
        with subprocess.Popen([sys.executable, "-c", COMMAND, *map(str, arguments)]) as process:
            while process.poll() is None:
                if output.exists():
                    samples.append((time.monotonic() - begin, resident(process.pid)))
                time.sleep(SECONDS)
        if process.returncode:
            sys.exit(f"extraction ended with {process.returncode}")
        assert not (open_cache(output).states == STATE_PENDING).any()
    samples = [sample for sample in samples if sample[1]]
    if len(samples) < 20:
        sys.exit(f"only {len(samples)} samples; take more --pictures")
    for tenth in range(10):
        at, used = samples[tenth * len(samples) // 10]
        print(f"after {at:6.1f} s {used:7.1f} MB")
    # Highest against highest: the system may take pages from a process that does not use them for a while.
    fifth = len(samples) // 5
    growth = max(used for _, used in samples[fifth:]) - max(used for _, used in samples[fifth // 2 : fifth])
    seconds = samples[-1][0]
    print(f"{options.pictures} pictures in {seconds:.0f} s: memory grew by {growth:.1f} MB after the first fifth")
    if growth > MEGABYTES:
        sys.exit(f"that is more than {MEGABYTES} MB")


if __name__ == "__main__":
    main()
