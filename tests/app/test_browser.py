"""The real server in a real browser: the chart appears, files download, nothing is asked of the internet."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from synthetic import write_cohort, write_experiment

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
from make_screenshots import FLAGS, chromium, serve

pytestmark = pytest.mark.browser
PAGES = ["Home", "New run", "Cohort", "Pretraining", "Label efficiency", "Embedding", "Predictions", "Reader test"]
CHART = ".stVegaLiteChart canvas, .stVegaLiteChart svg.marks"


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; in CI its absence is a failure."""
    program = chromium()
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Chromium for the app's browser test")
        pytest.skip("no Chromium on the PATH, nor named by CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("workspace")
    write_experiment(workspace)
    write_cohort(workspace)
    with serve(workspace) as running:
        yield running


class Watched:
    """A page, and all that it complained of or asked of anyone but our server."""

    def __init__(self, browser, address: str, width: int = 1440) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("request", lambda r: None if self._ours(r.url, address) else self.foreign.append(r.url))

    @staticmethod
    def _ours(url: str, address: str) -> bool:
        return url.startswith((address + "/", address.replace("http", "ws") + "/", "data:", "blob:"))


def test_from_home_to_the_curve_without_errors_or_foreign_requests(browser, address):
    watched = Watched(browser, address)
    page = watched.page
    page.goto(address)
    page.locator(".stMain").get_by_role("button", name="Open", exact=True).first.click()
    page.wait_for_selector(CHART)
    page.get_by_role("heading", name="Verdict at each budget").wait_for()
    box = page.locator(CHART).first.bounding_box()
    assert box["width"] > 700 and 300 < box["height"] < 900
    assert "experiment=synthetic" in page.url
    page.get_by_role("link", name="Pretraining").click()
    page.get_by_role("heading", name="What the task sees and answers").wait_for()
    page.wait_for_selector(CHART)
    assert "experiment=synthetic" in page.url
    assert watched.complaints == [] and watched.foreign == []
    page.close()


def test_every_page_opens_from_the_sidebar_under_its_own_heading(browser, address):
    watched = Watched(browser, address)
    page = watched.page
    page.goto(address)
    page.get_by_role("heading", name="Home", exact=True, level=1).wait_for()
    names = page.locator("[data-testid=stSidebarNav] a").all_inner_texts()
    assert names == PAGES
    for name in names[1:] + names[:1]:
        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_role("heading", name=name, exact=True, level=1).wait_for()
        page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
        assert not page.locator(".stException").count()
        about_one = name not in ("Home", "New run", "Reader test")
        chooser = page.locator(".stSidebar .stSelectbox", has_text="Experiment")
        chooser.wait_for(state="visible" if about_one else "detached")
    assert watched.complaints == [] and watched.foreign == []
    page.close()


def test_an_arm_is_switched_off_by_a_click_and_by_the_keyboard(browser, address):
    page = Watched(browser, address).page
    page.goto(address)
    page.get_by_role("link", name="Label efficiency").click()
    page.wait_for_selector(CHART)
    page.get_by_role("button", name="pixels", exact=True).or_(page.get_by_role("checkbox", name="pixels")).first.click()
    page.wait_for_url("**arms=scratch*")
    assert "pixels" not in page.url.split("arms=")[1]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")  # the next arm
    page.wait_for_url("**arms=rotation*")
    page.close()


def test_downloads_are_made_on_demand(browser, address):
    page = Watched(browser, address).page
    page.goto(address)
    page.get_by_role("link", name="Label efficiency").click()
    page.wait_for_selector(CHART)
    starts = {
        "Curve, PNG": b"\x89PNG",
        "Curve, SVG": b"<svg",
        "Curve, CSV": b"arm,budget",
        "Report, HTML": b"<!doctype html>",
    }
    for label, start in starts.items():
        with page.expect_download() as download:
            page.get_by_role("button", name=label).click()
        assert Path(download.value.path()).read_bytes().startswith(start)
    page.close()


@pytest.mark.parametrize("width", [1024, 1440])
def test_nothing_is_cut_at_usual_widths(browser, address, width):
    page = Watched(browser, address, width).page
    page.goto(f"{address}/label-efficiency?experiment=synthetic&arms=simclr,scratch")
    page.wait_for_selector(CHART)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    main = page.locator(".stMainBlockContainer").bounding_box()
    for chart in page.locator(CHART).all():
        box = chart.bounding_box()
        assert box["x"] + box["width"] <= main["x"] + main["width"] + 1
    assert "pixels" not in page.url
    page.close()


def test_from_a_cohort_to_a_slice_of_a_scan_by_keyboard_and_link(browser, address):
    watched = Watched(browser, address)
    page = watched.page
    page.goto(address)
    page.get_by_role("link", name="Cohort").click()
    page.get_by_text("CT volumes").wait_for()
    page.get_by_role("button", name="Scans", exact=True).or_(page.get_by_role("radio", name="Scans")).first.click()
    page.locator(".stMain .stImage img").nth(23).wait_for()
    assert "cohort=virtual" in page.url and "show=Scans" in page.url
    page.goto(f"{address}/cohort?cohort=virtual&show=Scans&modality=CT")
    page.locator(".stMain .stButton button").filter(has_text="s").first.click()
    slider = page.get_by_role("slider").first
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**slice=5*")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert watched.foreign == []
    page.close()
