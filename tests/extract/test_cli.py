"""extract-features as a user calls it: options, exit codes, going on, starting afresh."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from mrnn.data.cache import STATE_DONE, STATE_PENDING, open_cache
from mrnn.data.cache_writer import CacheWriter
from mrnn.data.datasets import READERS
from mrnn.data.merge import merge_caches
from mrnn.data.scenes.reader import read_scenes
from mrnn.data.stopping import SIGNALS
from mrnn.extract import network, pipeline, runner
from mrnn.extract.cli import main

# The smallest network torchvision has, on small pictures; every run here takes it.
SMALL = ("--backbone", "torchvision:squeezenet1_1", "--weights", "random:0", "--resize", "64", "--crop", "64")


def run(*arguments: object, small: bool = True) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments), *(SMALL if small else ())])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    generator = np.random.default_rng(0)
    lines = ["image,caption,split"]
    for number in range(18):
        Image.fromarray(generator.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(root / f"{number:02}.png")
        lines.append(f"{number:02}.png,picture number {number},{('train', 'train', 'val', 'test')[number % 4]}")
    (root / "captions.csv").write_text("\n".join(lines) + "\n")
    return root


def folder(photos: Path, output: Path, *more: object, small: bool = True) -> Result:
    fixed = ("--dataset", "folder", "--root", photos, "--output", output, "--batch-size", 4, "--threads", 1)
    return run(*fixed, *more, small=small)


def features(path: Path) -> bytes:
    cache = open_cache(path)
    return cache.features[cache.done()].tobytes()


def test_scenes_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, "scenes", lambda root: read_scenes(root, count=60))  # drawing 1,200 takes long
    output = tmp_path / "feats.h5"
    result = run("--dataset", "scenes", "--root", tmp_path / "scenes", "--limit", 20, "--output", output)
    assert result.exit_code == 0, result.output
    cache = open_cache(output)
    assert len(cache.done()) == len(cache.images) == 20
    assert cache.features.dtype == np.float16
    assert all(image.sentences for image in cache.images)
    assert {image.split for image in cache.images} == {"train", "val", "test"}
    provenance = cache.provenance
    assert provenance["backbone"] == "torchvision:squeezenet1_1"
    assert provenance["layer"] == "penultimate"
    assert provenance["weights"] == "random:0"
    assert len(str(provenance["weights_sha256"])) == 64
    assert json.loads(str(provenance["preprocessing"]))["resize"] == 64
    assert provenance["batch_size"] == 64
    assert provenance["threads"] == len(os.sched_getaffinity(0))
    assert provenance["limit"] == 20
    assert {"torch", "torchvision", "pillow", "mrnn", "device", "annotation_sha256", "dtype"} <= provenance.keys()
    again = run("--dataset", "scenes", "--root", tmp_path / "scenes", "--limit", 20, "--output", output)
    assert again.exit_code == 0
    assert "nothing to do" in again.output


def test_alexnet_is_the_default(photos: Path, tmp_path: Path) -> None:
    result = folder(photos, tmp_path / "a.h5", "--weights", "random:0", "--limit", 3, small=False)
    assert result.exit_code == 0, result.output
    cache = open_cache(tmp_path / "a.h5")
    assert (cache.provenance["backbone"], cache.provenance["layer"], cache.feature_size) == ("alexnet", "fc7", 4096)
    assert cache.provenance["relu"] == "post"
    refused = folder(photos, tmp_path / "a.h5", "--weights", "random:0", "--limit", 3, "--layer", "fc6", small=False)
    assert refused.exit_code == 1
    assert "layer was fc7, now fc6" in refused.output


def test_failed_pictures_are_listed_and_exit_with_3(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "feats.h5"
    (photos / "03.png").write_bytes(b"<html>")
    (photos / "05.png").unlink()
    result = folder(photos, output)
    assert result.exit_code == 3
    assert "picture failed: 2" in result.output
    assert "pictures missing: 1" in result.output
    report = [line.split("\t") for line in (tmp_path / "feats.h5.report.tsv").read_text().splitlines()]
    assert report[0] == ["kind", "id", "reason"]
    assert ["picture failed", "03.png", "a web page (HTML), not a picture"] in report
    assert [row[:2] for row in report if row[0] == "pictures missing"] == [["pictures missing", "05.png"]]
    again = folder(photos, output)
    assert again.exit_code == 3
    assert "nothing to do" in again.output
    Image.new("RGB", (80, 80)).save(photos / "03.png")
    assert folder(photos, output).exit_code == 3, "without --retry-failed they stay failed"
    retried = folder(photos, output, "--retry-failed")
    assert retried.exit_code == 3
    assert "2 failed images are tried again" in retried.output
    assert list(open_cache(output).reasons) == ["05.png"]


def bomb() -> bytes:
    """A PNG whose header promises 60,000 x 60,000 pixels."""
    stream = BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def test_every_kind_of_bad_picture_is_listed_and_taken_up_when_repaired(tmp_path: Path) -> None:
    """Five kinds fail, each with its reason; five odd ones pass, and give the rows of their plain twins."""
    root = tmp_path / "photos"
    root.mkdir()
    left = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    plain = Image.fromarray(left)
    turned = Image.Exif()
    turned[0x0112] = 6
    grey = Image.fromarray(left[:, :, 0])
    plain.save(root / "plain.png")
    plain.transpose(Image.Transpose.ROTATE_90).save(root / "rotated.png", exif=turned)
    plain.save(root / "animated.gif.png", "PNG", save_all=True, append_images=[plain.rotate(90)])
    grey.save(root / "grey.png")
    Image.fromarray(left[:, :, 0].astype(np.uint16) * 257).save(root / "sixteen.png")
    Image.new("RGB", (1, 1), (9, 9, 9)).save(root / "one.png")
    Image.new("CMYK", (70, 70), (0, 255, 255, 0)).save(root / "cmyk.jpg", quality=100)
    plain.save(root / "whole.jpg")
    bad = {
        "missing.jpg": None,
        "truncated.jpg": (root / "whole.jpg").read_bytes()[:2000],
        "empty.jpg": b"",
        "page.jpg": b"<!DOCTYPE html><html>404</html>",
        "bomb.png": bomb(),
    }
    for name, content in bad.items():
        if content is not None:
            (root / name).write_bytes(content)
    names = sorted({*bad, *(path.name for path in root.iterdir())})
    lines = [
        "image,caption,split",
        *(f"{name},a picture,{'val' if n % 4 else 'train'}" for n, name in enumerate(names)),
    ]
    (root / "captions.csv").write_text("\n".join(lines))
    output = tmp_path / "a.h5"
    first = folder(root, output)
    assert first.exit_code == 3, first.output
    report = [line.split("\t") for line in (tmp_path / "a.h5.report.tsv").read_text().splitlines()]
    reasons = {row[1]: row[2] for row in report if row[0] == "picture failed"}
    assert reasons.keys() == bad.keys()
    for name, word in zip(bad, ("missing", "truncated", "empty", "web page", "pixels"), strict=True):
        assert word in reasons[name]
    cache = open_cache(output)
    assert cache.reasons == reasons
    rows = {image.id: row for image, row in zip(cache.images, cache.features.astype(np.float32), strict=True)}
    for odd, twin in (("rotated.png", "plain.png"), ("animated.gif.png", "plain.png"), ("sixteen.png", "grey.png")):
        np.testing.assert_allclose(rows[odd], rows[twin], rtol=0.02, atol=0.02)
    assert all(np.isfinite(rows[name]).all() for name in ("one.png", "cmyk.jpg"))
    for name in bad:
        (root / name).write_bytes((root / "plain.png").read_bytes())
    assert folder(root, output).exit_code == 3, "without --retry-failed they stay failed"
    repaired = folder(root, output, "--retry-failed")
    assert repaired.exit_code == 0, repaired.output
    assert "5 failed images are tried again" in repaired.output
    assert folder(root, tmp_path / "whole.h5").exit_code == 0
    assert features(output) == features(tmp_path / "whole.h5")


def test_on_error_fail_exits_with_1(photos: Path, tmp_path: Path) -> None:
    (photos / "05.png").write_bytes(b"")
    result = folder(photos, tmp_path / "a.h5", "--on-error", "fail")
    assert result.exit_code == 1
    assert "error: 05.png" in result.output
    assert "empty" in result.output


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("--backbone", "torchvision:squeezenet1_0"), ["backbone was torchvision:squeezenet1_1", "weights_sha256"]),
        (("--weights", "random:1"), ["weights_sha256"]),
        (("--crop", "60"), ["crop was 64, now 60"]),
        (("--interpolation", "bicubic", "--mean", "0,0,0"), ["interpolation was bilinear, now bicubic", "mean"]),
        (("--warp",), ["mode was crop, now warp"]),
        (("--dtype", "float32"), ["dtype was float16, now float32"]),
        (("--batch-size", "8"), ["batch_size was 4, now 8"]),
        (("--limit", "10"), ["limit was 0, now 10", "annotation_sha256"]),
        (("--shard", "0/2"), ["images was 18 of 18 from number 0, now 8 of 18 from number 0"]),
        (("--threads", "2"), ["threads was 1, now 2"]),
    ],
)
def test_going_on_with_other_settings_is_refused(
    photos: Path, tmp_path: Path, change: tuple[str, ...], named: list[str]
) -> None:
    output = tmp_path / "feats.h5"
    assert folder(photos, output).exit_code == 0
    before = output.read_bytes()
    fixed = ("--dataset", "folder", "--root", photos, "--output", output, "--batch-size", 4, "--threads", 1)
    result = run(*fixed, *SMALL, *change, small=False)
    assert result.exit_code == 1
    for text in named:
        assert text in result.output
    assert output.read_bytes() == before


def test_changed_captions_are_refused(photos: Path, tmp_path: Path) -> None:
    assert folder(photos, tmp_path / "a.h5").exit_code == 0
    text = (photos / "captions.csv").read_text()
    (photos / "captions.csv").write_text(text.replace("number 3", "number three"))
    result = folder(photos, tmp_path / "a.h5")
    assert result.exit_code == 1
    assert "annotation_sha256" in result.output


def test_another_picture_in_the_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    assert folder(photos, tmp_path / "a.h5").exit_code == 0
    Image.new("RGB", (80, 80)).save(photos / "new.png")
    result = folder(photos, tmp_path / "a.h5")
    assert result.exit_code == 1
    assert "images was 18 of 18 from number 0, now 19 of 19" in result.output


def test_threads_go_on_as_recorded(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder(photos, tmp_path / "a.h5").exit_code == 0
    with CacheWriter(tmp_path / "a.h5") as writer:
        writer._mark(np.arange(5), 0)
    used: list[int] = []
    extract = runner.extract
    monkeypatch.setattr(runner, "extract", lambda *a, **k: (used.append(k["threads"]), extract(*a, **k))[1])
    fixed = ("--dataset", "folder", "--root", photos, "--output", tmp_path / "a.h5", "--batch-size", 4)
    assert run(*fixed).exit_code == 0
    assert used == [1]


def stop_in_batch(monkeypatch: pytest.MonkeyPatch, number: int, by: signal.Signals) -> None:
    """Send this process a signal while the network works on a batch."""
    calls = []
    original = network.BatchNetwork.__call__

    def call(self: Any, batch: Any) -> np.ndarray:
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), by)
        return original(self, batch)

    monkeypatch.setattr(network.BatchNetwork, "__call__", call)


@pytest.mark.usefixtures("hangup_heeded")
@pytest.mark.parametrize(
    ("by", "code"), [*((number, 75) for number in SIGNALS if number != signal.SIGINT), (signal.SIGINT, 130)]
)
def test_stopped_and_resumed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: signal.Signals, code: int
) -> None:
    assert folder(photos, tmp_path / "whole.h5").exit_code == 0
    with monkeypatch.context() as patch:
        stop_in_batch(patch, 2, by)
        stopped = folder(photos, tmp_path / "a.h5")
    assert stopped.exit_code == code
    assert "8 of 18 images are done" in stopped.output
    assert folder(photos, tmp_path / "a.h5").exit_code == 0
    assert features(tmp_path / "a.h5") == features(tmp_path / "whole.h5")


KILLED = """
import os, signal
from mrnn.extract import network as networks
from mrnn.extract.cli import main
calls, network = [], networks.BatchNetwork.__call__
def call(*arguments):
    calls.append(1)
    if len(calls) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return network(*arguments)
