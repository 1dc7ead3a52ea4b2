"""A JupyterLab with settings of its own, and Chromium to look at it. Run by `make test-browser`."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from minigen import plots

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-default-apps", "--disable-extensions",
]
SETTINGS = {
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    # every cell painted, also far ones
    "notebook-extension/tracker": '{"windowingMode": "none"}',
}


def chromium():
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    pytest.exit("The browser tests need Chromium: install it (on Debian and Ubuntu: apt-get "
                "install chromium fonts-dejavu), then run `make test-browser` again.", returncode=2)


@contextlib.contextmanager
def lab(root, home):
    """JupyterLab over the folder `root`; yields (address, token), then ends server and kernels."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token, address = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    env = os.environ | {
        "JUPYTER_CONFIG_DIR": f"{home}/CONFIG",
        "JUPYTER_DATA_DIR": f"{home}/DATA",
        "JUPYTER_RUNTIME_DIR": f"{home}/RUNTIME",
        "JUPYTERLAB_SETTINGS_DIR": f"{home}/settings",
        "JUPYTERLAB_WORKSPACES_DIR": f"{home}/ws",
        "IPYTHONDIR": f"{home}/ipython",
        "MINIGEN_HOME": f"{home}/minigen",
    }
    env.pop("MINIGEN_STRICT", None)
    for name, text in SETTINGS.items():
        file = Path(home, f"settings/@jupyterlab/{name}.jupyterlab-settings")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}",
        "--LabApp.extension_manager=readonly",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    log = Path(home, "lab.log")
    with open(log, "w") as out:
        server = subprocess.Popen(
            command, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        for _ in range(600):
            if server.poll() is not None:
                raise RuntimeError(log.read_text())
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=1).close()
                break
            time.sleep(0.1)
        else:
            raise RuntimeError("JupyterLab did not start within a minute")
        yield address, token
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def stored():
    """A notebook with a picture among its outputs, which was not run here."""
    data = {"text/html": plots.picture(plots.curves({"a": [1, 2]}), 'A "line" & its words.')}
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", data)])
    return nbformat.v4.new_notebook(cells=[cell])


def note_offsite(page, url, address):
    """Remember a request that leaves this computer."""
    if url.startswith("http") and not url.startswith(address):
        page.offsite.append(url)


@pytest.fixture(scope="module")
def chrome():
    """Chromium without a window."""
    browser_path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as pw:
        browser = pw.chromium.launch(executable_path=browser_path, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Chapter 1, without its stored outputs, opened in JupyterLab with an idle kernel."""
    browser_path = chromium()
    from playwright.sync_api import sync_playwright

    root, home = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("home")
    nb = nbformat.read(ROOT / "notebooks" / "01_gan.ipynb", 4)
    for cell in nb.cells:  # so that a number in a prompt means that it ran here
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(nb, root / "01_gan.ipynb")
    nbformat.write(stored(), root / "stored.ipynb")
    with lab(root, home) as (address, token), sync_playwright() as pw:
        browser = pw.chromium.launch(executable_path=browser_path, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.offsite, page.crashes = [], []
        page.token = token
        page.on("request", lambda request: note_offsite(page, request.url, address))
        page.on("pageerror", lambda e: page.crashes.append(str(e)))
        page.set_default_timeout(30_000)
        page.goto(f"{address}/lab/tree/01_gan.ipynb?token={token}")
        page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook", timeout=90_000)
        end = time.time() + 90
        while not _kernel_idle(address, token):  # the page says idle before it has any kernel
            assert time.time() < end, "no kernel within 90 seconds"
            time.sleep(0.2)
        status = "document.querySelector('#jp-main-statusbar')?.innerText || ''"
        page.wait_for_function(f"() => /\\| Idle/.test({status})")
        page.wait_for_timeout(500)
        yield page
        browser.close()


def _kernel_idle(address, token):
    with urllib.request.urlopen(f"{address}/api/sessions?token={token}") as answer:
        kernels = [s["kernel"] for s in json.load(answer)]
    return any(k and k["connections"] >= 1 and k["execution_state"] == "idle" for k in kernels)
