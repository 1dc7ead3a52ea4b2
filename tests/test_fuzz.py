"""Inputs that nobody thought of: damaged pictures, archives, settings and files of every kind.

Whatever comes, the answer is a result or a `DataError` (one sentence), nothing hangs, and nothing
that was there is lost. The inputs are the same in every run; `make test-full` tries many more.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minigen import files, gan
from minigen.checks import board
from minigen.data import ImageSource, PreparedImages, prepare
from minigen.data.layout import read_labels
from minigen.data.pictures import read_picture
from minigen.engine import checkpoints, encoding, parts, runs
from minigen.engine.settings import Stage1, Stage2, make_config
from minigen.errors import DataError
from tests.conftest import peer
from tests.test_parquet import hub
from tests.test_pictures import TURNED, encoded, exif
from tests.test_sources import make_folder, png

hypothesis = peer("hypothesis")
st = hypothesis.strategies


def try_out(prop, strategy, n):
    """Give the property n inputs of the strategy."""
    options = hypothesis.settings(
        max_examples=n,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    options(hypothesis.given(strategy)(prop))()


@st.composite
def damaged(draw, originals):
    """One of the originals with bytes changed, cut out, repeated or put in, or cut short."""
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["byte", "bit", "cut", "drop", "double", "insert", "ff"]))
        length = draw(st.integers(1, 40))
        if not content:
            break
        if kind == "byte":
            content[at] = draw(st.integers(0, 255))
        elif kind == "bit":
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del content[at:]
        elif kind == "drop":
            del content[at : at + length]
        elif kind == "double":
            content[at:at] = content[at : at + length]
        elif kind == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            content[at : at + length] = b"\xff" * len(content[at : at + length])
    return bytes(content)


def once(make):
    """The strategy, made when it is first wanted."""
    return st.deferred(make)


def pictures():
    rational = (0x011A, 5, 1, b"\x20\0\0\0")
    tags = exif(TURNED, rational, (0x0132, 2, 4, b"now\0"), (0x8769, 4, 1, b"\x10\0\0\0"))
    formats = [
        f
        for f in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF")
        if f in Image.registered_extensions().values()
    ]
    whole = [encoded(f) for f in formats] + [
        encoded(f, exif=tags) for f in ("JPEG", "PNG", "WEBP", "TIFF")
    ]
    palette = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("P").save(
        palette, "PNG", transparency=3
    )
    return damaged([*whole, palette.getvalue()]) | damaged(whole[-4:])  # metadata twice as often


@pytest.mark.filterwarnings("ignore")
def picture(data):
    try:
        pixels, _ = read_picture(data, 8)
    except ValueError as e:
        assert str(e) and "\n" not in str(e)
    else:
        assert pixels.shape == (8, 8, 3) and pixels.dtype == np.uint8


def archives():
    with tempfile.TemporaryDirectory() as folder:
        whole = []
        for k, packing in enumerate(
            (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
        ):
            path = Path(folder) / f"{k}.zip"
            with zipfile.ZipFile(path, "w", packing) as z:
                for j, name in enumerate(("cat/1.png", "cat/2.png", "dog/1.png")):
                    z.writestr(name, png(j))
                z.writestr(
                    "dataset.json",
                    json.dumps({"labels": [["cat/1.png", 0], ["cat/2.png", 1], ["dog/1.png", 1]]}),
                )
            whole.append(path.read_bytes())
    return damaged(whole)


def tables():
    with tempfile.TemporaryDirectory() as folder:
        whole = [
            hub(Path(folder) / "a.parquet", [0, 1, 0, 1], ["female", "male"]).read_bytes(),
            hub(Path(folder) / "b.parquet", [0.0, -1.0, None, 3.0]).read_bytes(),
            hub(
                Path(folder) / "c.parquet", ["x", "y", None], mask=[b"m"] * 3, image_first=False
            ).read_bytes(),
        ]
    return damaged(whole)


def archive(data):
    _prepared_or_told(data, ".zip")


def table(data):
    _prepared_or_told(data, ".parquet")


def _prepared_or_told(data, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / f"a{suffix}", Path(folder) / "out"
        path.write_bytes(data)
        try:
            manifest = prepare(path, out, 8)
        except DataError as e:
            assert "could not be written" not in str(e) and os.listdir(folder) == [path.name], e
        else:
            assert len(PreparedImages(out)) == manifest["count"] > 0
        assert path.read_bytes() == data


NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda n: n not in (".", "..") and len(os.fsencode(n)) < 200)
NUMBERED = st.sampled_from(
    ["0", "1", "10", "00000", "00001", "01000", "train", "Test", "val", ".git", "__MACOSX", "cat"]
)


def layout(names):
    with tempfile.TemporaryDirectory() as folder:
        written = 0
        for name in names:
            path = Path(folder, *name[:-1], name[-1] + ".png")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(written))
                written += 1
            except OSError:  # a file has the folder's name
                continue
        for use_classes in (True, False, "folders"):
            try:
                source = ImageSource(folder, use_classes=use_classes)
            except DataError:
                continue
            assert len(list(source)) == len(source) <= written
            assert {i.label for i in source} - {None} <= set(source.classes)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
)


def settings(choice):
    cls, given = choice
    fields = [*cls.__dataclass_fields__, "unknown"]
    try:
        config = make_config(cls, **{fields[k % len(fields)]: v for k, v in given.items()})
    except DataError as e:
        assert str(e).endswith(".")
    else:
        assert (
            0 < config.lr <= 1
            and 0 <= config.ema < 1
            and config.steps >= 1
            and config.batch_size >= 1
        )
        assert cls is Stage2 or 1 <= config.discriminator_start <= config.steps


def weights():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "g.safetensors"
        model, whole = gan.Generator(latent_dim=2, width=4, size=8), []
        for bits in (32, 8):
            files.save_weights(path, model, bits, steps=3)
            whole.append(path.read_bytes())
        return damaged([*whole, whole[0][:900]])


def weight_file(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "g.safetensors"
        path.write_bytes(data)
        for read in (
            lambda p: files.load_weights(gan.Generator, p),
            encoding.read_latents,
            files.read_tensors,
        ):
            try:
                read(path)
            except DataError as e:
                assert "g.safetensors" in str(e)


PROGRESS = [
    json.dumps({"00 start here": ["to_unit_range", "mean_face"], "01 GAN": ["d_loss"]}).encode()
]


def progress(data):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as m:
        m.setenv("MINIGEN_HOME", folder)
        path = Path(folder) / "progress.json"
        path.write_bytes(data)
        note = board.record("02 VAE", "bits")
        assert "bits" in json.loads(path.read_bytes())["02 VAE"]
        kept = [p.read_bytes() for p in Path(folder).glob("progress*.json")]
        assert data in kept or note == ""  # what could not be read lies aside


def texts():
    return damaged(
        [
            json.dumps({"count": 5, "part": 4, "seed": 0}).encode(),
            json.dumps(dict(lr=0.1, kind="line", steps=5)).encode(),
            b"step,loss\n1,2\n2,3\n",
            b"a.png,cat\nb.png,dog\n",
            b'{"labels": [["a.png", 3]]}',
        ]
    )


def text(data):
    with tempfile.TemporaryDirectory() as folder:
        for name in (
            "parts.json",
            "config.json",
            "losses.csv",
            "manifest.json",
            "labels.csv",
            "labels.json",
        ):
            (Path(folder) / name).write_bytes(data)
        (Path(folder) / "step-00000001.0123456789abcdef.pt").write_bytes(data)
        for read in (
            lambda: parts.read_table(folder),
            lambda: runs.check_folder(folder, "line", dict(lr=0.1), True),
            lambda: runs.Log(folder, 9),
            lambda: PreparedImages(folder),
            lambda: read_labels(data, "labels.csv"),
            lambda: read_labels(data, "labels.json"),
            lambda: checkpoints.latest(folder, "line", lambda _: None),
        ):
            with contextlib.suppress(DataError):
                read()


def states():
    buffer = io.BytesIO()
    torch.save(dict(kind="line", step=1, model={"w": torch.zeros(3)}), buffer)
    return damaged([buffer.getvalue()])


def checkpoint(data):
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(folder, 1, dict(kind="line", model={}))
        path = checkpoints.save(folder, 2, dict(kind="line", model={}))
        path.write_bytes(data)  # its name no longer fits
        named = path.with_name(f"step-00000003.{hashlib.sha256(data).hexdigest()[:16]}.pt")
        shutil.copy(path, named)  # its name fits
        assert checkpoints.latest(folder, "line", lambda _: None)["step"] in (1, 3)


# property: its inputs, how many in `make test`, how many in `make test-full`
PROPERTIES = {
    picture: (once(pictures), 1500, 10_000),
    archive: (once(archives), 250, 2000),
    table: (once(tables), 250, 2000),
    layout: (
        st.lists(st.lists(NAMES | NUMBERED, min_size=1, max_size=3), min_size=1, max_size=6),
        150,
        1500,
    ),
    settings: (
        st.tuples(
            st.sampled_from([Stage1, Stage2]),
            st.dictionaries(st.integers(0, 40), VALUES, max_size=3),
        ),
        1000,
        10_000,
    ),
    weight_file: (once(weights), 250, 2000),
    progress: (damaged(PROGRESS) | st.binary(max_size=60), 200, 2000),
    text: (once(texts), 200, 2000),
    checkpoint: (once(states), 150, 1000),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prop", PROPERTIES, ids=lambda p: p.__name__)
def test_a_result_or_a_sentence(prop):
    strategy, few, _ = PROPERTIES[prop]
    try_out(prop, strategy, few)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prop", PROPERTIES, ids=lambda p: p.__name__)
def test_a_result_or_a_sentence_for_many_more(prop):
    strategy, _, many = PROPERTIES[prop]
    try_out(prop, strategy, many)


def test_the_properties_can_fail(tmp_path):
    """A reader that lets an error through is noticed."""

    def careless(data):
        Image.open(io.BytesIO(data)).load()

    with pytest.raises(Exception, match=r"."):
        try_out(careless, once(pictures), 50)
    make_folder(tmp_path, ["a.png"])
