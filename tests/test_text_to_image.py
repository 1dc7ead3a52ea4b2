"""FFTD told by a sentence: cross-attention against peers, guidance, padding, order, refusals."""

import pytest
import torch
import torch.nn.functional as F

from minigen import ddpm, latents
from minigen import text_to_image as t2i
from minigen.captions import captions
from minigen.common import generator
from minigen.data import ToyFaces
from minigen.fftd import FFTD
from minigen.files import load_weights, save_weights
from minigen.ivqvae import IVQVAE
from minigen.prompts import LONGEST, PAD, tokenise
from tests.conftest import peer

SMALL = dict(dim=32, heads=4, text_width=16, text_depth=1, prediction="v", schedule="cosine")
TEXTS = captions(ToyFaces(6, seed=9).labels, seed=1)
IDS = tokenise(TEXTS)


def alive(model):
    """With no layer that starts at zero left at it, so that everything has a say."""
    g = generator(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=g))
    return model.eval()


def inputs(n=6):
    g = generator(5)
    return torch.randn(n, 4, 4, 4, generator=g), torch.randint(1000, (n,), generator=g)


def cross(dim=16, width=12, heads=4):
    layer = t2i.CrossAttention(dim, width, heads).double()
    g = generator(2)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=g) / 4)
    x = torch.randn(3, 5, dim, generator=g, dtype=torch.float64)
    words = torch.randn(3, 7, width, generator=g, dtype=torch.float64)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] + [0] * 6]).bool()
    return layer, x, words, mask


def test_cross_attention_is_a_loop_over_words():
    layer, x, words, mask = cross()
    with torch.no_grad():
        got, weights = layer(x, words, mask), layer.weights(x, words, mask)
        q = layer.query(F.layer_norm(x, (16,), eps=1e-6))
        k, v = layer.key_value(words).chunk(2, -1)
        want = x.clone()
        for b in range(3):
            there = mask[b].nonzero().flatten()
            for i in range(5):
                mixed = []
                for h in range(4):
                    part = slice(4 * h, 4 * h + 4)
                    scores = torch.stack([q[b, i, part] @ k[b, j, part] / 2 for j in there])
                    share = scores.softmax(0)
                    torch.testing.assert_close(weights[b, h, i, there], share)
                    mixed.append(sum(s * v[b, j, part] for s, j in zip(share, there, strict=True)))
                want[b, i] += layer.out(torch.cat(mixed))
    torch.testing.assert_close(got, want)
    assert not bool(weights.masked_select(~mask[:, None, None]).any())


def test_cross_attention_equals_diffusers():
    layer, x, words, mask = cross()
    theirs = peer("diffusers.models.attention_processor").Attention(
        16, cross_attention_dim=12, heads=4, dim_head=4, bias=True).double()
    k, v = layer.key_value.weight.chunk(2)
    k_bias, v_bias = layer.key_value.bias.chunk(2)
    with torch.no_grad():
        for to, weight, bias in ((theirs.to_q, layer.query.weight, layer.query.bias),
                                 (theirs.to_k, k, k_bias), (theirs.to_v, v, v_bias),
                                 (theirs.to_out[0], layer.out.weight, layer.out.bias)):
            to.weight.copy_(weight)
            to.bias.copy_(bias)
        want = x + theirs(F.layer_norm(x, (16,), eps=1e-6), words, attention_mask=mask)
        torch.testing.assert_close(layer(x, words, mask), want)


def test_at_first_no_word_is_heard():
    model = t2i.TextFFTD(**SMALL)
    plain = FFTD(**{k: v for k, v in SMALL.items() if "text" not in k})
    plain.load_state_dict({k: v for k, v in model.state_dict().items()
                           if k in plain.state_dict()})
    z, t = inputs()
    with torch.no_grad():
        for p, q in ((model.last.weight, plain.last.weight),):
            p.normal_()
            q.copy_(p)
        torch.testing.assert_close(model(z, t, IDS), plain(z, t))


