"""The site as a reader meets it: every kind of page, on a telephone and a laptop, light and dark.

axe's rules for what a screen reader or weak eyes need; nothing asked of another host; nothing wider
than the window.
"""

import contextlib
import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from conftest import FLAGS, ROOT, chromium, note_offsite

KINDS = (
    "index.html", "start.html", "chapters/01_gan.html", "chapters/x1_flows.html",
    "solutions/index.html", "solutions/01_gan.html", "api/index.html", "api/minigen.gan.html",
    "map.html", "claims.html", "results.html", "glossary.html", "references.html",
    "teachers.html", "data.html", "weights.html", "rehearsal.html", "changelog.html",
    "search.html?q=entropy",
)
WIDTHS, THEMES = (380, 1000), ("light", "dark")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@contextlib.contextmanager
def served(folder):
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The site, built and served; SITE=folder takes one that is there."""
    folder = os.environ.get("SITE")
    if folder is None:
        folder = tmp_path_factory.mktemp("built") / "site"
        make = [sys.executable, ROOT / "tools" / "site" / "make.py", "--no-playground", folder]
        subprocess.run(make, check=True)
    with served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def tab(address):
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as pw:
        browser = pw.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        page = browser.new_page()
        page.offsite, page.crashes, page.missing = [], [], []
        page.on("request", lambda request: note_offsite(page, request.url, address))
        page.on("pageerror", lambda e: page.crashes.append(str(e)))
        page.on("response", lambda r: page.missing.append(r.url) if r.status >= 400 else None)
        yield page
        browser.close()


def set_formulas(page):
    """Wait until MathJax has set every formula."""
    page.wait_for_function("() => [...document.querySelectorAll('.math')].every("
                           "e => e.querySelector('mjx-container'))")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_page_can_be_read(tab, address, kind):
    tab.set_viewport_size({"width": WIDTHS[0], "height": 900})
    tab.goto(f"{address}/{kind}")
    set_formulas(tab)
    if "search" in kind:
        tab.wait_for_selector("#search-results li p")
    assert tab.missing == []
    name = kind.split(".html")[0].replace("/", "_")
    for theme in THEMES:
        tab.emulate_media(color_scheme=theme)
        for width in WIDTHS:
            tab.set_viewport_size({"width": width, "height": 900})
            tab.wait_for_function("theme => document.documentElement.dataset.theme == theme",
                                  arg=theme)
            tab.wait_for_timeout(300)             # a change of colours is gradual
            wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{kind} is {wide} pixels wider than a window of {width}"
            found = Axe().run(tab).response
            tab.missing.clear()                   # axe reads styles as if they lay elsewhere
            assert found["passes"], "axe looked at nothing"
            grave = [v for v in found["violations"] if v["impact"] in ("critical", "serious")]
            said = [f"{v['id']}: {n['html'][:200]}" for v in grave for n in v["nodes"]]
            assert said == [], f"{kind}, {width} pixels, {theme}"
            if folder := os.environ.get("SHOTS"):
                Path(folder).mkdir(parents=True, exist_ok=True)
                tab.screenshot(path=Path(folder) / f"site_{name}_{width}_{theme}.png")


def test_the_search_finds_without_a_network(tab, address):
    tab.goto(f"{address}/search.html?q=perplexity")
    tab.wait_for_selector("#search-results li a[href*='03_vqvae']")


def test_nothing_was_asked_elsewhere_and_nothing_broke(tab):
    assert tab.offsite == [] and tab.crashes == []
