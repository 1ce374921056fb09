"""The report in a real browser: it renders, asks for nothing, obeys its keys, and does nothing that a transcript says."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTHS = (1280, 390)


@contextmanager
def opened(browser: "Browser", report: Path, width: int = 1280, theme: str = "light", at: str = "") -> Iterator["Page"]:
    """The page of a report; on leaving, nothing was complained about and nothing was asked for."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]  # a Literal
    heard: list[str] = []
    page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: heard.append(f"dialog: {dialog.message}"))
    page.on(
        "request", lambda request: heard.append(request.url) if not request.url.startswith(("file:", "data:")) else None
    )
    page.add_init_script(
        "window.refused = []; addEventListener('securitypolicyviolation', e => window.refused.push(e.violatedDirective))"
    )
    try:
        page.goto(f"{(report / 'report.html').as_uri()}{at}")
        yield page
        assert page.evaluate("window.refused") == []
        assert heard == []
    finally:
        page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("which", ["plain", "attacked"])
def test_the_page_renders_without_complaint_request_or_overflow(
    browser: "Browser", request: pytest.FixtureRequest, which: str, width: int, theme: str
) -> None:
    with opened(browser, request.getfixturevalue(which), width, theme) as page:
        assert page.locator("h2").count() == 10
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_colours_follow_the_theme(browser: "Browser", plain: Path) -> None:
    shades = set()
    for theme in ("light", "dark"):
        with opened(browser, plain, theme=theme) as page:
            shades.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            ink = page.evaluate("getComputedStyle(document.querySelector('.plot svg text')).fill")
            assert ink == page.evaluate("getComputedStyle(document.body).color")
    assert len(shades) == 2


def test_plots_are_drawn_and_have_a_table_beside_them(browser: "Browser", plain: Path) -> None:
    with opened(browser, plain) as page:
        figures = page.locator("figure")
        assert figures.count() >= 3  # forest, ladder, heat map
        for number in range(figures.count()):
            assert figures.nth(number).locator("svg path").count() > 5
            assert figures.nth(number).locator("figcaption").inner_text()
            assert "table" in (figures.nth(number).locator("[role=img]").get_attribute("aria-label") or "")
        marks = page.locator("#shifts ~ figure").first.locator("g.mark-symbol path")
        assert marks.count() >= 4 * 3  # two models, two levels, each with A/A and placebo
        fill = marks.first.evaluate("each => getComputedStyle(each).fill")
        assert fill not in ("none", "rgb(0, 0, 0)"), "colours of the page do not reach the plot"


def test_arrow_keys_go_through_the_matches_and_the_address_leads_back(browser: "Browser", plain: Path) -> None:
    with opened(browser, plain) as page:
        ids = page.locator("details.match .place").evaluate_all("all => all.map(each => each.id)")
        assert len(ids) > 3
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        assert page.locator("details.match[open] .place").get_attribute("id") == ids[2]
        page.keyboard.press("ArrowLeft")
        assert page.locator("details.match[open] .place").get_attribute("id") == ids[1]
        address = page.evaluate("location.hash")
        assert address == f"#{ids[1]}"
    with opened(browser, plain, at=address) as page:
        assert page.locator("details.match[open] .place").get_attribute("id") == ids[1]
        top = page.locator(f"#{ids[1]}").evaluate("each => each.getBoundingClientRect().top")
        assert 0 <= top < 900


def test_everything_can_be_reached_by_the_keyboard(browser: "Browser", plain: Path) -> None:
    with opened(browser, plain) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('href')") == "#answer"
        page.locator("details.match > summary").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("details.match[open]").count() == 1
        wide = page.locator(".scroll").first
        assert wide.get_attribute("tabindex") == "0"
        assert wide.get_attribute("aria-label")


def test_a_hostile_transcript_does_nothing_and_is_there_to_be_read(browser: "Browser", attacked: Path) -> None:
    with opened(browser, attacked) as page:
        page.keyboard.press("ArrowRight")
        match = page.locator("details.match[open]")
        text = match.inner_text()
        assert "<script>window.hit" in text
        assert "{{ 7 * 7 }}" in text
        assert "⟨U+202E⟩" in text
        assert "⟨U+001B⟩" in text
        assert "992,000 characters more in the record" in page.locator("body").text_content()  # type: ignore[operator]
        assert page.evaluate("window.hit") is None
        assert page.locator("body img, body iframe, body a[href^=javascript], body style").count() == 0
        assert page.locator("body script").count() == 1
        hidden = page.evaluate(
            "/[\\u202a-\\u202e\\u2066-\\u2069\\u200b\\u001b\\u0000]/.test(document.body.textContent)"
        )
        assert hidden is False


def test_in_print_the_page_is_whole(browser: "Browser", plain: Path) -> None:
    with opened(browser, plain) as page:
        page.emulate_media(media="print")
        assert page.locator("nav").is_hidden()
        assert page.locator("#methods ~ details.more table").first.is_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
