"""CLIP: InfoNCE against a double loop, a text encoder that no padding disturbs."""

import math

import pytest
import torch
import torch.nn.functional as F

from minigen import clip
from minigen.captions import captions, in_combination
from minigen.common import generator
from minigen.data import ATTRIBUTES, ToyFaces
from minigen.metrics import attribute_classifier
from minigen.prompts import END, LONGEST, VOCABULARY, labels_told, tokenise, words_of

FACES = ToyFaces(64, seed=3)


def pairs(n=6, dim=8):
    u, v = torch.randn(2, n, dim, generator=generator(1), dtype=torch.float64)
    return F.normalize(u, dim=1), F.normalize(v, dim=1)


def test_the_loss_is_a_double_loop():
    u, v = pairs()
    scale, n, total = 7.0, len(u), 0.0
    for k in range(n):
        cosines = [[scale * float(u[i] @ v[j]) for j in range(n)] for i in range(n)]
        row = math.log(sum(math.exp(cosines[k][j]) for j in range(n))) - cosines[k][k]
        column = math.log(sum(math.exp(cosines[i][k]) for i in range(n))) - cosines[k][k]
        total += (row + column) / 2 / n
    assert float(clip.clip_loss(u, v, scale)) == pytest.approx(total, abs=1e-12)


def test_the_loss_is_symmetric_and_does_not_mind_the_order():
    u, v = pairs()
    loss, order = clip.clip_loss(u, v, 5.0), torch.randperm(len(u))
    torch.testing.assert_close(clip.clip_loss(v, u, 5.0), loss)
    torch.testing.assert_close(clip.clip_loss(u[order], v[order], 5.0), loss)
    assert clip.clip_loss(u, v[order], 5.0) != loss


def test_the_loss_of_chance_and_of_perfection():
    u, v = pairs()
    assert float(clip.clip_loss(u, v, 1e-9)) == pytest.approx(math.log(len(u)), abs=1e-6)
    axes = torch.eye(5)
    assert float(clip.clip_loss(axes, axes, 100.0)) < 1e-6


def test_the_scale_is_clamped_at_a_hundred():
    model = clip.CLIP(image_width=8)
    assert model.scale().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        model.log_scale.fill_(6.0)
    assert model.scale().item() == pytest.approx(100)
    axes = torch.eye(4)
    clip.clip_loss(axes, axes, model.scale()).backward()
    assert model.log_scale.grad.item() == 0


def test_logits_are_cosines_times_the_scale():
    model, ids = clip.CLIP(image_width=8).eval(), tokenise(captions(FACES.labels[:5]))
    x = FACES[:4][0]
    with torch.no_grad():
        u, v, logits = model.image(x), model.text(ids), model(x, ids)
    assert logits.shape == (4, 5)
    for embedding in (u, v):
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(len(embedding)))
    want = torch.tensor([[F.cosine_similarity(a, b, dim=0) for b in v] for a in u])
    torch.testing.assert_close(logits, want / 0.07, rtol=1e-4, atol=1e-4)


def test_padding_changes_nothing():
    model = clip.CLIP(image_width=8).eval()
    ids = tokenise(captions(FACES.labels[:8], seed=2))
    more = F.pad(ids, (0, LONGEST - ids.shape[1]))
    with torch.no_grad():
        alone = torch.cat([model.text(row[None, : int((row > 0).sum())]) for row in ids])
        torch.testing.assert_close(model.text(ids), alone, rtol=0, atol=1e-6)
        torch.testing.assert_close(model.text(more), alone, rtol=0, atol=1e-6)


def test_a_word_sees_the_words_before_it_alone():
    encoder, ids = clip.TextEncoder().eval(), tokenise(["a person with red hair"])
    other = ids.clone()
    other[0, 4] = VOCABULARY.index("grey")
    with torch.no_grad():
        a, b = encoder(ids), encoder(other)
    torch.testing.assert_close(a[:, :4], b[:, :4], rtol=0, atol=1e-6)
    assert (a[:, 4:] - b[:, 4:]).abs().amax(-1).min() > 1e-3


def test_the_end_is_found():
    ids = tokenise(["", "red hair"])
    features = torch.arange(8.0).view(2, 4, 1)
    assert clip.at_end(features, ids).flatten().tolist() == [1.0, 7.0]
    with pytest.raises(ValueError, match="sentences with one end token each"):
        clip.at_end(features, torch.full((2, 4), END))


def test_a_short_training_finds_pairs():
    x, ids = FACES.images(), tokenise(captions(FACES.labels, told=["background", "hair", "shirt"]))
    model = clip.CLIP(dim=32, width=32, depth=1, image_width=8)
    steps = list(clip.train_clip(model, [(x, ids)], steps=1, lr=1e-3)) + list(
        clip.train_clip(model, [(x, ids)] * 60, steps=60, lr=5e-3))
    assert steps[0].loss > 3 and steps[-1].loss < 2 and steps[-1].step == 60
    sentences = captions(FACES.labels, told=["background", "hair", "shirt"])
    found = clip.retrieval(clip.embed_images(model, x), clip.embed_texts(model, sentences))
    assert min(found) > 0.2                                   # chance is 1 in 64
    with pytest.raises(ValueError, match="the data ended after 1 batches"):
        list(clip.train_clip(model, [(x, ids)], steps=2))


