"""The playground: the course's networks in the reader's browser, as a folder of plain files.

    python tools/site/playground/build.py OUT_FOLDER

writes OUT_FOLDER/playground/: a page for each toy, the networks as ONNX files, and the runtime that
runs them (the npm package onnxruntime-web, as pinned in package-lock.json). No page asks anything
of another host, and a policy in each forbids it. A page links to its chapter where OUT_FOLDER holds
it. Another version of the runtime: change it in package.json and run `npm install
--package-lock-only` in this folder.
"""

import argparse
import html
import json
import shutil
import string
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
PAGES = HERE / "pages"
PACKAGES = HERE.parents[2] / "build" / "playground"     # npm's packages, which git ignores
# its files -> what they are called here: not every host knows what .mjs is
RUNTIME = {"ort.wasm.bundle.min.mjs": "ort.js", "ort-wasm-simd-threaded.wasm": "ort.wasm"}
MOST = 15_000_000                           # bytes of all networks together
CHAPTERS = ("notebooks", "chapters")        # where a site may keep them


class Toy(NamedTuple):
    """A page: its name, its words, its chapter, and the networks that its script opens."""

    name: str
    title: str
    sees: str
    chapter: str
    stem: str
    networks: tuple[str, ...]


# A further toy is a line here, pages/NAME.html and pages/NAME.js, and its networks in export.py and
# in SHAPES of pages/networks.js.
READER = "classifier"                       # every toy tells in words what it shows
TOYS = (
    Toy("vae", "A face as numbers",
        "You see what the VAE of chapter 2 draws from 32 numbers, and can move each of them or add "
        "an attribute to all at once.",
        "Chapter 2, VAE objectives", "02_vae", ("vae", READER)),
    Toy("vqvae", "A face as sixteen tokens",
        "You see what the VQ-VAE of chapter 3 draws from sixteen tokens; choose a token and put "
        "another code in its place.",
        "Chapter 3, VQ-VAE", "03_vqvae", ("vqvae", READER)),
    Toy("ddim", "The film of a face",
        "You see a face come out of noise, step by step, with as many steps and as much fresh "
        "noise as you choose.",
        "Chapter 6, DDIM", "06_ddim", ("fftd", "ivqvae", READER)),
    Toy("fftd", "A hair colour asked for",
        "You see eight faces that chapter 7's FFTD draws, with the hair colour you ask for and as "
        "much insistence as you choose.",
        "Chapter 7, FFTD", "07_fftd", ("fftd", "ivqvae", READER)),
    Toy("sentence", "A face asked for in words",
        "You see eight faces that excursion x2's network draws from a sentence of yours, how the "
        "sentence was read, and why another one is refused.",
        "Excursion x2, A sentence becomes a face", "x2_text_to_image",
        ("words", "text_fftd", "ivqvae", READER)),
)


class Missing(Exception):
    """Something the playground is built with is not there; the sentence says what to do."""


def installed() -> Path:
    """The folder of onnxruntime-web, installed by npm as the lock file says.

    Raises: Missing where there is no npm, or npm does not get what it needs.
    """
    package = json.loads((HERE / "package.json").read_text(encoding="utf-8"))
    wanted = package["dependencies"]["onnxruntime-web"]
    there = PACKAGES / "node_modules" / "onnxruntime-web"
    card = there / "package.json"
    if card.is_file() and json.loads(card.read_text(encoding="utf-8"))["version"] == wanted:
        return there
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("The playground needs npm, which comes with Node.js: install it (on Debian "
                      "and Ubuntu: apt-get install npm), then build again.")
    PACKAGES.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, PACKAGES / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=PACKAGES, capture_output=True, text=True)
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:]
        raise Missing(f"npm could not install the playground's packages ({said}); it needs a "
                      "network the first time.")
    return there


def link(out: Path, toy: Toy) -> str:
    """The toy's chapter, as a link where the site has it."""
    for folder in CHAPTERS:
        if (out / folder / f"{toy.stem}.html").is_file():
            return f'<a href="../{folder}/{toy.stem}.html">{toy.chapter}</a>'
    return toy.chapter


