"""Stage 1 as a function: the images of a data set through a fixed network into a feature cache."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from mrnn.data.cache import FeatureCache, open_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.captions import Corpus
from mrnn.data.errors import CorpusError, SettingError
from mrnn.data.files import sync_folder, write_whole
from mrnn.data.outputs import is_cache, refuse_foreign
from mrnn.data.picture_hashes import describe_equal, equal_pictures
from mrnn.data.progress import silent
from mrnn.data.stopping import StopRequest
from mrnn.data.tokenize import segmentation_warning
from mrnn.extract.config import ExtractionConfig, available_cpus, shard_range
from mrnn.extract.resuming import AskedCache

REPORT_COLUMNS = ("kind", "id", "reason")
# Kinds of lines in the report.
FAILED_KIND, EQUAL_KIND, LEAK_KIND = "picture failed", "equal pictures", "equal pictures in two splits"


@dataclass(frozen=True)
class Extraction:
    """What an extraction produced.

    cache : the finished cache.
    computed : number of images computed or reused by this call; 0 if the cache was finished before.
    reused : number of those whose rows were taken from older caches.
    problems : kind -> number of problems of that kind, in the data set and with its images.
    report : tab-separated file that lists the problems one by one.
    """

    cache: FeatureCache
    computed: int
    reused: int
    problems: dict[str, int]
    report: Path


def extract_dataset(
    corpus: Corpus,
    output: str | Path,
    *,
    config: ExtractionConfig | None = None,
    shard: tuple[int, int] = (0, 1),
    limit: int | None = None,
    retry_failed: bool = False,
    overwrite: bool = False,
    reuse: Sequence[str | Path] = (),
    lock: bool = True,
    stop: StopRequest | None = None,
    report: Callable[[str], None] = silent,
) -> Extraction:
    """Compute the features of a data set's images and write them, with its captions, into a feature cache.

    An unfinished cache at `output` is resumed. Prints nothing, installs no signal handlers, and may run in any thread.

    corpus : the data set, as `mrnn.data.datasets.read_dataset` returns it.
    output : the cache; the report is written beside it.
    config : network and settings; the defaults if None.
    shard : (I, N) for part I, from 0, of N; `mrnn.data.merge.merge_caches` joins the parts.
    limit : number of images for a trial, always the same ones; None for all.
    retry_failed : whether to try images again that failed in an earlier run.
    overwrite : whether to replace a finished cache; the old file stays until the new one is complete.
    reuse : older caches; the rows of pictures with the same bytes are taken from them, whatever their ids, splits and
        captions, if they were computed with the same settings.
    lock : whether to lock the file against other writers.
    stop : asked after each batch.
    report : called with each line worth telling a user while the work goes on.

    Raises SettingError for settings that cannot be, CorpusError for a data set without images, CacheError for a cache
    that was started with other settings, WeightsError for weights that cannot be used, and Stopped, with everything
    saved, if `stop` asks for it.
    """
    config, output = config or ExtractionConfig(), Path(output)
    if not output.absolute().parent.is_dir():
        raise SettingError(f"there is no folder {output.absolute().parent} for the output")
    corpus = _with_images(corpus, limit)
    refuse_foreign(output, is_cache, what="a feature cache")
    refuse_foreign(report_path(output), is_report, what="a report of extract-features")
    if warning := segmentation_warning(text for image in corpus.images for text in image.sentences):
        report(warning)
    # Here, so that all of the above is refused before torch is loaded.
    from mrnn.extract.backbones import build_backbone
    from mrnn.extract.network import check_precision, choose_device
    from mrnn.extract.plan import plan_extraction
    from mrnn.extract.reusing import Reusable
    from mrnn.extract.runner import extract

    index, count = shard
    begin, end = shard_range(len(corpus.images), batch_size=config.images_per_pass, index=index, count=count)
    device = choose_device(config.device)
    check_precision(config.precision, device)
    network = build_backbone(
        config.backbone,
        weights=config.weights,
        layer=config.layer,
        views=config.views,
        overrides=config.preprocessing(),
        report=report,
    )
    plan = plan_extraction(corpus, network, config)
    provenance = _provenance(corpus, plan.provenance, config, device=device.type, limit=limit)
    rows = config.rows_per_image
    old = Reusable(list(map(Path, reuse)), provenance, source=plan.source) if reuse else None
    target = output.with_name(f"{output.name}.new") if overwrite else output
    part = replace(corpus, images=corpus.images[begin:end])
    asked = AskedCache(target, part, provenance, first=begin, total=len(corpus.images), threads=config.threads)
    with ExitStack() as stack:
        if overwrite and target.exists():
            asked.remove_unless_it_fits(lock=lock)
        if not target.exists():
            asked.create(feature_size=network.feature_size, rows_per_image=rows)
        writer = stack.enter_context(CacheWriter(target, lock=lock))
        asked.check(writer.cache, report=report)
        if retry_failed and (reopened := writer.reopen_failed()):
            report(f"{reopened} failed {'image is' if reopened == 1 else 'images are'} tried again")
        computed, reused = len(writer.pending()), 0
        if computed:
            try:
                reused = extract(
                    writer,
                    plan.sampler,
                    corpus.root,
                    threads=int(writer.cache.provenance["threads"]),
                    source=plan.source,
                    reuse=old,
                    workers=config.workers or available_cpus(),
                    on_error=config.on_error,
                    stop=stop,
                )
            finally:
                _write_report(open_cache(target, allow_partial=True), corpus, report_path(output))
        if overwrite:
            os.replace(target, output)
            sync_folder(output.absolute().parent)
    cache = open_cache(output)
    problems = _write_report(cache, corpus, report_path(output))
    for line in describe_equal(cache):
        report(line)
    return Extraction(cache, computed, reused, problems, report_path(output))


def is_report(path: Path) -> bool:
    """Whether a file is the report of an extraction."""
    with path.open("rb") as stream:
        return stream.readline() == "\t".join(REPORT_COLUMNS).encode() + b"\n"


def report_path(output: Path) -> Path:
    """Where the report of an extraction to `output` lies."""
    return output.with_name(f"{output.name}.report.tsv")


def _with_images(corpus: Corpus, limit: int | None) -> Corpus:
    """The corpus, limited if asked. Raises CorpusError unless there are images."""
    if limit is not None:
        corpus = corpus.limited(limit)
    if corpus.pictures_lacking:
        raise CorpusError(corpus.pictures_lacking)
    if not corpus.images:
        raise CorpusError(f"{corpus.name}: there are no images in {corpus.root}")
    return corpus


def _provenance(
    corpus: Corpus, planned: Mapping[str, str | int], config: ExtractionConfig, *, device: str, limit: int | None
) -> dict[str, str | int]:
    weights = str(planned["weights"])
    if weights != "pretrained" and not weights.startswith("random:"):
        weights = os.path.abspath(weights)  # a later stage may run in another folder
    return {
        "dataset": corpus.name,
        "annotation_sha256": corpus.sha256(),
        "limit": limit or 0,
        **planned,
        "weights": weights,
        "dtype": config.dtype,
        "batch_size": config.batch_size,
        "precision": config.precision,
        "threads": config.threads or available_cpus(),
        "device": device,
        **{name: version(name) for name in ("torch", "torchvision", "pillow", "mrnn")},
    }


def _write_report(cache: FeatureCache, corpus: Corpus, path: Path) -> dict[str, int]:
    """List the problems of the data set and the failed images in a file; return how many there are of each kind."""
    rows = [(problem.kind, problem.subject, problem.detail) for problem in corpus.problems]
    rows += [(FAILED_KIND, image_id, reason) for image_id, reason in cache.reasons.items()]
    equal = equal_pictures(cache)
    for group in equal.groups:
        rows.append((LEAK_KIND if group in equal.leaks else EQUAL_KIND, group[0], " ".join(group[1:])))
    lines = ["\t".join(" ".join(cell.split()) for cell in row) for row in [REPORT_COLUMNS, *rows]]
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())
    return dict(sorted(Counter(kind for kind, _, _ in rows).items()))
