"""The report in a real browser: a desktop's width and a phone's, by day and by night."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from report_rows import audited
from warehouse_rows import RUN

from constitution.audit.report import report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on the PATH")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    path = folder / "report.html"
    path.write_text(report(audited(folder / "warehouse").root, RUN), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, "--disable-sync"])
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, "light"), (375, "light"), (375, "dark")], ids=lambda given: f"{given[0]} {given[1]}")
def opened(browser: Browser, file: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Page, list[str]]]:
    """The page, and what it asked for or complained of."""
    width, scheme = request.param
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    told: list[str] = []
    page.on("console", lambda message: told.append(f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: told.append(f"error: {error}"))
    page.on("request", lambda request: told.append(f"request: {request.url}"))
    page.goto(file.as_uri())
    yield page, told
    page.close()


_OVERFLOWING = """() => [...document.querySelectorAll("body *")].filter(element => {
    if (element.closest(".scroll, pre") && !element.matches(".scroll, pre")) return false;
    const box = element.getBoundingClientRect();
    return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(element => element.outerHTML.slice(0, 120))"""

_SMALL = """() => [...document.querySelectorAll("svg text")].map(text => {
    const scale = text.ownerSVGElement.getScreenCTM().a;
    return parseFloat(getComputedStyle(text).fontSize) * scale;
}).filter(size => size < 7.5).length"""

_CONTRAST = """() => {
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(value => value / 255)
            .map(value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (!colour.startsWith("rgba(0, 0, 0, 0")) return colour;
        }
        return "rgb(255, 255, 255)";
    };
    return [...document.querySelectorAll("p, td, th, dt, dd, summary, h1, h2, h3, small, a")].map(element => {
        const pair = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
        return [(pair[0] + 0.05) / (pair[1] + 0.05), element.outerHTML.slice(0, 80)];
    }).filter(([ratio]) => ratio < 4.5);
}"""


def test_nothing_is_wider_than_the_page(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    for _ in ("closed", "open"):
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(_OVERFLOWING) == []
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")


def test_it_asks_for_nothing_and_complains_of_nothing(opened: tuple[Page, list[str]], file: Path) -> None:
    page, told = opened
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.wait_for_timeout(100)
    assert told == [f"request: {file.as_uri()}"]


def test_it_can_be_read(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    assert page.evaluate(_SMALL) == 0
    assert page.evaluate(_CONTRAST) == []


def test_drawings_are_drawn_and_have_names(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    sizes = page.evaluate("[...document.querySelectorAll('svg')].map(one => one.getBoundingClientRect().height)")
    assert len(sizes) > 100
    assert min(sizes) > 10
    assert page.get_by_role("img", name="Redundancy").count() == 1
    assert all(page.evaluate("[...document.querySelectorAll('[role=img]')].map(one => one.ariaLabel)"))


def test_a_query_is_selected_whole_by_one_click(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    page.locator("#position-bias summary", has_text="The query behind this").click()
    page.locator("#position-bias pre").click()
    selected = page.evaluate("getSelection().toString()")
    assert selected.startswith("SELECT judge, value")
    assert "ORDER BY" in selected
