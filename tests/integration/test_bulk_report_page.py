"""The report's page in a real Chromium, opened as a file."""

import io
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from browser import DESKTOP, PHONE, chromium, console_messages, needs_chromium, resize, wait_until
from PIL import Image
from running import BIN
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from cutstream.bulk import report
from cutstream.bulk.report import write_report

pytestmark = needs_chromium

BLUE, RED = (0, 0, 255), (255, 0, 0)
COUNT = 12


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


def line(number, source, **changes):
    """A line of `manifest.jsonl`: confidence rises by 0.05 from image to image, the crop is half outside the image."""
    return {
        "input": str(source), "output": f"{number}.png", "output_bytes": 9, "sha256": str(number), "status": "ok",
        "size": 10, "mtime": number, "options": "abc", "width_px": 50, "height_px": 50,
        "crop": {"left_px": 50.0, "top_px": 0.0, "width_px": 100.0, "height_px": 100.0},
        "metrics": {
            "confidence": round(0.05 * number, 2), "component_count": number % 3,
            "source_width_px": 100, "source_height_px": 100,
        },
        "timings": {"total_seconds": 0.5}, **changes,
    }  # fmt: skip


def failed(number, source, reason="NO_OBJECT", message="no object was found"):
    error = {"status": "error", "output": None, "sha256": None, "crop": None, "metrics": {}}
    return line(number, source, **error, reason=reason, message=message, metadata={})


class Run:
    """A folder of blue images and one of red cutouts, of which the right half is transparent."""

    def __init__(self, folder):
        self.photos, self.out, self.page = folder / "photos", folder / "out", folder / "report.html"
        self.photos.mkdir()
        self.out.mkdir()

    def photo(self, name):
        path = self.photos / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (100, 100), BLUE).save(path, "PNG")
        return path

    def cutout(self, number):
        cutout = Image.new("RGBA", (50, 50), (0, 0, 0, 0))
        cutout.paste((*RED, 255), (0, 0, 25, 50))
        cutout.save(self.out / f"{number}.png")

    def add(self, number, **changes):
        self.cutout(number)
        return line(number, self.photo(f"{number}.png"), **changes)

    def write(self, lines):
        manifest = self.out / "manifest.jsonl"
        manifest.write_text("".join(json.dumps(one) + "\n" for one in lines))
        write_report(manifest, self.page)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


@pytest.fixture
def show(run, browser):
    """Writes the page of these lines and opens it."""

    def open_page(lines, size=DESKTOP):
        run.write(lines)
        resize(browser, size)
        console_messages(browser)
        browser.get(run.page.as_uri())
        return browser

    return open_page


@pytest.fixture
def dozen(run, show):
    """The page of twelve images."""
    return show([run.add(number) for number in range(COUNT)])


def texts(driver, selector):
    return driver.execute_script(
        "return Array.from(document.querySelectorAll(arguments[0]), e => e.textContent)", selector
    )


def names(driver):
    """Of the tiles in the document, in the order in which they are seen."""
    return [text.removesuffix(".png") for text in driver.execute_script(
        "return [...tiles].sort((a, b) => a[0] - b[0]).map(([, tile]) => tile.title)"
    )]  # fmt: skip


def choose(driver, select, text):
    driver.execute_script(
        "const [select, text] = arguments; const box = document.getElementById(select);"
        "box.value = text; box.dispatchEvent(new Event('change'));",
        select, text,
    )  # fmt: skip


def card(driver, column):
    return driver.find_element(By.CSS_SELECTOR, f'.card[data-column="{column}"]')


def wait_for_names(driver, expected):
    numbers = json.dumps([f"{name}.png" for name in expected])
    wait_until(driver, f"JSON.stringify(shown.map((row) => data.names[row])) === JSON.stringify({numbers})")


def tile(driver, number):
    return driver.find_element(By.CSS_SELECTOR, f'.tile[title="{number}.png"]')


def view(driver, number):
    tile(driver, number).click()
    wait_until(driver, "viewer.open")


