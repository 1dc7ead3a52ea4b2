"""The course as one table: what stands around a chapter's own text, and the README's table.

    python tools/course.py        # writes the tables of chapters and excursions into README.md

`make notebooks` takes from here each notebook's header (Colab, module, tests, solution, the
chapters beside it), its first cell and its last.
"""

import re
from pathlib import Path
from typing import NamedTuple

from minigen.files import write_text

ROOT = Path(__file__).resolve().parent.parent
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


class Chapter(NamedTuple):
    """One chapter.

    modules: of the package, by path: engine/loop is minigen/engine/loop.py.
    run, read: minutes of the cells at small scale, and of a learner with the exercises.
    after: of an excursion, the chapters that it builds on, in words.
    """

    title: str
    about: str
    modules: tuple[str, ...]
    paper: str
    run: float
    read: int
    after: str = ""


CHAPTERS = {
    "00_start_here": Chapter(
        "Start here",
        "how it works, the images, a Gaussian of your own, the yardstick and its formula",
        ("gaussian", "data", "metrics"), "Eq. 31", 0.9, 110),
    "01_gan": Chapter(
        "GAN objectives",
        "the game, the losses, the training loop written, mode collapse, DCGAN, conditional GAN",
        ("gan",), "Eqs. 13, 14", 1.8, 130),
    "02_vae": Chapter(
        "VAE objectives",
        "the ELBO and its training step written, latent arithmetic, rate and distortion, a prior "
        "fitted to the codes",
        ("vae", "squares", "gaussian"), "–", 1.5, 150),
    "03_vqvae": Chapter(
        "VQ-VAE",
        "a quantizer and a sampling loop written, the misplaced β, dead codes, sixteen tokens, a "
        "PixelCNN prior, counting bits",
        ("vqvae", "pixelcnn"), "Eqs. 15, 30", 1.4, 165),
    "04_ivqvae": Chapter(
        "IVQ-VAE",
        "a residual block with attention and the step of two optimisers written, what each loss "
        "buys, what sixteen tokens drop, Tables 1 and 7 at small scale",
        ("ivqvae", "perceptual", "paper/reproduce"), "Eqs. 1–15, Alg. 1, Tables 1, 7", 1.8, 175),
    "05_ddpm": Chapter(
        "DDPM",
        "forward process, the loss from the bound, Algorithms 1 and 2 written, the score, a U-Net "
        "from its blocks, where the colour goes, learned variance in bits",
        ("diffusion", "ddpm", "unet", "details", "vlb"), "Eqs. 26–28, Table 4's baseline", 2.0,
        165),
    "06_ddim": Chapter(
        "DDIM",
        "the sampling loop, the equation behind it and a step of second order, interpolation, "
        "inversion, editing, guidance by two labels, filling in",
        ("ddim", "ode", "guidance"), "Eq. 29, Alg. 3, Table 3", 1.6, 200),
    "07_fftd": Chapter(
        "FFTD",
        "latents, tokens, a block assembled, two resolutions, adaptive fusion, Tables 2, 8 and 9 "
        "at small scale, and beyond the paper: v and the cosine schedule",
        ("fftd", "fusion", "latents", "paper/tables"), "Eqs. 16–25, 30, Alg. 2, Tables 2, 3, 8, 9",
        0.9, 190),
    "08_celebahq": Chapter(
        "CelebA-HQ",
        "the whole paper on photographs: an engine that survives crashes, FID with its protocol, "
        "copies and privacy, Colab cell by cell, a rehearsal, the paper read as a reviewer",
        ("engine/stage1", "engine/stage2", "engine/loop", "engine/checkpoints", "engine/encoding",
         "engine/drawing", "engine/evaluate"), "Algs. 1–3, Tables 3–6, Fig. 8", 1.8, 175),
}
# beside the main line: optional, and nothing in the chapters needs them
EXCURSIONS = {
    "x1_flows": Chapter(
        "Flows",
        "change of variables, coupling layers and their inverse written, Glow and its exact "
        "likelihood; flow matching: loss and sampler written, straight paths, reflow",
        ("flows", "glow", "flow_matching", "paper/straight"), "Table 5's Glow", 1.2, 200,
        after="chapter 2; chapter 6 for its second half, chapter 7 for its end"),
    "x2_text_to_image": Chapter(
        "A sentence becomes a face",
        "captions and byte pairs, CLIP's loss written and what it is blind to, cross-attention "
        "written and looked at, obedience counted under guidance, DALL-E 2's detour",
        ("captions", "prompts", "clip", "text_to_image", "unclip", "paper/sentences"), "–", 1.2,
        205, after="chapter 7"),
    "x3_restoration": Chapter(
        "Repairing, enlarging, repainting",
        "a mean or a draw: the Wiener filter and PSNR written; small faces enlarged four ways, a "
        "cascade; a step of posterior sampling assembled; style by Gram matrices and AdaIN; "
        "pix2pix and SDEdit; what a model makes up, counted",
        ("measurements", "restoration", "upscaling", "style", "style_decoder", "styles",
         "translation", "paper/restored"), "–", 1.6, 215,
        after="chapters 4 and 6; excursion x2 for its cascade"),
    "x4_personalise": Chapter(
        "One new face from five pictures",
        "a new word's vector, a LoRA layer and its merging, the prior-preserving step of "
        "DreamBooth written; what is forgotten and what is copied, counted; ten pictures without "
        "a text; consent",
        ("characters", "lora", "personalise", "paper/personal"), "–", 1.5, 165,
        after="excursion x2"),
}


