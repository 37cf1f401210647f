"""Drives Debian's Chromium by Playwright: headless, with OpenGL in software.

Every wait is for a state of the page, never for a fixed time.
"""

import io
import os
import shutil
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from viz.page import find_row, render_page
from viz.run_source import RunSource
from viz.server import ViewerServer

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
# A missing browser is a failure where CI sets WHISKER_BROWSER_TESTS.
needs_chromium = pytest.mark.skipif(
    not (Path(CHROMIUM).exists() or os.environ.get("WHISKER_BROWSER_TESTS")),
    reason="needs Chromium",
)
_QUIET = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SOFTWARE_GL = [
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
NO_WEBGL = ["--disable-gpu", "--disable-3d-apis"]
# Chromium warns about reading pixels back in software. The page is not at fault.
_DRIVER_NOTE = "GL Driver Message"


@contextmanager
def opened_browser(playwright, graphics=SOFTWARE_GL):
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*_QUIET, *graphics])
    try:
        yield browser
    finally:
        browser.close()


class Viewer:
    """A page that shows whiskers.

    Attributes:
        complaints: warnings and errors of the console, and exceptions of the page.
        requests: addresses that the page requested over the network.
    """

    def __init__(
        self,
        browser,
        url,
        *,
        offline=False,
        limit_s=60.0,
        init_script="",
        **size_px,
    ):
        viewport = {"width": 1280, "height": 720} | size_px
        context = browser.new_context(viewport=viewport, color_scheme="light")
        context.set_offline(offline)
        self.page = context.new_page()
        self.page.add_init_script(init_script)
        self.complaints = []
        self.requests = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "request", lambda r: self.requests.append(r.url) if r.url.startswith("http") else None
        )
        self.page.goto(url)
        self.wait(lambda: self.page.evaluate("window.__ready === true"), limit_s)

    def _note(self, message):
        if message.type in ("error", "warning") and _DRIVER_NOTE not in message.text:
            self.complaints.append(message.text)

    @property
    def state(self):
        return self.page.evaluate("window.__state()")

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
        return self.settled()

    def click(self, *commands):
        for command in commands:
            self.page.click(f'[data-command="{command}"]')
        return self.settled()

    def settled(self):
        """Return the page's state once everything requested is loaded, two frames later."""
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        self.wait(lambda: not self.state["loading"] and not self.state["filling"])
        return self.state

    def wait(self, condition, limit_s=60.0):
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, (
                f"waited in vain; state {self.page.evaluate('window.__state?.()')}"
            )
            time.sleep(0.02)

    def wait_for(self, **values):
        """Wait until the page's state has these values."""

        def has_them():
            state = self.state
            return state == state | values

        self.wait(has_them)

    def picture(self):
        """Return every canvas of the page, losslessly, once the page is at rest.

        A scene that no longer changes is drawn once more at better quality.
        """
        self.wait(lambda: self.state["at_rest"])
        return self.page.evaluate(
            "[...document.querySelectorAll('canvas')].map((canvas) => canvas.toDataURL())"
        )

    def lab(self, selector):
        """Return the first element that matches, once the page is at rest, in CIE L*a*b*.

        Distances in that colour space are close to the differences that people see.
        """
        self.wait(lambda: self.state["at_rest"])
        image = np.float32(self._screenshot(selector)) / 255
        return cv2.cvtColor(image, cv2.COLOR_RGB2LAB)

    def _screenshot(self, selector):
        shot = self.page.locator(selector).first.screenshot()
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))

    def count(self, colour, selector="canvas"):
        """Count the pixels of a whisker's colour in the first match, once the page is at rest."""
        self.wait(lambda: self.state["at_rest"])
        red, green, blue = np.moveaxis(self._screenshot(selector).astype(int), -1, 0)
        masks = {
            "green": (green > 1.35 * red) & (green > 1.35 * blue) & (green > 80),
            "blue": (blue > 1.5 * red) & (blue > 1.5 * green) & (blue > 140),
            "orange": (red > 200)
            & (green > 90)
            & (green < 175)
            & (blue < 110)
            & (red > 1.4 * green),
            "magenta": (red > 1.5 * green) & (blue > 1.3 * green) & (red > 120) & (blue > 90),
        }
        return int(masks[colour].sum())


def open_export(browser, page, fragment="", **options):
    """Open an exported page without a network."""
    return Viewer(browser, page.as_uri() + fragment, offline=True, **options)


@contextmanager
def serve_run(browser, run, source_type=RunSource):
    """Serve a run, and yield a viewer that shows its first failure."""
    with closing(source_type(run, find_row(run, None))) as source, served(source) as server:
        yield Viewer(browser, server.url)


@contextmanager
def served(source, *, serves_runs=False):
    """Run a viewer's server in a thread, and yield it."""
    with closing(ViewerServer(source, render_page(None, serves_runs))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
