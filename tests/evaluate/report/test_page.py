"""A page is one file that loads nothing and runs only its own script, and hostile text stays text."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np

from mrnn.evaluate.generation.words import END
from mrnn.evaluate.report import sections
from mrnn.evaluate.report.cards import Card, Question, Said, Score
from mrnn.evaluate.report.page import Page, asset, render
from mrnn.evaluate.report.pictures import BUDGET

HOSTILE = "</script><script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>&amp;<!--"


class Elements(HTMLParser):
    """Collects the tags of a page with their attributes, its text, and what stands in script and style blocks."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.blocks: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style") and self.cdata_elem:
            self.blocks.append(data)
        else:
            self.text += data


def hostile_page() -> Page:
    said = Said([HOSTILE, END], np.array([[-3.0, 1, 1.5], [-2, 0, 0]]), [(HOSTILE, -2.0)])
    card = Card(HOSTILE, "", [HOSTILE], [said], {"CIDEr": 0.5, "log_prob": float("nan")}, [(HOSTILE, True)], 3)
    return Page(
        HOSTILE,
        [card],
        notes=[HOSTILE],
        scores=[Score("CIDEr", HOSTILE)],
        questions=[Question(HOSTILE, 0, 1, [0])],
        systems=[HOSTILE],
        settings={HOSTILE: {HOSTILE: HOSTILE}, "a": HOSTILE},
    )


def data_of(page: str) -> dict[str, Any]:
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    assert block is not None
    content: dict[str, Any] = json.loads(block[1])
    return content


def test_hostile_text_stays_text() -> None:
    page = render(hostile_page())
    elements = Elements(page)
    assert [tag for tag, _ in elements.found].count("script") == 2, "the data and our own"
    assert "img" not in {tag for tag, _ in elements.found}
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert elements.text.count(HOSTILE) == 7, "title twice, a note, a setting, a group with a name and a value"
    card = data_of(page)["cards"][0]
    assert card["id"] == card["references"][0] == card["said"][0]["words"][0][0] == HOSTILE
    assert card["scores"] == {"CIDEr": 0.5}, "what is no number is left out"


def test_nothing_is_loaded_and_only_our_script_may_run() -> None:
    page = render(hostile_page())
    elements = Elements(page)
    assert not any("src" in attributes for _, attributes in elements.found)
    assert all(attributes["href"].startswith("#") for _, attributes in elements.found if "href" in attributes)
    policy = next(str(attributes["content"]) for _, attributes in elements.found if attributes.get("http-equiv"))
    hashes = {
        name: base64.b64encode(hashlib.sha256(asset(name).encode()).digest()).decode()
        for name in ("script.js", "style.css")
    }
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes['style.css']}'; "
        f"script-src 'sha256-{hashes['script.js']}'"
    )
    assert f"<script>{asset('script.js')}</script>" in page
    assert "url(" not in page
    assert "innerHTML" not in asset("script.js")


def test_a_thousand_images_stay_below_ten_megabytes() -> None:
    sentence = "A man in a blue shirt is standing on a ladder cleaning a window ."
    said = Said(["word"] * 12, np.full((12, 3), -1.2345), [(sentence, -12.34)] * 4)
    scores = [Score(name, name) for name in "abcdefgh"]
    cards = [
        Card(
            f"{number:010d}.jpg",
            "",
            [sentence] * 5,
            [said],
            dict.fromkeys("abcdefgh", 1.2345),
            [(sentence, True)] * 5,
            9,
        )
        for number in range(1000)
    ]
    questions = [Question(sentence, 500, 123, [501, 502, 503, 504, 505])] * 5000
    page = render(Page("t", cards, scores=scores, questions=questions))
    assert len(page.encode()) + 4 / 3 * BUDGET < 10e6


def test_numbers_have_their_intervals() -> None:
    metrics = {
        "perplexity": 15.5,
        "perplexity_known": 15.0,
        "Bleu_1": 0.5,
        "greedy": {"Bleu_1": 0.25},
        "retrieval": {
            "images": 1000,
            "sentences": 5000,
            "image_to_sentence": {"R@1": 20.0, "R@5": 40.0, "R@10": 50.0, "median_rank": 9.0, "mean_rank": 12.0},
        },
        "intervals": {"perplexity": [15.04, 16.0], "image_to_sentence R@1": [18.25, 22.0]},
    }
    tiles, table = Elements(sections.headline(metrics)).text, Elements(sections.retrieval_table(metrics)).text
    assert "15.5015.04 to 16.0015.00 without <unk>" in tiles
    assert "0.500greedy 0.250" in tiles
    assert "20.018.2 to 22.0" in table
    assert "Sentence → image" not in table
    assert sections.intervals_note({}) == sections.headline({}) == sections.retrieval_table({}) == ""
