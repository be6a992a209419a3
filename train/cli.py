"""train-mrnn: train a model on a feature cache."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from mrnn.data.cache import open_cache
from mrnn.data.command import debug_option, one_line_errors
from mrnn.train.loop import train
from mrnn.train.settings import RunOptions, TrainSettings

EPILOG = """\b
Example:
  extract-features --dataset flickr8k
  train-mrnn --features feats.h5 --epochs 15

The run folder then is runs/feats-mrnn. Stopped or killed, the same command goes on where it was; settings that alter
the result must be the same. It holds config.json, metrics.jsonl (a line every --log-every steps and every epoch),
checkpoint_best.pt and checkpoint_last.pt. Exit code 75: stopped on request with everything saved, run it again.
Started by torchrun, or by srun as in jobs/train.sbatch, several processes divide every batch among them."""

SETTINGS_HELP = {
    "model": "mrnn, or rnn-base: the same without the image.",
    "epochs": "Times through the training sentences.",
    "batch_size": "Sentences in a batch.",
    "lr": "Highest learning rate.",
    "seed": "Of weights, order and dropout.",
    "cutoff": "List words that occur so often in the training sentences.",
    "embedding1": "Width of the first word embedding.",
    "embedding2": "Width of the second; must equal --recurrent.",
    "recurrent": "Width of the recurrent layer.",
    "multimodal": "Width of the multimodal layer.",
    "dropout": "Share of units dropped from words, recurrent and multimodal layer.",
    "image_dropout": "Share of image feature values dropped.",
    "l2": "lambda of the paper's cost: bits a word + lambda ||theta||^2.",
    "clip": "Largest global norm of the gradient; 0 for none.",
    "optimiser": "adam, sgd or rmsprop.",
    "momentum": "Of sgd; beta1 of adam.",
    "beta2": "Decay of squared gradients in adam and rmsprop.",
    "schedule": "cosine (down to 0 over --epochs) or constant.",
    "warmup": "Steps over which the learning rate rises.",
    "patience": "Stop after so many epochs without a better dev perplexity; 0 for never.",
    "recurrence_init": "identity, orthogonal or uniform.",
    "recurrence_scale": "Factor on the first recurrent weights.",
    "embedding_scale": "Bound of the first word embeddings.",
    "output_scale": "Factor on the first output weights.",
    "image_scale": "Root mean square that image features are brought to, their mean taken off.",
    "frequency_bias": "Start the output bias at the log frequencies of the words.",
    "ema": "Decay of a moving average of the weights that is validated and kept as the best; 0 for none.",
    "precision": "fp32, or bf16 on GPUs.",
    "init_from": "Start a new run from the best weights and the words of another run's folder.",
}

OPTIONS_HELP = {
    "device": "auto, cpu, cuda, cuda:1, ...",
    "threads": "CPU threads; 0 for torch's choice.",
    "save_every": "Time (5m, 90s, 1h) or steps between saves within an epoch.",
    "memory_budget": "GB of features held in memory; larger ones are memory-mapped.",
    "log_every": "Steps from line to line in metrics.jsonl.",
    "graphs": "On a GPU by itself, run forward and backward passes as CUDA graphs.",
    "tensorboard": "Write TensorBoard events where it is installed.",
}


def _options(config: type, helps: dict[str, str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A click option for every field that `helps` names, with the field's own default and type."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for field in reversed([field for field in fields(config) if field.name in helps]):
            flag = "--" + field.name.replace("_", "-")
            kind: dict[str, Any] = {"type": type(field.default)}
            if isinstance(field.default, bool):
                flag, kind = f"{flag}/--no-{flag[2:]}", {}
            command = click.option(
                flag, field.name, default=field.default, show_default=True, help=helps[field.name], **kind
            )(command)
        return command

    return decorate


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--features", required=True, type=click.Path(path_type=Path), help="The feature cache.")
@click.option("--output", type=click.Path(path_type=Path), help="The run folder.  [default: runs/<cache>-<model>]")
@_options(TrainSettings, SETTINGS_HELP)
@_options(RunOptions, OPTIONS_HELP)
@click.option("--time-limit", type=click.FloatRange(min=0), help="Stop, saved, after so many minutes.")
@click.option("--overwrite", is_flag=True, help="Start anew, deleting the run that is there.")
@click.option("--allow-partial", is_flag=True, help="Accept a cache with images still pending.")
@debug_option
@one_line_errors
def main(features: Path, output: Path | None, allow_partial: bool, time_limit: float | None, **values: Any) -> None:
    """Train a model on a feature cache, or go on with a run."""
    try:
        settings = TrainSettings(**{name: values.pop(name) for name in SETTINGS_HELP})
        options = RunOptions(**values, time_limit=None if time_limit is None else time_limit * 60)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    cache = open_cache(features, allow_partial=allow_partial)
    train(cache, output or Path("runs") / f"{features.stem}-{settings.model}", settings, options=options)
