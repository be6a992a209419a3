"""serve-mrnn (mrnn serve): a local web page for searching, captioning and aligning."""

import sys
from pathlib import Path

import click

from mrnn.data.command import command
from mrnn.data.errors import SettingError
from mrnn.data.options import (
    allow_partial_option,
    checkpoint_option,
    device_option,
    features_option,
    images_option,
    path_type,
    seed_option,
    split_option,
    threads_option,
)
from mrnn.data.stopping import EXIT_INTERRUPTED, stop_on_signals
from mrnn.evaluate.commands.options import region_weights_option, use_threads, weights_option

EPILOG = """\b
Example:
  serve-mrnn --checkpoint runs/feats-mrnn --features feats.h5
  serve-mrnn --checkpoint runs/feats-mrnn --features feats.h5 --alignment runs/regions-alignment --port 8080

Then open http://127.0.0.1:8000. Type a sentence to find pictures of the cache. Choose or drop a picture to see its
caption, the sentences of the cache that fit it and, with --alignment, the regions that words speak of.

The page is for this machine: whoever can reach the port can use it, without a password. Uploaded pictures are never
written to disk. Ctrl-C and SIGTERM stop the server; the exit codes are then 130 and 0."""


@command("serve-mrnn", epilog=EPILOG)
@checkpoint_option
@features_option
@click.option("--alignment", type=path_type, metavar="RUN", help="Run of an alignment model, which shows regions.")
@split_option("Search only the images of this split and their captions.  [default: all]", default=None)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--allow-host",
    "allowed",
    multiple=True,
    metavar="NAME",
    help="Another name by which browsers may call this server, where --host is not 127.0.0.1.",
)
@click.option(
    "--waiting",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Number of requests that may wait for the models; more are refused with 503.",
)
@click.option(
    "--normaliser-images",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Number of training images that P(w) is averaged over in search by picture; 0 leaves it out.",
)
@seed_option("Random seed that draws the training images of --normaliser-images.")
@click.option(
    "--index",
    type=path_type,
    metavar="FOLDER",
    help="Folder that keeps the index of the sentences for the next start.  [default: search in the run folder]",
)
@images_option
@weights_option
@region_weights_option
@device_option
@threads_option
@allow_partial_option
def main(
    checkpoint: Path,
    features: Path,
    alignment: Path | None,
    split: str | None,
    host: str,
    port: int,
    allowed: tuple[str, ...],
    waiting: int,
    normaliser_images: int,
    seed: int,
    index: Path | None,
    images: Path | None,
    weights: str | None,
    region_weights: str | None,
    device: str,
    threads: int,
    allow_partial: bool,
) -> None:
    """Show a local web page that searches, describes and aligns pictures."""
    try:
        from mrnn.evaluate.web.server import Server, listen
    except ImportError as error:
        raise SettingError(f"the page needs the extra web: pip install 'mrnn[web]' ({error})") from error
    from mrnn.data.cache import open_cache
    from mrnn.evaluate.report.pictures import Pictures
    from mrnn.evaluate.run import open_run
    from mrnn.evaluate.web.answers import Answers
    from mrnn.evaluate.web.app import make_app
    from mrnn.evaluate.web.guard import hosts_of
    from mrnn.evaluate.web.work import Worker
    from mrnn.train.models.captioner import Predictor
    from mrnn.train.models.two_towers import TwoTowers

    use_threads(threads)
    with stop_on_signals() as stop, listen(host, port) as listening:
        port = listening.getsockname()[1]
        cache = open_cache(features, allow_partial=allow_partial)
        run = open_run(checkpoint, device=device, weights=weights, region_weights=region_weights)
        if index is None and not isinstance(run.trained.model, TwoTowers):
            index = run.trained.run / "search"
        gallery = run.gallery(cache, split=split, index=index, normaliser_images=normaliser_images, seed=seed)
        aligning = None
        if alignment is not None:
            aligning = open_run(alignment, device=device, weights=weights, region_weights=region_weights)
        pictures = Pictures(images or cache.root, named=images is not None)
        if warning := pictures.warning([cache.images[number].path for number in gallery.gallery.images]):
            click.echo(warning, err=True)
        describing = run if isinstance(run.trained.model, Predictor) else None
        answers = Answers(gallery, describing=describing, aligning=aligning, pictures=pictures)
        worker = Worker(waiting=waiting)
        answers.prepare_in_background()
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"http://{shown}:{port} shows the page; Ctrl-C stops it", err=True)
        Server(make_app(answers, worker, hosts=hosts_of(host, port, allowed)), stop).run(sockets=[listening])
        answers.stop()
        worker.stop()
    click.echo(f"stopped by {stop.reason}", err=True)
    if stop.reason == "Ctrl-C":
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
