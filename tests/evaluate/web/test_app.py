"""The endpoints of the page over real connections: what they answer, and what they refuse."""

import io
import json
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from mrnn.data.progress import Progress
from mrnn.evaluate.web import answers as answers_module
from mrnn.evaluate.web import app as app_module
from mrnn.evaluate.web.guard import hosts_of
from tests.evaluate.web.conftest import SAID, Site


@pytest.fixture
def photograph() -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(5).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_the_page_and_its_files_have_a_strict_policy(site: Site) -> None:
    for path, kind in (("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")):
        reply = site.ask(path)
        assert reply.status == 200
        assert reply.headers["content-type"] == f"{kind}; charset=utf-8"
        assert reply.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "server" not in reply.headers
    assert b"<script>" not in site.ask("/").body, "no script in the page itself"


def test_pictures_for_a_sentence_are_those_of_the_search(site: Site) -> None:
    reply = site.ask("/api/pictures?sentence=a+dog+in+Timbuktu&top=3")
    expected = site.answers.gallery.find_pictures("a dog in Timbuktu", top=3)
    assert [each["id"] for each in reply.json["found"]] == [each.image_id for each in expected]
    assert reply.json["found"][0]["score"] == pytest.approx(expected[0].score, abs=1e-4)
    assert reply.json["found"][0]["sentences"] == list(SAID)
    assert reply.json["unknown_words"] == ["timbuktu"]
    assert reply.json["method"] == "exact: all 8 images were scored"
    assert str(site.answers.cache.root).encode() not in reply.body, "no path of this machine"


def test_of_many_pictures_a_shortlist_is_scored_exactly(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "EXACT", 7)
    site.answers.prepare()
    found = site.ask("/api/pictures?sentence=a+dog&top=3").json
    expected = site.answers.gallery.find_pictures("a dog", top=3, percent=2)
    assert [each["id"] for each in found["found"]] == [each.image_id for each in expected]
    assert found["method"].startswith("shortlist: 3 of 8 images")


def test_the_first_answers_after_the_preparation_compute_nothing_that_is_kept(
    site: Site, photograph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "EXACT", 7)
    site.answers.prepare()
    monkeypatch.delattr("mrnn.evaluate.image_rows.rebuild_backbone")  # the weights have been read
    kept = site.answers.gallery.gallery.keep
    before = set(kept)
    assert site.ask("/api/pictures?sentence=a+dog&top=3").json["method"].startswith("shortlist")
    for path in ("sentences", "captions", "regions?sentence=a+dog"):
        assert site.post(f"/api/{path}", photograph).status == 200
    assert set(kept) == before != set()


def test_the_preparation_ends_at_its_next_step_when_the_server_stops(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, stopping = threading.Event(), threading.Event()

    def endless(*arguments: Any, **options: Any) -> None:
        with Progress("endless", 10**9, unit="steps") as progress:
            while True:
                progress.add(1)
                reached.set()
                stopping.wait(60)

    monkeypatch.setattr(answers_module, "prepare_search", endless)
    site.answers.prepare_in_background()
    assert reached.wait(60)
    threading.Timer(0.1, stopping.set).start()
    site.answers.stop()
    assert (site.answers.preparation.ready, site.answers.preparation.error) == (False, "the server stops")


def test_captions_regions_and_sentences_are_those_of_the_run(site: Site, photograph: bytes) -> None:
    site.answers.prepare()
    describing, aligning = site.answers.describing, site.answers.aligning
    assert describing is not None
    assert aligning is not None
    found = site.post("/api/captions", photograph).json
    expected = describing.caption(photograph)
    assert (found["caption"], [each["word"] for each in found["words"]]) == (
        expected.text,
        [each.word for each in expected.words],
    )
    assert found["log_prob"] == pytest.approx(expected.log_prob, abs=1e-4)
    assert set(found["words"][0]["parts"]) == {"base", "words", "image"}
    assert "file" not in found

    found = site.post("/api/regions?sentence=a%20dog%20in%20snow", photograph).json
    aligned = aligning.align(photograph, "a dog in snow").to_json()["segments"]
    assert [each["words"] for each in found["segments"]] == [each["words"] for each in aligned]
    assert [each["rectangle"] for each in found["segments"]] == [each["rectangle"] for each in aligned]
    assert all(each["picture"] == [80, 60] for each in found["segments"])

    found = site.post("/api/sentences?top=2", photograph).json
    ranked = site.answers.gallery.find_sentences(photograph, top=2)
    assert [each["sentences"] for each in found["found"]] == [each.sentences for each in ranked]


def test_a_picture_of_the_cache_is_named_by_its_id(site: Site) -> None:
    content = (site.answers.cache.root / "3.png").read_bytes()
    assert site.post("/api/captions?id=3.png").json["caption"] == site.post("/api/captions", content).json["caption"]
    small = site.ask("/pictures/3.png")
    assert small.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(small.body)) as picture:
        assert picture.size == (120, 120)


