"""Options that several commands of this folder share, and how options become settings; see also mrnn.data.options."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import click

from mrnn.data.command import setting_options
from mrnn.data.options import Decorator
from mrnn.data.outputs import OutputFile, is_page
from mrnn.evaluate.settings import CONSENSUS_BEAM, ConsensusConfig, RetrievalConfig

Config = TypeVar("Config")

normaliser_images_option = setting_options(RetrievalConfig, only=("normaliser_images",))
prefix_option = click.option("--prefix", default="", metavar="WORDS", help="Words that every caption begins with.")
weights_option = click.option(
    "--weights",
    metavar="FILE",
    help="Weights of the backbone for image files, or 'pretrained'.  [default: from where the weights for the training "
    "features came]",
)
region_weights_option = click.option(
    "--region-weights",
    metavar="FILE",
    help="Weights of the detector that finds the regions of image files.  [default: from where the weights for the "
    "training features came]",
)


def consensus_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--consensus` and its settings."""
    return click.option(
        "--consensus",
        is_flag=True,
        help="Choose the caption of the beam that is most similar to the captions of similar training images. Unless "
        f"--beam is given, the beam is then {CONSENSUS_BEAM} wide.",
    )(setting_options(ConsensusConfig)(command))


def html_option(help: str) -> Decorator:
    """`--html`. help : what the page shows."""
    return click.option("--html", type=OutputFile("a web page", is_page), metavar="FILE.html", help=help)


def some_of(known: Sequence[str]) -> Callable[[click.Context, click.Parameter, str], tuple[str, ...]]:
    """Callback of an option that takes some of the known names with commas between; returns them in known order."""

    def parse(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
        names = {name.strip() for name in text.split(",")} - {""}
        if not names <= set(known):
            raise click.BadParameter(f"give some of {', '.join(known)}, with commas between, not {text!r}")
        return tuple(name for name in known if name in names)

    return parse


def config_from(config: type[Config], options: Mapping[str, Any], **others: Any) -> Config:
    """An instance of a settings dataclass. Raises SettingError for values that the dataclass refuses.

    options : of a command, by name; those that are no field are left out. others : values that no option gives.
    """
    names = {field.name for field in fields(config)}  # type: ignore[arg-type]
    return config(**{name: value for name, value in options.items() if name in names} | others)


def use_threads(count: int) -> None:
    """Set the number of CPU threads of this process; 0 leaves the choice to torch."""
    import torch

    if count:
        torch.set_num_threads(count)


def is_default(option: str) -> bool:
    """Whether an option of the command that is running, by the name of its parameter, was not given."""
    return click.get_current_context().get_parameter_source(option) is click.core.ParameterSource.DEFAULT
