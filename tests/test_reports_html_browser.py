"""The leaderboard in a browser: it sorts, searches and filters, shows intervals, and asks the network for nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.test_reports_html import HOSTILE, hostile_pages
from tests.test_reports_schema import record, write
from tests.test_reports_write import FMN, L2, LINF, NOISE, Results

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs Chromium and chromedriver on PATH (Debian: chromium-driver)"
)

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1300,800"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a`` is best within l_inf, ``b`` within l2, and of ``c`` the accuracy under noise alone is known."""
    results = Results()
    results.add("a", 9).add("a", 6, **LINF, verdict="ok").add("a", 9, **L2).add("a", 10, **FMN)
    results.add("b", 10).add("b", 1, **LINF, verdict="suspect: gradients").add("b", 10, **L2).add("b", 2, 0.5, **FMN)
    results.add("c", 7).add("c", 5, **NOISE)
    return write(results, tmp_path_factory.mktemp("reports"), record("b", reference="Somebody 2024"))


@pytest.fixture
def board(browser: webdriver.Chrome, folder: Path) -> webdriver.Chrome:
    return opened(browser, folder)


def opened(browser: webdriver.Chrome, folder: Path) -> webdriver.Chrome:
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get((folder / "leaderboard.html").as_uri())
    WebDriverWait(browser, 20).until(lambda _: browser.find_element(By.ID, "controls").is_displayed())
    return browser


def models(board: webdriver.Chrome) -> str:
    """The models that are shown, in their order."""
    return "".join(cell.text for cell in board.find_elements(By.CSS_SELECTOR, "tbody th.model"))


def shows(board: webdriver.Chrome, names: str) -> bool:
    """Whether the models come to stand in this order; the page sorts and searches a moment after it was asked to."""
    try:
        return bool(
            WebDriverWait(board, 5, ignored_exceptions=[WebDriverException]).until(lambda _: models(board) == names)
        )
    except TimeoutException:
        return False


def ranks(board: webdriver.Chrome) -> list[str]:
    return [cell.text for cell in board.find_elements(By.CSS_SELECTOR, "tbody td.rank")]


def headings(board: webdriver.Chrome) -> list[str]:
    return [title.text for title in board.find_elements(By.CSS_SELECTOR, "thead .dt-column-title")]


def sorter(board: webdriver.Chrome, title: str) -> WebElement:
    (heading,) = [one for one in board.find_elements(By.CSS_SELECTOR, "thead th") if one.text.startswith(title)]
    return heading.find_element(By.CSS_SELECTOR, ".dt-column-order")


def choose(board: webdriver.Chrome, threat_model: str) -> None:
    board.find_element(By.CSS_SELECTOR, f'[name="threat-model"][value="{threat_model}"]').click()


def score(board: webdriver.Chrome, model: str, number: str) -> WebElement:
    return board.find_element(By.XPATH, f"//tr[th[.='{model}']]//span[starts-with(normalize-space(.), '{number}')]")


def test_models_come_by_rank(board: webdriver.Chrome) -> None:
    assert shows(board, "abc"), models(board)
    assert board.find_element(By.ID, "count").text == "3 of 3 models"


@pytest.mark.parametrize(
    ("title", "once", "twice"),
    [
        ("Clean", "bac", "cab"),
        # What was not measured is the least.
        ("APGD l2", "bac", "cab"),
        # Infinity is the most.
        ("FMN l2", "abc", "cba"),
        ("Model", "abc", "cba"),
    ],
)
def test_columns_sort_the_best_first_then_the_other_way(
    board: webdriver.Chrome, title: str, once: str, twice: str
) -> None:
    sorter(board, title).click()
    assert shows(board, once), models(board)
    sorter(board, title).click()
    assert shows(board, twice), models(board)


def test_columns_sort_by_keyboard(board: webdriver.Chrome) -> None:
    sorter(board, "Clean").send_keys(Keys.ENTER)
    assert shows(board, "bac"), models(board)
    heading = sorter(board, "Clean").find_element(By.XPATH, "ancestor::th")
    assert heading.get_attribute("aria-sort") == "descending"


def test_search_finds_models_by_any_text(board: webdriver.Chrome) -> None:
    board.find_element(By.ID, "search").send_keys("somebody")
    assert shows(board, "b"), models(board)
    assert board.find_element(By.ID, "count").text == "1 of 3 models"
    board.find_element(By.ID, "search").send_keys(" else")
    assert shows(board, ""), models(board)


def test_a_threat_model_shows_its_columns_its_models_and_their_ranks(board: webdriver.Chrome) -> None:
    every = headings(board)
    choose(board, "l2")
    assert [title for title in headings(board) if title[:2] in ("Cl", "AP", "Ga", "FM")] == [
        "Clean",
        "APGD l2 0.25",
        "FMN l2, median norm",
    ]
    assert shows(board, "ba"), models(board)
    assert ranks(board) == ["1", "2"]
    choose(board, "noise")
    assert shows(board, "c"), models(board)
    assert ranks(board) == ["1"]
    choose(board, "")
    assert shows(board, "abc"), models(board)
    assert (ranks(board), headings(board)) == (["1", "2", "3"], every)


def test_threat_models_are_chosen_by_keyboard(board: webdriver.Chrome) -> None:
    board.find_element(By.CSS_SELECTOR, '[name="threat-model"][value=""]').send_keys(Keys.ARROW_RIGHT)
    assert shows(board, "ab"), models(board)
    assert "APGD l_inf 2/255" in headings(board)
    assert "APGD l2 0.25" not in headings(board)


