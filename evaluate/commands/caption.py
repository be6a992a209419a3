"""caption-images: captions for image files, from pixels to words."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mrnn.data.command import EXIT_IMAGES_FAILED, command, setting_options
from mrnn.data.options import device_option, ensemble_option, path_type, seed_option
from mrnn.evaluate.commands.options import (
    config_from,
    consensus_options,
    html_option,
    is_default,
    prefix_option,
    weights_option,
)
from mrnn.evaluate.settings import CONSENSUS_BEAM, ConsensusConfig, DecodingConfig

if TYPE_CHECKING:
    from mrnn.evaluate.captioned_pictures import DescribedPictures, PictureCaption

EPILOG = """\b
Example:
  caption-images --checkpoint runs/feats-mrnn --html captions.html holiday/*.jpg
  caption-images --checkpoint runs/regions-generator --regions grid --html regions.html holiday/*.jpg

The page of --html shows every image with its caption, the other captions of the search, and for a single m-RNN why each
word was chosen.

--json prints a list of {"file", "caption", "log_prob", "words": [{"word", "log_prob", "parts"}]}. log_prob is the
natural logarithm of P(caption | image): the sum over all words and the end of the caption, which is listed as the last
word, "<end>". A caption that was cut at --max-steps has no "<end>". "parts" says why a word was chosen, for a single
m-RNN: its log_prob is the sum of "base" (how frequent the word is), "words" (what the preceding words added) and
"image" (what the image added to that). With --confidence each has "confidence", an object of "log_prob_per_word" and
"dev_CIDEr", the mean CIDEr of "dev_captions" captions of the dev split. With --regions it is a list of {"file",
"regions"}, and each region has its "rectangle" (left, top, width, height in pixels of the upright image) beside
caption, log_prob and words.

Exit code 3: some files could not be read; they are listed on stderr, and the others were captioned."""


@command("caption-images", epilog=EPILOG)
@click.argument("images", nargs=-1, required=True, type=path_type, metavar="IMAGE...")
@ensemble_option
@weights_option
@setting_options(DecodingConfig, leave_out=("seed", "suppress_unknown"))
@seed_option("Random seed of --sample.")
@prefix_option
@consensus_options
@click.option(
    "--features", type=path_type, metavar="FILE", help="Feature cache with the training images for --consensus."
)
@click.option(
    "--confidence",
    type=path_type,
    metavar="FILE",
    help="confidence.json of evaluate-mrnn --split val with the same decoding settings: show with each caption what "
    "captions of the dev split scored of which the model was as sure.",
)
@click.option(
    "--regions",
    metavar="SOURCE",
    help="Describe regions in place of whole images: grid, detector:yolox-nano:WEIGHTS, "
    "detector:torchvision:NAME[:WEIGHTS] or boxes:FILE (COCO results JSON, or CSV, by the names of the files); several "
    "joined by +.  [default: none]",
)
@click.option(
    "--regions-per-image",
    type=click.IntRange(min=1),
    default=19,
    show_default=True,
    help="Largest number of regions per image from each source, the best ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON with the log-probability of every word.")
@html_option("Also write a web page with the images and their captions to this file.")
@device_option
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Number of threads that read image files.",
)
def main(
    images: tuple[Path, ...],
    checkpoints: tuple[Path, ...],
    weights: str | None,
    prefix: str,
    consensus: bool,
    features: Path | None,
    confidence: Path | None,
    regions: str | None,
    regions_per_image: int,
    as_json: bool,
    html: Path | None,
    device: str,
    workers: int,
    **settings: Any,
) -> None:
    """Generate a caption for each image file.

    IMAGE is an image file, a folder of images, or a pattern such as 'holiday/*.jpg'.
    """
    if consensus != (features is not None):
        raise click.UsageError("--consensus needs --features FILE, the cache of the training images; give both or none")
    if regions is not None and (consensus or confidence or len(checkpoints) > 1):
        raise click.UsageError("--regions goes with one --checkpoint, and without --consensus and --confidence")
    if regions is None and not is_default("regions_per_image"):
        raise click.UsageError("--regions-per-image goes with --regions only")
    if is_default("beam"):
        settings["beam"] = 1 if settings["sample"] else CONSENSUS_BEAM if consensus else settings["beam"]
    decoding, agreed = config_from(DecodingConfig, settings), config_from(ConsensusConfig, settings)

    from mrnn.data.pictures import picture_files

    files = picture_files(images)
    from mrnn.evaluate.captioned_pictures import caption_pictures, caption_regions
    from mrnn.evaluate.fit import known_prefix
    from mrnn.evaluate.generation.confidence import read_calibration
    from mrnn.evaluate.generation.consensus import Consensus
    from mrnn.evaluate.generation.stage import decoding_settings
    from mrnn.evaluate.run import open_run

    run = open_run(*checkpoints, device=device, weights=weights, workers=workers)
    if regions is not None:
        described = caption_regions(
            run.reader, files, regions, regions_per_image=regions_per_image, decoding=decoding, prefix=prefix
        )
        show_regions(described, html=html, as_json=as_json)
        finish(html, described.unreadable)
        return
    calibration = None
    if confidence:
        settings = decoding_settings(decoding, known_prefix(run.trained, prefix), agreed if consensus else None)
        calibration = read_calibration(confidence, run.trained, settings)
    ranker = Consensus.open(run.trained, features, agreed) if features else None
    found = caption_pictures(
        run.reader, files, decoding=decoding, prefix=prefix, consensus=ranker, calibration=calibration
    )
    if html:
        from mrnn.data.files import write_whole
        from mrnn.evaluate.report.captioned import captioned_page
        from mrnn.evaluate.report.page import render

        readable = [Path(caption.picture) for caption in found.captions]
        words = [caption.words for caption in found.captions]
        expected = [caption.step.cider for caption in found.captions if caption.step]
        page = captioned_page(run.trained, readable, words, found.beams, settings=found.settings, expected=expected)
        write_whole(html, render(page).encode())
    if as_json:
        click.echo(json.dumps([caption.to_json() for caption in found.captions], indent=1, ensure_ascii=False))
    else:
        for caption in found.captions:
            click.echo(f"{caption.picture}: {caption.text}{worth(caption)}")
    finish(html, found.unreadable)


def worth(caption: "PictureCaption") -> str:
    """What captions as sure as this one were worth, to print behind it; '' where that is not known."""
    return f"  (captions this sure scored CIDEr {caption.step.cider:.2f} on dev)" if caption.step else ""


def show_regions(found: "DescribedPictures", *, html: Path | None, as_json: bool) -> None:
    """Print the captions of regions, and write their page."""
    if html:
        from mrnn.data.files import write_whole
        from mrnn.evaluate.report.page import render
        from mrnn.evaluate.report.region_captions import regions_page

        said = [
            (Path(each.picture), each.rectangles, {n: (one.said, one.log_prob) for n, one in each.captions.items()})
            for each in found.described
        ]
        write_whole(html, render(regions_page(said, settings=found.settings)).encode())
    if as_json:
        click.echo(json.dumps([each.to_json() for each in found.described], indent=1, ensure_ascii=False))
        return
    for each in found.described:
        for region, caption in each.captions.items():
            place = ", ".join(f"{x:g}" for x in each.rectangles[region].round(1))
            click.echo(f"{each.picture} ({place}): {caption.text}")


def finish(html: Path | None, unreadable: Sequence[tuple[str, str]]) -> None:
    """Say where the page is and which files could not be read, and exit with their code if there are any."""
    if html:
        click.echo(f"page: {html}", err=True)
    for file, reason in unreadable:
        click.echo(f"{file}: {reason}", err=True)
    if unreadable:
        sys.exit(EXIT_IMAGES_FAILED)