def page(**words: str) -> str:
    return string.Template((PAGES / "page.html").read_text(encoding="utf-8")).substitute(words)


def toy_page(out: Path, toy: Toy) -> str:
    """A toy's page: what it shows in a line, how far it is loaded, its controls."""
    loading = ('<div id="loading"><p id="said" role="status">Loading.</p>'
               '<progress id="bar" aria-label="Loading" value="0"></progress></div>')
    missing = ("<noscript><p>This toy runs in your browser, by JavaScript, which is switched off."
               "</p></noscript>")
    body = (PAGES / f"{toy.name}.html").read_text(encoding="utf-8")
    return page(
        title=html.escape(toy.title), sees=html.escape(toy.sees),
        way=f'<a href="index.html">Playground</a> · {link(out, toy)}',
        script=f'<script type="module" src="{toy.name}.js"></script>',
        body=f'{missing}\n{loading}\n<div id="toy" hidden>\n{body}</div>')


def index_page(out: Path, size: dict[str, int]) -> str:
    """All toys, each with what one sees and how much it loads."""
    items = []
    for toy in TOYS:
        parts = ["runtime/ort.wasm", *(f"models/{n}.onnx" for n in toy.networks)]
        mega = sum(size[part] for part in parts) / 1e6
        items.append(f'<li><h2><a href="{toy.name}.html">{html.escape(toy.title)}</a></h2>'
                     f"<p>{html.escape(toy.sees)}</p>"
                     f'<p class="note">{link(out, toy)} · loads {mega:.0f} MB</p></li>')
    sees = ("The course's networks, in your browser: nothing is installed, and nothing that you do "
            "leaves this page.")
    home = (out / "index.html").is_file()
    runs = ('<p class="note">ONNX Runtime Web, by Microsoft under the MIT <a '
            'href="runtime/LICENSE.txt">licence</a>, runs the networks.</p>')
    return page(title="Playground", sees=sees, script="",
                way='<a href="../index.html">minigen</a>' if home else "minigen",
                body=f'<ul class="toys">{"".join(items)}</ul>\n{runs}')


def build(out: Path) -> dict[str, float]:
    """Write out/playground; answers with each network's difference to torch.

    Raises: Missing; RuntimeError where a network differs, or all are too heavy.
    """
    try:
        import export
        import tables
    except ModuleNotFoundError as e:
        raise Missing(f"The playground is built with {e.name}, which is not installed: pip install "
                      "-r tools/site/playground/requirements.txt") from None
    runtime, folder = installed(), out / "playground"
    for name in ("models", "runtime"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for theirs, ours in RUNTIME.items():
        shutil.copy(runtime / "dist" / theirs, folder / "runtime" / ours)
    shutil.copy(PAGES / "runtime-licence.txt", folder / "runtime" / "LICENSE.txt")
    far = export.write(folder / "models")
    files = ["runtime/ort.wasm", *(f"models/{name}.onnx" for name in far)]
    size = {name: (folder / name).stat().st_size for name in files}
    heavy = sum(n for name, n in size.items() if name.startswith("models/"))
    if heavy > MOST:
        raise RuntimeError(f"the networks weigh {heavy:,} bytes, and {MOST:,} are allowed")
    for path in (*PAGES.glob("*.js"), *PAGES.glob("*.css")):
        shutil.copy(path, folder / path.name)
    written = json.dumps(tables.tables() | dict(bytes=size))
    (folder / "tables.json").write_text(written, encoding="utf-8")
    for toy in TOYS:
        (folder / f"{toy.name}.html").write_text(toy_page(out, toy), encoding="utf-8")
    (folder / "index.html").write_text(index_page(out, size), encoding="utf-8")
    return far


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write OUT_FOLDER/playground.")
    parser.add_argument("out", type=Path, metavar="OUT_FOLDER", help="the site's folder")
    out = parser.parse_args(words).out
    try:
        far = build(out)
    except (Missing, RuntimeError) as e:
        print(e, file=sys.stderr)
        return 2
    for name, difference in far.items():
        size = (out / "playground" / "models" / f"{name}.onnx").stat().st_size
        print(f"{name:<12}{size / 1e6:5.1f} MB, {difference:.1g} from torch at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
