"""Setting up what the training loop works on: a new run from a cache and settings, or one from its checkpoint."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mrnn.data.cache import FeatureCache, matching_settings, read_checksums
from mrnn.data.errors import CheckpointError, TrainingError
from mrnn.data.settings import layer_sizes
from mrnn.data.tokenize import segmentation_warning
from mrnn.data.vocabulary import Vocabulary, build_vocabulary
from mrnn.train.checkpoint import load_trained
from mrnn.train.data_report import Report, data_warnings, report_data, split_remedy
from mrnn.train.device import pick_device
from mrnn.train.distributed import Ranks
from mrnn.train.features import Features
from mrnn.train.graphs import Graphs, cuda_capture
from mrnn.train.models import kind_of
from mrnn.train.models.model import Model
from mrnn.train.optim import WeightAverage, build_optimiser
from mrnn.train.run_folder import Progress
from mrnn.train.segment_files import read_segments
from mrnn.train.sentences import encode_sentences, sentences_of, tokenized_sentences
from mrnn.train.settings import RunOptions, TrainSettings
from mrnn.train.tasks.task import Task, TrainingData
from mrnn.train.training import Training


def prepare(
    cache: FeatureCache,
    settings: TrainSettings,
    options: RunOptions,
    *,
    last: dict[str, Any] | None,
    report: Report,
    ranks: Ranks | None = None,
) -> Training:
    """Set up a new run, or restore a run from the content of its last checkpoint.

    cache : the opened feature cache.
    settings : everything that the result depends on.
    options : settings that do not alter the result.
    last : content of the last checkpoint; None for a new run.
    report : called with each line of text for users.
    ranks : the processes of the run; a single one by default.

    Raises TrainingError if there is nothing to train on, if the run was started with other settings or another cache,
    or if the weights to start from do not fit.
    """
    ranks = ranks or Ranks()
    kind = kind_of(settings.model)
    task: Task = kind.task_class()(settings)
    if ranks.count > 1 and not task.divisible:
        raise TrainingError(
            f"{settings.model}{' with --contrast' * bool(settings.contrast)} is trained by one process, since its cost "
            "compares the pairs of a batch; start it without torchrun, and without srun's several tasks"
        )
    fingerprint = cache_fingerprint(cache)
    segments = read_segments(settings.segments, cache) if settings.segments else None
    segments_sha256 = segments.sha256 if segments else ""
    if last is not None:
        refuse_changes(last, cache, settings, fingerprint, segments_sha256=segments_sha256)
    device = pick_device(options.device, settings.precision, local=ranks.local)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(settings.seed)  # for dropout, which uses torch's global generator; weights have their own

    for split in ("train", "val"):
        if not len(cache.done(split)):
            raise TrainingError(f"{cache.path} has no images of the split {split!r} with features{split_remedy(cache)}")
    start_from = load_trained(Path(settings.init_from)) if settings.init_from and last is None else None
    words, image = tokenized_sentences(cache, cache.done("train"))
    if last is not None:
        vocabulary = Vocabulary(tuple(last["vocabulary"]))
    elif start_from is not None:
        vocabulary = start_from.vocabulary
    else:
        vocabulary = build_vocabulary(words, cutoff=settings.cutoff)
    if segments:
        train, val = (segments.of(split).sentences(cache, vocabulary) for split in ("train", "val"))
    else:
        train, val = encode_sentences(words, image, vocabulary), sentences_of(cache, "val", vocabulary)
    for split, sentences in (("train", train), ("val", val)):
        if not len(sentences):
            raise TrainingError(f"{cache.path}: the images of the split {split!r} have no sentences to learn from")
    report_data(cache, vocabulary, train, val, report, called="segments" if segments else "sentences")
    for warning in data_warnings(words, vocabulary, cutoff=settings.cutoff):
        report(warning)
    if warning := segmentation_warning(text for i in cache.done("train") for text in cache.images[i].sentences):
        report(warning)

    config = settings.config(vocabulary=len(vocabulary), features=cache.feature_size)
    config = replace(config, layer_sizes=layer_sizes(cache.provenance))
    try:
        rows = config.rows(cache.rows_per_image)
    except ValueError as error:
        raise TrainingError(f"{cache.path}: {error}") from error
    features = Features(cache, budget=options.memory_budget, device=device, rows=rows, by_row=segments is not None)
    data = TrainingData(train, val, features, vocabulary, device)
    model = kind.build(config)
    if last is not None:
        model.load_state_dict(last["weights"])
    elif start_from is not None:
        take_weights(model, start_from.model, cache, start_from.features, settings.init_from)
    else:
        # On the CPU, before the model moves to its device, so that a seed gives the same weights on every device.
        model.initialise(torch.Generator().manual_seed(settings.seed))
        task.begin(model, data, settings)
    model.to(device)
    optimiser = build_optimiser(
        settings.optimiser,
        model.parameters(),
        lr=settings.lr,
        l2=settings.l2,
        momentum=settings.momentum,
        beta2=settings.beta2,
    )
    on_one_gpu = device.type == "cuda" and ranks.count == 1
    training = Training(
        settings=settings,
        task=task,
        data=data,
        image_ids=[image.id for image in cache.images for _ in range(cache.rows_per_image if segments else 1)],
        model=model,
        optimiser=optimiser,
        average=WeightAverage(model, settings.ema) if settings.ema else None,
        progress=Progress(),
        provenance=dict(cache.provenance),
        fingerprint=fingerprint,
        segments_sha256=segments_sha256,
        graphs=Graphs(task.cost, cuda_capture(device), report=report) if options.graphs and on_one_gpu else None,
        ranks=ranks,
    )
    if last is not None:
        take_up(training, last)
    return training


def take_up(training: Training, last: dict[str, Any]) -> None:
    """Restore optimiser, average, generators and progress from the content of a checkpoint."""
    training.progress = Progress.from_dict(last["progress"])
    state = last["training"]
    try:
        training.optimiser.load_state_dict(state["optimiser"])
        if training.average:
            training.average.model.load_state_dict(state["average"])
        torch.set_rng_state(state["generator"])
        if training.device.type == "cuda" and state["generator_cuda"] is not None:
            torch.cuda.set_rng_state(state["generator_cuda"], training.device)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"the last checkpoint cannot be resumed ({error}); start again with --overwrite"
        ) from error


def refuse_changes(
    last: dict[str, Any], cache: FeatureCache, settings: TrainSettings, fingerprint: str, *, segments_sha256: str
) -> None:
    """Raise TrainingError unless a run can resume with these settings, this cache and this file of segments.

    last : content of the run's last checkpoint.
    cache : the opened feature cache.
    settings : the settings of this call.
    fingerprint : `cache_fingerprint` of the cache.
    segments_sha256 : as in `Training`.
    """
    changed = settings.changed_from(last["settings"])
    before, now = last["features"], cache.provenance
    changed += [
        f"{name} of the features {before.get(name)}, now {now.get(name)}" for name in matching_settings(before, now)
    ]
    if "training" not in last:
        raise CheckpointError("the last checkpoint holds no training state; start again with --overwrite")
    before_sha256 = str(last["training"].get("segments_sha256", ""))
    if not changed and before_sha256 != segments_sha256:
        changed.append(f"content of {settings.segments} (SHA-256) {before_sha256[:12]}, now {segments_sha256[:12]}")
    # The digest of the data tells only that something changed, so it is reported only if nothing more telling is known.
    if not changed and last["training"].get("fingerprint") != fingerprint:
        was, new = str(last["training"].get("fingerprint"))[:12], fingerprint[:12]
        changed.append(f"images, sentences or features of the cache {was}, now {new}")
    if changed:
        raise TrainingError(
            f"this run was started with different settings: {'; '.join(changed)}. Use the former settings, choose "
            "another --output, or start again with --overwrite"
        )


def take_weights(model: Model, other: Model, cache: FeatureCache, features: dict[str, Any], run: str) -> None:
    """Copy the weights of another run into a model, with its feature mean and scale.

    model : the new model.
    other : the trained model.
    cache : the cache to train on.
    features : provenance of the cache that `other` was trained on.
    run : name of the other run, for messages.

    Raises TrainingError if the features differ or the shapes do not fit.
    """
    differing = matching_settings(features, cache.provenance, regions=model.config.rows(cache.rows_per_image) > 1)
    if differing:
        raise TrainingError(
            f"{run} was trained on other features: {', '.join(differing)} differ from those of {cache.path}"
        )
    try:
        model.load_state_dict(other.state_dict())
    except RuntimeError:
        raise TrainingError(
            f"the network of {run} has another shape ({other.config}); give the same --model and sizes"
        ) from None


def cache_fingerprint(cache: FeatureCache) -> str:
    """Hex digest of everything that training reads of a cache: finished images, their sentences, row checksums."""
    digest = hashlib.sha256()
    checksums = read_checksums(cache)
    for split in ("train", "val"):
        for i in cache.done(split):
            digest.update(repr((split, cache.images[i].id, cache.images[i].sentences, int(checksums[i]))).encode())
    return digest.hexdigest()
