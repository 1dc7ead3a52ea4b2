"""The playground: its networks answer as torch does, weigh little, and name no host."""

import html.parser
import importlib.util
import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from minigen import prompts
from minigen.data import ToyFaces
from minigen.ddpm import diffusion_of
from minigen.fftd import FFTD
from minigen.files import load_weights
from minigen.metrics import predict_attributes
from minigen.text_to_image import TextFFTD
from minigen.vae import VAE
from minigen.vqvae import VQVAE
from tests.conftest import peer

PLAYGROUND = Path(__file__).resolve().parents[2] / "tools" / "site" / "playground"
PAGES = PLAYGROUND / "pages"
SCRIPTS = sorted(PAGES.glob("*.js"))
NAMES = ("vae", "vqvae", "ivqvae", "fftd", "words", "text_fftd", "classifier")
TOYS = ("vae", "vqvae", "ddim", "fftd", "sentence")


@pytest.fixture(scope="module")
def playground():
    """tools/site/playground/build.py as a module; what it imports itself can be imported too."""
    sys.path.insert(0, str(PLAYGROUND))
    spec = importlib.util.spec_from_file_location("playground_build", PLAYGROUND / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(PLAYGROUND))


@pytest.fixture(scope="module")
def export(playground):
    """tools/site/playground/export.py as a module."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        peer(name)
    return importlib.import_module("export")


@pytest.fixture(scope="module")
def networks(export, tmp_path_factory):
    """All networks written: (their folder, {name: difference to torch})."""
    folder = tmp_path_factory.mktemp("models")
    return folder, export.write(folder)


def read(path):
    return path.read_text(encoding="utf-8")


def test_every_network_answers_as_torch_does(export, networks):
    folder, far = networks
    assert tuple(far) == NAMES and export.CLOSE == 1e-3
    for name in NAMES:
        one = export.difference(name, folder / f"{name}.onnx", batch=1, seed=2)
        assert max(far[name], one) < 1e-4, name


def test_a_network_that_answers_otherwise_is_refused(export, monkeypatch, tmp_path):
    other = export.NETWORKS["vae"]
    built = other.build()
    with torch.no_grad():
        built.model.from_latent.bias += 0.01
    models = iter([built, other.build()])              # exported, and compared with
    monkeypatch.setattr(export, "NETWORKS", {"vae": other._replace(build=lambda: next(models))})
    with pytest.raises(RuntimeError, match=r"vae.onnx answers \S+ away from torch, and 0.001"):
        export.write(tmp_path)


def test_the_networks_weigh_little(playground, networks):
    sizes = {name: (networks[0] / f"{name}.onnx").stat().st_size for name in NAMES}
    assert sum(sizes.values()) <= 15_000_000 == playground.MOST
    for name, weights in (("fftd", 2_424_042), ("vae", 381_091), ("ivqvae", 664_227),
                          ("words", 110_336), ("text_fftd", 1_528_692)):
        assert sizes[name] < 2.1 * weights + 100_000, name    # two bytes a weight, and the graph


def test_the_sentence_networks_are_the_course_s_own(networks):
    """The two files together answer to real sentences as TextFFTD does, which is one network."""
    import onnxruntime

    model = load_weights(TextFFTD, "text_fftd").eval()
    ids = prompts.tokenise(["", "a smiling person with red hair"])
    filled = torch.nn.functional.pad(ids, (0, prompts.LONGEST - ids.shape[1]), value=prompts.PAD)
    z, t, y = torch.randn(3, 4, 4, 4), torch.tensor([700]), torch.tensor([1, 0, 1])
    with torch.no_grad():
        features, wanted = model.read(ids).words, model(z, t, ids[y])
    encoder, denoiser = (onnxruntime.InferenceSession(str(networks[0] / f"{name}.onnx"))
                         for name in ("words", "text_fftd"))
    (words,) = encoder.run(None, {"ids": filled.numpy()})
    given = dict(z=z, t=t, y=y, ids=filled)
    (v,) = denoiser.run(None, {n: x.numpy() for n, x in given.items()} | {"words": words})
    assert np.abs(words[:, : ids.shape[1]] - features.numpy()).max() < 1e-4
    assert np.abs(v - wanted.numpy()).max() < 1e-4


def test_weights_in_16_bits_are_exact(networks):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(networks[0] / "vae.onnx"))
    kept = [numpy_helper.to_array(w) for w in model.graph.initializer]
    half = [x for x in kept if x.dtype == np.float16]
    own = load_weights(VAE, "vae")
    wanted = {x.tobytes() for x in (own.decoder.body[0].weight.detach().half().numpy(),
                                    own.from_latent.bias.detach().half().numpy())}
    assert wanted <= {x.tobytes() for x in half}
    assert all(x.size < 64 for x in kept if x.dtype == np.float32)


def test_no_file_tells_where_it_was_made(networks):
    for name in NAMES:
        content = (networks[0] / f"{name}.onnx").read_bytes()
        for word in (b"http", b"site-packages", str(PLAYGROUND.parents[2]).encode()):
            assert word not in content, (name, word)


def test_no_host_is_named():
    files = [p for p in PLAYGROUND.rglob("*") if p.is_file() and p.suffix not in (".pyc",)]
    assert {"package-lock.json", "vae.js", "page.html", ".npmrc"} <= {p.name for p in files}
    for path in files:
        assert not re.search(r"https?:|//\w+\.|registry\.|\bcdn\b", read(path)), path.name


def test_the_lock_pins_every_package_by_its_contents():
    wanted = json.loads(read(PLAYGROUND / "package.json"))["dependencies"]
    packages = json.loads(read(PLAYGROUND / "package-lock.json"))["packages"]
    assert packages[""]["dependencies"] == wanted
    assert packages["node_modules/onnxruntime-web"]["version"] == wanted["onnxruntime-web"]
    for name, package in packages.items():
        if name:
            assert package["integrity"].startswith("sha512-") and "resolved" not in package, name


def test_requirements_are_pinned_and_explained():
    for line in read(PLAYGROUND / "requirements.txt").splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z]+==[\d.]+ +# .+", line), line


def test_the_scripts_are_short():
    assert sum(len(read(p).splitlines()) for p in SCRIPTS) <= 800
    assert all(len(line) <= 100 for p in SCRIPTS for line in read(p).splitlines())


class Tags(html.parser.HTMLParser):
    """What a page holds: [(tag, attributes)]."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, *names):
        return [attrs for tag, attrs in self.found if tag in names]