def test_it_opens_from_a_file_without_a_complaint(dozen):
    wait_until(dozen, "[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert len(dozen.find_elements(By.CSS_SELECTOR, ".tile img")) == COUNT
    assert console_messages(dozen) == []


def test_the_head_counts_all_images(run, show):
    driver = show([run.add(0), run.add(1), run.add(2), failed(3, run.photo("3.png"))])
    entries = dict(zip(texts(driver, "#totals dt"), texts(driver, "#totals dd"), strict=True))
    assert entries == {
        "images": "4", "cut out (75.0%)": "3", "failed": "1", "median confidence": "0.05", "median time": "0.5 s"
    }  # fmt: skip


def test_sorted_by_a_metric_what_lacks_it_comes_last_both_ways(run, show):
    driver = show([run.add(1), failed(7, run.photo("7.png")), run.add(2), run.add(0)])
    choose(driver, "sort", "Confidence")
    assert names(driver) == ["0", "1", "2", "7"]
    driver.find_element(By.ID, "direction").click()
    assert names(driver) == ["2", "1", "0", "7"]


def test_sorted_by_name_numbers_count_as_numbers(run, show):
    driver = show([run.add(10), run.add(9), run.add(1)])
    choose(driver, "sort", "File name")
    assert names(driver) == ["1", "9", "10"]


def test_a_tile_shows_the_metric_that_it_is_sorted_by(dozen):
    choose(dozen, "sort", "Component count")
    assert tile(dozen, 2).text.splitlines()[-2:] == ["Component count", "2"]


def test_a_reason_filters(run, show):
    driver = show([run.add(0), failed(1, run.photo("1.png")), failed(2, run.photo("2.png"), "DEADLINE")])
    card(driver, "outcome").find_element(By.XPATH, ".//button[contains(., 'DEADLINE')]").click()
    wait_for_names(driver, [2])
    assert driver.find_element(By.ID, "shown").text == "1 of 3"


def test_typed_limits_filter_and_are_included(dozen):
    least, most = card(dozen, "confidence").find_elements(By.TAG_NAME, "input")
    least.send_keys("0.1")
    most.send_keys("0.2")
    wait_for_names(dozen, [2, 3, 4])


def test_dragging_over_a_histogram_filters(dozen):
    plot = card(dozen, "confidence").find_element(By.TAG_NAME, "svg")
    # From the middle of the values 0 to 0.55 to beyond the right border.
    half = plot.size["width"] // 2
    ActionChains(dozen).move_to_element(plot).click_and_hold().move_by_offset(half - 5, 0).release().perform()
    wait_until(dozen, "shown.length < 12")
    values = dozen.execute_script("return shown.map((row) => columnNamed('confidence').values[row])")
    expected = [round(0.05 * number, 2) for number in range(COUNT)]
    assert 4 <= len(values) <= 7
    assert values == expected[-len(values) :]


def test_a_card_counts_what_the_other_filters_let_through(dozen):
    card(dozen, "confidence").find_elements(By.TAG_NAME, "input")[0].send_keys("0.5")
    wait_for_names(dozen, [10, 11])
    dozen.find_element(By.ID, "more").find_element(By.TAG_NAME, "summary").click()
    wait_until(dozen, "document.querySelector('.card[data-column=component_count]')")
    most = card(dozen, "component_count").find_elements(By.TAG_NAME, "input")[1]
    most.send_keys("1")
    # Of the last two images one has one component and the other two.
    wait_for_names(dozen, [10])
    all_there = len(texts(dozen, ".tile"))
    card(dozen, "confidence").find_element(By.CSS_SELECTOR, ".clear").click()
    wait_for_names(dozen, [0, 1, 3, 4, 6, 7, 9, 10])
    assert all_there == 1


def test_a_file_is_found_by_a_part_of_its_name(dozen):
    dozen.find_element(By.TAG_NAME, "body").send_keys("/")
    ActionChains(dozen).send_keys("11").perform()
    wait_for_names(dozen, [11])


def test_clearing_the_filters_shows_all_again(dozen):
    dozen.find_element(By.ID, "search").send_keys("nothing is called this")
    wait_until(dozen, "!byId('empty').hidden")
    dozen.find_element(By.ID, "reset").click()
    wait_for_names(dozen, range(COUNT))


def test_ten_thousand_images_are_there_and_few_tiles_are(show):
    driver = show([line(number, f"/photos/{number}.png") for number in range(10_000)])
    assert len(driver.find_elements(By.CSS_SELECTOR, ".tile")) < 100
    driver.find_element(By.CSS_SELECTOR, ".tile").send_keys(Keys.END)
    wait_until(driver, "document.activeElement.title === '9999.png'")
    assert len(driver.find_elements(By.CSS_SELECTOR, ".tile")) < 100


def test_scrolling_brings_the_tiles_of_that_place(show):
    driver = show([line(number, f"/photos/{number}.png") for number in range(2000)])
    driver.execute_script("scroller.scrollTop = scroller.scrollHeight / 2")
    wait_until(driver, "tiles.has(1000) && !tiles.has(1)")


def test_of_too_many_images_the_page_says_that_it_shows_a_sample(run, show, monkeypatch):
    monkeypatch.setattr(report, "MOST_DONE", 5)
    driver = show([line(number, f"/photos/{number}.png") for number in range(50)])
    assert "5 of the 50 images" in driver.find_element(By.ID, "sample").text


def test_arrows_go_from_image_to_image_and_escape_back_to_the_tile(dozen):
    view(dozen, 3)
    keys = ActionChains(dozen)
    keys.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT).perform()
    assert dozen.find_element(By.ID, "name").text == "4.png"
    assert dozen.find_element(By.ID, "position").text == "5 / 12"
    keys.send_keys(Keys.ESCAPE).perform()
    wait_until(dozen, "!viewer.open && document.activeElement.title === '4.png'")