def test_intervals_show_on_hover(board: webdriver.Chrome) -> None:
    details = board.find_element(By.ID, "details")
    assert not details.is_displayed()
    webdriver.ActionChains(board).move_to_element(score(board, "a", "60.0")).perform()
    assert details.text == "95 % interval 31.3 to 83.2, 10 samples\nok"
    webdriver.ActionChains(board).move_to_element(board.find_element(By.TAG_NAME, "h1")).perform()
    assert not details.is_displayed()


def test_intervals_show_on_focus_until_escape(board: webdriver.Chrome) -> None:
    details = board.find_element(By.ID, "details")
    score(board, "b", "10.0").send_keys("")
    assert details.text.endswith("suspect: gradients")
    board.switch_to.active_element.send_keys(Keys.TAB)
    assert details.text == "95 % interval 72.2 to 100.0, 10 samples"
    board.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not details.is_displayed()


def test_intervals_stay_inside_the_window(board: webdriver.Chrome) -> None:
    board.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 375, "height": 400, "deviceScaleFactor": 1, "mobile": True}
    )
    for detailed in board.find_elements(By.CSS_SELECTOR, "[data-details]"):
        detailed.send_keys("")
        # Scrolling, which the focus brings about, has been told of by then.
        board.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        place = board.execute_script("return document.getElementById('details').getBoundingClientRect().toJSON()")
        assert place["width"] > 0
        assert place["left"] >= 0
        assert place["top"] >= 0
        assert place["right"] <= 375
        assert place["bottom"] <= 400


def test_a_narrow_window_scrolls_the_table_and_not_the_page(board: webdriver.Chrome) -> None:
    board.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 375, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    )
    assert board.execute_script("return document.documentElement.scrollWidth") == 375
    region = board.find_element(By.CSS_SELECTOR, ".wide")
    assert board.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", region)
    # The names stay in sight.
    board.execute_script("arguments[0].scrollLeft = 400", region)
    name = board.find_element(By.CSS_SELECTOR, "tbody th.model").rect
    assert 0 <= name["x"] < 50


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(board: webdriver.Chrome, scheme: str) -> None:
    """At the contrast of 4.5 to 1 that WCAG 2.2 asks for."""
    board.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    for selector in ("h1", "main > p", "tbody td", "tbody tr:nth-child(2) td .suspect", ".ok", ".absent", "tbody a"):
        element = board.find_element(By.CSS_SELECTOR, selector)
        colours = board.execute_script(
            """let [element] = arguments; const colour = getComputedStyle(element).color;
            while (getComputedStyle(element).backgroundColor === "rgba(0, 0, 0, 0)") element = element.parentElement;
            return [colour, getComputedStyle(element).backgroundColor]""",
            element,
        )
        lighter, darker = sorted(map(luminance, colours), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, selector
        assert (luminance(colours[1]) > 0.5) == (scheme == "light")


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``, WCAG 2.2."""
    levels = [int(level) / 255 for level in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in levels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def log(browser: Any, kind: str) -> list[dict[str, Any]]:
    """What came since the last time, which selenium gives no types."""
    entries: list[dict[str, Any]] = browser.get_log(kind)
    return entries


def test_pages_log_nothing_and_request_nothing(browser: webdriver.Chrome, folder: Path) -> None:
    browser.get("about:blank")
    log(browser, "browser")
    log(browser, "performance")
    opened(browser, folder)
    browser.find_element(By.ID, "search").send_keys("b")
    sorter(browser, "Clean").click()
    choose(browser, "linf")
    browser.find_element(By.CSS_SELECTOR, "tbody th.model a").click()
    WebDriverWait(browser, 20).until(lambda _: browser.find_elements(By.TAG_NAME, "h2"))
    assert browser.find_element(By.TAG_NAME, "h1").text == "b"
    assert log(browser, "browser") == []
    events = [json.loads(entry["message"])["message"] for entry in log(browser, "performance")]
    requests = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    files = [url for url in requests if not url.startswith(("data:", "blob:"))]
    model = next((folder / "models").glob("b-*.html"))
    assert files == [(folder / "leaderboard.html").as_uri(), model.as_uri()]


def test_without_scripts_there_is_still_the_table(browser: webdriver.Chrome, folder: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get((folder / "leaderboard.html").as_uri())
        assert models(browser) == "abc"
        assert not browser.find_element(By.ID, "controls").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_hostile_card_runs_nothing(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """An alert would make the next command raise."""
    opened(browser, hostile_pages(tmp_path, HOSTILE))
    browser.find_element(By.ID, "search").send_keys("script")
    assert browser.find_element(By.ID, "count").text == "1 of 1 models"
    sorter(browser, "Model").click()
    choose(browser, "l2")
    for detailed in browser.find_elements(By.CSS_SELECTOR, "[data-details]"):
        detailed.send_keys("")
    assert browser.find_elements(By.CSS_SELECTOR, "img, b") == []
    browser.find_element(By.CSS_SELECTOR, "tbody th.model a").click()
    WebDriverWait(browser, 20).until(lambda _: browser.find_elements(By.TAG_NAME, "h2"))
    assert browser.find_elements(By.CSS_SELECTOR, "img, b, script") == []
