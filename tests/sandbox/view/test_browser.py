"""The viewer in a real browser: keys, labels, live pages, and hostile transcripts that do nothing."""

import re

import pytest
from playwright.sync_api import Page, expect

from sandbox import label
from tests.sandbox.view.conftest import Site, hostile


def test_from_the_list_to_an_episode_and_its_match_by_keys_alone(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.url}/run/mine/")
    expect(page.locator("#findings > .scroll table")).to_be_attached()
    page.keyboard.press("/")
    page.keyboard.type("maintenance")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("words=maintenance"))
    expect(page.locator("mark.hit").first).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("h2", has_text="Transcript")).to_be_visible()
    first = page.url
    page.keyboard.press("ArrowRight")
    expect(page).not_to_have_url(first)
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(first)
    page.keyboard.press("m")
    expect(page.locator(".armname")).to_have_count(2)
    there = page.url
    page.keyboard.press("ArrowRight")
    expect(page).not_to_have_url(there)
    page.keyboard.press("u")
    expect(page).to_have_url(re.compile(r"/run/mine/\?words=maintenance"))


def test_a_label_is_saved_and_shown(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/run/mine/?model=script:reverser")
    page.locator("a.open").first.click()
    page.get_by_label("disagree").check()
    page.get_by_label("mixed").check()
    page.get_by_label("note").fill("it says both")
    page.get_by_role("button", name="Save label").click()
    expect(page.get_by_text("it says both")).to_be_visible()
    (saved,) = label.read(site.record.folder)[0]
    assert (saved.verdict, saved.favours, saved.reviewer) == ("disagree", "mixed", "tester")
    page.goto(f"{site.url}/run/mine/?label=disagree")
    expect(page.locator("a.open")).to_have_count(1)


def test_an_episode_that_comes_in_shows_by_itself(page: Page, site: Site) -> None:
    plan = site.record.plan
    more = plan.model_copy(update={"epochs": plan.epochs + 1})
    (site.record.folder / "plan.json").write_text(more.model_dump_json())
    page.goto(f"{site.url}/run/mine/")
    expect(page.locator("#status")).not_to_contain_text("Being read")
    first = page.locator("a.open").first
    before = first.get_attribute("href")
    counted = page.locator("#status").inner_text()
    first.focus()
    episode = next(site.record.episodes())
    late = episode.model_copy(update={"trial": episode.trial.model_copy(update={"epoch": plan.epochs})})
    segment = site.record.segment()
    segment.append(late)
    segment.close()
    expect(page.locator("a.open").first).to_have_attribute("href", f"/run/mine/episode/{late.trial.id}")
    expect(page.locator("#status")).not_to_have_text(counted)
    assert page.evaluate("document.activeElement.getAttribute('href')") == before, "what was in focus stays in focus"


def test_hostile_transcripts_do_nothing(page: Page, site: Site) -> None:
    segment = site.record.segment()
    found = next(each for each in site.record.episodes() if each.trial.arm == "monitored")
    episode = hostile(found, 50)
    other = hostile(found.model_copy(update={"trial": found.trial.model_copy(update={"arm": "unmonitored"})}), 50)
    segment.append(episode, other)
    segment.close()
    home = f"{site.url}/run/mine/"
    for path in ("", "?words=hyperlink", f"episode/{episode.trial.id}", f"match/{episode.trial.match}"):
        page.goto(home + path)
        expect(page.locator("main")).to_be_visible()
        assert page.evaluate("window.owned") is None
        assert (
            page.locator(
                "a[href^='javascript:'], a[href*='evil'], img, svg, iframe, h1:has-text('injected') + h1"
            ).count()
            == 0
        )
        assert "owned" not in page.title()


@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_fit_their_window_and_can_be_read(page: Page, site: Site, theme: str, width: int) -> None:
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 900})
    match = next(site.record.episodes()).trial.match
    trial = next(site.record.episodes()).trial.id
    for path in ("/", "/run/mine/?words=maintenance", f"/run/mine/episode/{trial}", f"/run/mine/match/{match}"):
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        colours = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        light, dark = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
        assert (light - dark > 300) if theme == "dark" else (dark - light > 300)