networks.BatchNetwork.__call__ = call
main()
"""


def test_killed_and_resumed(photos: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, when some batches are saved and others are not; then the same command again."""
    output, single = tmp_path / "a.h5", ("--batch-size", "1")
    assert folder(photos, tmp_path / "whole.h5", *single).exit_code == 0
    command = [sys.executable, "-c", KILLED, "--dataset", "folder", "--root", photos, "--output", output, *single]
    killed = subprocess.run([*command, "--threads", "1", *SMALL], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 7 - runner.UNSAVED_BATCHES <= (open_cache(output, allow_partial=True).states == STATE_DONE).sum() <= 7
    resumed = folder(photos, output, *single)
    assert resumed.exit_code == 0, resumed.output
    assert features(output) == features(tmp_path / "whole.h5")


def test_overwrite_keeps_the_old_file_until_the_new_one_is_complete(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "a.h5"
    assert folder(photos, output).exit_code == 0
    before = output.read_bytes()
    with monkeypatch.context() as patch:
        stop_in_batch(patch, 2, signal.SIGTERM)
        assert folder(photos, output, "--overwrite", "--dtype", "float32").exit_code == 75
    assert output.read_bytes() == before
    partial = tmp_path / "a.h5.new"
    assert len(open_cache(partial, allow_partial=True).done()) == 8
    assert folder(photos, output, "--overwrite", "--dtype", "float32").exit_code == 0
    assert not partial.exists()
    assert open_cache(output).features.dtype == np.float32
    with monkeypatch.context() as patch:
        stop_in_batch(patch, 2, signal.SIGTERM)
        assert folder(photos, output, "--overwrite").exit_code == 75
    assert folder(photos, output, "--overwrite", "--limit", 8).exit_code == 0, "a remainder of others gives way"
    assert len(open_cache(output).images) == 8
    partial.write_bytes(b"damaged")
    assert folder(photos, output, "--overwrite").exit_code == 0


def test_shards_merge_to_the_whole(photos: Path, tmp_path: Path) -> None:
    assert folder(photos, tmp_path / "whole.h5").exit_code == 0
    parts = [tmp_path / f"{index}.h5" for index in range(3)]
    for index, part in enumerate(parts):
        assert folder(photos, part, "--shard", f"{index}/3").exit_code == 0
    merged = merge_caches(tmp_path / "merged.h5", parts)
    assert merged.features.tobytes() == open_cache(tmp_path / "whole.h5").features.tobytes()
    result = folder(photos, tmp_path / "none.h5", "--shard", "0/9")
    assert result.exit_code == 2
    assert "at most 5 shards" in result.output


def test_weights_from_a_file_are_recorded(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from mrnn.extract.backbones.torchvision_models import build_classifier

    network, _ = build_classifier("torchvision:squeezenet1_1", weights="random:0")
    torch.save(network.state_dict(), tmp_path / "w.pth")
    monkeypatch.chdir(tmp_path)
    assert folder(photos, tmp_path / "a.h5", *SMALL, "--weights", "w.pth", small=False).exit_code == 0
    assert folder(photos, tmp_path / "b.h5").exit_code == 0
    assert features(tmp_path / "a.h5") == features(tmp_path / "b.h5")
    assert open_cache(tmp_path / "a.h5").provenance["weights"] == str(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--backbone", "nope"), 2, "no backbone"),
        (("--layer", "fc7"), 2, "has no layer"),
        (("--weights", "random:x"), 2, "random:SEED"),
        (("--weights", "nowhere.pt"), 1, "nowhere.pt"),
        (("--shard", "3/2"), 2, "I/N"),
        (("--batch-size", "0"), 2, "batch-size"),
        (("--workers", "0"), 2, "workers"),
        (("--device", "abacus"), 2, "abacus"),
        (("--mean", "1,2"), 2, "three"),
        (("--std", "a,b,c"), 2, "R,G,B"),
        (("--crop", "9999"), 2, "crop"),
        (("--limit", "0"), 2, "limit"),
        (("--dataset", "nope"), 2, "nope"),
        (("--root", "/nowhere"), 1, "/nowhere"),
        (("--output", "/nowhere/a.h5"), 2, "/nowhere"),
    ],
)
def test_what_cannot_be_says_so(photos: Path, tmp_path: Path, options: tuple[str, ...], code: int, text: str) -> None:
    result = folder(photos, tmp_path / "a.h5", *SMALL, *options, small=False)
    assert result.exit_code == code
    assert text in result.output
    assert not (tmp_path / "a.h5").exists()


def test_another_writer_is_noticed(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_in_batch(patch, 2, signal.SIGTERM)
        assert folder(photos, tmp_path / "a.h5").exit_code == 75
    with CacheWriter(tmp_path / "a.h5"):
        result = folder(photos, tmp_path / "a.h5")
        assert result.exit_code == 1
        assert "another process" in result.output
        assert folder(photos, tmp_path / "a.h5", "--no-lock").exit_code == 0
    with (tmp_path / "a.h5").open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)  # h5py in a notebook
        finished = folder(photos, tmp_path / "a.h5")
        assert finished.exit_code == 0
        assert "nothing to do" in finished.output


def test_photographs_and_lists_are_not_replaced(photos: Path, tmp_path: Path) -> None:
    precious = {name: (photos / name).read_bytes() for name in os.listdir(photos) if (photos / name).is_file()}
    for name in precious:
        for overwrite in ((), ("--overwrite",)):
            assert folder(photos, photos / name, *overwrite).exit_code == 2
    (tmp_path / "a.h5.report.tsv").write_text("mine\n")
    refused = folder(photos, tmp_path / "a.h5")
    assert refused.exit_code == 2
    assert "a.h5.report.tsv exists and is not a report" in " ".join(refused.output.split())
    assert not (tmp_path / "a.h5").exists()
    assert precious == {name: (photos / name).read_bytes() for name in precious}


def test_pictures_too_large_for_the_memory_are_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, large = pipeline.decode_picture, (photos / "07.png").read_bytes()

    def allocate(data: bytes, **options: Any) -> Any:
        if data == large:
            raise MemoryError
        return original(data, **options)

    monkeypatch.setattr(pipeline, "decode_picture", allocate)
    result = folder(photos, tmp_path / "a.h5")
    assert result.exit_code == 1
    assert f"error: not enough memory for decoding {photos}" in result.output
    assert "--workers" in result.output
    assert "Traceback" not in result.output


AS_NOBODY = """
import json, os, sys, tempfile
from click.testing import CliRunner
from mrnn.data.cli import inspect, merge, verify
from mrnn.extract.cli import main as extract
photos, commands = sys.argv[1], json.loads(sys.argv[2])
if os.geteuid() == 0:  # no permission stops root, so be nobody, whom Python's own folders may be closed to
    with tempfile.TemporaryDirectory() as folder:
        warm_up = [*commands[0], "--output", f"{folder}/a.h5", "--root", photos, "--limit", "3"]
        extract.main(warm_up[1:], standalone_mode=False)
    os.setgid(65534)
    os.setuid(65534)
results = [CliRunner().invoke(globals()[name], arguments) for name, *arguments in commands]
print(json.dumps([[result.exit_code, result.stderr] for result in results]))
"""


def test_a_read_only_folder_is_one_sentence_and_changes_nothing(photos: Path, tmp_path: Path) -> None:
    """Writing fails; looking into a cache there does not."""
    place = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        shutil.copytree(photos, place / "photos")
        done, begun = place / "done.h5", place / "begun.h5"
        assert folder(place / "photos", done).exit_code == 0
        shutil.copy(done, begun)
        with CacheWriter(begun) as writer:
            writer._mark(np.arange(5), STATE_PENDING)
        before = {path.name: path.read_bytes() for path in place.glob("*.*")}
        for path in [place, *place.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        again = ["extract", *f"--dataset folder --root {place}/photos --batch-size 4 --threads 1".split(), *SMALL]
        writing = [[*again, "--output", place / "new.h5"], [*again, "--output", begun]]
        writing += [["merge", place / "merged.h5", done]]
        looking = [["verify", done], ["inspect", done]]
        commands = json.dumps([list(map(str, command)) for command in (*writing, *looking)])
        child = [sys.executable, "-c", AS_NOBODY, photos, commands]
        finished = subprocess.run(child, capture_output=True, text=True, check=False, cwd="/")
        assert finished.returncode == 0, finished.stderr
        results = json.loads(finished.stdout.splitlines()[-1])
        assert [code for code, _ in results] == [1, 1, 1, 0, 0]
        for name, (_, text) in zip(("new.h5", "begun.h5", "merged.h5"), results, strict=False):
            error = [line for line in text.splitlines() if line.startswith("error: ")]
            assert error == [f"error: Permission denied: {place / name}"]
        assert {path.name: path.read_bytes() for path in place.glob("*.*")} == before
    finally:
        for path in [place, *place.rglob("*")]:
            path.chmod(0o777)
        shutil.rmtree(place)


def test_help_does_not_load_torch() -> None:
    code = "import sys; import mrnn.extract.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert "Examples:" in CliRunner().invoke(main, ["--help"]).output


def test_captions_without_any_picture_are_refused_with_where_pictures_were_sought(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("image,caption\n" + "".join(f"{n}.jpg,a dog\n" for n in range(9)))
    result = folder(tmp_path, tmp_path / "feats.h5")
    assert result.exit_code == 1
    assert "no folder of pictures" in result.output
    assert "images/" in result.output
    assert not (tmp_path / "feats.h5").exists()
