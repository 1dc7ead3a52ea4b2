"""Every toy of the playground, driven in Chromium and compared with torch; nothing leaves the page.

The files are served as a plain host serves them, without a header of any kind.
"""

import functools
import http.server
import importlib.util
import json
import os
import random
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe

from minigen import ddpm, latents, prompts, text_to_image, vae
from minigen.captions import captions
from minigen.data import ToyFaces
from minigen.data.toyfaces import ATTRIBUTES
from minigen.ddim import ddim_sample, timesteps
from minigen.fftd import FFTD
from minigen.files import load_weights
from minigen.guidance import Guided
from minigen.ivqvae import IVQVAE
from minigen.metrics import predict_attributes
from minigen.vqvae import VQVAE

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "site" / "playground"
TOYS = ("vae", "vqvae", "ddim", "fftd", "sentence")
CLOSE = 1e-3


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The playground, built beside a chapter's page: (its folder, its address)."""
    out = tmp_path_factory.mktemp("site")
    (out / "chapters").mkdir()
    (out / "chapters" / "02_vae.html").write_text("<title>Chapter 2</title>")
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("playground_build", FOLDER / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    build.build(out)
    sys.path.remove(str(FOLDER))
    handler = functools.partial(Quiet, directory=str(out))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield out, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


class Visit:
    """A page of the playground, with every request noted."""

    def __init__(self, browser, address, toy, **settings):
        self.address, self.toy, self.requests, self.crashes = address, toy, [], []
        settings = {"viewport": {"width": 1000, "height": 900}} | settings
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.crashes.append(str(error)))

    def open(self):
        self.page.goto(f"{self.address}playground/{self.toy}.html")
        self.page.wait_for_selector("html[data-ready]")
        return self

    def set(self, name, value):
        """Give a control its value as a reader's hand does, and wait for the picture."""
        self.page.locator(f"#{name}").evaluate(
            """(e, value) => {
                e.value = value;
                e.dispatchEvent(new Event("input", { bubbles: true }));
            }""", str(value))
        self.settle()

    def write(self, field, text):
        """Write a sentence into a field, press Enter, and wait for the pictures."""
        self.page.locator(f"#{field}").fill(text)
        self.page.locator(f"#{field}").press("Enter")
        self.settle()

    def settle(self):
        self.page.wait_for_selector("html:not([data-busy])")

    def picture(self, selector="#picture canvas"):
        values = self.page.locator(selector).evaluate("c => Array.from(c.values)")
        return torch.tensor(values).view(1, 3, 32, 32)

    def tokens(self):
        cells = self.page.locator("#tokens td").all_inner_texts()
        return [int(cell) for cell in cells]

    def said(self):
        return self.page.locator("#status").inner_text()

    def shot(self, name):
        if folder := os.environ.get("SHOTS"):    # a folder that keeps the screenshots
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"playground_{name}.png", full_page=True)


@pytest.fixture
def visit(site, chrome):
    """Opens a toy; whatever was opened must have asked nobody else, and raised nothing."""
    opened = []

    def visiting(toy, **settings):
        opened.append(Visit(chrome, site[1], toy, **settings))
        return opened[-1]

    yield visiting
    for one in opened:
        one.context.close()
        assert one.crashes == []
        assert [u for u in one.requests if not u.startswith((one.address, "data:"))] == []


@pytest.fixture(scope="module")
def numbers(site):
    return json.loads((site[0] / "playground" / "tables.json").read_text())


def far(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max())


