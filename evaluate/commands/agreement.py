"""evaluate-agreement: does a model's score of an image and a caption agree with people's judgements of the pair?"""

import json
from pathlib import Path
from typing import Any

import click

from mrnn.data.command import command
from mrnn.data.options import (
    allow_partial_option,
    checkpoint_option,
    device_option,
    features_option,
    json_option,
    path_type,
    seed_option,
    threads_option,
)
from mrnn.evaluate.commands.options import normaliser_images_option, use_threads

LABELS = {"log P(w|I) a word": "log P(w|I) per word"}  # scores that --json names otherwise, as it always has

EPILOG = """\b
Example:
  evaluate-agreement --checkpoint runs/feats-mrnn --features feats.h5 --root datasets/flickr8k

The folder --root is that of Flickr8k with the files ExpertAnnotations.txt and CrowdFlowerAnnotations.txt, which its
authors distribute with the captions.

The tables show 100 x Kendall's tau. --json prints fractions, and both tau_b and tau_c of every score."""


@command("evaluate-agreement", epilog=EPILOG)
@checkpoint_option
@features_option
@click.option(
    "--root",
    type=path_type,
    metavar="FOLDER",
    help="Folder of Flickr8k.  [default: $MRNN_DATA/flickr8k, else datasets/flickr8k]",
)
@normaliser_images_option
@seed_option("Random seed that draws the training images for P(w).")
@json_option
@device_option
@threads_option
@allow_partial_option
def main(
    checkpoint: Path,
    features: Path,
    root: Path | None,
    normaliser_images: int,
    seed: int,
    as_json: bool,
    device: str,
    threads: int,
    allow_partial: bool,
) -> None:
    """Measure how well the scores of a model, and caption metrics, agree with people's judgements of image and caption.

    The cache must be of Flickr8k, whose authors collected the judgements.
    """
    from mrnn.data.cache import open_cache
    from mrnn.evaluate.studies.agreement import measure_agreement, require_scipy
    from mrnn.train.checkpoint import load_trained
    from mrnn.train.device import pick_device

    require_scipy()
    use_threads(threads)
    result = measure_agreement(
        load_trained(checkpoint, device=pick_device(device, "fp32")),
        open_cache(features, allow_partial=allow_partial),
        root=root,
        normaliser_images=normaliser_images,
        seed=seed,
        report=lambda line: click.echo(line, err=True),
    )
    click.echo(json.dumps(result, indent=1) if as_json else table(result))


def table(result: dict[str, Any]) -> str:
    """The tables that the command prints without --json."""
    images = result["images"]
    training = images["by_split"].get("train", 0)
    splits = ", ".join(f"{count} {split}" for split, count in images["by_split"].items())
    lines = [
        f"{result['model']} ({result['checkpoint']}) on {result['features']}",
        f"judged images: {images['judged']}, of which {images['without_features']} have no features and are left out; "
        f"by split: {splits}",
        f"in training: {training} of {images['judged'] - images['without_features']} judged images"
        + (", so compare models by the rows outside training" if training else ""),
    ]
    sets = result["sets"]
    for name, values in sets.items():
        lines.append(
            f"{name}: {values['pairs']} pairs, {values['ratings']} ratings, {values['pairs_outside_training']} pairs "
            f"outside training; left out: {values['own_captions_left_out']} with one of the image's own captions, "
            f"{values['pairs_without_features']} without features"
        )
    for part, title in (("all", "100 tau, all"), ("outside_training", "100 tau, outside training")):
        if part == "outside_training" and not training:
            lines.append("100 tau, outside training: the same, since no judged image is in the training split")
            continue
        columns = [
            (name, coefficient) for name, values in sets.items() for coefficient in coefficients(values["coefficient"])
        ]
        lines.append(f"{title:<28}" + "".join(f"{f'{name[9:]} {tau}':>15}" for name, tau in columns))
        for score in next(iter(sets.values()))[part]:
            found = [sets[name][part][score][tau] for name, tau in columns]
            cells = (f"{'-' if tau is None else f'{100 * tau:.1f}':>15}" for tau in found)
            lines.append(f"{LABELS.get(score, score):<28}" + "".join(cells))
    return "\n".join(lines)


def coefficients(reported: str) -> tuple[str, str]:
    """The coefficient that the papers report for a set, then the other one."""
    return ("tau_c", "tau_b") if reported == "tau_c" else ("tau_b", "tau_c")
