"""merge-, import-, verify- and inspect-features: for a login node, so without torch and instant."""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from mrnn.data.cache import DTYPES, STATE_DONE, STATE_FAILED, STATE_PENDING, FeatureCache, open_cache
from mrnn.data.captions import SPLITS
from mrnn.data.command import EXIT_FAILED, EXIT_IMAGES_FAILED, debug_option, one_line_errors
from mrnn.data.datasets import read_dataset
from mrnn.data.foreign import ORIENTATIONS, import_features, read_foreign
from mrnn.data.merge import merge_caches
from mrnn.data.verify import verify_cache

LISTED = 20
file_argument = click.argument("file", type=click.Path(path_type=Path))


@click.command("merge-features")
@click.argument("output", type=click.Path(path_type=Path))
@click.argument("shards", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--no-lock", is_flag=True, help="Do not lock OUTPUT (for file systems without locks).")
@debug_option
@one_line_errors
def merge(output: Path, shards: tuple[Path, ...], no_lock: bool) -> None:
    """Join SHARDS, the files of one extraction with --shard, into OUTPUT.

    Every row is checked on its way. The result equals the extraction in one piece. Killed, the same command goes on.

    \b
    Example:
      merge-features feats.h5 feats-0.h5 feats-1.h5 feats-2.h5
    """
    cache = merge_caches(output, shards, lock=not no_lock)
    click.echo(f"{output}: {_counts(cache)}")
    if cache.reasons:
        _list_failed(cache)
        sys.exit(EXIT_IMAGES_FAILED)


@click.command("import-features")
@click.argument("features", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--dataset", required=True, help="The data set whose pictures the features are of.")
@click.option("--root", type=click.Path(path_type=Path), help="Its folder.  [default: $MRNN_DATA/DATASET]")
@click.option("--output", type=click.Path(path_type=Path), default=Path("feats.h5"), show_default=True)
@click.option("--ids", "ids_file", type=click.Path(path_type=Path, exists=True), help="Image ids, one a line.")
@click.option("--features-name", default="feats", show_default=True, help="Variable, array or HDF5 data set.")
@click.option("--ids-name", default="ids", show_default=True, help="Where the file itself has ids.")
@click.option("--orientation", type=click.Choice(ORIENTATIONS), default="auto", show_default=True)
@click.option("--layer", default="fc7", show_default=True, help="What the features are, for the records.")
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="float16", show_default=True)
@debug_option
@one_line_errors
def import_(
    features: Path,
    dataset: str,
    root: Path | None,
    output: Path,
    ids_file: Path | None,
    features_name: str,
    ids_name: str,
    orientation: str,
    layer: str,
    dtype: str,
) -> None:
    """Make a feature cache of FEATURES that you already have (.mat, .npy, .npz, HDF5) and a data set's captions.

    Without ids, the rows are taken to be in the order of the data set's own file.

    \b
    Example (neuraltalk's features):
      import-features vgg_feats.mat --dataset karpathy --root data/flickr8k
    """
    corpus = read_dataset(dataset, root)
    foreign = read_foreign(
        features,
        features_name=features_name,
        ids_name=ids_name,
        ids_file=ids_file,
        count=len(corpus.images),
        orientation=orientation,
    )
    with features.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    absent, strays = import_features(
        output, corpus, foreign, source=features, source_sha256=digest, layer=layer, dtype=dtype
    )
    click.echo(f"{output}: {_counts(open_cache(output))}; {strays} rows of other images left out")
    if absent:
        sys.exit(EXIT_IMAGES_FAILED)


@click.command("verify-features")
@file_argument
@debug_option
@one_line_errors
def verify(file: Path) -> None:
    """Check every row of a feature cache against its checksum; exit code 1 names the damaged images.

    \b
    Example:
      verify-features feats.h5
    """
    found = verify_cache(file)
    for image_id in found.damaged:
        click.echo(f"damaged: {image_id}")
    click.echo(
        f"{file}: {found.done} done, {found.failed} failed, {found.pending} pending, {len(found.damaged)} damaged"
    )
    if found.damaged:
        click.echo("error: extract these images again (extract-features --overwrite) or restore the file", err=True)
        sys.exit(EXIT_FAILED)


@click.command("inspect-features")
@file_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@debug_option
@one_line_errors
def inspect(file: Path, as_json: bool) -> None:
    """Show what a feature cache holds and where it came from.

    \b
    Example:
      inspect-features feats.h5 --json
    """
    cache = open_cache(file, allow_partial=True)
    if as_json:
        click.echo(json.dumps(summary(cache), indent=2))
        return
    rows, size = cache.features.shape
    click.echo(f"{file}: {rows} x {size} {cache.features.dtype}, {_counts(cache)}")
    for split in (*SPLITS, ""):
        images = [image for image in cache.images if image.split == split]
        sentences = sum(len(image.sentences) for image in images)
        click.echo(f"  {split or 'no split':9} {len(images):7} images {sentences:8} sentences")
    for kind, count in Counter(problem.kind for problem in cache.problems).items():
        click.echo(f"  {count} x {kind}")
    click.echo("provenance:")
    for name, value in sorted(cache.provenance.items()):
        click.echo(f"  {name}: {value}")
    _list_failed(cache)


def summary(cache: FeatureCache) -> dict[str, Any]:
    """What `inspect-features --json` prints."""
    return {
        "file": str(cache.path),
        "dataset": cache.dataset,
        "root": str(cache.root),
        "shape": list(cache.features.shape),
        "dtype": cache.features.dtype.name,
        "rows_per_image": cache.rows_per_image,
        "first": cache.first,
        "total": cache.total,
        "images": {split or "none": cache.corpus().count(split) for split in (*SPLITS, "")},
        "sentences": sum(len(image.sentences) for image in cache.images),
        "boxes": sum(len(image.boxes) for image in cache.images),
        "states": {
            name: int((cache.states == state).sum())
            for name, state in (("done", STATE_DONE), ("failed", STATE_FAILED), ("pending", STATE_PENDING))
        },
        "failed": cache.reasons,
        "problems": [[problem.kind, problem.subject, problem.detail] for problem in cache.problems],
        "provenance": cache.provenance,
    }


def _counts(cache: FeatureCache) -> str:
    done, failed, pending = (int((cache.states == state).sum()) for state in (STATE_DONE, STATE_FAILED, STATE_PENDING))
    return f"{done} images done, {failed} failed, {pending} pending"


def _list_failed(cache: FeatureCache) -> None:
    for image_id, reason in list(cache.reasons.items())[:LISTED]:
        click.echo(f"  failed: {image_id}: {reason}")
    if len(cache.reasons) > LISTED:
        click.echo(f"  ... and {len(cache.reasons) - LISTED} more (inspect-features --json lists all)")