def test_batches_are_pictures_and_what_is_said_of_them():
    faces = ToyFaces(500, seed=5)
    x, ids = next(clip.pair_batches(faces, 64, seed=1))
    assert x.shape == (64, 3, 32, 32) and len(ids) == 64
    again = next(clip.pair_batches(faces, 64, seed=1))
    assert torch.equal(again[0], x) and torch.equal(again[1], ids)
    told = labels_told([" ".join(words_of(row)[1:-1]) for row in ids])
    read = attribute_classifier().predict(x)
    assert float((read == told)[told >= 0].float().mean()) > 0.95
    assert not bool(in_combination(read).any())
    _, ids = next(clip.pair_batches(faces, 64, told=["smile"]))
    told = labels_told([" ".join(words_of(row)[1:-1]) for row in ids]) >= 0
    assert told.sum(0).tolist() == [64 if name == "smile" else 0 for name in ATTRIBUTES]


def test_recall_counts_rows_and_columns():
    u = torch.eye(3)
    v = F.normalize(torch.tensor([[1.0, 0, 0], [1, 0.5, 0], [0, 0.1, 1]]), dim=1)
    # picture 1 is nearest to sentence 1; but sentence 1 is nearest to picture 0
    assert clip.retrieval(u, v) == pytest.approx((1.0, 2 / 3))


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_readings_are_sentences_in_label_order(attribute):
    told = labels_told(clip.readings(attribute))[:, list(ATTRIBUTES).index(attribute)]
    want = list(range(len(ATTRIBUTES[attribute])))
    assert told.tolist() == ([-1, 1] if attribute == "glasses" else want)


def test_the_score_is_a_cosine_never_below_zero():
    model, x = clip.CLIP(image_width=8), FACES[:6][0]
    sentences = captions(FACES.labels[:6])
    u, v = clip.embed_images(model, x), clip.embed_texts(model, sentences)
    want = F.cosine_similarity(u, v).clamp(min=0)
    torch.testing.assert_close(clip.clip_score(model, x, sentences), want)
    with pytest.raises(ValueError, match="sentences must be 6, one for each picture; got 5"):
        clip.clip_score(model, x, sentences[:5])


@pytest.mark.parametrize(("wrong", "sentence"), [
    (lambda m: m.text(torch.tensor([[1, 999, 2]])), "ids must"),
    (lambda m: m.text(torch.ones(1, LONGEST + 1).long()), "the sentences' length must be"),
    (lambda m: m.image(torch.zeros(2, 3, 64, 64)), "x must be"),
    (lambda m: m.image(torch.full((2, 3, 32, 32), 255.0)), r"x must lie in \[-1, 1\]"),
    (lambda m: clip.clip_loss(torch.eye(3), torch.eye(4), 1.0), "image and text differ in shape"),
    (lambda m: clip.clip_loss(torch.eye(3), torch.eye(3), 0.0), "scale must be positive"),
    (lambda m: clip.TextEncoder(width=30, heads=4), "heads must be a divisor of the width 30"),
    (lambda m: clip.readings("beard"), "unknown attribute 'beard'"),
])
def test_bad_input(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        wrong(clip.CLIP(image_width=8))


def test_a_learned_word_begins_as_the_one_it_is_like_and_leaves_the_rest():
    torch.manual_seed(3)
    encoder = clip.TextEncoder(16, 1, 2).eval()
    before = encoder(tokenise(["a person with red hair"]))
    encoder.add_word("zuv", "person")
    encoder.add_word("bix", "face")
    assert encoder.learned == ("zuv", "bix") and encoder.vectors.shape == (2, 16)
    assert torch.equal(encoder(encoder.numbers(["a zuv with red hair"])), before)
    with torch.no_grad():
        encoder.vectors[1] = encoder.vectors[1].flip(0)
    assert torch.equal(encoder(encoder.numbers(["a zuv with red hair"])), before)
    assert not torch.equal(encoder(encoder.numbers(["a bix with red hair"])),
                           encoder(tokenise(["a face with red hair"])))
    with pytest.raises(ValueError, match="ids"):
        encoder(torch.tensor([[1, len(VOCABULARY) + 2, 2]]))


def test_embedding_is_a_look_into_one_longer_table():
    table, vectors = torch.randn(5, 3), torch.randn(2, 3)
    ids = torch.tensor([[0, 6, 4], [5, 5, 1]])
    got = clip.embed_words(table, vectors, ids)
    for row, numbers in zip(got, ids.tolist(), strict=True):
        for v, k in zip(row, numbers, strict=True):
            assert torch.equal(v, table[k] if k < 5 else vectors[k - 5])
    assert torch.equal(clip.embed_words(table, None, ids[:1, :1]), table[:1][None])
