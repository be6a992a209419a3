"""merge-, import-, verify- and inspect-features: for a login node, so without torch and instant.

Each function imports what it calls, so that --help waits for neither h5py nor NumPy.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mrnn.data.captions import SPLITS
from mrnn.data.command import EXIT_FAILED, EXIT_IMAGES_FAILED, command
from mrnn.data.errors import SettingError
from mrnn.data.foreign.formats import FORMATS, ORIENTATIONS, Given, read_sources
from mrnn.data.options import (
    boxes_option,
    dataset_option,
    images_option,
    json_option,
    no_lock_option,
    output_option,
    path_type,
    root_option,
)
from mrnn.data.outputs import OutputFile, is_cache, is_marked
from mrnn.data.settings import FEATURE_DTYPES
from mrnn.data.stopping import stop_on_signals

if TYPE_CHECKING:
    from mrnn.data.cache import FeatureCache

LISTED = 20
SHEET_TITLE = "Contact sheet of mrnn"  # in the file, by which a later call knows that it may replace it
cache_argument = click.argument("file", type=path_type)

MERGE_EPILOG = """\b
Example:
  merge-features feats.h5 feats-0.h5 feats-1.h5 feats-2.h5"""
IMPORT_EPILOG = """\b
Example (features of neuraltalk; regions of bottom-up attention):
  import-features vgg_feats.mat --dataset karpathy --root data/flickr8k
  import-features karpathy_*.tsv* --dataset karpathy --root data/coco"""
VERIFY_EPILOG = """\b
Example:
  verify-features feats.h5
  verify-features feats.h5 --pictures"""
INSPECT_EPILOG = """\b
Example:
  inspect-features feats.h5 --json
  inspect-features regions.h5 --sheet regions.png"""


@command("merge-features", epilog=MERGE_EPILOG)
@click.argument("output", type=OutputFile("a feature cache", is_cache))
@click.argument("shards", nargs=-1, required=True, type=path_type)
@no_lock_option
def merge(output: Path, shards: tuple[Path, ...], no_lock: bool) -> None:
    """Join the shards of an extraction into one feature cache.

    SHARDS are the files that extract-features wrote with --shard. Every row is checked while it is copied to OUTPUT,
    which then equals the cache of an extraction in one piece. Run the same command again to resume after a stop.
    Exit code 3: merged, but some images could not be decoded.
    """
    from mrnn.data.merge import merge_caches
    from mrnn.data.picture_hashes import describe_equal

    with stop_on_signals() as stop:
        cache = merge_caches(output, shards, lock=not no_lock, stop=stop)
    click.echo(f"{output}: {_counts(cache)}")
    for line in describe_equal(cache):
        click.echo(line, err=True)
    if cache.reasons:
        _list_failed(cache)
        sys.exit(EXIT_IMAGES_FAILED)


@command("import-features", epilog=IMPORT_EPILOG)
@click.argument("features", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@dataset_option("Data set whose images the features describe.")
@root_option
@boxes_option
@output_option(
    "Feature cache to write.", metavar="FILE", default=Path("feats.h5"), type=OutputFile("a feature cache", is_cache)
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["auto", *FORMATS]),
    default="auto",
    show_default=True,
    help="Form of the files; auto decides by their names and first bytes.",
)
@click.option(
    "--ids",
    "ids_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Image ids in the order of the features: a text file with one per line, or JSON (a list of neuraltalk2, "
    "{id: row}).",
)
@click.option(
    "--features-name",
    default="feats",
    show_default=True,
    help="Name of the variable, array or HDF5 data set that holds the features.",
)
@click.option("--ids-name", default="ids", show_default=True, help="Name of the one that holds the image ids, if any.")
@click.option(
    "--orientation",
    type=click.Choice(ORIENTATIONS),
    default="auto",
    show_default=True,
    help="Whether each row or each column is an image; auto decides by the number of images.",
)
@click.option(
    "--regions-per-image",
    type=click.IntRange(min=0),
    help="Largest number of regions to keep for each image, the best first; 0 keeps the whole image only.  "
    "[default: all]",
)
@click.option("--layer", default="fc7", show_default=True, help="Name of the network layer, recorded in the cache.")
@click.option(
    "--dtype",
    type=click.Choice(FEATURE_DTYPES),
    default="float16",
    show_default=True,
    help="Number format in which the features are stored.",
)
def import_(
    features: tuple[Path, ...],
    dataset: str,
    root: Path | None,
    boxes: Path | None,
    output: Path,
    format_: str,
    ids_file: Path | None,
    features_name: str,
    ids_name: str,
    orientation: str,
    regions_per_image: int | None,
    layer: str,
    dtype: str,
) -> None:
    """Make a feature cache from existing features and the captions of a data set.

    FEATURES are files or folders of one form: a MATLAB (.mat), NumPy (.npy, .npz) or HDF5 file with a matrix; files of
    VSE++ or SCAN, bottom-up attention (.tsv), updown (HDF5), neuraltalk2's successors (HDF5), ImageCaptioning.pytorch
    or hloc. Without ids, the rows of a matrix are taken to be in the order of the data set's own file. Regions follow
    the whole image, which is their mean where the files have no row for it.

    A feature cache of extract-features keeps its provenance and regions and gets the captions, splits and boxes of the
    data set; its images are joined by id, and the options for other files do not apply.
    Exit code 3: imported, but some images of the data set have no features.
    """
    from mrnn.data.cache import open_cache
    from mrnn.data.datasets import read_dataset
    from mrnn.data.foreign.importing import import_features
    from mrnn.data.recaption import is_own_cache, recaption

    corpus = read_dataset(dataset, root, boxes=boxes)
    for note in corpus.notes:
        click.echo(note, err=True)
    if any(is_own_cache(path) for path in features):
        if len(features) > 1:
            raise SettingError("a feature cache is imported by itself; merge-features joins the shards of one")
        absent, strays = recaption(output, corpus, open_cache(features[0], allow_partial=True))
    else:
        given = Given(features_name, ids_name, ids_file, orientation, count=len(corpus.images))
        found = import_features(
            output,
            corpus,
            read_sources(features, given, format=format_),
            layer=layer,
            dtype=dtype,
            regions_per_image=regions_per_image,
        )
        absent, strays = found.absent, found.strays
        if found.joined_by not in ("id", "order"):
            click.echo(f"images joined by {found.joined_by}", err=True)
    for kind, number in sorted(Counter(problem.kind for problem in corpus.problems).items()):
        click.echo(f"{kind}: {number}", err=True)
    click.echo(f"{output}: {_counts(open_cache(output))}; {strays} rows of other images left out")
    if absent:
        sys.exit(EXIT_IMAGES_FAILED)


@command("verify-features", epilog=VERIFY_EPILOG)
@cache_argument
@click.option("--pictures", is_flag=True, help="Also compare the image files with what they were at extraction.")
@images_option
def verify(file: Path, pictures: bool, images: Path | None) -> None:
    """Check every row of a feature cache against its checksum.

    Exit code 1: some images are damaged, or (with --pictures) their files have changed or vanished; they are listed.
    """
    from mrnn.data.cache import open_cache
    from mrnn.data.picture_hashes import check_pictures
    from mrnn.data.verify import verify_cache

    found = verify_cache(file)
    for image_id in found.damaged:
        click.echo(f"damaged: {image_id}")
    click.echo(
        f"{file}: {found.done} done, {found.failed} failed, {found.pending} pending, {len(found.damaged)} damaged"
    )
    differing = False
    if pictures:
        cache = open_cache(file, allow_partial=True)
        files = check_pictures(cache, images or cache.root)
        for word in ("changed", "vanished", "appeared"):
            for image_id in getattr(files, word):
                click.echo(f"{word}: {image_id}")
        click.echo(
            f"image files: {files.same} as they were, {len(files.changed)} changed, {len(files.vanished)} vanished, "
            f"{len(files.appeared)} appeared, {files.unknown} without a recorded hash"
        )
        differing = bool(files.changed or files.vanished)
    if found.damaged:
        click.echo("error: extract these images again (extract-features --overwrite) or restore the file", err=True)
    if differing:
        click.echo(
            f"error: run extract-features --reuse {file} into a new file for the images as they are now", err=True
        )
    if found.damaged or differing:
        sys.exit(EXIT_FAILED)


@command("inspect-features", epilog=INSPECT_EPILOG)
@cache_argument
@json_option
@click.option(
    "--sheet",
    type=OutputFile("a contact sheet", is_marked(SHEET_TITLE)),
    metavar="PNG",
    help="Draw a contact sheet of images with their regions.",
)
@click.option(
    "--sheet-images", type=click.IntRange(min=1), default=12, show_default=True, help="Number of images on the sheet."
)
@images_option
def inspect(file: Path, as_json: bool, sheet: Path | None, sheet_images: int, images: Path | None) -> None:
    """Show what a feature cache contains and where it came from."""
    from mrnn.data.cache import open_cache
    from mrnn.data.picture_hashes import describe_equal

    cache = open_cache(file, allow_partial=True)
    if sheet is not None:
        from mrnn.data.contact_sheet import draw_sheet, save_sheet

        save_sheet(draw_sheet(cache, images or cache.root, count=sheet_images), sheet, title=SHEET_TITLE)
        click.echo(f"{sheet}: regions of {min(sheet_images, len(cache.done()))} images", err=True)
    if as_json:
        click.echo(json.dumps(summary(cache), indent=2))
        return
    rows, size = cache.features.shape
    click.echo(f"{file}: {rows} x {size} {cache.features.dtype}, {_counts(cache)}")
    for split in (*SPLITS, ""):
        members = [image for image in cache.images if image.split == split]
        sentences = sum(len(image.sentences) for image in members)
        click.echo(f"  {split or 'no split':9} {len(members):7} images {sentences:8} sentences")
    for kind, count in Counter(problem.kind for problem in cache.problems).items():
        click.echo(f"  {count} x {kind}")
    click.echo("provenance:")
    for name, value in sorted(cache.provenance.items()):
        click.echo(f"  {name}: {value}")
    _list_failed(cache)
    for line in describe_equal(cache):
        click.echo(line)


def summary(cache: "FeatureCache") -> dict[str, Any]:
    """What `inspect-features --json` prints."""
    from mrnn.data.picture_hashes import equal_pictures

    equal = equal_pictures(cache)
    return {
        "file": str(cache.path),
        "dataset": cache.dataset,
        "root": str(cache.root),
        "shape": list(cache.features.shape),
        "dtype": cache.features.dtype.name,
        "rows_per_image": cache.rows_per_image,
        "regions": int(cache.regions.valid.sum()) - len(cache.done()) if cache.rows_per_image > 1 else 0,
        "first": cache.first,
        "total": cache.total,
        "images": {split or "none": cache.corpus().count(split) for split in (*SPLITS, "")},
        "sentences": sum(len(image.sentences) for image in cache.images),
        "boxes": sum(len(image.boxes) for image in cache.images),
        "states": _states(cache),
        "failed": cache.reasons,
        "equal_pictures": [list(group) for group in equal.groups],
        "leaks": [list(group) for group in equal.leaks],
        "problems": [[problem.kind, problem.subject, problem.detail] for problem in cache.problems],
        "provenance": cache.provenance,
    }


def _states(cache: "FeatureCache") -> dict[str, int]:
    """The number of images in each state."""
    from mrnn.data.cache import STATE_DONE, STATE_FAILED, STATE_PENDING

    named = (("done", STATE_DONE), ("failed", STATE_FAILED), ("pending", STATE_PENDING))
    return {name: int((cache.states == state).sum()) for name, state in named}


def _counts(cache: "FeatureCache") -> str:
    states = _states(cache)
    return f"{states['done']} images done, {states['failed']} failed, {states['pending']} pending"


def _list_failed(cache: "FeatureCache") -> None:
    for image_id, reason in list(cache.reasons.items())[:LISTED]:
        click.echo(f"  failed: {image_id}: {reason}")
    if len(cache.reasons) > LISTED:
        click.echo(f"  ... and {len(cache.reasons) - LISTED} more (inspect-features --json lists all)")
