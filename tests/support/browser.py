"""A headless Chromium for tests of pages, where one is installed."""

import contextlib
import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM, DRIVER = "chromium", "chromedriver"
HOW_TO_INSTALL = "no Chromium with its driver; on Debian: apt-get install chromium chromium-driver"
DESKTOP = (1280, 900)
PHONE = (390, 844)
PATIENCE_SECONDS = 20

needs_chromium = pytest.mark.skipif(not (shutil.which(CHROMIUM) and shutil.which(DRIVER)), reason=HOW_TO_INSTALL)


@contextlib.contextmanager
def chromium(size=DESKTOP, *, dark=False):
    """Starts a browser whose page area has this size in CSS pixels; gives selenium's driver."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which(CHROMIUM)
    options.add_argument("--headless=new")
    # Containers have little /dev/shm, and Chromium's sandbox does not run as root.
    options.add_argument("--disable-dev-shm-usage")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # With the driver named, selenium looks for none in the network.
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which(DRIVER)))
    try:
        resize(driver, size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield driver
    finally:
        driver.quit()


def resize(driver, size):
    """Gives the page area this size in CSS pixels."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def wait_until(driver, expression):
    """Waits until an expression of JavaScript is true; gives its value."""
    return WebDriverWait(driver, PATIENCE_SECONDS).until(lambda _: driver.execute_script(f"return {expression}"))


def console_messages(driver):
    """What the page has written to the console since the last call, violations of its policy included."""
    return [entry["message"] for entry in driver.get_log("browser")]