def noise(n, seed):
    """The noise of a seed, and the generator that goes on from there."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, 4, 4, generator=generator), generator


@pytest.fixture(scope="module")
def decode():
    """Latents as (images, their sixteen tokens each)."""
    tokenizer = load_weights(IVQVAE, "ivqvae")

    def decoding(z):
        with torch.no_grad():
            tokens = tokenizer.quantizer(tokenizer.denormalise(z)).indices
        return latents.decode(tokenizer, z), tokens.flatten(1).tolist()

    return decoding


def test_the_first_picture_comes_soon(visit):
    """Less than two seconds of the processor, everything from opening the page on counted."""
    for toy in TOYS:
        one = visit(toy)
        session = one.context.new_cdp_session(one.page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        one.page.goto(f"{one.address}playground/{toy}.html", wait_until="commit")
        one.page.wait_for_selector("html[data-first]")
        metrics = session.send("Performance.getMetrics")["metrics"]
        (used,) = [m["value"] for m in metrics if m["name"] == "ThreadTime"]
        assert 0.05 < used < 2, (toy, used)
        assert one.page.evaluate("() => crossOriginIsolated") is False
        one.page.wait_for_selector("html[data-ready]")


def test_the_overview_loads_no_network(visit):
    one = visit("index")
    one.page.goto(f"{one.address}playground/index.html")
    assert [u.rsplit("/", 1)[1] for u in one.requests] == ["index.html", "style.css"]
    links = one.page.locator(".toys h2 a").all()
    assert [a.get_attribute("href") for a in links] == [f"{toy}.html" for toy in TOYS]
    one.page.get_by_role("link", name="Chapter 2, VAE objectives").click()
    assert one.page.title() == "Chapter 2"


def test_a_toy_loads_its_own_networks_and_tells_how_far_it_is(visit, numbers):
    one = visit("vae")
    held = []
    one.page.route("**/vae.onnx", lambda route: held.append(route))
    one.page.goto(f"{one.address}playground/vae.html")
    end = time.time() + 30
    while not held or one.page.locator("#bar").evaluate("b => b.value / b.max") < 0.9:
        assert time.time() < end
        one.page.wait_for_timeout(50)
    needed = ("runtime/ort.wasm", "models/vae.onnx", "models/classifier.onnx")
    whole = sum(numbers["bytes"][path] for path in needed) / 1e6
    assert f"of {whole:.1f} MB" in one.page.locator("#said").inner_text()
    assert not one.page.locator("#toy").is_visible()
    held[0].continue_()
    one.page.wait_for_selector("html[data-ready]")
    assert one.page.locator("#toy").is_visible() and not one.page.locator("#bar").is_visible()
    asked = {u.rsplit("/", 1)[1] for u in one.requests}
    assert {a for a in asked if a.endswith(".onnx")} == {"vae.onnx", "classifier.onnx"}


def test_the_page_itself_forbids_other_hosts(visit):
    one = visit("index")
    one.page.goto(f"{one.address}playground/index.html")
    refused = one.page.evaluate("""() => new Promise((done) => {
        document.addEventListener("securitypolicyviolation", (e) => done(e.violatedDirective));
        fetch("http://127.0.0.2:9/").catch(() => {});
    })""")
    assert refused == "connect-src"
    one.requests.clear()


def test_the_scheme_chosen_on_the_site_is_kept(visit):
    one = visit("vae", color_scheme="light")
    colour = "() => getComputedStyle(document.body).backgroundColor"
    one.open()
    light = one.page.evaluate(colour)
    one.page.evaluate("() => localStorage.setItem('mode', 'dark')")
    one.open()
    assert light == "rgb(255, 255, 255)" != one.page.evaluate(colour)


def test_a_file_that_does_not_come_is_told(visit):
    one = visit("vae")
    one.page.route("**/vae.onnx", lambda route: route.fulfill(status=404))
    one.page.goto(f"{one.address}playground/vae.html")
    one.page.get_by_text("models/vae.onnx is not there").wait_for()
    assert "Load the page again" in one.page.locator("#said").inner_text()
    one.page.wait_for_load_state("networkidle")         # whatever else was on its way has come
    one.page.wait_for_timeout(500)
    assert "Load the page again" in one.page.locator("#said").inner_text()
    assert {"models/vae.onnx is not there: 404" in str(crash) for crash in one.crashes} <= {True}
    one.crashes.clear()


def test_seeds_and_time_steps_are_torchs(visit):
    one = visit("index")
    one.page.goto(f"{one.address}playground/index.html")
    for seed in (0, 7, 99_999):
        drawn = one.page.evaluate("""async (seed) => {
            const { Generator } = await import("./random.js");
            const random = new Generator(seed);
            return [...random.normal(512), ...random.normal(64)];
        }""", seed)
        generator = torch.Generator().manual_seed(seed)
        wanted = [torch.randn(n, generator=generator) for n in (512, 64)]
        assert far(torch.tensor(drawn), torch.cat(wanted)) < 1e-5
    for steps in (1, 3, 20, 50, 100, 1000):
        visited = one.page.evaluate("""async (steps) => {
            const { timesteps } = await import("./diffusion.js");
            return timesteps(1000, steps);
        }""", steps)
        assert visited == timesteps(1000, steps)


def test_the_vae(visit, numbers):
    one, model = visit("vae").open(), load_weights(vae.VAE, "vae")
    first, second = (torch.tensor([face["z"]]) for face in numbers["vae"]["faces"][:2])

    def decoded(z):
        with torch.no_grad():
            return model.decode(z)

    assert far(one.picture(), decoded(first)) < CLOSE
    assert one.page.locator("#units input").count() == 16
    assert "red hair" in one.said() and "no glasses" in one.said()
    # arithmetic: two attributes, and one unit beside them
    one.set("glasses", 2)
    one.set("smile", 1)
    arrows = {name: torch.tensor(arrow) for name, arrow in numbers["vae"]["arrows"].items()}
    z = first + 2 * arrows["glasses"] + arrows["smile"]
    assert far(one.picture(), decoded(z)) < CLOSE
    assert ", glasses" in one.said() and "a smile" in one.said()
    one.shot("vae")
    one.set("unit4", 2)
    z[0, 3] = 2
    assert far(one.picture(), decoded(z)) < CLOSE
    one.page.locator("#reset").click()
    one.settle()
    assert far(one.picture(), decoded(first)) < CLOSE
    one.set("face", 1)
    assert far(one.picture(), decoded(second)) < CLOSE and one.page.locator("#seed").is_disabled()
    one.set("face", "drawn")
    one.set("seed", 11)
    assert far(one.picture(), vae.sample(model, 1, seed=11)) < CLOSE
    # by the keyboard alone
    before = one.picture()
    one.page.locator("#unit4").focus()
    one.page.keyboard.press("ArrowRight")
    one.settle()
    assert far(one.picture(), before) > CLOSE


def test_the_tokens(visit, numbers):
    one, model = visit("vqvae").open(), load_weights(VQVAE, "vqvae")
    first, second = (torch.tensor(f["tokens"]).view(1, 4, 4) for f in numbers["vqvae"]["faces"][:2])
    buttons, picture = one.page.locator("#map button"), "#picture > canvas"
    assert [int(t) for t in buttons.all_inner_texts()] == first.flatten().tolist()
    assert far(one.picture(picture), model.decode_indices(first)) < CLOSE
    # a place by mouse, its neighbour by an arrow key, and the third of the frequent codes there
    buttons.nth(9).click()
    one.page.keyboard.press("ArrowRight")
    one.page.keyboard.press("Enter")
    one.settle()
    assert one.page.locator("#where").inner_text() == "row 3, column 3"
    one.page.locator("#choices button").nth(2).click()
    one.settle()
    changed = first.clone()
    changed[0, 2, 2] = numbers["vqvae"]["common"][10][2]
    assert far(one.picture(picture), model.decode_indices(changed)) < CLOSE
    one.set("code", 77)
    changed[0, 2, 2] = 77
    assert far(one.picture(picture), model.decode_indices(changed)) < CLOSE
    assert one.said().startswith("1 of 16 tokens changed.")
    one.shot("vqvae")
    # the glasses of the second face take two rows
    one.page.locator("#reset").click()
    one.settle()
    for row in (1, 2):
        assert "no glasses" in one.said()
        one.page.get_by_role("button", name=f"row {row + 1}", exact=True).click()
        one.settle()
    both = first.clone()
    both[0, 1:3] = second[0, 1:3]
    assert far(one.picture(picture), model.decode_indices(both)) < CLOSE
    assert int(predict_attributes(model.decode_indices(both))["glasses"]) == 1
    assert "no glasses" not in one.said()


@pytest.mark.parametrize(("seed", "steps", "eta"), [(8, 20, 0.0), (5, 10, 1.0), (2, 7, 0.5)])
def test_the_film(visit, decode, seed, steps, eta):
    one, model = visit("ddim").open(), load_weights(FFTD, "fftd")
    for name, value in (("seed", seed), ("steps", steps), ("eta", eta)):
        one.set(name, value)
    x, generator = noise(1, seed)
    film = list(ddim_sample(model, ddpm.diffusion_of(model), x, steps=steps, eta=eta,
                            generator=generator))
    image, tokens = decode(film[-1].x)
    assert one.tokens() == tokens[0]
    assert far(one.picture("#noisy canvas"), image) < CLOSE
    assert f"Step {steps} of {steps}" in one.said()
    one.shot(f"ddim_{seed}")
    one.set("frame", 3)
    assert far(one.picture("#noisy canvas"), decode(film[2].x)[0]) < CLOSE
    assert far(one.picture("#guess canvas"), decode(film[2].x0)[0]) < CLOSE
    assert f"Step 3 of {steps}, t = {film[2].t}:" in one.said()
    one.set("frame", 0)
    assert far(one.picture("#noisy canvas"), decode(x)[0]) < CLOSE
    assert "noise alone" in one.said() and one.page.locator("#tokens td").first.inner_text() == "–"


def test_the_film_plays_to_its_end(visit):
    one = visit("ddim").open()
    one.set("steps", 4)
    one.page.locator("#play").click()
    assert one.page.locator("#play").inner_text() == "Stop"
    one.page.get_by_role("button", name="Play the film").wait_for()
    assert one.page.locator("#frame-said").inner_text() == "4 of 4"


@pytest.mark.parametrize(("hair", "scale", "steps", "seed"), [(2, 1.5, 20, 3), (3, 0, 6, 1)])
def test_hair_asked_for(visit, decode, hair, scale, steps, seed):
    one, model = visit("fftd").open(), load_weights(FFTD, "fftd")
    for name, value in (("hair", hair), ("scale", scale), ("steps", steps), ("seed", seed)):
        one.set(name, value)
    y = torch.full((8,), hair)
    z = ddpm.last(ddim_sample(Guided(model, 5, scale), ddpm.diffusion_of(model), noise(8, seed)[0],
                              y, steps=steps))
    images, tokens = decode(z)
    for k in range(8):
        small = one.picture(f"#faces button:nth-child({k + 1}) canvas")
        assert far(small, images[k : k + 1]) < CLOSE
    one.page.locator("#faces button").nth(5).click()
    assert one.tokens() == tokens[5] and far(one.picture(), images[5:6]) < CLOSE
    obeyed = int((predict_attributes(images)["hair"] == hair).sum())
    colour = ATTRIBUTES["hair"][hair]
    assert one.said() == f"The classifier reads {colour} hair in {obeyed} of 8 faces."
    one.shot(f"fftd_{ATTRIBUTES['hair'][hair]}")


def test_no_hair_in_particular(visit, decode):
    one, model = visit("fftd").open(), load_weights(FFTD, "fftd")
    one.set("hair", 5)
    assert one.page.locator("#scale").is_disabled() and "no hair colour" in one.said()
    x, _ = noise(8, 3)
    images, _ = decode(ddpm.last(ddim_sample(model, ddpm.diffusion_of(model), x, steps=10)))
    assert far(one.picture(), images[:1]) < CLOSE


START = "a grey-haired person with glasses on a pink background"


@pytest.fixture(scope="module")
def text_model():
    return load_weights(text_to_image.TextFFTD, "text_fftd"), load_weights(IVQVAE, "ivqvae")


@pytest.mark.parametrize(("prompt", "negative", "scale", "steps", "seed"), [
    (START, "", 2, 10, 0),
    ("a smiling person with short red hair", "glasses", 3.5, 7, 4),
    ("a person with a green shirt", "red hair", 1.5, 5, 1),
    ("", "", 8, 1, 2),
])
def test_faces_for_a_sentence(visit, text_model, prompt, negative, scale, steps, seed):
    one = visit("sentence").open()
    for name, value in (("scale", scale), ("steps", steps), ("seed", seed)):
        one.set(name, value)
    one.write("negative", negative)
    one.write("prompt", prompt)
    images = text_to_image.draw(*text_model, [prompt] * 8, scale=scale, negative=negative,
                                steps=steps, seed=seed)
    for k in range(8):
        small = one.picture(f"#faces button:nth-child({k + 1}) canvas")
        assert far(small, images[k : k + 1]) < CLOSE
    one.page.locator("#faces button").nth(5).click()
    assert far(one.picture(), images[5:6]) < CLOSE
    tokens = torch.tensor(one.tokens()).view(1, 4, 4)
    assert far(text_model[1].decode_indices(tokens), images[5:6]) < CLOSE
    # what the sentence says, how many obey, and the tokens that the network is given
    seen, said = predict_attributes(images), prompts.read(prompt) if prompt else {}
    right = {name: seen[name] == ATTRIBUTES[name].index(value) for name, value in said.items()}
    rows = [[name.replace("_", " "), value, f"{int(right[name].sum())} of 8"]
            for name, value in said.items()]
    shown = one.page.locator("#told tr").all()
    assert [r.locator("th, td").all_inner_texts() for r in shown] == rows
    if said:
        obeyed = int(torch.stack(list(right.values())).all(0).sum())
        assert one.said().startswith(f"All that the sentence says is in {obeyed} of 8 faces")
    else:
        assert one.said() == "Eight faces of which the sentence says nothing."
    for field, sentence in (("sentence", prompt), ("negative", negative)):
        (ids,) = prompts.tokenise([sentence])
        wanted = [f"{w} {k}" for w, k in zip(prompts.words_of(ids), ids.tolist(), strict=True)]
        assert one.page.locator(f"#{field}-words li").all_inner_texts() == wanted
    one.shot(f"sentence_{seed}")


def answer(prompt):
    """What Python reads in a sentence, or its refusal, which names the list of words otherwise."""
    try:
        return prompts.read(prompt)
    except ValueError as e:
        return str(e).replace("minigen.prompts.VOCABULARY", "the list below")


REFUSED = ("a woman with red hair", "a person with blak hair", "a person without glasses",
           "a person with a xylophone", "eine Frau mit roten Haaren", "red hair " * 30, "?!",
           "a person with red hair and grey hair", "a person with blue hair", "a red person")


def test_what_nobody_can_draw_is_refused(visit):
    one = visit("sentence").open()
    before, words = one.picture(), one.page.locator("#sentence-words").inner_text()
    for prompt in REFUSED:
        one.write("prompt", prompt)
        assert one.said() == f"Sentence refused: {answer(prompt)}"
        assert one.page.locator("#prompt").get_attribute("aria-invalid") == "true"
        assert torch.equal(one.picture(), before)
    assert one.page.locator("#sentence-words").inner_text() == words
    one.shot("sentence_refused")
    one.write("prompt", "a sad face")
    assert one.said().startswith("All that the sentence says is in ")
    assert one.page.locator("#prompt").get_attribute("aria-invalid") is None
    after = one.picture()
    assert far(after, before) > CLOSE
    one.page.locator("#negative").fill("spectacles")
    one.page.get_by_role("button", name="Draw").click()
    one.settle()
    assert one.said() == ("Negative prompt refused: 'spectacles' is not known: did you mean "
                          "'glasses'?")
    assert torch.equal(one.picture(), after)


def test_sentences_are_read_as_python_reads_them(visit):
    """The rules, ported: captions, words in any order, and words with a letter lost."""
    one, rng = visit("index"), random.Random(0)
    one.page.goto(f"{one.address}playground/index.html")
    known = [*prompts.VOCABULARY[3:], *prompts.MEANT, *prompts.DENIALS]
    sentences = [*REFUSED, "", "constructor", "A RED-haired İ person", "Ⅷ faces²",
                 *captions(ToyFaces(100, seed=1).labels)]
    sentences += [" ".join(rng.choices(prompts.VOCABULARY[3:], k=rng.randint(1, 6)))
                  for _ in range(300)]
    for word in rng.choices(known, k=300):
        k = rng.randrange(len(word))
        sentences.append(f"a face with {word[:k]}{rng.choice(['', 'e', 'x'])}{word[k + 1:]} hair")
    read = one.page.evaluate("""async (sentences) => {
        const { reader } = await import("./prompts.js");
        const { read } = reader((await (await fetch("tables.json")).json()).prompts);
        return sentences.map((sentence) => {
            try { return read(sentence); } catch (error) { return error.message; }
        });
    }""", sentences)
    wanted = [answer(sentence) for sentence in sentences]
    assert sum(isinstance(w, dict) for w in wanted) > 120 and read == wanted


@pytest.mark.parametrize("toy", ("index", *TOYS))
def test_no_barrier_and_room_on_a_phone(visit, toy):
    """axe's rules in both schemes, and a page no wider than 380 pixels."""
    one = visit(toy)
    if toy == "index":
        one.page.goto(f"{one.address}playground/index.html")
    else:
        one.open()
    for scheme in ("light", "dark"):
        for width in (1000, 380):
            one.page.set_viewport_size({"width": width, "height": 900})
            one.page.emulate_media(color_scheme=scheme)
            assert one.page.evaluate("() => document.documentElement.scrollWidth") <= width
            found = Axe().run(one.page).response
            assert found["passes"], "axe looked at nothing"
            for rule in found["violations"]:
                assert [n["html"][:200] for n in rule["nodes"]] == [], (rule["id"], scheme, width)
            one.shot(f"{toy}_{width}_{scheme}")
