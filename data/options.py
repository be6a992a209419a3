"""Options that commands of several packages share: each is declared here once, so that it means and says the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mrnn.data.captions import SPLITS

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

path_type = click.Path(path_type=Path)


def _one_checkpoint(context: click.Context, parameter: click.Parameter, given: tuple[Path, ...]) -> Path | None:
    if len(given) > 1:
        raise click.BadParameter("this command uses one model; evaluate-mrnn and caption-images take an ensemble")
    return given[0] if given else None


def checkpoint_option_of(*, required: bool) -> Decorator:
    """`--checkpoint` of one model. required : whether the command needs it whatever the other options are."""
    return click.option(
        "--checkpoint",
        required=required,
        multiple=True,  # to refuse a second one
        callback=_one_checkpoint,
        type=path_type,
        metavar="RUN",
        help="Run folder written by train-mrnn; its best checkpoint is used.",
    )


def features_option_of(*, required: bool) -> Decorator:
    """`--features`. required : whether the command needs it whatever the other options are."""
    return click.option(
        "--features",
        required=required,
        type=path_type,
        metavar="FILE",
        help="Feature cache written by extract-features.",
    )


checkpoint_option = checkpoint_option_of(required=True)
features_option = features_option_of(required=True)
ensemble_option = click.option(
    "--checkpoint",
    "checkpoints",
    required=True,
    multiple=True,
    type=path_type,
    metavar="RUN",
    help="Run folder written by train-mrnn; its best checkpoint is used. Repeat it for an ensemble: models with the "
    "same vocabulary predict each word by the mean of their probabilities.",
)
root_option = click.option(
    "--root",
    type=path_type,
    metavar="FOLDER",
    help="Folder of the data set.  [default: $MRNN_DATA/NAME, else datasets/NAME]",
)
boxes_option = click.option(
    "--boxes",
    type=path_type,
    metavar="FILE",
    help="Boxes of Flickr30k Entities for the images of flickr8k or flickr30k: its folder, or a file of JSON lines.",
)
images_option = click.option(
    "--images", type=path_type, metavar="FOLDER", help="Folder of the images.  [default: as recorded in the cache]"
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Device to compute on: auto (a GPU if there is one), cpu, cuda or cuda:N.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Number of CPU threads; 0 leaves the choice to torch.",
)
allow_partial_option = click.option(
    "--allow-partial", is_flag=True, help="Accept a cache in which some images are still pending."
)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Start again from the beginning instead of resuming; replaces earlier output."
)
no_lock_option = click.option(
    "--no-lock", is_flag=True, help="Do not lock the output file; for file systems without locks."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")


def dataset_option(help: str, *, required: bool = True) -> Decorator:
    """`--dataset`: the name of a reader. help : what the data set is needed for."""
    from mrnn.data.datasets import READERS  # here, since most commands need no reader

    return click.option("--dataset", required=required, type=click.Choice(list(READERS)), help=help)


def split_option(help: str, *, default: str | None = "test", more: tuple[str, ...] = ()) -> Decorator:
    """`--split`: one of train, val and test; `more` lists further choices. help : what the split selects."""
    return click.option(
        "--split", type=click.Choice([*SPLITS, *more]), default=default, show_default=default is not None, help=help
    )


def seed_option(help: str) -> Decorator:
    """`--seed`, 0 by default. help : what is drawn with it."""
    return click.option("--seed", type=int, default=0, show_default=True, help=help)


def output_option(
    help: str, *, metavar: str = "FOLDER", default: Path | None = None, type: click.Path = path_type
) -> Decorator:
    """`--output`.

    help : what is written there, and the default where it depends on other options
    type : for a file an `OutputFile`, so that it replaces nothing that mrnn did not write
    """
    return click.option(
        "--output", type=type, metavar=metavar, default=default, show_default=default is not None, help=help
    )
