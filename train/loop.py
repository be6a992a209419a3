"""The training loop: batch -> forward -> loss -> backward -> clip -> step -> log -> validate -> save."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import TrainingError
from mrnn.data.exhaustion import memory_for
from mrnn.data.stopping import StopRequest
from mrnn.train.batches import Batch
from mrnn.train.distributed import joined
from mrnn.train.measures import SAMPLE_SECONDS
from mrnn.train.optim import gradient_norm, learning_rate, squared_norm
from mrnn.train.prepare import prepare
from mrnn.train.run_files import LAST
from mrnn.train.run_folder import RunFolder, SaveTimer, WatchedFolder
from mrnn.train.settings import RunOptions, TrainSettings
from mrnn.train.training import Training


def train(
    cache: FeatureCache,
    folder: str | Path,
    settings: TrainSettings,
    *,
    options: RunOptions | None = None,
    stop: StopRequest | None = None,
    report: Callable[[str], None] = lambda line: None,
    command: Mapping[str, Any] | None = None,
) -> None:
    """Train a model on a cache into a run folder, or resume the run in that folder.

    A run that was stopped or killed resumes from its last checkpoint and ends, on a CPU, with the same weights bit for
    bit. Several processes that call this share the work (distributed.py).

    cache : the opened feature cache.
    folder : the run folder, which is created if it does not exist.
    settings : everything that the result depends on; a run resumes only with equal settings.
    options : settings that may change from one call to the next.
    stop : checked after every step, so that another thread or a signal handler can request a stop; see
        mrnn.data.stopping.
    report : called with each line of text for users.
    command : how the process was started, for config.json.

    Raises Stopped after saving, if a stop was requested, and TrainingError if training cannot start or resume.
    """
    folder, options, stop = Path(folder), options or RunOptions(), stop or StopRequest()
    with (
        joined() as ranks,
        (
            RunFolder(folder, overwrite=options.overwrite, report=report)
            if ranks.first
            else WatchedFolder(folder, overwrite=options.overwrite)
        ) as run,
    ):
        report = run.report
        ranks.meet()  # until the first process has locked the folder
        last = run.read_last()
        training = prepare(cache, settings, options, last=last, report=report, ranks=ranks)
        progress = training.progress
        data = {"cache": training.fingerprint, "segments_sha256": training.segments_sha256}
        ranks.check_same({"step": progress.step, **data, **settings.flat()})
        if training.finished:
            report(f"{folder}: nothing to do, training is finished ({training.finished})")
            return
        run.begin(
            training.describe() | ({"command": dict(command)} if command else {}),
            metrics_bytes=last["training"]["metrics_bytes"] if last else 0,
            step=progress.step,
            tensorboard=options.tensorboard,
        )
        if last:
            report(f"{folder}: resuming after epoch {progress.epoch}, step {progress.step}")
        due = SaveTimer(options)
        while not training.finished:
            for batch in training.task.batches(
                training.data,
                settings,
                epoch=progress.epoch,
                skip=progress.batch,
                part=(ranks.rank, ranks.count),
                rectangular=training.graphs is not None,
            ):
                try:
                    with memory_for(f"a step on {batch.count} words", remedy="lower --batch-size"):
                        record = train_step(training, batch)
                except TrainingError as error:
                    raise TrainingError(f"{error}; {run.describe_last()}") from None
                if progress.step % options.log_every == 0:
                    record["cost"] = record[training.task.measure.key] + settings.l2 * squared_norm(training.model)
                    run.log(record)
                stopping = ranks.asked_to_stop(stop)
                if stopping or due.after(progress.step):
                    run.save_last(training.content(training.model), progress, training.state())
                if stopping:
                    raise stop.stopped(f"{folder / LAST} holds step {progress.step}")
            validate_and_save(training, run, report)
        best = f"epoch {progress.best_epoch}, {training.task.criterion.label} {progress.best or math.nan:.3f}"
        report(f"{folder}: training is finished ({training.finished}); best: {best}")


def train_step(training: Training, batch: Batch) -> dict[str, Any]:
    """One optimisation step on a batch; returns its line for metrics.jsonl."""
    settings, progress, task = training.settings, training.progress, training.task
    model, ranks = training.model, training.ranks
    lr = learning_rate(
        progress.step,
        schedule=settings.schedule,
        peak=settings.lr,
        warmup=settings.warmup,
        total=settings.epochs * task.batch_count(training.data, settings),
    )
    for group in training.optimiser.param_groups:
        group["lr"] = lr

    model.train()
    training.optimiser.zero_grad(set_to_none=True)
    # Without autocast's cache of cast weights, which CUDA graphs do not allow. Hardly any weight is used twice in a
    # step, so the cache would save nothing.
    bf16 = settings.precision == "bf16"
    with torch.autocast(training.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
        cost = ranks.cost(training.graphs or task.cost, model, batch, seed=[settings.seed, progress.step])
    # DistributedDataParallel averages over processes, whose parts differ in size. Weighting each mean by share * count
    # makes the result the mean over all units of the batch.
    (cost / batch.count * (batch.share * ranks.count)).backward()
    norm = gradient_norm(model)
    own, grad_norm = torch.stack([cost.detach(), norm]).tolist()  # one transfer from the GPU, not two
    total, count = ranks.sums(own, batch.count) if batch.share else ranks.sums(0.0, 0)
    check_finite(training, batch, total / count, grad_norm)
    if 0 < settings.clip < grad_norm:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), settings.clip, norm)
    if settings.clip_values:
        torch.nn.utils.clip_grad_value_(model.parameters(), settings.clip_values)
    training.optimiser.step()

    progress.step += 1
    progress.batch += 1
    progress.cost += total
    progress.count += int(count)
    if training.average:
        training.average.update(model, progress.step)
    seconds = training.clock.lap()
    progress.seconds += seconds
    return {
        "kind": "step",
        "step": progress.step,
        "epoch": progress.epoch + 1,
        task.measure.key: total / count,
        "lr": lr,
        f"{task.measure.unit}_per_s": count / seconds,
        "grad_norm": grad_norm,
    }


def validate_and_save(training: Training, run: RunFolder, report: Callable[[str], None]) -> None:
    """End an epoch: validate, save the best checkpoint, log and report, save the last checkpoint."""
    progress, task = training.progress, training.task
    criterion, measure = task.criterion, task.measure
    found: dict[str, float] = training.ranks.by_first(lambda: task.validate(training.evaluated, training.data))
    cost, count, seconds = progress.cost / progress.count, progress.count, progress.seconds
    progress.finish_epoch()
    value = found[criterion.key]
    is_best = criterion.better(value, criterion.worst() if progress.best is None else progress.best)
    if is_best:
        progress.best, progress.best_epoch = value, progress.epoch
        run.save_best(training.content(training.evaluated), progress)
    run.log(
        {
            "kind": "epoch",
            "epoch": progress.epoch,
            "step": progress.step,
            f"train_{measure.key}": cost,
            **found,
            "seconds": seconds,
            "best": is_best,
        }
    )
    run.save_last(training.content(training.model), progress, training.state())
    left = (training.settings.epochs - progress.epoch) * (seconds + training.clock.lap())
    spent = f" in {found[SAMPLE_SECONDS]:.1f} s" if SAMPLE_SECONDS in found else ""
    report(
        f"epoch {progress.epoch} of {training.settings.epochs}: train {cost:.3f} {measure.label}, {criterion.label} "
        f"{value:.3f}{spent}{' (best)' if is_best else ''}, {count / seconds:.0f} {measure.units}/s, "
        f"{left / 60:.1f} min left"
    )


def check_finite(training: Training, batch: Batch, cost: float, grad_norm: float) -> None:
    """Raise TrainingError if training has diverged, before the step changes the weights.

    training : state of the run.
    batch : the batch of this step, whose images the message names.
    cost : cost per unit.
    grad_norm : norm of the gradient; not finite in a diverged run.
    """
    if math.isfinite(grad_norm) and cost < training.task.limit(training.data):
        return
    images = sorted({training.image_ids[i] for i in training.data.train.image[batch.sentences]})
    shown = ", ".join(images[:8]) + (f" and {len(images) - 8} more" if len(images) > 8 else "")
    raise TrainingError(
        f"training diverged at step {training.progress.step + 1}: {cost:g} {training.task.measure.label}, gradient "
        f"norm {grad_norm:g}. The batch holds the images {shown}. Lower --lr or --clip and start again with --overwrite"
    )