@pytest.fixture
def pages(playground, tmp_path):
    return {toy.name: playground.toy_page(tmp_path, toy) for toy in playground.TOYS}


@pytest.mark.parametrize("name", TOYS)
def test_a_page_has_what_its_script_asks_for(pages, name):
    tags = Tags(pages[name])
    ids = [attrs["id"] for _, attrs in tags.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    own = read(PAGES / f"{name}.js")
    scripts = [own, *(read(PAGES / n) for n in re.findall(r'from "\./(\w+\.js)"', own))]
    used = {id for script in scripts for id in re.findall(r'find\("([\w-]+)"\)', script)}
    assert len(used) > 5 and used <= set(ids), used - set(ids)
    for script in SCRIPTS:
        for target in re.findall(r'from "\./(\S+)"', read(script)):
            assert (PAGES / target).is_file() or target.startswith("runtime/"), target


@pytest.mark.parametrize("name", TOYS)
def test_every_control_has_its_label_and_nothing_is_inline(pages, name):
    tags = Tags(pages[name])
    labelled = {attrs["for"] for attrs in tags.all("label")}
    for control in tags.all("input", "select"):
        assert control["id"] in labelled, control
    (script,) = tags.all("script")
    assert script == {"type": "module", "src": f"{name}.js"}
    assert not tags.all("style") and not [a for _, a in tags.found if "style" in a]
    (status,) = [a for _, a in tags.found if a.get("id") == "status"]
    assert status["role"] == "status"
    assert "default-src 'none'" in pages[name] and "$" not in pages[name]


def test_a_page_says_in_a_line_what_one_sees(playground, pages):
    for toy in playground.TOYS:
        assert toy.sees.startswith("You see ") and toy.sees.count(". ") == 0
        assert toy.sees.replace("'", "&#x27;") in pages[toy.name]


def test_a_page_leads_to_its_chapter_where_there_is_one(playground, tmp_path):
    vae, vqvae, *_ = playground.TOYS
    assert playground.link(tmp_path, vae) == vae.chapter
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "02_vae.html").touch()
    assert 'href="../chapters/02_vae.html"' in playground.toy_page(tmp_path, vae)
    assert "href" not in playground.link(tmp_path, vqvae)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "03_vqvae.html").touch()
    assert 'href="../notebooks/03_vqvae.html"' in playground.link(tmp_path, vqvae)


def test_every_toys_chapter_is_one_of_the_course(playground):
    for toy in playground.TOYS:
        assert (PLAYGROUND.parents[2] / "solutions" / f"{toy.stem}.py").is_file()


def test_without_npm_one_sentence_says_so(playground, monkeypatch, tmp_path):
    monkeypatch.setattr(playground, "PACKAGES", tmp_path)
    monkeypatch.setattr(playground.shutil, "which", lambda name: None)
    with pytest.raises(playground.Missing, match=r"needs npm, which comes with Node\.js: install"):
        playground.installed()


