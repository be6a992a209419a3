"""A trained model in a folder of its own: weights, settings, words, a model card, and its decoding step."""

from pathlib import Path

from mrnn.data.errors import SettingError
from mrnn.data.export import check_folder
from mrnn.data.files import write_whole
from mrnn.evaluate.model_card import model_card
from mrnn.train.checkpoint import load_trained
from mrnn.train.exported import CARD, CONFIG, FILES, MARKS, write_model
from mrnn.train.step_program import step_programs, write_step_programs


def export_model(run: str | Path, output: str | Path, *, step: bool = False, overwrite: bool = False) -> None:
    """Write the best model of a run to a folder (mrnn.train.exported), which loads as a run folder does.

    run : run folder, or a checkpoint
    step : whether to export one decoding step as well (mrnn.train.step_program)
    overwrite : whether to replace an earlier export

    Raises CheckpointError as `load_trained` does, and SettingError for a folder that holds other files or, without
    `overwrite`, an earlier export, and for the step of a model that is no captioner.
    """
    run, output = Path(run), Path(output)
    if output.exists() and any(folder.samefile(output) for folder in (run, run.parent) if folder.exists()):
        raise SettingError(f"{output} holds the model to be exported; name another folder")
    check_folder(output, FILES, CONFIG, MARKS, overwrite)
    trained = load_trained(run)
    programs = step_programs(trained) if step else None
    output.mkdir(parents=True, exist_ok=True)
    for name in FILES:  # of an earlier export; config.json comes back last
        (output / name).unlink(missing_ok=True)
    if programs is not None:
        write_step_programs(programs, output)
    write_whole(output / CARD, model_card(trained, output, programs=step).encode())
    write_model(trained, output)
