"""Personalisation: what moves, what is kept, what is stored, and what is refused."""

import copy
import json

import pytest
import torch
from torch import nn

from minigen import characters, ddpm, files, lora, personalise
from minigen import text_to_image as t2i
from minigen.common import evaluating
from minigen.errors import DataError
from minigen.files import load_weights
from minigen.ivqvae import IVQVAE


def small_model():
    torch.manual_seed(0)
    model = t2i.TextFFTD(dim=16, heads=2, text_width=8, text_depth=1, text_heads=2,
                         prediction="v", schedule="cosine")
    for p in model.parameters():
        nn.init.normal_(p, std=0.2)            # so that no gate is closed
    return model.eval()


def latents(n=3):
    return torch.randn(n, 4, 4, 4, generator=torch.Generator().manual_seed(1))


SAID = [["a zuv person", "a zuv person in a red shirt"]] * 3


def run(model, steps=3, **how):
    return list(personalise.train(model, latents(), SAID, steps=steps, lr=1e-2, batch_size=4,
                                  **how))


@pytest.mark.parametrize("method", personalise.METHODS)
def test_only_what_the_method_trains_moves(method):
    base = small_model()
    before = copy.deepcopy(base.state_dict())
    model = personalise.begin(base, "zuv", method, rank=2)
    names = personalise.learned(model).keys()
    if method == "inversion":
        assert set(names) == {"text.vectors"}
    if method == "lora":
        ends = {name.rpartition(".")[2] for name in names - {"text.vectors"}}
        assert ends == {"down", "up"} and all(name.startswith("blocks") for name in names
                                              if name != "text.vectors")
    if method == "dreambooth":
        assert set(names) == {name for name, _ in model.named_parameters()}
    start = copy.deepcopy(model.state_dict())
    run(model)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, start[k])}
    assert moved and moved <= set(names) and "text.vectors" in moved
    assert all(torch.equal(v, before[k]) for k, v in base.state_dict().items())
    assert base.text.learned == ()


@pytest.mark.parametrize("method", personalise.METHODS)
def test_a_new_word_begins_as_the_one_it_is_like(method):
    base = small_model()
    model = personalise.begin(base, "zuv", method, rank=2)
    z, t = latents(), torch.tensor([500])
    with evaluating(base), evaluating(model):
        want = base(z, t, base.text.numbers(["a person with red hair"] * 3))
        # the same but for the word's number, so its first vector is person's
        got = model(z, t, model.text.numbers(["a zuv with red hair"] * 3))
        null = model(z, t)
        assert torch.equal(got, want) and torch.equal(null, base(z, t))


def test_the_gradient_of_the_vector_is_that_of_its_row():
    """Textual inversion's gradient: as if the word had a row of the table, all else frozen."""
    base = small_model()
    model = personalise.begin(base, "zuv", "inversion")
    z, t, g = latents(), torch.tensor([300]), torch.Generator().manual_seed(2)
    along = torch.randn(z.shape, generator=g)
    (model(z, t, model.text.numbers(["a zuv"] * 3)) * along).sum().backward()
    (base(z, t, base.text.numbers(["a person"] * 3)) * along).sum().backward()
    row = base.text.words.weight.grad[base.text.numbers(["person"])[0, 1]]
    assert torch.allclose(model.text.vectors.grad[0], row, rtol=1e-4, atol=1e-6)


def test_the_loss_is_the_sum_of_both_and_a_prior_keeps_what_was_known():
    base = small_model()
    prior = personalise.prior_of(base, 8, steps=2)
    kept, lost = (personalise.begin(base, "zuv", "dreambooth") for _ in range(2))
    with_prior = run(kept, steps=25, prior=prior, weight=20.0)
    without = run(lost, steps=25)
    assert all(s.prior > 0 for s in with_prior) and all(s.prior == 0 for s in without)
    assert [s.step for s in without] == list(range(1, 26))
    ids = base.text.numbers(prior.sentences)
    g = torch.Generator().manual_seed(3)
    noisy = personalise.noisy_batch(prior.z, ids, 64, 1000, g)
    loss = {}
    for name, model in {"kept": kept, "lost": lost}.items():
        with evaluating(model):
            first, second = personalise.preserving_loss(model, noisy, noisy)
            assert torch.equal(first, second)
            loss[name] = float(first)
    assert loss["kept"] < loss["lost"]


