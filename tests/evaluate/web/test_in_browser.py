"""The page in a real Chromium: typing, dropping, clicking, the keyboard alone, a narrow screen, hostile sentences."""

import base64
from collections.abc import Iterator

import pytest

from tests.browser import CHROMIUM, Browser
from tests.evaluate.web.conftest import SAID, Site

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

FOUND = "document.querySelectorAll('.hit').length"
SAID_BY = "[...document.querySelectorAll('#caption .word')].map((word) => word.firstChild.textContent)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


@pytest.fixture
def page(site: Site, browser: Browser) -> Iterator[Browser]:
    site.answers.prepare()
    browser.errors.clear()
    browser.open(f"http://127.0.0.1:{site.port}/")
    browser.wait("document.getElementById('about').textContent.startsWith('8 pictures')")
    yield browser
    # A sentence that cannot be answered has a status of its own, which the console of a browser lists.
    assert [error for error in browser.errors if "422" not in error] == []


def type_in(browser: Browser, name: str, text: str) -> None:
    browser.run(f"document.getElementById('{name}').focus()")
    browser.press(*text)


def test_typing_finds_pictures_and_shows_hostile_sentences_as_text(site: Site, page: Browser) -> None:
    type_in(page, "sentence", "a dog")
    page.wait(f"{FOUND} === 8")
    expected = [each.image_id for each in site.answers.gallery.find_pictures("a dog")]
    assert page.run("[...document.querySelectorAll('.hit')].map((hit) => hit.dataset.id)") == expected
    page.wait("[...document.querySelectorAll('.hit img')].every((img) => img.naturalWidth > 0)")
    assert page.run("document.querySelector('.hit').title").startswith(SAID[0])
    assert SAID[0] in page.run("document.querySelector('.hit').textContent")
    assert page.run("document.title") == "mrnn"
    page.run("document.getElementById('sentence').value = ''")
    type_in(page, "sentence", "xyzzy")
    page.wait("document.querySelector('#found-note.wrong')?.textContent.includes('xyzzy')")


def test_a_dropped_picture_is_described_aligned_and_found_sentences_for(site: Site, page: Browser) -> None:
    content = (site.answers.cache.root / "2.png").read_bytes()
    page.run(
        f"""(() => {{
            const bytes = Uint8Array.from(atob("{base64.b64encode(content).decode()}"), (c) => c.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "<b>mine</b>.png", {{ type: "image/png" }}));
            const about = {{ bubbles: true, cancelable: true, dataTransfer: data }};
            document.body.dispatchEvent(new DragEvent("drop", about));
        }})()"""
    )
    page.wait(f"{SAID_BY}.length > 0")
    assert site.answers.describing is not None
    expected = site.answers.describing.caption(content)
    assert page.run(SAID_BY) == [each.word.replace("<end>", "⏎") for each in expected.words]
    assert page.run("document.getElementById('name').textContent") == "<b>mine</b>.png"
    page.wait("document.querySelectorAll('#sentences li').length === 2")
    assert SAID[0] in page.run("document.getElementById('sentences').textContent")
    page.wait("document.querySelectorAll('#segments button').length > 0")
    shown = "document.querySelectorAll('.labels span').length"
    page.wait(f"{shown} > 0")
    page.run("document.querySelector('#segments button').click()")
    assert page.run(shown) == 1
    page.run("document.querySelector('#segments button').click()")
    assert page.run(f"{shown} === document.querySelectorAll('#segments button').length")
    for _ in range(2):  # a second word of the same part does not hide it
        page.run("document.querySelector('#caption .word').click()")
        assert "the picture" in page.run("document.getElementById('word-note').textContent")
        assert page.run(shown) == 1, "the region of the word alone"
    page.run("document.getElementById('about-picture').value = ''")
    type_in(page, "about-picture", "a cat at home")
    page.wait("document.getElementById('segments').textContent.replace(/\\s/g, '') === 'acatathome'")
    assert page.run("document.title") == "mrnn"


def test_parts_with_one_region_share_a_box_and_no_other_box_covers_its_labels(page: Browser) -> None:
    page.run("look({ id: '1.png', source: '/pictures/1.png' })")
    page.wait("document.querySelector('#frame img').naturalWidth > 0")
    page.wait("document.querySelectorAll('.box').length > 0")  # those of the caption, which come first
    page.run(
        """(() => {
            const about = { picture: [80, 60], colour: "red" };
            const dog = { region: 1, rectangle: [20, 20, 40, 30], ...about };
            const snow = { region: 2, rectangle: [5, 5, 60, 50], ...about };
            boxes([{ words: "a dog", ...dog }, { words: "snow", ...snow }, { words: "runs", ...dog }]);
            for (const box of document.querySelectorAll(".box")) box.style.pointerEvents = "auto";
            document.getElementById("frame").scrollIntoView();
        })()"""
    )
    assert page.run("[...document.querySelectorAll('.box')].map((box) => box.textContent)") == ["a dogruns", "snow"]
    found = page.run(
        """[...document.querySelectorAll(".labels span")].map((label) => {
            const { left, top } = label.getBoundingClientRect();
            return document.elementFromPoint(left + 2, top + 5).textContent;
        })"""
    )
    assert found == ["a dog", "runs", "snow"]


def test_everything_can_be_reached_by_the_keyboard(page: Browser) -> None:
    page.run("document.activeElement.blur()")
    page.press("Tab")
    assert page.run("document.activeElement.id") == "sentence"
    page.press(*"a cat")
    page.wait(f"{FOUND} === 8")
    page.press("Tab")
    chosen = page.run("document.activeElement.dataset.id")
    page.press("Enter")
    page.wait(f"{SAID_BY}.length > 0")
    assert page.run("document.getElementById('name').textContent") == chosen
    page.wait("document.querySelectorAll('#segments button').length > 0")
    page.run("document.getElementById('file').focus()")
    page.press("Tab", "Enter")
    assert page.run("document.activeElement.className") == "word"
    assert page.run("document.getElementById('word-note').textContent")


def test_a_narrow_screen_needs_no_scrolling_sideways(site: Site, browser: Browser) -> None:
    site.answers.prepare()
    browser.open(f"http://127.0.0.1:{site.port}/", width=360, height=640)
    type_in(browser, "sentence", "a dog")
    browser.wait(f"{FOUND} === 8")
    browser.run("document.querySelector('.hit').click()")
    browser.wait("document.querySelectorAll('.box').length > 0")
    assert browser.run("document.documentElement.scrollWidth") <= 360


def test_progress_is_shown_until_the_search_by_picture_is_ready(site: Site, browser: Browser) -> None:
    site.answers.preparation.advance("index of the sentences", 3, 9)
    browser.open(f"http://127.0.0.1:{site.port}/")
    browser.wait("document.getElementById('preparing-text').textContent.endsWith('index of the sentences')")
    assert browser.run("[document.getElementById('bar').value, document.getElementById('bar').max]") == [3, 9]
    site.answers.prepare()
    browser.wait("document.getElementById('preparing').hidden")
