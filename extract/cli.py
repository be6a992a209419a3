"""extract-features: a data set's pictures through a fixed network into a feature cache."""

import os
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus
from mrnn.data.command import EXIT_IMAGES_FAILED, debug_option, one_line_errors
from mrnn.data.datasets import READERS, read_dataset
from mrnn.data.errors import CorpusError
from mrnn.data.files import sync_folder, write_whole
from mrnn.data.stopping import stop_on_signals
from mrnn.extract.config import DTYPE_NAMES, ON_ERROR, PRECISIONS, ExtractionConfig, parse_shard, shard_range
from mrnn.extract.resuming import AskedCache

if TYPE_CHECKING:
    from mrnn.extract.backbones import Backbone

DEFAULTS = ExtractionConfig()
FAILED_KIND = "picture failed"
CONFIG_OPTIONS = ("batch_size", "dtype", "precision", "device", "on_error")


@click.command("extract-features")
@click.option("--dataset", required=True, type=click.Choice(list(READERS)), help="The data set.")
@click.option("--root", type=click.Path(path_type=Path), help="Its folder.  [default: $MRNN_DATA/DATASET]")
@click.option("--output", type=click.Path(path_type=Path), default=Path("feats.h5"), show_default=True)
@click.option(
    "--backbone", default="alexnet", show_default=True, help="alexnet, vgg16, torchvision:NAME or timm:NAME (extra)."
)
@click.option(
    "--weights",
    default="pretrained",
    show_default=True,
    help="pretrained (downloaded), a .safetensors or .pt FILE, or random:SEED.",
)
@click.option("--layer", help="fc7 or fc6 of alexnet and vgg16.  [default: fc7; penultimate of others]")
@click.option("--resize", type=int, help="Pixels of the short side.  [default: the library's, for all of these]")
@click.option("--crop", type=int, help="Pixels of the square cut from the middle.")
@click.option("--interpolation", type=click.Choice(["bilinear", "bicubic"]))
@click.option("--mean", metavar="R,G,B", help="Subtracted; white is 1.")
@click.option("--std", metavar="R,G,B", help="Divided by.")
@click.option("--warp", is_flag=True, help="Resize both sides, losing the shape, as Caffe and neuraltalk did.")
@click.option("--dtype", type=click.Choice(DTYPE_NAMES), default=DEFAULTS.dtype, show_default=True)
@click.option("--batch-size", type=int, default=DEFAULTS.batch_size, show_default=True)
@click.option("--workers", type=int, help="Threads that decode pictures.  [default: the CPUs of this process]")
@click.option("--threads", type=int, help="Threads of the network on the CPU.  [default: as recorded, or the CPUs]")
@click.option("--device", default=DEFAULTS.device, show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--precision", type=click.Choice(PRECISIONS), default=DEFAULTS.precision, show_default=True)
@click.option("--shard", metavar="I/N", help="Only part I (from 0) of N; join with merge-features.")
@click.option("--limit", type=click.IntRange(min=1), help="A trial with so many images, always the same ones.")
@click.option("--on-error", type=click.Choice(ON_ERROR), default=DEFAULTS.on_error, show_default=True)
@click.option("--retry-failed", is_flag=True, help="Try pictures again that failed in an earlier run.")
@click.option("--overwrite", is_flag=True, help="Start afresh; the old file stays until the new one is complete.")
@click.option("--no-lock", is_flag=True, help="Do not lock the output (for file systems without locks).")
@debug_option
@one_line_errors
def main(
    dataset: str,
    root: Path | None,
    output: Path,
    backbone: str,
    weights: str,
    layer: str | None,
    limit: int | None,
    shard: str | None,
    overwrite: bool,
    retry_failed: bool,
    no_lock: bool,
    threads: int | None,
    workers: int | None,
    **options: Any,
) -> None:
    """Compute the features of a data set's pictures and write them, with its captions, to one HDF5 file.

    Stopped or killed at any moment, the same command goes on. Pictures that cannot be decoded are listed in
    OUTPUT.report.tsv. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but for some pictures, 75 stopped by a signal
    with everything saved, 130 Ctrl-C.

    \b
    Examples:
      extract-features --dataset flickr30k
      extract-features --dataset folder --root photos --backbone timm:tf_efficientnet_lite0 \\
          --weights tf_efficientnet_lite0.safetensors --output photos.h5
      extract-features --dataset coco --shard 2/8 --output coco-2.h5 --threads 8
    """
    try:
        given = {"workers": workers, "threads": threads, **{name: options[name] for name in CONFIG_OPTIONS}}
        config = ExtractionConfig(**{name: value for name, value in given.items() if value is not None})
        index, count = parse_shard(shard) if shard else (0, 1)
        overrides = _overrides(options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not output.absolute().parent.is_dir():
        raise click.UsageError(f"there is no folder {output.absolute().parent} for --output")
    corpus = _read(dataset, root, limit=limit)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        # Here, so that --help need not wait for torch.
        from mrnn.extract.backbones import build_backbone
        from mrnn.extract.network import choose_device
        from mrnn.extract.runner import extract

        try:
            begin, end = shard_range(len(corpus.images), batch_size=config.batch_size, index=index, count=count)
            device = choose_device(config.device)
            network = build_backbone(backbone, weights=weights, layer=layer, overrides=overrides)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        provenance = _provenance(corpus, network, config, device=device.type, limit=limit)
        target = output.with_name(f"{output.name}.new") if overwrite else output
        part = replace(corpus, images=corpus.images[begin:end])
        asked = AskedCache(target, part, provenance, first=begin, total=len(corpus.images), threads=threads)
        if overwrite and target.exists():
            asked.remove_unless_it_fits(lock=not no_lock)
        if not target.exists():
            asked.create(feature_size=network.feature_size)
        writer = stack.enter_context(CacheWriter(target, lock=not no_lock))
        asked.check(writer.cache)
        if retry_failed and (reopened := writer.reopen_failed()):
            click.echo(f"{reopened} failed pictures are tried again")
        if len(writer.pending()):
            try:
                extract(
                    writer,
                    network,
                    corpus.root,
                    batch_size=config.batch_size,
                    threads=int(writer.cache.provenance["threads"]),
                    device=str(device),
                    workers=config.workers,
                    precision=config.precision,
                    on_error=config.on_error,
                    stop=stop,
                )
            finally:
                _report(open_cache(target, allow_partial=True), corpus, output)
        else:
            click.echo(f"{output} is finished; nothing to do (--overwrite starts afresh)")
        if overwrite:
            os.replace(target, output)
            sync_folder(output.absolute().parent)
    cache = open_cache(output)
    for kind, number in sorted(_report(cache, corpus, output).items()):
        click.echo(f"{kind}: {number}", err=True)
    click.echo(
        f"{output}: {len(cache.done())} of {len(cache.images)} images have {cache.feature_size} features of "
        f"{network.name} {network.layer}; report: {_report_path(output)}"
    )
    if cache.reasons:
        sys.exit(EXIT_IMAGES_FAILED)


def _read(dataset: str, root: Path | None, *, limit: int | None) -> Corpus:
    corpus = read_dataset(dataset, root)
    for note in corpus.notes:
        click.echo(note, err=True)
    if limit is not None:
        corpus = corpus.limited(limit)
    if corpus.pictures_lacking:
        raise CorpusError(corpus.pictures_lacking)
    if not corpus.images:
        raise CorpusError(f"{corpus.name}: there are no images in {corpus.root}")
    return corpus


def _overrides(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Preprocessing that the options change. Raises ValueError."""
    chosen = {name: options[name] for name in ("resize", "crop", "interpolation") if options[name] is not None}
    for name in ("mean", "std"):
        if options[name] is not None:
            try:
                chosen[name] = tuple(float(part) for part in options[name].split(","))
            except ValueError:
                raise ValueError(f"--{name} takes three numbers, R,G,B, not {options[name]!r}") from None
    return chosen | ({"mode": "warp"} if options["warp"] else {})


def _provenance(
    corpus: Corpus, network: "Backbone", config: ExtractionConfig, *, device: str, limit: int | None
) -> dict[str, str | int]:
    weights = network.weights
    if weights != "pretrained" and not weights.startswith("random:"):
        weights = os.path.abspath(weights)  # a later stage may run elsewhere
    return {
        "dataset": corpus.name,
        "annotation_sha256": corpus.sha256(),
        "limit": limit or 0,
        **network.provenance(),
        "weights": weights,
        "dtype": config.dtype,
        "batch_size": config.batch_size,
        "precision": config.precision,
        "threads": config.threads,
        "device": device,
        **{name: version(name) for name in ("torch", "torchvision", "pillow", "mrnn")},
    }


def _report_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.report.tsv")


def _report(cache: FeatureCache, corpus: Corpus, output: Path) -> Counter[str]:
    """Write what is wrong with the data set and which pictures failed; return how many there are of each kind."""
    rows = [(problem.kind, problem.subject, problem.detail) for problem in corpus.problems]
    rows += [(FAILED_KIND, image_id, reason) for image_id, reason in cache.reasons.items()]
    lines = ["\t".join(" ".join(cell.split()) for cell in row) for row in [("kind", "id", "reason"), *rows]]
    write_whole(_report_path(output), "".join(f"{line}\n" for line in lines).encode())
    return Counter(kind for kind, _, _ in rows)