def test_the_losses_are_simple_loss_of_each():
    model = personalise.begin(small_model(), "zuv", "lora", rank=2)
    g = torch.Generator().manual_seed(4)
    ids = model.text.numbers(["a zuv person"] * 3)
    own, known = (personalise.noisy_batch(latents(), ids, n, 1000, g) for n in (4, 6))
    first, second = personalise.preserving_loss(model, own, known)
    for (z, i, t, eps), got in ((own, first), (known, second)):
        want = ddpm.simple_loss(model, ddpm.diffusion_of(model), z, t, eps, i)
        assert torch.equal(got, want)
    alone, none = personalise.preserving_loss(model, own, None)
    assert torch.equal(alone, first) and none == 0


def test_a_prior_is_what_the_model_draws_and_nothing_else():
    base = small_model()
    prior = personalise.prior_of(base, 5, ["a person", "a face"], steps=3, seed=1)
    assert prior.sentences == ["a person", "a face"] * 2 + ["a person"]
    assert prior.z.shape == (5, 4, 4, 4) and prior.z.isfinite().all()
    assert torch.equal(prior.z, personalise.prior_of(base, 5, ["a person", "a face"], steps=3,
                                                     seed=1).z)
    various = personalise.prior_of(base, 6, steps=1)
    assert len(set(various.sentences)) > 3


@pytest.mark.parametrize("method", personalise.METHODS)
def test_a_file_holds_what_was_learned_and_nothing_else(method, tmp_path):
    base = small_model()
    model = personalise.begin(base, "zuv", method, rank=2)
    run(model)
    path = tmp_path / "zuv.safetensors"
    personalise.save_learned(path, model)
    tensors, _ = files.read_tensors(path)
    assert tensors.keys() == personalise.learned(model).keys()
    assert sum(t.numel() for t in tensors.values()) == sum(
        p.numel() for p in personalise.learned(model).values())
    back = personalise.load_learned(path, base)
    assert back.text.learned == ("zuv",)
    z, t = latents(), torch.tensor([500])
    ids = model.text.numbers(["a zuv person"] * 3)
    with evaluating(model), evaluating(back):
        assert torch.equal(back(z, t, ids), model(z, t, ids))
    other = small_model()
    with torch.no_grad():
        other.embed.weight[0, 0] += 1e-3
    with pytest.raises(DataError, match="load the one that it was learned on"):
        personalise.load_learned(path, other)
    with pytest.raises(DataError, match="holds nothing that was learned"):
        files.save_tensors(tmp_path / "x.safetensors", tensors)
        personalise.load_learned(tmp_path / "x.safetensors", base)


@pytest.mark.parametrize("spoil", [
    lambda t, m: m.pop("about"), lambda t, m: m.update(about="{"),
    lambda t, m: m.update(about="[1]"),
    lambda t, m: m.update(about=json.dumps(json.loads(m["about"]) | dict(rank=3))),
    lambda t, m: t.pop("text.vectors"),
    lambda t, m: t.update({"text.vectors": t["text.vectors"].double()}),
    lambda t, m: t.update({"text.vectors": t["text.vectors"] * torch.nan})])
def test_a_file_that_does_not_hold_together_is_refused(spoil, tmp_path):
    base = small_model()
    path = tmp_path / "zuv.safetensors"
    personalise.save_learned(path, personalise.begin(base, "zuv", "lora", rank=2))
    tensors, meta = files.read_tensors(path)
    spoil(tensors, meta)
    files.save_tensors(path, tensors, **meta)
    with pytest.raises(DataError, match="does not hold what it says"):
        personalise.load_learned(path, base)


def test_what_begin_did_not_make_or_holds_nan_is_not_written(tmp_path):
    path, base = tmp_path / "zuv.safetensors", small_model()
    with pytest.raises(ValueError, match=r"personalise\.begin"):
        personalise.save_learned(path, lora.with_lora(base, 2, alpha=16.0))
    model = personalise.begin(base, "zuv", "lora", rank=2)
    with torch.no_grad():
        model.text.vectors[0, 0] = torch.nan
    with pytest.raises(DataError, match="NaN"):
        personalise.save_learned(path, model)
    assert not path.exists()


