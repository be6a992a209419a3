"""The program `mrnn`: every command as a subcommand. `python -m mrnn.data.commands` runs it too.

A literal table names the function and the summary of each subcommand. A module is imported only when its subcommand is
used, so `mrnn --help` and completion load neither torch nor h5py; a test compares the summaries with the commands' own.
"""

from importlib import import_module

import click

COMMANDS = {
    "extract": ("mrnn.extract.cli:main", "Compute image features and write them, with the captions, to one HDF5 file."),
    "merge": ("mrnn.data.cli:merge", "Join the shards of an extraction into one feature cache."),
    "verify": ("mrnn.data.cli:verify", "Check every row of a feature cache against its checksum."),
    "inspect": ("mrnn.data.cli:inspect", "Show what a feature cache contains and where it came from."),
    "import": ("mrnn.data.cli:import_", "Make a feature cache from existing features and the captions of a data set."),
    "export": (
        "mrnn.evaluate.commands.export:main",
        "Export a feature cache or a trained model to files that other programs read.",
    ),
    "train": ("mrnn.train.cli:main", "Train a model on a feature cache, or resume a run."),
    "evaluate": (
        "mrnn.evaluate.commands.evaluate:main",
        "Measure the perplexity, captions, retrieval, grounding and captions of regions of a trained model on a split.",
    ),
    "caption": ("mrnn.evaluate.commands.caption:main", "Generate a caption for each image file."),
    "search": (
        "mrnn.evaluate.commands.search:main",
        "Find the images of a feature cache that SENTENCE describes, or the captions that describe an image file.",
    ),
    "align": (
        "mrnn.evaluate.commands.align:main",
        "Align sentences with the regions of their images and write the segments as JSON lines.",
    ),
    "serve": (
        "mrnn.evaluate.commands.serve:main",
        "Show a local web page that searches, describes and aligns pictures.",
    ),
    "score-captions": (
        "mrnn.evaluate.commands.score_captions:main",
        "Score the captions of any program against the captions of a data set.",
    ),
    "score-retrieval": (
        "mrnn.evaluate.commands.score_retrieval:main",
        "Rank images and sentences by the matrix of scores of any program.",
    ),
    "baselines": (
        "mrnn.evaluate.commands.baselines:main",
        "Measure baselines on a split: what a trained model has to beat.",
    ),
    "agreement": (
        "mrnn.evaluate.commands.agreement:main",
        "Measure how well the scores of a model, and caption metrics, agree with people's judgements of image and "
        "caption.",
    ),
    "compare-runs": (
        "mrnn.train.cli_compare:main",
        "Compare training runs: the settings in which they differ, and their results, the best first.",
    ),
    "compare-results": (
        "mrnn.evaluate.commands.compare_results:main",
        "Compare the evaluations in the folders A and B, both of the same split of the same data set.",
    ),
}


class LazyGroup(click.Group):
    """A group that holds summaries only; the command itself is imported when its subcommand is used."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known, rest = super().resolve_command(ctx, args)
        return name, load(name) if name is not None and known is not None else None, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):  # click's own cuts summaries off
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def load(name: str) -> click.Command:
    """Import the command of a subcommand."""
    module, _, function = COMMANDS[name][0].partition(":")
    command: click.Command = getattr(import_module(module), function)
    return command


EPILOG = """\b
Example:
  mrnn extract --dataset flickr8k
  mrnn train --features feats.h5
  mrnn evaluate --checkpoint runs/feats-mrnn --features feats.h5

Every subcommand has its own --help, and is installed under a name of its own as well: docs/commands.md."""


@click.group(
    cls=LazyGroup,
    commands={name: click.Command(name, short_help=summary) for name, (_, summary) in COMMANDS.items()},
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="mrnn")
def main() -> None:
    """Learn to describe images, and to find images by sentence and sentences by image."""


if __name__ == "__main__":
    main(prog_name="mrnn")
