"""The chapters that have checks, and the names of their exercises; no lesson is loaded for them."""

import functools
import importlib
import re
from collections.abc import Callable
from pathlib import Path

# chapter -> the module of its checks; x1 … are excursions
CHAPTERS = {
    "00 start here": "ch00_start_here",
    "01 GAN": "ch01_gan",
    "02 VAE": "ch02_vae",
    "03 VQ-VAE": "ch03_vqvae",
    "04 IVQ-VAE": "ch04_ivqvae",
    "05 DDPM": "ch05_ddpm",
    "06 DDIM": "ch06_ddim",
    "07 FFTD": "ch07_fftd",
    "08 CelebA-HQ": "ch08_celebahq",
    "x1 flows": "x1_flows",
    "x2 sentences": "x2_text_to_image",
    "x3 pictures": "x3_restoration",
    "x4 personal": "x4_personalise",
}


@functools.cache
def exercises() -> dict[str, list[str]]:
    """{chapter: [names of its exercises, in order]}, read off the checks' own text."""
    folder = Path(__file__).parent
    found = {}
    for chapter, module in CHAPTERS.items():
        text = (folder / f"{module}.py").read_text(encoding="utf-8")
        found[chapter] = re.findall(r"^def check_(\w+)", text, re.M)
    return found


def chapter_of(name: str) -> str | None:
    """The chapter of an exercise, or None."""
    return next((chapter for chapter, names in exercises().items() if name in names), None)


def check_of(chapter: str, name: str) -> Callable:
    """The check of an exercise. Only now its chapter's lesson is imported."""
    module = importlib.import_module(f"minigen.checks.{CHAPTERS[chapter]}")
    return getattr(module, f"check_{name}")