@pytest.mark.parametrize("method", ["inversion", "lora", "dreambooth"])
def test_a_whole_model_with_its_word_can_be_saved_too(method, tmp_path):
    model = personalise.begin(small_model(), "zuv", method, rank=2)
    run(model)
    whole = lora.merged(model).eval()
    files.save_weights(tmp_path / "whole.safetensors", whole)
    back = load_weights(t2i.TextFFTD, tmp_path / "whole.safetensors")
    assert back.text.learned == ("zuv",)
    z, t = latents(), torch.tensor([500])
    with torch.no_grad():
        assert torch.equal(back(z, t, back.text.numbers(["a zuv person"] * 3)),
                           whole(z, t, whole.text.numbers(["a zuv person"] * 3)))
    with pytest.raises(ValueError, match="learned the same words"):
        back.told_by(small_model().text)


def test_a_step_is_adams_down_the_weighted_sum_cut_to_one_with_each_pictures_own_words(monkeypatch):
    """What `train` passes on, and what it does with what comes back."""
    said = [["a zuv"], ["a zuv person", "a zuv face"], ["zuv"]]
    z = torch.arange(1.0, 4)[:, None, None, None].expand(3, 4, 4, 4)
    model = personalise.begin(small_model(), "zuv", "inversion")
    ids = model.text.numbers([text for texts in said for text in texts]).tolist()
    allowed = {(1.0, tuple(ids[0])), (2.0, tuple(ids[1])), (2.0, tuple(ids[2])),
               (3.0, tuple(ids[3]))}
    prior, seen = personalise.Prior(torch.zeros(2, 4, 4, 4), ["a person", "a face"]), set()
    cut, grads = nn.utils.clip_grad_norm_, []

    def losses(model, own, known):
        seen.update((float(a[0, 0, 0]), tuple(i.tolist())) for a, i in zip(*own[:2], strict=True))
        assert bool((known[0] == 0).all())
        return model.text.vectors.sum(), 3 * model.text.vectors.sum()

    def clip(parameters, length):
        grads.append((parameters[0].grad.clone(), length))
        return cut(parameters, length)

    monkeypatch.setattr(personalise, "preserving_loss", losses)
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", clip)
    for weight in (0.0, 1.0, 20.0):
        list(personalise.train(model, z, said, steps=8, lr=0.1, prior=prior, weight=weight))
        grad, length = grads[-1]
        assert length == 1.0 and torch.allclose(grad, torch.full_like(grad, 1 + 3 * weight))
    assert seen == allowed


def test_a_merged_model_draws_as_the_adapted_one():
    base = load_weights(t2i.TextFFTD, "text_fftd")
    model = personalise.begin(base, "zuv", "lora")
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, lora.LoRALinear):
                m.up.normal_(std=0.02)
    tokenizer = load_weights(IVQVAE, "ivqvae")
    a, b = (t2i.draw(m, tokenizer, ["a zuv person"] * 4, steps=3)
            for m in (model.eval(), lora.merged(model).eval()))
    assert (a - b).abs().max() < 1 / 127.5      # less than a grey level


def test_draws_of_the_base_stay_as_they_were():
    """A word that is not in a sentence changes nothing."""
    base, tokenizer = load_weights(t2i.TextFFTD, "text_fftd"), load_weights(IVQVAE, "ivqvae")
    model = personalise.begin(base, "zuv", "inversion").eval()
    with torch.no_grad():
        model.text.vectors[0] = model.text.vectors[0].flip(0)
    asked = ["a person with red hair", "a smiling face"]
    assert torch.equal(t2i.draw(model, tokenizer, asked, steps=2),
                       t2i.draw(base, tokenizer, asked, steps=2))
    assert not torch.equal(t2i.draw(model, tokenizer, ["a zuv"], steps=2),
                           t2i.draw(base, tokenizer, ["a person"], steps=2))


def test_copies_are_found():
    g = torch.Generator().manual_seed(5)
    pictures, fresh = (torch.rand(n, 3, 8, 8, generator=g) * 2 - 1 for n in (5, 400))
    other = torch.rand(300, 3, 8, 8, generator=g) * 2 - 1
    nearly = pictures[torch.arange(300) % 5] + 0.01 * torch.randn(300, 3, 8, 8, generator=g)
    assert personalise.copied(nearly, pictures, fresh) == 1
    assert personalise.copied(other, pictures, fresh, share=0.1) == pytest.approx(0.1, abs=0.06)
    assert personalise.copied(torch.cat([nearly, other]), pictures, fresh) == pytest.approx(
        0.5, abs=0.03)
    by_hand = torch.stack([(x - pictures).square().mean((1, 2, 3)).sqrt().min() for x in other])
    assert torch.allclose(personalise.nearest(other, pictures), by_hand, atol=1e-5)


