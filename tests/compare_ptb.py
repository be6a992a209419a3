"""Compare mrnn.evaluate.metrics.ptb with the program it is a twin of: the tokeniser in pycocoevalcap, run by Java.

    python tests/compare_ptb.py                      # golden file, captions below $MRNN_DATA, characters, odd strings
    python tests/compare_ptb.py --strings 20000 --seed 3
    python tests/compare_ptb.py --write-golden       # after adding a sentence to the golden file

Prints for each set how many captions differ, the digest that tests/evaluate/metrics/test_ptb.py knows it by, and the
first of those that differ. Exit code 1 if one of a data set or the golden file differs; characters and odd strings are
only counted.
"""

import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from mrnn.data.annotation_files import read_lines
from mrnn.evaluate.metrics.ptb import LINE_BREAKS, PUNCTUATION, ptb_tokenize

GOLDEN = Path(__file__).parent / "evaluate" / "metrics" / "ptb_golden.json"
JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
SECONDS = 600
FRAMES = ("{}", "zz{}zz", "zz {} zz", "1{}2", "1{}zz", "zz{}1")
# What odd strings are made of: whatever the tokeniser treats in a way of its own.
PIECES = """
    a b T S I dog man the The Big CAT o d l y s t n don can it x 5 12 100 2010 3rd 10 . . , ' ' " - - -- / & ! ? : ; (
    ) ... # $ % 's 'll n't etc. St. Mr. No. U.S. a.m. D.C. Jr. Inc. Ave. &amp; @ * _ + = < > é ’ “ ” ½ £ [ ] 90s com
    """


def real_captions(data: Path) -> dict[str, list[str]]:
    """The captions of every data set below the folder, in the order of its files."""
    sets: dict[str, list[str]] = {}
    for name, pattern in (("flickr8k", "flickr8k/*.token.txt"), ("flickr30k", "flickr30k-captions/*.token.gz")):
        for path in data.glob(pattern):
            sets[name] = [line.partition("\t")[2] for _, line in read_lines(path)]
    for path in data.glob("coco/annotations/captions_val2017.json"):
        sets["coco val2017"] = [record["caption"] for record in json.loads(path.read_text())["annotations"]]
    return sets


def odd_strings(number: int, seed: int) -> list[str]:
    """Strings of ordinary words and of random pieces run together, always the same for a seed."""
    source, pieces = random.Random(seed), PIECES.split()

    def word() -> str:
        return "".join(source.choice(pieces) for _ in range(source.choice([1, 1, 2, 2, 3])))

    words = [["the", "a", "Dog", "Man", word(), word()] for _ in range(5 * number)]
    return [" ".join(source.choice(words[5 * n + i]) for i in range(source.randint(1, 5))) for n in range(number)]


def every_character() -> list[str]:
    """Each assigned character of Unicode's basic plane by itself, between letters and between digits.

    Every caption is followed by a plain one, so that it cannot depend on the character after it.
    """
    characters = [
        chr(number) for number in range(0x80, 0x10000) if unicodedata.category(chr(number)) not in ("Cn", "Cs")
    ]
    written = [frame.format(each) for each in characters if not LINE_BREAKS.match(each) for frame in FRAMES]
    return [caption for each in written for caption in (each, "ok")]


def java_tokenize(captions: Sequence[str]) -> list[list[str]]:
    """What pycocoevalcap.tokenizer.ptbtokenizer makes of captions, done as it does it but in UTF-8 everywhere."""
    spec = find_spec("pycocoevalcap.eval")
    assert spec is not None
    assert spec.origin is not None
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write("\n".join(caption.replace("\n", " ") for caption in captions).encode())
        file.flush()
        command = ["java", "-Dfile.encoding=UTF-8", "-cp", str(Path(spec.origin).parent / JAR)]
        command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", file.name]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=SECONDS, check=True)
    lines = done.stdout.decode().split("\n")[: len(captions)]
    lines += [""] * (len(captions) - len(lines))
    return [[word for word in line.rstrip().split(" ") if word and word not in PUNCTUATION] for line in lines]


def digest(tokens: Sequence[Sequence[str]]) -> str:
    """Of all tokens of all captions: equal digests, equal tokens."""
    return hashlib.sha256("\n".join(map(" ".join, tokens)).encode()).hexdigest()


def compare(name: str, captions: Sequence[str], *, show: int) -> int:
    """Print how twin and Java differ on the captions; how many do."""
    theirs = java_tokenize(captions)
    start = time.process_time()
    ours = ptb_tokenize(captions)
    rate = len(captions) / (time.process_time() - start)
    different = [number for number in range(len(captions)) if ours[number] != theirs[number]]
    click.echo(f"{name}: {len(different)} of {len(captions)} captions differ; {rate:,.0f} captions a second; "
               f"Java's digest {digest(theirs)}")  # fmt: skip
    for number in different[:show]:
        click.echo(f"  {captions[number]!r}\n    ours  {' '.join(ours[number])}\n    Java  {' '.join(theirs[number])}")
    return len(different)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="MRNN_DATA", help="Folder of the real data sets.")
@click.option("--strings", default=20000, show_default=True, help="Odd strings to try.")
@click.option("--seed", default=0, show_default=True, help="Of the odd strings.")
@click.option("--show", default=10, show_default=True, help="Differences listed for each set.")
@click.option("--write-golden", is_flag=True, help="Put Java's tokens into the golden file.")
def main(data: Path | None, strings: int, seed: int, show: int, write_golden: bool) -> None:
    """Compare the PTB tokeniser's twin with the original."""
    if shutil.which("java") is None:
        click.echo("skipped: there is no java on the PATH, so there is nothing to compare with")
        return
    golden = [caption for caption, _ in json.loads(GOLDEN.read_text())]
    if write_golden:
        pairs = zip(golden, java_tokenize(golden), strict=True)
        lines = (json.dumps([caption, " | ".join(tokens)], ensure_ascii=False) for caption, tokens in pairs)
        GOLDEN.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    wrong = compare("golden file", golden, show=show)
    if data is None:
        click.echo("real captions skipped: neither --data nor MRNN_DATA names their folder")
    for name, captions in (real_captions(data) if data else {}).items():
        wrong += compare(name, captions, show=show)
    compare("every character of the basic plane", every_character(), show=show)
    compare(f"odd strings, seed {seed}", odd_strings(strings, seed), show=show)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
