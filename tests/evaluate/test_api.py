"""Captions and features of image files, called from Python."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image as Picture

from mrnn.data.errors import CorpusError, EvaluationError, ImageError
from mrnn.evaluate.api import caption_files
from mrnn.evaluate.commands.caption import main
from mrnn.evaluate.image_rows import rows_of_image, rows_of_images
from mrnn.evaluate.settings import DecodingConfig
from mrnn.extract.backbones import build_backbone
from mrnn.extract.runner import rows_of_files
from mrnn.extract.sampling import WholePictures
from mrnn.train.checkpoint import TrainedModel, load_trained

World = Callable[..., tuple[Path, Path]]
NETWORK = "torchvision:shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def backbone() -> Any:
    return build_backbone(NETWORK, weights="random:0", overrides={"resize": 64, "crop": 64})


@pytest.fixture
def trained(make_world: World, backbone: Any) -> TrainedModel:
    provenance = {**backbone.provenance(), "dtype": "float16"}
    return load_trained(make_world(provenance=provenance, size=backbone.feature_size, end=-1.0)[0])


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        Picture.fromarray(generator.integers(0, 255, (80, 120, 3), dtype=np.uint8)).save(path)
    return paths


def test_captions_in_a_thread_are_those_of_the_command(
    trained: TrainedModel, files: list[Path], tmp_path: Path, quietly: Callable[..., Any]
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not an image")
    given = [str(files[0]), broken, *files[1:]]
    found = quietly(caption_files, trained, given, decoding=DecodingConfig(beam=3), prefix="a cat")
    assert [caption.file for caption in found.captions] == files
    assert [file for file, _ in found.unreadable] == [broken]
    assert found.settings["decoding"]["prefix"] == ["a", "cat"]
    for caption, (best, *others) in zip(found.captions, found.beams, strict=True):
        assert caption.words[:2] == ("a", "cat")
        assert caption.text == " ".join(trained.vocabulary.decode(best.words))
        assert caption.log_probs == best.log_probs
        assert len(caption.log_probs) == len(caption.words) + caption.complete
        assert len(others) == 2
    arguments = ["--checkpoint", trained.run, "--json", "--beam", 3, "--prefix", "a cat", *given]
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 3
    assert json.loads(done.stdout) == json.loads(json.dumps([caption.to_json() for caption in found.captions]))


def test_sampling_draws_by_file(trained: TrainedModel, files: list[Path]) -> None:
    sampled = DecodingConfig(beam=1, sample=True, seed=1)
    first = caption_files(trained, files, decoding=sampled)
    alone = caption_files(trained, files[1:], decoding=sampled)
    assert [caption.words for caption in alone.captions] == [caption.words for caption in first.captions[1:]]
    other = caption_files(trained, files, decoding=DecodingConfig(beam=1, sample=True, seed=2))
    assert [caption.words for caption in other.captions] != [caption.words for caption in first.captions]


def test_features_are_rounded_as_in_the_cache(trained: TrainedModel, files: list[Path], backbone: Any) -> None:
    rows = rows_of_images(trained, [*files, "nowhere.png"])
    sampler = WholePictures(backbone, batch_size=4, device=torch.device("cpu"), precision="float32")
    expected = rows_of_files(sampler, files).features[:, 0]
    np.testing.assert_array_equal(rows.features[:, 0].numpy(), expected.astype(np.float16).astype(np.float32))
    assert rows.files == files
    assert [str(file) for file, _ in rows.unreadable] == ["nowhere.png"]
    np.testing.assert_allclose(rows_of_image(trained, files[0]).features[0], rows.features[0], atol=1e-3)
    assert len(caption_files(trained, []).captions) == 0


def test_refusals(trained: TrainedModel, files: list[Path]) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        rows_of_image(trained, "nowhere.png")
    with pytest.raises(CorpusError, match=r"https://example\.org/dog\.jpg: an address on the web"):
        rows_of_image(trained, Path("https://example.org/dog.jpg"))
    with pytest.raises(EvaluationError, match="zebra"):
        caption_files(trained, files, prefix="a zebra")