@pytest.mark.parametrize("way", t2i.WAYS)
def test_the_null_caption_is_no_caption(way):
    model, (z, t) = alive(t2i.TextFFTD(way, **SMALL)), inputs()
    with torch.no_grad():
        null = model(z, t, tokenise([""] * 6))
        torch.testing.assert_close(model(z, t), null, rtol=0, atol=1e-6)
        assert (model(z, t, IDS) - null).abs().amax((1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize("way", t2i.WAYS)
def test_padding_and_order_change_nothing(way):
    model, (z, t), order = alive(t2i.TextFFTD(way, **SMALL)), inputs(), torch.randperm(6)
    with torch.no_grad():
        want = model(z, t, IDS)
        longer = F.pad(IDS, (0, LONGEST - IDS.shape[1]), value=PAD)
        torch.testing.assert_close(model(z, t, longer), want, rtol=0, atol=1e-6)
        torch.testing.assert_close(model(z[order], t[order], IDS[order]), want[order], rtol=0,
                                   atol=1e-6)
        alone = torch.cat([model(z[k : k + 1], t[k : k + 1], tokenise([TEXTS[k]]))
                           for k in range(6)])
        torch.testing.assert_close(alone, want, rtol=0, atol=1e-6)


def test_one_sentence_serves_all():
    model, (z, t) = alive(t2i.TextFFTD(**SMALL)), inputs()
    with torch.no_grad():
        torch.testing.assert_close(model(z, t, IDS[:1]), model(z, t, IDS[:1].expand(6, -1)))
    with pytest.raises(ValueError, match="one sentence, or 6, one for each latent; got 2"):
        model(z, t, IDS[:2])


class Counting(t2i.TextFFTD):
    asked = 0

    def told(self, *args):
        self.asked += len(args[0])
        return super().told(*args)


def test_guidance_is_a_line_from_the_negative_prompt_through_the_prompt():
    model, (z, t) = alive(Counting(**SMALL)), inputs()
    y = torch.tensor([5, 4, 3, 2, 1, 0])
    with torch.no_grad():
        told, null = model(z, t, IDS[y]), model(z, t)
        glasses = model(z, t, tokenise(["glasses"]))
        for scale, runs in ((0, 1), (1, 1), (2.5, 2)):
            model.asked = 0
            got = t2i.Prompted(model, TEXTS, scale)(z, t, y)
            torch.testing.assert_close(got, null + scale * (told - null), rtol=0, atol=1e-5)
            assert model.asked == runs * 6
        got = t2i.Prompted(model, TEXTS, 3.0, negative="glasses")(z, t, y)
        torch.testing.assert_close(got, glasses + 3 * (told - glasses), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="which prompt"):
        t2i.Prompted(model, TEXTS)(z, t)
    with pytest.raises(ValueError, match="labels"):
        t2i.Prompted(model, TEXTS)(z, t, y + 1)


def test_what_was_read_moves_with_the_network():
    prompted = t2i.Prompted(t2i.TextFFTD(**SMALL), TEXTS, 2.0).to("meta")
    assert all(prompted.get_buffer(name).is_meta for name in t2i.Sentences._fields)


def test_a_frozen_encoder_stays_as_it_was_put_in():
    encoder = alive(t2i.TextEncoder(16, 1))
    model = alive(t2i.TextFFTD(frozen=True, **SMALL)).told_by(encoder)
    z, t = inputs()
    model.train()
    model(z, t, IDS).square().mean().backward()
    assert all(p.grad is None for p in model.text.parameters())
    assert all(p.grad is not None for n, p in model.named_parameters() if "text" not in n)
    for step in ddpm.train_ddpm(model, [(z, IDS)] * 2, ddpm.diffusion_of(model), steps=2):
        assert step.loss > 0
    for name, value in encoder.state_dict().items():
        assert torch.equal(model.text.state_dict()[name], value)


def test_weights_come_back(tmp_path):
    model = alive(t2i.TextFFTD("both", frozen=True, **SMALL))
    save_weights(tmp_path / "text.safetensors", model)
    again = load_weights(t2i.TextFFTD, tmp_path / "text.safetensors")
    z, t = inputs()
    with torch.no_grad():
        torch.testing.assert_close(again(z, t, IDS), model(z, t, IDS))
    assert again.config == model.config


def test_every_time_a_face_comes_it_has_a_new_caption():
    faces = ToyFaces(8, seed=2)
    z = torch.randn(8, 4, 4, 4)

    def first(n, **options):
        data = t2i.caption_batches(z, faces.labels, batch_size=40, **options)
        return [next(data) for _ in range(n)]

    one, again, other = first(3), first(3), first(3, seed=1)
    for (a, i), (b, j) in zip(one, again, strict=True):
        assert torch.equal(a, b) and torch.equal(i, j)
    assert not torch.equal(one[0][0], other[0][0]) and not torch.equal(one[0][0], one[1][0])
    null = tokenise([""])[0]
    for drop in (0.0, 0.5, 1.0):
        rows = torch.cat([(ids[:, :2] == null).all(1) for _, ids in first(50, drop=drop)])
        assert float(rows.float().mean()) == pytest.approx(drop, abs=0.04)


def test_training_lowers_the_loss():
    faces = ToyFaces(64, seed=2)
    tokenizer = load_weights(IVQVAE, "ivqvae")
    z = latents.encode(tokenizer, faces.images()).z
    model = t2i.TextFFTD(**SMALL)
    steps = list(ddpm.train_ddpm(model, t2i.caption_batches(z, faces.labels, batch_size=16),
                                 ddpm.diffusion_of(model), steps=80, lr=3e-3))
    assert sum(s.loss for s in steps[-20:]) < 0.9 * sum(s.loss for s in steps[:20])


@pytest.mark.parametrize(("wrong", "sentence"), [
    (lambda: t2i.TextFFTD("loud", **SMALL), "way must be one of words, pooled, both; got 'loud'"),
    (lambda: t2i.TextFFTD(num_classes=5, **SMALL), "num_classes must be left out"),
    (lambda: t2i.CrossAttention(30, 8, 4), "heads must be a divisor of dim=30"),
    (lambda: t2i.Prompted(t2i.TextFFTD(**SMALL), TEXTS, -1.0), "scale must be"),
    (lambda: t2i.Prompted(t2i.TextFFTD(**SMALL), ["a zebra"]), "'zebra' is not known"),
    (lambda: t2i.Prompted(t2i.TextFFTD(**SMALL), TEXTS, 1.0, "glasses"),
     "a negative prompt works by guidance: the scale must be above 1 with it; got 1"),
    (lambda: t2i.TextFFTD(**SMALL).told_by(t2i.TextEncoder(32, 1)),
     "encoder must be a TextEncoder of width 16 and depth 1"),
    (lambda: t2i.CrossAttention(16, 8, 4)(torch.zeros(2, 3, 16), torch.zeros(2, 5, 8),
                                          torch.ones(2, 4).bool()), "mask must be booleans"),
    (lambda: t2i.draw(t2i.TextFFTD(**SMALL), None, "red hair"), "a list of sentences"),
    (lambda: t2i.draw(t2i.TextFFTD(**SMALL), None, ["blue hair"]), "cannot be 'blue'"),
    (lambda: next(t2i.caption_batches(torch.zeros(3, 4), torch.zeros(2, 9).long())),
     "rows must be 3 rows of labels"),
])
def test_bad_input(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        wrong()