@pytest.mark.parametrize("image_id", ["9.png", "../regions.h5", "..%2fregions.h5", "/etc/passwd", "3.png/../3.png", ""])
def test_no_path_of_a_request_reaches_the_file_system(site: Site, image_id: str) -> None:
    (site.answers.cache.root / "9.png").write_bytes(b"not of the cache")
    for reply in (site.ask(f"/pictures/{image_id}"), site.post(f"/api/captions?id={quote(image_id)}")):
        assert reply.status == 404
        assert reply.json["error"] == "the cache has no such picture, or its file is not there"


@pytest.mark.parametrize(
    ("name", "status"),
    [("127.0.0.1:{port}", 200), ("localhost:{port}", 200), ("[::1]:{port}", 200), ("LOCALHOST:{port}", 200),
     ("localhost", 421), ("127.0.0.1:1", 421), ("evil.example:{port}", 421), ("", 421)],
)  # fmt: skip
def test_a_name_that_was_made_to_point_here_is_refused(site: Site, name: str, status: int) -> None:
    reply = site.ask("/api/status", headers={"Host": name.format(port=site.port)})
    assert reply.status == status
    assert "content-security-policy" in reply.headers


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1:{port}", 200), ("http://localhost:{port}", 200), ("https://127.0.0.1:{port}", 403),
     ("http://evil.example", 403), ("null", 403)],
)  # fmt: skip
def test_pages_of_other_sites_are_refused(site: Site, photograph: bytes, origin: str, status: int) -> None:
    headers = {"Origin": origin.format(port=site.port)}
    assert site.ask("/api/captions", method="POST", body=photograph, headers=headers).status == status


def test_the_names_of_a_server_that_others_can_reach() -> None:
    assert hosts_of("0.0.0.0", 8000, ["Photos.example"]) == {"0.0.0.0:8000", "photos.example:8000"}
    assert hosts_of("::1", 80) >= {"[::1]", "localhost:80", "127.0.0.1"}


def test_what_cannot_be_answered_is_said_in_a_sentence(
    site: Site, photograph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, status, text in (
        ("/api/pictures", 400, "give a sentence"),
        ("/api/pictures?sentence=%20", 400, "give a sentence"),
        (f"/api/pictures?sentence={'a' * 1001}", 400, "more than 1,000 characters"),
        ("/api/pictures?sentence=dog&top=0", 400, "top must be a number from 1 to 100"),
        ("/api/pictures?sentence=dog&top=1e9", 400, "top must be a number from 1 to 100"),
        ("/api/pictures?sentence=xyzzy", 422, "xyzzy"),
    ):
        reply = site.ask(path)
        assert (reply.status, text in reply.json["error"]) == (status, True), reply.json
    for body, status, text in (
        (b"", 400, "give a picture"),
        (b"no picture", 422, "no picture that can be read"),
        (photograph[:200], 422, "picture"),
    ):
        reply = site.post("/api/captions", body)
        assert (reply.status, text in reply.json["error"]) == (status, True), reply.json
    assert site.post("/api/sentences", photograph).status == 503, "before the preparation"
    monkeypatch.setattr(answers_module, "MAX_PIXELS", 4000)
    assert "80 x 60 pixels" in site.post("/api/captions", photograph).json["error"]
    monkeypatch.setattr(app_module, "MAX_BYTES", 1000)
    assert site.post("/api/captions", photograph).status == 413
    assert site.ask("/api/captions").status == 405
    assert site.ask("/api/nothing").status == 404


def test_beyond_the_queue_requests_are_refused_and_may_come_again(site: Site) -> None:
    opened, reached = threading.Event(), threading.Event()

    def waits(items: Any) -> Any:
        reached.set()
        opened.wait(60)
        return items

    try:
        site.worker.submit(waits, 0)
        assert reached.wait(60)
        for number in range(16):
            site.worker.submit(waits, number)
        reply = site.ask("/api/pictures?sentence=dog")
        assert (reply.status, reply.headers["retry-after"]) == (503, "2")
    finally:
        opened.set()
    while (reply := site.ask("/api/pictures?sentence=dog")).status == 503:
        pass
    assert reply.status == 200


def test_200_requests_of_8_clients_are_all_answered_and_nothing_grows(
    site: Site, photograph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "temporary"
    empty.mkdir()
    monkeypatch.setenv("TMPDIR", str(empty))
    alone = site.post("/api/captions", photograph).json

    def client(number: int) -> None:
        for turn in range(25):
            if (number + turn) % 3 == 0:
                found = site.post("/api/captions", photograph)
                assert (found.status, found.json["caption"]) == (200, alone["caption"])
            elif (number + turn) % 3 == 1:
                assert len(site.ask("/api/pictures?sentence=a+dog").json["found"]) == 8
            else:
                assert site.ask(f"/pictures/{turn % 8}.png").status == 200

    def round_of_clients() -> None:
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(client, number) for number in range(8)]:
                done.result()

    round_of_clients()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    round_of_clients()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kB of a second round"
    assert os.listdir(empty) == [], "an upload is never written to disk"