def everything() -> dict[str, Chapter]:
    """Chapters and excursions."""
    return CHAPTERS | EXCURSIONS


COLAB = '''import sys

# Colab: for a GPU's sizes run %env MINIGEN_SCALE=full first. Progress is on that machine and
# goes with it; a mounted Drive keeps it: %env MINIGEN_HOME=/content/drive/MyDrive/minigen
if "google.colab" in sys.modules:
    import importlib.util
    import subprocess

    found = importlib.util.find_spec("minigen")
    if found is None or found.origin is None:  # a mere folder of that name has no origin
        address = "git+{{repository}}@{{tag}}"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]  # its torch stays
        subprocess.run([*pip, address], check=True)
        importlib.invalidate_caches()
        sys.modules.pop("minigen", None)'''


def _project(key: str) -> str:
    """A value from pyproject.toml (read without tomllib, which Python 3.10 lacks)."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(rf'^{key} = "(.+?)"', text, re.M)[0]


def repository() -> str:
    """The address of the course."""
    return _project("Repository")


def tag() -> str:
    """The release that the notebooks belong to: v and the package's version."""
    return f"v{_project('version')}"


def colab(stem: str) -> str:
    """Where Colab opens a chapter, as released: what its first cell installs there fits it."""
    slug = repository().removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{slug}/blob/{tag()}/notebooks/{stem}.ipynb"


def number(stem: str) -> str:
    """00_start_here is chapter 0, x1_flows excursion x1."""
    return stem.split("_")[0].removeprefix("0")


def _module(name: str) -> str:
    """Where a module lies, as a file: JupyterLab opens no folder from a link."""
    inside = "/__init__" if (ROOT / "minigen" / name).is_dir() else ""
    return f"../minigen/{name}{inside}.py"


def _test(module: str) -> str:
    """Where a module's tests are: engine/loop has tests/engine/test_loop.py."""
    *folder, name = module.split("/")
    return "/".join(["tests", *folder, f"test_{name}.py"])


def _tests(modules: tuple[str, ...]) -> list[str]:
    return [m for m in modules if (ROOT / _test(m)).exists()]


def _beside(stem: str, step: int) -> str | None:
    """The stem of the chapter before (-1) or after (1); None at the ends, and for an excursion."""
    stems = list(CHAPTERS)
    if stem not in stems:
        return None
    k = stems.index(stem) + step
    return stems[k] if 0 <= k < len(stems) else None


