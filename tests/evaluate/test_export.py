"""A model in a folder of its own: it loads as the run does, and its decoding step runs without mrnn."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from mrnn.data.cache import open_cache
from mrnn.data.commands import load
from mrnn.data.errors import CheckpointError, SettingError
from mrnn.evaluate.evaluation import evaluate
from mrnn.evaluate.export import export_model
from mrnn.evaluate.model_card import table
from mrnn.train.checkpoint import load_trained

World = Callable[..., tuple[Path, Path]]


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(load("export"), list(map(str, arguments)))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("mrnn", {}), ("mrnn", {"recurrence": "lstm", "share_words": True}), ("transformer", {}), ("alignment", {})],
)
def test_an_exported_model_is_the_model(make_world: World, tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    run, _ = make_world(kind=kind, settings=settings)
    export_model(run, tmp_path / "model")
    ours, theirs = load_trained(run), load_trained(tmp_path / "model")
    assert (theirs.name, theirs.vocabulary, theirs.features) == (ours.name, ours.vocabulary, ours.features)
    assert (theirs.settings, theirs.progress) == (ours.settings, ours.progress)
    assert theirs.model.config == ours.model.config
    weights = theirs.model.state_dict()
    assert weights.keys() == ours.model.state_dict().keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in ours.model.state_dict().items())
    words = (tmp_path / "model" / "vocabulary.txt").read_text().splitlines()
    assert tuple(words) == ours.vocabulary.words
    # Exported once more, from the export, it is the same again.
    export_model(tmp_path / "model", tmp_path / "model2")
    for name in ("model.safetensors", "config.json", "vocabulary.txt"):
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "model2" / name).read_bytes()


def test_an_exported_model_stands_for_a_run(make_world: World, tmp_path: Path) -> None:
    run, cache = make_world()
    assert invoke(run, tmp_path / "model").exit_code == 0
    options: dict[str, Any] = {"stages": ("perplexity", "generation"), "device": "cpu"}
    ours = evaluate([run], cache, output=tmp_path / "a", **options)
    theirs = evaluate([tmp_path / "model"], cache, output=tmp_path / "b", **options)
    assert theirs["perplexity"] == ours["perplexity"]
    assert (tmp_path / "a" / "captions.json").read_bytes() == (tmp_path / "b" / "captions.json").read_bytes()


def test_the_card_has_data_features_metrics_and_licence(make_world: World, tmp_path: Path) -> None:
    run, cache = make_world(
        provenance={"backbone": "a|b", "layer": "fc7", "dataset": "invented", "weights_sha256": "9"}
    )
    export_model(run, tmp_path / "bare")
    assert "No evaluation lay in the run folder." in (tmp_path / "bare" / "README.md").read_text()
    metrics = evaluate([run], cache, stages=("perplexity",), device="cpu")
    (run / "other").mkdir()
    (run / "other" / "metrics.json").write_text("not ours")
    export_model(run, tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: mrnn\n")
    assert "# mrnn on invented" in card
    assert "| backbone | a\\|b |" in card
    assert f"| Perplexity | {metrics['perplexity']:.2f} (" in card
    assert "| epochs | 3 |" in card
    assert "## Licence" in card
    assert "step.pt2" not in card
    assert "--checkpoint model" in card


def test_cells_of_a_table_hold_any_text() -> None:
    assert table("a", "b", [("x", "1|2\n3")]) == "| a | b |\n| --- | --- |\n| x | 1\\|2 3 |\n"


def test_what_the_command_refuses(make_world: World, tmp_path: Path) -> None:
    run, cache = make_world()
    others = tmp_path / "others"
    others.mkdir()
    (others / "README.md").write_text("mine")
    for arguments, says in (
        ((run, others, "--overwrite"), "which mrnn did not write"),
        ((run, run), "holds the model to be exported"),
        ((run, tmp_path / "model", "--split", "val"), "--split is for a cache"),
        ((cache, tmp_path / "x.npz", "--step"), "--step is for a model"),
        ((cache, cache), "a cache is exported to a file .npz"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        assert says in result.stderr
    assert (others / "README.md").read_text() == "mine"
    assert invoke(cache, tmp_path / "x.npz").output == f"{tmp_path / 'x.npz'}: 34 images\n"
    assert invoke(tmp_path / "x.npz", tmp_path / "model").exit_code == 1
    assert invoke(run, tmp_path / "model").exit_code == 0
    assert "holds an earlier export; pass --overwrite" in invoke(run, tmp_path / "model").stderr
    assert invoke(run, tmp_path / "model", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "vocabulary.txt").write_text("<s>\n<unk>\n"), "does not describe a model"),
        (lambda folder: (folder / "vocabulary.txt").unlink(), "damaged, or not an exported model"),
        (lambda folder: (folder / "config.json").write_text("{}"), "not of a model that mrnn exported"),
        (lambda folder: (folder / "config.json").write_text('{"format": "mrnn-model", "version": 9}'), "version 9"),
        (
            lambda folder: (folder / "config.json").write_text('{"format": "mrnn-model", "version": 1}'),
            "it lacks config",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "damaged"),
        (lambda folder: save_file({"a": torch.ones(2)}, folder / "model.safetensors"), "does not describe a model"),
    ],
)
def test_damaged_folders_are_refused(make_world: World, tmp_path: Path, change: Any, says: str) -> None:
    run, _ = make_world()
    export_model(run, tmp_path / "model")
    change(tmp_path / "model")
    with pytest.raises(CheckpointError, match=says):
        load_trained(tmp_path / "model")


def test_weights_are_read_by_safetensors_alone(make_world: World, tmp_path: Path) -> None:
    run, _ = make_world(settings={"share_words": True})
    export_model(run, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert weights["embedding1.weight"].shape[1] == 8
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["format"], config["model"], config["config"]["share_words"]) == ("mrnn-model", "mrnn", True)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mrnn", {}),
        ("mrnn", {"recurrence": "lstm", "embedding1": 0, "share_words": True}),
        ("generator", {}),
        ("transformer", {}),
    ],
    ids=["mrnn", "lstm, shared", "generator", "transformer"],
)
def test_the_decoding_step_equals_the_models(
    make_world: World, tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    run, cache = make_world(kind=kind, settings=settings)
    export_model(run, tmp_path / "model", step=True)
    assert "step.pt2" in (tmp_path / "model" / "README.md").read_text()
    programs = [torch.export.load(tmp_path / "model" / f"{name}.pt2") for name in ("start", "step")]
    for program in programs:  # no operator of one library
        calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
        assert calls
        assert not [call for call in calls if "mkldnn" in call or "mrnn" in call]
    start, step = (program.module() for program in programs)
    model = load_trained(run).model
    features = torch.from_numpy(open_cache(cache).features.astype(np.float32))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for n in (1, 2, 7, len(features)):
            state, theirs = model.start(features[:n]), start(features[:n])
            for _ in range(9):  # longer than the Transformer's context
                words = torch.randint(0, model.config.vocabulary, (n,), generator=draw)
                logits, state = model.next_words(words, state)
                found, theirs = step(words, theirs)
                torch.testing.assert_close(found, logits.log_softmax(-1), rtol=1e-4, atol=1e-5)
                assert all(map(lambda a, b: a.shape == b.shape, theirs, state))


def test_models_that_predict_no_words_have_no_step(make_world: World, tmp_path: Path) -> None:
    run, _ = make_world(kind="alignment")
    with pytest.raises(SettingError, match="predicts no words: it has no step"):
        export_model(run, tmp_path / "model", step=True)
    assert not (tmp_path / "model").exists()
