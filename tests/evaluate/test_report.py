"""The report is one file that loads nothing, runs nothing, and shows hostile text as text."""

import io
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image as Picture

from mrnn.evaluate.loss_curve import loss_curve, nice_ticks, read_log
from mrnn.evaluate.report import Card, Report, evenly, render, thumbnail

HOSTILE = "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>&amp;"


class Elements(HTMLParser):
    """Collects the tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_report() -> Report:
    card = Card(HOSTILE, "", [HOSTILE], [(HOSTILE, -0.5)], True, [(HOSTILE, True), (HOSTILE, False)], 3)
    metrics = {"perplexity": 5.0, "perplexity_known": 4.0}
    return Report(HOSTILE, metrics, [card], notes=[HOSTILE], settings={HOSTILE: {HOSTILE: HOSTILE}, "a": HOSTILE})


def test_hostile_text_stays_text() -> None:
    page = Elements(render(hostile_report()))
    assert "script" not in {tag for tag, _ in page.found}
    assert not any(tag == "img" for tag, _ in page.found), "no picture was given"
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)
    assert page.text.count(HOSTILE) >= 8


def test_nothing_is_loaded() -> None:
    page = render(hostile_report())
    elements = Elements(page)
    assert not any("src" in attributes or "href" in attributes for _, attributes in elements.found)
    policy = [attributes["content"] for tag, attributes in elements.found if attributes.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "url(" not in page


def test_probabilities_and_hits_are_shown() -> None:
    card = Card("a.jpg", "", ["A dog ."], [("a", 0.0), ("dog", -6.0)], False, [("wrong", False), ("A dog .", True)], 2)
    metrics = {"Bleu_1": 0.5, "greedy": {"Bleu_1": 0.25}}
    text = Elements(render(Report("t", metrics, [card]))).text
    assert "a100" in text
    assert "dog<1" in text
    assert "(cut)" in text
    assert "A dog . ✓" in text
    assert "wrong ✓" not in text
    assert "rank 2" in text
    assert "greedy 0.250" in text


def test_thumbnails_are_small_upright_jpegs(tmp_path: Path) -> None:
    picture = Picture.new("RGBA", (1000, 500), (10, 200, 30, 255))
    exif = picture.getexif()
    exif[0x0112] = 6  # a quarter turn
    picture.save(tmp_path / "a.png", exif=exif)
    data = thumbnail(tmp_path / "a.png")
    with Picture.open(io.BytesIO(b64decode(data.removeprefix("data:image/jpeg;base64,")))) as small:
        assert small.size == (160, 320)
        assert small.format == "JPEG"
    (tmp_path / "b.jpg").write_text("not a picture")
    assert thumbnail(tmp_path / "b.jpg") == ""
    assert thumbnail(tmp_path / "missing.jpg") == ""
    assert thumbnail(tmp_path) == ""


def test_evenly() -> None:
    assert evenly(3, 10) == [0, 1, 2]
    assert evenly(10, 4) == [0, 2, 5, 7]
    assert evenly(0, 4) == []


def test_loss_curve_draws_every_value_inside(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    lines = [f'{{"kind": "step", "step": {step}, "bits": {9 - step / 400}}}' for step in range(2000)]
    lines += [f'{{"kind": "epoch", "step": {step}, "val_bits": {8 - step / 500}}}' for step in (500, 1000, 2000)]
    lines += ['{"kind": "step", "step": 2001, "bits": NaN}', "[1]", '{"kind": "step", "st']
    log.write_text("\n".join(lines))
    curve = loss_curve(read_log(log))
    train, val = re.findall(r'points="([^"]*)"', curve)
    assert len(val.split()) == 3
    assert 300 < len(train.split()) <= 600
    points = [tuple(map(float, point.split(","))) for point in (train + " " + val).split()]
    assert all(0 <= x <= 720 and 0 <= y <= 280 for x, y in points)
    heights = [float(point.split(",")[1]) for point in train.split()]
    assert heights == sorted(heights), "falling loss goes down the picture"
    assert loss_curve(read_log(tmp_path / "none.jsonl")) == ""


def test_a_short_run_has_the_training_bits_of_its_epochs() -> None:
    log = [{"kind": "step", "step": 1, "bits": 9.0}]
    log += [{"kind": "epoch", "step": step, "train_bits": 6.0, "val_bits": 5.0} for step in (20, 40)]
    assert [len(points.split()) for points in re.findall(r'points="([^"]*)"', loss_curve(log))] == [2, 2]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (3.21, 3.22), (0, 45000), (5, 5), (1e-3, 900)])
def test_ticks_enclose_and_are_few(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 9