def test_npm_without_a_network_is_one_sentence(playground, monkeypatch, tmp_path):
    monkeypatch.setattr(playground, "PACKAGES", tmp_path / "packages")
    monkeypatch.setattr(playground.shutil, "which", lambda name: "/usr/bin/npm")
    ran = []

    def run(command, cwd, **_):
        ran.append((command[1:3], sorted(p.name for p in cwd.iterdir())))
        return types.SimpleNamespace(returncode=1, stderr="npm error\n  network")

    monkeypatch.setattr(playground.subprocess, "run", run)
    with pytest.raises(playground.Missing, match=r"\(npm error network\); it needs a network"):
        playground.installed()
    assert ran == [(["ci", "--ignore-scripts"], ["package-lock.json", "package.json"])]


def test_what_npm_installed_is_not_fetched_again(playground, monkeypatch, tmp_path):
    monkeypatch.setattr(playground, "PACKAGES", tmp_path)
    monkeypatch.setattr(playground.shutil, "which", lambda name: None)
    there = tmp_path / "node_modules" / "onnxruntime-web"
    there.mkdir(parents=True)
    (there / "package.json").write_text('{"version": "0.1.0"}')
    with pytest.raises(playground.Missing):
        playground.installed()                          # another version is none
    wanted = json.loads(read(PLAYGROUND / "package.json"))["dependencies"]["onnxruntime-web"]
    (there / "package.json").write_text(json.dumps({"version": wanted}))
    assert playground.installed() == there


def test_without_onnx_one_sentence_says_so(playground, monkeypatch, tmp_path, capsys):
    monkeypatch.delitem(sys.modules, "export", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert playground.main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "built with onnx, which is not installed: pip install -r tools/site/playground/" in said
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def numbers(playground):
    import tables

    return tables.tables()


def test_the_faces_to_start_from_are_unseen_ones(numbers):
    faces = ToyFaces(8, seed=2).images()
    with torch.no_grad():
        codes = load_weights(VAE, "vae").encode(faces)[0]
    given = torch.tensor([face["z"] for face in numbers["vae"]["faces"]])
    assert torch.allclose(given, codes, atol=1e-4)
    tokens = load_weights(VQVAE, "vqvae").encode_indices(faces).flatten(1).tolist()
    assert [face["tokens"] for face in numbers["vqvae"]["faces"]] == tokens
    assert numbers["vae"]["faces"][1]["name"] == "grey hair, glasses, neutral"


def test_every_arrow_brings_its_attribute(playground, numbers):
    import tables

    model, fresh = load_weights(VAE, "vae"), ToyFaces(200, seed=3)
    with torch.no_grad():
        codes = model.encode(fresh.images())[0]
        for label, (attribute, value) in tables.ARROWS.items():
            wanted = tables.ATTRIBUTES[attribute].index(value)
            without = codes[fresh[attribute] != wanted]
            arrow = torch.tensor(numbers["vae"]["arrows"][label])
            seen = predict_attributes(model.decode(without + 2 * arrow))[attribute] == wanted
            assert seen.float().mean() > 0.7, label


def test_the_units_come_in_order_of_what_they_change(numbers):
    model, order = load_weights(VAE, "vae"), numbers["vae"]["order"]
    assert sorted(order) == list(range(32))
    with torch.no_grad():
        codes = model.encode(ToyFaces(100, seed=4).images())[0]
        whole = model.decode(codes)
        changes = []
        for half in (order[:16], order[16:]):
            flat = codes.clone()
            flat[:, half] = codes[:, half].mean(0)
            changes.append(float((model.decode(flat) - whole).square().mean()))
    assert changes[0] > 2 * changes[1]


def test_frequent_tokens_are_so(numbers):
    tokens = load_weights(VQVAE, "vqvae").encode_indices(ToyFaces(1000, seed=5).images())
    places = tokens.flatten(1).T
    common = numbers["vqvae"]["common"]
    assert len(common) == 16 and all(len(set(codes)) == 12 for codes in common)
    for place, codes in zip(places, common, strict=True):
        share = torch.isin(place, torch.tensor(codes)).float().mean()
        assert share > 1.5 * 12 / 512


def test_the_schedule_is_the_networks_own(numbers):
    own = diffusion_of(load_weights(FFTD, "fftd")).alpha_bar
    assert torch.equal(torch.tensor(numbers["alpha_bar"], dtype=torch.float64), own)
    assert torch.equal(own, diffusion_of(load_weights(TextFFTD, "text_fftd")).alpha_bar)


def test_sentences_are_read_by_pythons_own_tables(numbers):
    given = json.loads(json.dumps(numbers["prompts"]))
    assert tuple(given["vocabulary"]) == prompts.VOCABULARY and given["longest"] == prompts.LONGEST
    assert given["vocabulary"].index("<pad>") == prompts.PAD == 0
    assert tuple(given["denials"]) == prompts.DENIALS and given["meant"] == prompts.MEANT
    assert given["meaning"] == prompts.MEANING and list(given["meaning"]) == list(prompts.MEANING)
    for name, table in (("told_by", prompts.TOLD_BY), ("by_itself", prompts.SAYS_BY_ITSELF)):
        assert {word: tuple(row) for word, row in given[name].items()} == table, name
