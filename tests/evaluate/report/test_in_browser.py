"""The pages in a real Chromium: they load without a complaint, and sorting, filtering and search do what they say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnn.evaluate.generation.words import END
from mrnn.evaluate.report import sections
from mrnn.evaluate.report.cards import Card, Question, Said, Score
from mrnn.evaluate.report.page import Page, render, section
from mrnn.evaluate.report.region_captions import regions_page
from tests.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

HOSTILE = "</script><script>document.title='run'</script><img src=x onerror=document.title='run'>"
DOT = "data:image/webp;base64,UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA"
LONG = "w" * 80


def page(*, systems: int = 1) -> Page:
    """60 cards, CIDEr falling from 6.0; hostile text everywhere in card 7; card 9 without a score."""
    cards = []
    for number in range(60):
        words = [HOSTILE, LONG, END] if number == 7 else ["a", "dog" if number % 2 else "cat", END]
        parts = np.log([[0.01, 2, 5], [0.1, 5, 0.5], [0.5, 1, 1]]) if systems == 1 else None
        cards.append(
            Card(
                HOSTILE if number == 7 else f"picture {number}.jpg",
                DOT,
                [HOSTILE if number == 7 else f"Sentence {number} of people ."],
                [Said(words, parts, [("another one", -3.0)])] * systems,
                {} if number == 9 else {"CIDEr": 6 - number / 10},
                [(HOSTILE if number == 7 else "found", number % 3 == 0)],
                1 + number % 20,
            )
        )
    questions = [
        Question(HOSTILE if number == 7 else f"asks {number}", number, 1 + number % 20, [0, 1]) for number in range(60)
    ]
    return Page(
        HOSTILE,
        cards,
        sections=[section("Overview", "numbers")],
        after=[sections.retrieval_gallery([card.rank or 0 for card in cards], [q.rank for q in questions])],
        scores=[Score("CIDEr", "CIDEr")],
        questions=questions,
        systems=["A", "B"] if systems == 2 else [],
        settings={"a name": {LONG: LONG}},
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Browser]:
    (tmp_path / "report.html").write_text(render(page()))
    browser.errors.clear()
    browser.open(tmp_path / "report.html")
    yield browser
    assert browser.errors == []


def shown(browser: Browser) -> list[str]:
    ids: list[str] = browser.run("[...document.querySelectorAll('article')].map((each) => each.dataset.id)")
    return ids


def enter(browser: Browser, field: str, value: Any) -> None:
    """Type or choose, as a reader does: both events bubble up."""
    browser.run(
        f"document.getElementById('{field}').value = {value!r};"
        f"['change', 'input'].forEach((name) => document.getElementById('{field}')"
        ".dispatchEvent(new Event(name, {bubbles: true})))"
    )


def test_cards_come_by_and_by(opened: Browser) -> None:
    assert len(shown(opened)) == 24
    opened.run("document.getElementById('more').click()")
    opened.run("document.getElementById('more').click()")
    assert len(shown(opened)) == 60
    assert opened.run("document.getElementById('more').hidden")


def test_hostile_text_stays_text(opened: Browser) -> None:
    assert opened.run("document.title") == HOSTILE
    assert opened.run("document.querySelectorAll('script').length") == 2
    assert opened.run("document.querySelectorAll('[onerror]').length") == 0
    caption = opened.run("document.querySelectorAll('article')[7].querySelector('.caption').textContent")
    assert caption.startswith(HOSTILE)
    lists = opened.run("[...document.querySelectorAll('article')[7].querySelectorAll('li')].map((e) => e.textContent)")
    assert lists == ["another one -3.00", HOSTILE, HOSTILE]


def test_sorting_and_filtering_by_score(opened: Browser) -> None:
    enter(opened, "sort", "CIDEr")
    assert shown(opened)[:2] == ["picture 0.jpg", "picture 1.jpg"]
    enter(opened, "order", "up")
    assert shown(opened)[:2] == ["picture 59.jpg", "picture 58.jpg"]
    enter(opened, "from", "5")
    assert len(shown(opened)) == 10, "6.0 to 5.0, one of them without a score"
    enter(opened, "to", "5.25")
    assert shown(opened) == ["picture 10.jpg", "picture 8.jpg"]
    enter(opened, "sort", "")
    assert shown(opened)[0] == "picture 0.jpg"
    assert opened.run("document.getElementById('count').textContent") == "60 of 60 images, the first 24 shown"


def test_what_has_no_score_comes_last(opened: Browser) -> None:
    for order in ("up", "down"):
        enter(opened, "sort", "CIDEr")
        enter(opened, "order", order)
        for _ in range(2):
            opened.run("document.getElementById('more').click()")
        assert shown(opened)[-1] == "picture 9.jpg"


def test_search_in_captions_references_and_names(opened: Browser) -> None:
    enter(opened, "search", "SENTENCE 31 dog")
    assert shown(opened) == ["picture 31.jpg"]
    enter(opened, "search", "<script>")
    assert shown(opened) == [HOSTILE]
    enter(opened, "search", "nothing like that")
    assert shown(opened) == []
    enter(opened, "search", "")
    assert len(shown(opened)) == 24


def test_words_say_why(opened: Browser) -> None:
    colours = (
        "[...document.querySelectorAll('.word')].slice(0, 3).map((word) => getComputedStyle(word).backgroundColor)"
    )
    by_image = opened.run(colours)
    assert by_image[0].startswith("rgba(240, 130, 20"), "raised five times by the picture"
    assert by_image[1].startswith("rgba(40, 120, 220"), "halved by the picture"
    assert by_image[2].endswith(", 0)"), "neither"
    opened.run("document.querySelector('input[value=words]').click()")
    assert opened.run(colours)[1].startswith("rgba(240, 130, 20"), "raised five times by the words"
    opened.run("document.querySelectorAll('.word')[1].click()")
    note = opened.run("document.querySelector('article .note').textContent")
    assert note == (
        "“cat”: 25 %. Without context it has 10 %; the words before it make that 50 % (5.0 times more "
        "probable), and the image makes it 2.0 times less probable."
    )


def test_retrieval_right_near_and_wrong(opened: Browser) -> None:
    for place in ("by-image", "by-sentence"):
        labels = opened.run(f"[...document.querySelectorAll('#{place} .class')].map((each) => each.textContent)")
        assert labels == ["Right (rank 1): 3", "Near (2 to 10): 27", "Wrong (after 10): 30"]
        queries = f"document.querySelectorAll('#{place} .query').length"
        assert opened.run(queries) == 3
        opened.run(f"document.querySelectorAll('#{place} .class')[1].click()")
        assert opened.run(queries) == 6
        opened.run(f"document.querySelector('#{place} .more button').click()")
        assert opened.run(queries) == 12
    opened.run("document.querySelectorAll('#by-sentence .class')[2].click()")
    row = "[...document.querySelectorAll('#by-sentence .query')[0].querySelectorAll('.thumb')]"
    assert opened.run(f"{row}.map((thumb) => thumb.classList.contains('right'))") == [False, False, True]
    assert opened.run(f"{row}[2].textContent") == "rank 11"
    opened.run(f"{row}[2].click()")
    assert shown(opened) == ["picture 10.jpg"]


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_hangs_over_the_edge(opened: Browser, tmp_path: Path, width: int) -> None:
    opened.open(tmp_path / "report.html", width=width)
    opened.run("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert opened.run("document.documentElement.scrollWidth") <= width
    inside = "[...document.querySelectorAll('body *')].filter((each) => !each.closest('.wide'))"
    assert opened.run(f"Math.max(...{inside}.map((each) => each.getBoundingClientRect().right))") <= width


def test_two_systems_begin_with_what_differs_most(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "comparison.html").write_text(render(page(systems=2)))
    browser.errors.clear()
    browser.open(tmp_path / "comparison.html")
    assert shown(browser)[0] == "picture 0.jpg"
    assert browser.run("document.getElementById('sort').value") == "CIDEr"
    lines = "[...document.querySelector('article').querySelectorAll('.system, .caption')]"
    assert browser.run(f"{lines}.map((each) => each.textContent.trim())") == ["A", "a cat", "B", "a cat"]
    assert browser.errors == []


def test_a_failing_script_would_be_noticed(browser: Browser, tmp_path: Path) -> None:
    broken = render(page()).replace("const data =", "const daten =")
    (tmp_path / "broken.html").write_text(broken)
    browser.errors.clear()
    browser.open(tmp_path / "broken.html")
    assert browser.errors, "the policy refuses a script that is not ours to the letter"


@pytest.mark.parametrize("width", [320, 1280])
def test_long_names_of_pictures_with_regions_are_broken(browser: Browser, tmp_path: Path, width: int) -> None:
    places = np.array([[0.0, 0, 100, 80], [10, 10, 30, 30]])
    captions = [(tmp_path / f"{LONG}{number}.jpg", places, {1: ([LONG], -1.0)}) for number in range(3)]
    (tmp_path / "regions.html").write_text(render(regions_page(captions, settings={})))
    browser.open(tmp_path / "regions.html", width=width)
    assert browser.run("document.querySelectorAll('figure').length") == 3
    assert browser.run("document.documentElement.scrollWidth") <= width