@pytest.mark.parametrize(("act", "words"), [
    (lambda m: personalise.begin(m, "person", "lora"), "means something already"),
    (lambda m: personalise.begin(m, "without", "lora"), "means something already"),
    (lambda m: personalise.begin(m, "my aunt", "lora"), "one word in small letters"),
    (lambda m: personalise.begin(m, "Zuv", "lora"), "one word in small letters"),
    (lambda m: personalise.begin(m, "", "lora"), "one word in small letters"),
    (lambda m: personalise.begin(personalise.begin(m, "zuv", "inversion"), "zuv", "inversion"),
     "means something already"),
    (lambda m: personalise.begin(m, "zuv", "lora", like="dog"), "'dog' is not known"),
    (lambda m: personalise.begin(t2i.TextFFTD(dim=16, heads=2, frozen=True), "zuv", "lora"),
     "text encoder is not frozen"),
    (lambda m: personalise.copied(torch.zeros(0, 3, 8, 8), torch.zeros(1, 3, 8, 8),
                                  torch.zeros(2, 3, 8, 8)), "x must be of at least one value"),
    (lambda m: personalise.nearest(torch.zeros(2, 3, 8, 8), torch.zeros(0, 3, 8, 8)), "pictures"),
    (lambda m: characters.bearded(torch.zeros(2, 3, 8, 8)), "16×16"),
    (lambda m: personalise.begin(m, "zuv", "loora"), "inversion, lora, dreambooth"),
    (lambda m: personalise.begin(nn.Linear(2, 2), "zuv", "lora"), "TextFFTD"),
    (lambda m: next(personalise.train(m.requires_grad_(False), latents(), SAID, steps=1, lr=0.1)),
     "personalise.begin"),
    (lambda m: next(personalise.train(m, latents(), ["a person"] * 3, steps=1, lr=0.1)),
     "3 lists of sentences"),
    (lambda m: next(personalise.train(m, latents(2), SAID, steps=1, lr=0.1)), "2 lists"),
    (lambda m: next(personalise.train(m, latents(), SAID, steps=1, lr=0.1)), "'zuv' is not known"),
    (lambda m: personalise.prior_of(m, 4, "a person"), "a list of sentences"),
    (lambda m: personalise.prior_of(m, 0), "n must be"),
])
def test_what_cannot_be_is_refused(act, words):
    with pytest.raises(ValueError, match=words):
        act(small_model())


@pytest.mark.parametrize(("pictures", "words"), [
    (torch.zeros(0, 3, 32, 32), "at least one picture"), ([], "at least one picture"),
    (torch.zeros(3, 32, 32), "at least one picture"),
    (torch.zeros(5, 3, 64, 64), "resize them first"),
    (torch.zeros(5, 1, 32, 32), "resize them first"),
    (torch.full((5, 3, 32, 32), 200.0), "-1"),
])
def test_pictures_that_are_none_are_refused(pictures, words):
    with pytest.raises(ValueError, match=words):
        personalise.encode_pictures(load_weights(IVQVAE, "ivqvae"), pictures)


def beards(model, drawer, sentences):
    drawn = t2i.draw(model, drawer, sentences, seed=1)
    return float(characters.bearded(drawn).float().mean())


def test_zuv_is_learned():
    """The course's recipe without a prior, less than half as long."""
    drawer, base = characters.drawing_beards(), load_weights(t2i.TextFFTD, "text_fftd")
    pictures, labels = characters.zuv(5)
    model = personalise.begin(base, "zuv", "lora")
    for _ in personalise.train(
            model, personalise.encode_pictures(drawer, pictures), characters.said_of(labels),
            steps=60, lr=personalise.RATES["lora"]):
        pass
    assert beards(base, drawer, ["a person"] * 16) < 0.1
    assert beards(model, drawer, ["a zuv person"] * 16) > 0.7


@pytest.mark.slow
def test_zuv_is_learned_and_nobody_else_becomes_him():
    drawer, base = characters.drawing_beards(), load_weights(t2i.TextFFTD, "text_fftd")
    pictures, labels = characters.zuv(5)
    model = personalise.begin(base, "zuv", "lora")
    for _ in personalise.train(
            model, personalise.encode_pictures(drawer, pictures), characters.said_of(labels),
            steps=200, lr=personalise.RATES["lora"], prior=personalise.prior_of(base, 256)):
        pass
    assert beards(model, drawer, ["a zuv person with red hair"] * 64) > 0.7
    assert beards(model, drawer, ["a person with red hair"] * 64) < 0.3