def _link(stem: str) -> str:
    return f"[chapter {number(stem)}, {CHAPTERS[stem].title}]({stem}.ipynb)"


def _in_words(minutes: float) -> str:
    """0.6 is "about 40 seconds"."""
    if minutes < 1:
        return f"about {10 * round(6 * minutes)} seconds"
    return f"about {minutes:g} minutes" if minutes != 1 else "about a minute"


def header(stem: str) -> str:
    """What stands below a chapter's title: links for JupyterLab and GitHub, offline too."""
    c = everything()[stem]
    modules = ", ".join(f"[{m}]({_module(m)})" for m in c.modules)
    tests = ", ".join(f"[{m}](../{_test(m)})" for m in _tests(c.modules))
    lines = [f"[Open in Colab]({colab(stem)}) · about {c.read} minutes to read and do; the cells "
             f"run in {_in_words(c.run)} on a laptop",
             f"in the package: {modules} · its tests: {tests}"]
    if before := _beside(stem, -1):
        lines.append(f"before this: {_link(before)}")
    if c.after:
        lines.append(f"an excursion beside the main line; before this: {c.after}")
    return "  \n".join(lines)


def footer(stem: str) -> str:
    """The last cell: where to go from here, and the solution, folded."""
    before, after = _beside(stem, -1), _beside(stem, 1)
    lines = ["---", ""]
    if after:
        lines.append(f"**Next:** {_link(after)}: {CHAPTERS[after].about}.  ")
    if before:
        lines.append(f"**Before this:** {_link(before)}.  ")
    excursions = " and excursions" if stem in EXCURSIONS else ""
    lines.append(f"All chapters{excursions}: [README](../README.md#chapters)")
    lines += ["", "<details><summary>The solved exercises (try first)</summary>", ""]
    lines += [f"[solutions/{stem}.ipynb](../solutions/{stem}.ipynb)", "", "</details>"]
    return "\n".join(lines)


def table() -> str:
    """The README's chapter table, as Markdown."""
    lines = ["| | chapter | in the package, tests | solution | paper | minutes to run · to do | |",
             "|---|---|---|---|---|---|---|"]
    return "\n".join([*lines, *(_row(stem, c, c.paper) for stem, c in CHAPTERS.items())])


def excursions() -> str:
    """The README's table of excursions, as Markdown."""
    lines = ["| | excursion | in the package, tests | solution | after | minutes to run · to do "
             "| |", "|---|---|---|---|---|---|---|"]
    return "\n".join([*lines, *(_row(stem, c, c.after) for stem, c in EXCURSIONS.items())])


def _row(stem: str, c: Chapter, beside: str) -> str:
    tested = _tests(c.modules)
    links = [f"[{m}]({_module(m)[3:]})" + (f" ([tests]({_test(m)}))" if m in tested else "")
             for m in c.modules]
    cells = [number(stem), f"[{c.title}](notebooks/{stem}.ipynb): {c.about}", ", ".join(links),
             f"[{stem[:2]}](solutions/{stem}.py)", beside, f"{c.run} · {c.read}",
             f"[![Open in Colab]({BADGE})]({colab(stem)})"]
    return f"| {' | '.join(map(str, cells))} |"


def hours() -> int:
    """How long the course takes, in hours, exercises included."""
    return round(sum(c.read for c in CHAPTERS.values()) / 60)


def with_tables(readme: str) -> str:
    """The README's text with both tables between their marks.

    Raises: ValueError where a mark is missing.
    """
    for name, made in (("chapters", table()), ("excursions", excursions())):
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, opened, rest = readme.partition(start)
        _, closed, after = rest.partition(end)
        if not (opened and closed):
            raise ValueError(f"README.md lacks the marks <!-- {name} --> and <!-- /{name} -->")
        readme = f"{before}{start}{made}\n{end}{after}"
    return readme


if __name__ == "__main__":
    path = ROOT / "README.md"
    write_text(path, with_tables(path.read_text(encoding="utf-8")))
