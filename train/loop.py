"""The training loop: batch -> forward -> loss -> backward -> clip -> step -> log -> validate -> save."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import TrainingError
from mrnn.data.stopping import stop_on_signals
from mrnn.train.batches import Batch, epoch_batches
from mrnn.train.distributed import joined
from mrnn.train.losses import batch_bits
from mrnn.train.optim import gradient_norm, learning_rate, squared_norm
from mrnn.train.prepare import Training, prepare
from mrnn.train.run_files import LAST
from mrnn.train.run_folder import RunFolder, SaveTimer, WatchedFolder
from mrnn.train.settings import RunOptions, TrainSettings
from mrnn.train.validation import Perplexity, perplexity

EXPLODED = 10  # times log2 V, the bits of a model that knows nothing


def train(
    cache: FeatureCache,
    folder: Path,
    settings: TrainSettings,
    *,
    options: RunOptions | None = None,
    report: Callable[[str], None] = click.echo,
) -> None:
    """Train a model on a cache into a run folder, or go on with the run that is there.

    A run that was stopped or killed goes on where its last checkpoint stands and ends, on a CPU, with the same weights
    bit for bit. Several processes that call this share the work (distributed.py). Raises Stopped after saving, if asked
    to stop, and TrainingError if training cannot start or go on.
    """
    options = options or RunOptions()
    with (
        joined() as ranks,
        RunFolder(folder, overwrite=options.overwrite, report=report) if ranks.first else WatchedFolder(folder) as run,
    ):
        report = run.report
        ranks.meet()  # only now is a run that is overwritten out of sight
        last = run.read_last()
        training = prepare(cache, settings, options, last=last, report=report, ranks=ranks)
        progress = training.progress
        ranks.check_same({"step": progress.step, "cache": training.fingerprint, **asdict(settings)})
        if training.finished:
            report(f"{folder}: nothing to do, training is finished ({training.finished})")
            return
        run.begin(
            training.describe(),
            metrics_bytes=last["training"]["metrics_bytes"] if last else 0,
            step=progress.step,
            tensorboard=options.tensorboard,
        )
        if last:
            report(f"{folder}: going on after epoch {progress.epoch}, step {progress.step}")
        with stop_on_signals(time_limit=options.time_limit) as stop:
            due = SaveTimer(options)
            while not training.finished:
                for batch in epoch_batches(
                    training.train,
                    training.features,
                    settings.batch_size,
                    seed=settings.seed,
                    epoch=progress.epoch,
                    skip=progress.batch,
                    device=training.device,
                    part=(ranks.rank, ranks.count),
                    rectangular=training.graphs is not None,
                ):
                    try:
                        record = train_step(training, batch)
                    except TrainingError as error:
                        raise TrainingError(f"{error}; {run.describe_last()}") from None
                    if progress.step % options.log_every == 0:
                        record["cost"] = record["bits"] + settings.l2 * squared_norm(training.model)
                        run.log(record)
                    stopping = ranks.asked_to_stop(stop)
                    if stopping or due.after(progress.step):
                        run.save_last(training.content(training.model), progress, training.state())
                    if stopping:
                        raise stop.stopped(f"{folder / LAST} holds step {progress.step}")
                validate_and_save(training, run, report)
        best = f"epoch {progress.best_epoch}, dev perplexity {progress.best_perplexity:.3f}"
        report(f"{folder}: training is finished ({training.finished}); best: {best}")


def train_step(training: Training, batch: Batch) -> dict[str, Any]:
    """One step of optimisation on a batch; returns its line for metrics.jsonl."""
    settings, progress, model, ranks = training.settings, training.progress, training.model, training.ranks
    lr = learning_rate(
        progress.step,
        schedule=settings.schedule,
        peak=settings.lr,
        warmup=settings.warmup,
        total=settings.epochs * training.batches,
    )
    for group in training.optimiser.param_groups:
        group["lr"] = lr

    model.train()
    training.optimiser.zero_grad(set_to_none=True)
    # Without the cache, which graphs do not allow: no weight is used twice in a step.
    bf16 = settings.precision == "bf16"
    with torch.autocast(training.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
        bits = ranks.cost(training.graphs or batch_bits, model, batch, seed=[settings.seed, progress.step])
    # The processes' gradients are averaged: count times each one's share of the words makes that the mean of all words.
    (bits / batch.words * (batch.share * ranks.count)).backward()
    norm = gradient_norm(model)
    own, grad_norm = torch.stack([bits.detach(), norm]).tolist()
    total, words = ranks.sums(own, batch.words) if batch.share else ranks.sums(0.0, 0)
    check_finite(training, batch, total / words, grad_norm)
    if 0 < settings.clip < grad_norm:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), settings.clip, norm)
    training.optimiser.step()

    progress.step += 1
    progress.batch += 1
    progress.bits += total
    progress.tokens += int(words)
    if training.average:
        training.average.update(model, progress.step)
    seconds = training.clock.lap()
    progress.seconds += seconds
    return {
        "kind": "step",
        "step": progress.step,
        "epoch": progress.epoch + 1,
        "bits": total / words,
        "lr": lr,
        "tokens_per_s": words / seconds,
        "grad_norm": grad_norm,
    }


def validate_and_save(training: Training, run: RunFolder, report: Callable[[str], None]) -> None:
    """End an epoch: dev perplexity, the best checkpoint, the lines for people and machines, the last checkpoint."""
    progress = training.progress
    dev: Perplexity = training.ranks.by_first(lambda: perplexity(training.evaluated, training.val, training.features))
    train_bits, tokens, seconds = progress.bits / progress.tokens, progress.tokens, progress.seconds
    progress.finish_epoch()
    is_best = dev.perplexity < progress.best_perplexity
    if is_best:
        progress.best_perplexity, progress.best_epoch = dev.perplexity, progress.epoch
        run.save_best(training.content(training.evaluated), progress)
    run.log(
        {
            "kind": "epoch",
            "epoch": progress.epoch,
            "step": progress.step,
            "train_bits": train_bits,
            "val_bits": dev.bits,
            "val_perplexity": dev.perplexity,
            "val_perplexity_known": dev.perplexity_known,
            "seconds": seconds,
            "best": is_best,
        }
    )
    run.save_last(training.content(training.model), progress, training.state())
    left = (training.settings.epochs - progress.epoch) * (seconds + training.clock.lap())
    report(
        f"epoch {progress.epoch} of {training.settings.epochs}: train {train_bits:.3f} bits a word, dev perplexity "
        f"{dev.perplexity:.3f}{' (best)' if is_best else ''}, {tokens / seconds:.0f} words/s, {left / 60:.1f} min left"
    )


def check_finite(training: Training, batch: Batch, bits: float, grad_norm: float) -> None:
    """Raise TrainingError, before the weights are touched, if the cost or its gradient is of no use."""
    if math.isfinite(grad_norm) and bits < EXPLODED * math.log2(len(training.vocabulary)):
        return
    images = sorted({training.image_ids[i] for i in training.train.image[batch.sentences]})
    shown = ", ".join(images[:8]) + (f" and {len(images) - 8} more" if len(images) > 8 else "")
    raise TrainingError(
        f"training diverged at step {training.progress.step + 1}: {bits:g} bits a word, gradient norm {grad_norm:g}. "
        f"The batch holds the images {shown}. Lower --lr or --clip and start anew with --overwrite"
    )
