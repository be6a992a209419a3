"""export-mrnn: a cache or a model in files that other programs read."""

from pathlib import Path

import click

from mrnn.data.captions import SPLITS
from mrnn.data.command import command
from mrnn.data.errors import SettingError
from mrnn.data.options import path_type
from mrnn.data.outputs import is_cache

EPILOG = """\b
Example:
  export-mrnn feats.h5 feats.npz
  export-mrnn feats.h5 f8k_precomp
  export-mrnn runs/feats-mrnn model --step

A cache goes to a file .npz or .parquet (which takes pyarrow: pip install 'mrnn[parquet]'), or to a folder in the form
of VSE++ and SCAN. import-features reads .npz and the folder back. A model goes to a folder with model.safetensors,
config.json, vocabulary.txt and a model card, README.md, which commands accept as --checkpoint."""


@command("export-mrnn", epilog=EPILOG)
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("output", type=path_type)
@click.option(
    "--split", type=click.Choice(SPLITS), help="Of a cache, the only images to export.  [default: all with features]"
)
@click.option("--step", is_flag=True, help="Of a model, also one decoding step as programs of torch.export (.pt2).")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
def main(source: Path, output: Path, split: str | None, step: bool, overwrite: bool) -> None:
    """Export a feature cache or a trained model to files that other programs read.

    SOURCE is a feature cache, or a run folder that train-mrnn wrote. OUTPUT is a file or a folder.
    """
    if source.is_file() and is_cache(source):
        if step:
            raise SettingError("--step is for a model; a cache has no decoding step")
        from mrnn.data.cache import open_cache
        from mrnn.data.export import export_cache

        written, left_out = export_cache(
            open_cache(source, allow_partial=True), output, split=split, overwrite=overwrite
        )
        click.echo(f"{output}: {written} images" + (f", {left_out} left out" if left_out else ""))
        return
    if split is not None:
        raise SettingError("--split is for a cache; a model has no images")
    from mrnn.evaluate.export import export_model

    export_model(source, output, step=step, overwrite=overwrite)
    click.echo(f"{output}: {', '.join(sorted(path.name for path in output.iterdir() if path.is_file()))}")
