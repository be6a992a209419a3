"""YOLOX-nano is the network of the published weights: its outputs are those of their ONNX export."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mrnn.data.errors import WeightsError
from mrnn.extract.detectors import build_detector, yolox
from mrnn.extract.detectors.detector import Detector

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(real_weights: Path) -> Detector:
    weights = str(real_weights / "yolox-nano" / "yolox_nano_coco.safetensors")
    return build_detector("yolox-nano", weights=weights, device=CPU)


def test_candidates_equal_the_golden_ones(real_weights: Path) -> None:
    """torch against ONNX: the export's own tolerance is 0.0009."""
    from safetensors.torch import load_file

    network = yolox.YoloxNano().eval()
    network.load_state_dict(load_file(real_weights / "yolox-nano" / "yolox_nano_coco.safetensors"))
    golden = np.load(real_weights / "yolox-nano" / "golden.npz")
    for pixels, rows, expected in zip(golden["inputs"], golden["rows"], golden["outputs"], strict=True):
        with torch.inference_mode():
            candidates = network(torch.from_numpy(pixels).float()[None])[0]
        assert candidates.shape == (3549, 85)
        np.testing.assert_allclose(candidates[rows].numpy(), expected, atol=1e-3)


def test_boxes_of_real_photographs_are_those_of_the_export(
    real_data: Path, real_weights: Path, trained: Detector
) -> None:
    """The stored ones are of other copies of the pictures, squashed and stretched back: mostly the same."""
    stored = np.load(real_weights / "yolox-nano" / "flickr8k_top19.npz")
    place = {name.decode(): n for n, name in enumerate(stored["images"])}
    agreed, same_class = [], 0
    for path in sorted((real_data / "flickr8k" / "Flicker8k_original_aspect").iterdir())[:12]:
        with Image.open(path) as file:
            picture = file.convert("RGB")
        found = trained.find(picture, count=19)
        assert len(found.valid) == 19
        n = place[path.name]
        best = stored["boxes"][n, 0] / 65535 * np.tile(picture.size, 2)
        agreed.append(max(overlap(best, rectangle) for rectangle in found.rectangles[:3]))
        same_class += found.classes[0] == stored["classes"][n, 0]
    assert same_class >= 9
    assert np.mean(np.array(agreed) > 0.7) > 0.8


def overlap(corners: np.ndarray, rectangle: np.ndarray) -> float:
    left, top, width, height = rectangle
    inner = max(0, min(corners[2], left + width) - max(corners[0], left))
    inner *= max(0, min(corners[3], top + height) - max(corners[1], top))
    area = (corners[2] - corners[0]) * (corners[3] - corners[1])
    return float(inner / (area + width * height - inner))


def test_decoding_places_cells_row_by_row() -> None:
    candidates = torch.zeros(3549, 6)
    candidates[:, 4:] = torch.tensor([0.5, 0.25])
    candidates[53, 2:4] = torch.tensor([1.0, 2.0]).log()
    boxes, scores = yolox.decode(candidates)
    assert boxes[53].tolist() == pytest.approx([8 - 4, 8 - 8, 8 + 4, 8 + 8])  # row 1, column 1 of stride 8
    assert boxes[52 * 52 + 1].tolist() == pytest.approx([16 - 8, -8, 16 + 8, 8])  # row 0, column 1 of stride 16
    assert boxes[-1].tolist() == pytest.approx([12 * 32 - 16, 12 * 32 - 16, 12 * 32 + 16, 12 * 32 + 16])
    assert (scores == 0.125).all()


def test_batch_normalisation_is_folded(tmp_path: Path) -> None:
    """Weights as Megvii publishes them, under 'model' and with normalisation, give the network that has it apart."""
    draw = torch.Generator().manual_seed(0)
    plain = yolox.YoloxNano().eval()
    state, normalised = plain.state_dict(), {}
    for name, value in state.items():
        module, _, field = name.rpartition(".")
        if not module.endswith(".conv"):  # the predictors, which have none
            normalised[name] = value
            continue
        norm = module.removesuffix(".conv") + ".bn"
        if field == "weight":
            mean, gain = (torch.rand(len(value), generator=draw) for _ in range(2))
            variance = torch.rand(len(value), generator=draw) + 0.5
            spread = (variance + 1e-3).sqrt()
            normalised[name] = value * (spread / (gain + 0.5)).view(-1, 1, 1, 1)
            normalised[f"{norm}.weight"] = gain + 0.5
            normalised[f"{norm}.running_mean"], normalised[f"{norm}.running_var"] = mean, variance
            normalised[f"{norm}.bias"] = state[f"{module}.bias"] + mean * (gain + 0.5) / spread
            normalised[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    torch.save({"model": normalised, "start_epoch": 300}, tmp_path / "yolox_nano.pth")
    detector = build_detector("yolox-nano", weights=str(tmp_path / "yolox_nano.pth"), device=CPU)
    folded = yolox.folded(normalised)
    assert folded.keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(folded[name], value, rtol=1e-4, atol=1e-5)
    assert detector.classes == yolox.CLASSES


def test_there_are_no_weights_to_download() -> None:
    with pytest.raises(WeightsError, match="detector:yolox-nano:FILE"):
        build_detector("yolox-nano", weights="pretrained", device=CPU)