def test_the_first_and_the_last_image_are_the_ends(dozen):
    view(dozen, 0)
    ActionChains(dozen).send_keys(Keys.ARROW_LEFT).perform()
    assert dozen.find_element(By.ID, "name").text == "0.png"
    assert not dozen.find_element(By.ID, "previous").is_enabled()


def test_the_crop_is_drawn_where_it_lies_outside_of_the_image_too(dozen):
    view(dozen, 0)
    wait_until(dozen, "document.querySelector('#before .crop')")
    # Image 0 to 100 and crop 50 to 150 make a frame of 150 by 100.
    frame, image, crop = (
        dozen.find_element(By.CSS_SELECTOR, f"#before {part}").rect for part in (".frame", "img", ".crop")
    )
    assert frame["width"] / frame["height"] == pytest.approx(1.5, rel=0.01)
    assert image["width"] == pytest.approx(frame["width"] * 2 / 3, rel=0.01)
    assert crop["x"] - frame["x"] == pytest.approx(frame["width"] / 3, rel=0.01)
    assert crop["width"] == pytest.approx(frame["width"] * 2 / 3, rel=0.01)


def colour_at(driver, selector, across):
    """Colour of an element as it is seen, at half its height."""
    element = driver.find_element(By.CSS_SELECTOR, selector)
    image = np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB"), int)
    return tuple(image[image.shape[0] // 4, int(across * image.shape[1])])


def test_the_cutout_is_seen_on_a_checkerboard(dozen):
    view(dozen, 0)
    wait_until(dozen, "document.querySelector('#after .wipe')")
    assert colour_at(dozen, "#after .frame", 0.4) == RED
    shades = {colour_at(dozen, "#after .frame", across) for across in np.linspace(0.6, 0.9, 40)}
    assert len(shades) >= 2


def test_wiping_over_the_cutout_uncovers_the_same_part_of_the_source(dozen):
    view(dozen, 0)
    wait_until(dozen, "document.querySelector('#after .wipe')")
    assert colour_at(dozen, "#after .frame", 0.2) == RED
    slider = dozen.find_element(By.CSS_SELECTOR, "#after .wipe")
    ActionChains(dozen).move_to_element_with_offset(slider, -slider.size["width"] // 5, 0).click().perform()
    # The crop's left half is image, its right half lies outside.
    assert colour_at(dozen, "#after .frame", 0.2) == BLUE
    assert colour_at(dozen, "#after .frame", 0.4) == RED


def test_the_arrow_keys_of_the_wipe_do_not_change_the_image(dozen):
    view(dozen, 3)
    wait_until(dozen, "document.querySelector('#after .wipe')")
    dozen.find_element(By.CSS_SELECTOR, "#after .wipe").send_keys(Keys.ARROW_RIGHT)
    assert dozen.find_element(By.ID, "name").text == "3.png"


def test_a_failed_image_is_shown_with_reason_and_message(run, show):
    driver = show([failed(0, run.photo("0.png"))])
    view(driver, 0)
    assert driver.find_element(By.ID, "failure").text == "NO_OBJECT: no object was found"
    assert not driver.find_element(By.ID, "after").is_displayed()


def test_a_failed_image_that_no_browser_reads_says_so(run, show):
    (run.photos / "0.png").write_bytes(b"no image")
    driver = show([failed(0, run.photos / "0.png")])
    view(driver, 0)
    assert "format" in wait_until(driver, "byId('before').textContent")


def test_metrics_alone_say_that_there_is_no_cutout(run, show):
    driver = show([line(0, run.photo("0.png"), output=None, sha256=None, crop={})])
    view(driver, 0)
    assert "metrics" in driver.find_element(By.ID, "after").text


def test_a_page_without_the_cutouts_shows_thumbnails(run, show):
    lines = [run.add(0)]
    driver = show(lines)
    (run.out / "0.png").unlink()
    view(driver, 0)
    wait_until(driver, "document.querySelector('#after img')?.src.endsWith('.webp')")


def test_addresses_are_links_and_nothing_is_loaded_from_the_network(run, show):
    run.cutout(0)
    run.cutout(1)
    driver = show([line(0, "https://images.invalid/a.png"), line(1, "s3://bucket/b.png")])
    for tile_number in (0, 1):
        driver.find_elements(By.CSS_SELECTOR, ".tile")[tile_number].click()
        assert "not on this machine" in driver.find_element(By.ID, "before").text
        ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith("file:") for name in loaded)
    assert console_messages(driver) == []


HOSTILE = (
    "<img src=x onerror=hacked=1>.png",
    "'\" onerror='hacked=1.png",
    # A folder that is called "<", and a file in it.
    "</script><script>hacked=1;.png",
    "javascript:hacked=1.png",
    "%3Cscript%3E #?&amp; \\.png",
    "line\nend\ttab.png",
    "\u202egnp.exe\u2066.png",
    "${hacked=1}`@@script@@.png",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_name_is_text_and_its_image_opens(run, show, name):
    run.cutout(0)
    # With a second image names begin at the folder of both.
    driver = show([line(0, run.photo(name)), run.add(1)])
    driver.find_elements(By.CSS_SELECTOR, ".tile")[0].click()
    wait_until(driver, "document.querySelector('#before img')?.naturalWidth === 100")
    # textContent, not what selenium makes of white space.
    assert texts(driver, "#name") == [name]
    assert driver.execute_script("return typeof hacked") == "undefined"
    assert len(driver.find_elements(By.TAG_NAME, "script")) == 2
    assert console_messages(driver) == []


@pytest.mark.parametrize("name", [name.encode() + b"\xff.png" for name in ("caf", "<b>")])
def test_an_image_whose_name_is_no_utf_8_opens(run, show, name):
    driver = show([failed(0, run.photo(os.fsdecode(name)))])
    driver.find_elements(By.CSS_SELECTOR, ".tile")[0].click()
    wait_until(driver, "document.querySelector('#before img')?.naturalWidth === 100")


def test_a_hostile_message_is_text(run, show):
    message = "</script><img src=x onerror=hacked=1><script>hacked=1</script><!--"
    driver = show([failed(0, run.photo("0.png"), reason="<b>REASON</b>", message=message)])
    view(driver, 0)
    assert texts(driver, "#failure") == [f"<b>REASON</b>: {message}"]
    assert driver.execute_script("return typeof hacked") == "undefined"
    assert driver.find_elements(By.CSS_SELECTOR, "b, img[src=x]") == []


def test_the_policy_stops_code_that_gets_into_the_markup(dozen):
    dozen.execute_script("byId('empty').innerHTML = '<img src=x onerror=\"window.hacked = 1\">'")
    wait_until(dozen, "document.querySelector('#empty img').complete")
    assert dozen.execute_script("return typeof hacked") == "undefined"
    assert any("Content Security Policy" in message for message in console_messages(dozen))


def test_on_a_phone_nothing_is_wider_than_the_screen_and_filters_open_on_demand(run, show):
    driver = show([*(run.add(number) for number in range(COUNT)), failed(COUNT, run.photo("failed.png"))], PHONE)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    assert not driver.find_element(By.ID, "side").is_displayed()
    driver.find_element(By.ID, "toggle-filters").click()
    assert driver.find_element(By.ID, "side").is_displayed()
    assert card(driver, "outcome").find_element(By.CSS_SELECTOR, ".choice").text.split() == ["ok", str(COUNT)]


def test_where_the_system_is_dark_the_page_is(run):
    run.write([run.add(0)])
    with chromium(dark=True) as driver:
        driver.get(run.page.as_uri())
        background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert all(int(part) < 60 for part in background.removeprefix("rgb(").removesuffix(")").split(","))


def test_a_real_run_makes_its_page(own_server, draw, browser, tmp_path):
    photos, page = tmp_path / "photos", tmp_path / "seen" / "report.html"
    photos.mkdir()
    mask = np.zeros((64, 64))
    mask[16:48, 16:48] = 1
    for number in range(5):
        (photos / f"{number}.png").write_bytes(draw(mask))
    (photos / "broken.png").write_bytes(b"no image")
    log = tmp_path / "bulk.log"
    with log.open("wb") as said:
        done = subprocess.run(
            [BIN / "cutstream", "bulk", photos, tmp_path / "out", "--report", page, "--target", own_server.target],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 1, log.read_text()
    resize(browser, DESKTOP)
    browser.get(Path(page).as_uri())
    wait_until(browser, "[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert sorted(names(browser)) == ["0", "1", "2", "3", "4", "broken"]
    assert len(browser.find_elements(By.CSS_SELECTOR, ".tile.cut img")) == 5
    assert console_messages(browser) == []
