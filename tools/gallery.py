"""The README's pictures, from the committed weights.

    python tools/gallery.py        # writes data/pictures/*.png

models.png   ten faces of every model of the course, beside as many real ones
sample.png   what `python -m minigen sample` draws
digits.png   what the README's first Python example draws: it is read from there and run
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from minigen import gallery
from minigen.data import to_uint8
from minigen.files import replacing

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "data" / "pictures"
TIMES, GAP, MARGIN = 3, 4, 100  # pixels: a face's pixel, between two faces, left for the names
GREY = "#757575"  # legible on white and on GitHub's dark page


def models(n: int = 10, seed: int = 0) -> Image.Image:
    """A row of n faces for every model, its name at the left, on a transparent ground.

    Returns: a PIL image.
    """
    rows = gallery.faces(n, seed)
    cell = 32 * TIMES + GAP
    width, height = MARGIN + n * cell - GAP, len(rows) * cell - GAP
    picture = Image.new("RGBA", (width, height), (255, 255, 255, 0))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(18)
    for row, (name, faces) in enumerate(rows.items()):
        draw.text((MARGIN - 12, row * cell + 16 * TIMES), name, fill=GREY, font=font, anchor="rm")
        for column, face in enumerate(to_uint8(faces)):
            small = Image.fromarray(face.permute(1, 2, 0).numpy())
            large = small.resize((32 * TIMES, 32 * TIMES), Image.Resampling.NEAREST)
            picture.paste(large, (MARGIN + column * cell, row * cell))
    return picture


def example(readme: str, begins_with: str) -> str:
    """The README's first Python example that begins with these words.

    Raises: ValueError where there is none.
    """
    for code in re.findall(r"```python\n(.*?)```", readme, re.S):
        if code.startswith(begins_with):
            return code
    raise ValueError(f"README.md has no Python example that begins with {begins_with!r}")


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    OUT.mkdir(exist_ok=True)
    with replacing(OUT / "models.png") as path:
        models().save(path, "PNG", optimize=True)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for arguments in (["-c", example(readme, "import torch")], ["-m", "minigen", "sample"]):
            subprocess.run([sys.executable, *arguments], cwd=folder, check=True)
        for made, name in (("digits.png", "digits.png"), ("runs/faces.png", "sample.png")):
            with replacing(OUT / name) as path, Image.open(Path(folder) / made) as picture:
                picture.save(path, "PNG", optimize=True)
    for path in sorted(OUT.glob("*.png")):
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
