"""Cells of excursion 2's tables, by hand."""

import pytest
import torch

from minigen import text_to_image as t2i
from minigen.captions import COMBINATIONS, in_combination
from minigen.clip import CLIP, clip_score
from minigen.data import ATTRIBUTES, ToyFaces, draw_faces
from minigen.files import load_weights
from minigen.metrics import attribute_classifier, toy_features
from minigen.paper import sentences, transformer
from minigen.paper.tables import TABLES
from minigen.prompts import labels_told, read


def test_cells_draw_a_thousand_captions_of_a_kind():
    assert (sentences.DRAWN, sentences.STEPS, sentences.SCALE) == (1000, 10, 2.0)


def test_obedience_is_a_count():
    want = torch.tensor([[0, -1, 2, -1], [1, -1, -1, 3]])
    got = torch.tensor([[0, 5, 1, 3], [1, 0, 0, 3]])
    assert sentences.obedience(got, want) == pytest.approx(3 / 4)


def test_captions_seen_are_of_faces_that_training_had_the_like_of():
    texts, labels = sentences.seen(200, 3)
    assert len(texts) == len(labels) == 200 and not bool(in_combination(labels).any())
    told = labels_told(texts)
    assert bool(((told == labels) | (told < 0)).all())
    assert sentences.seen(200, 3)[0] == texts != sentences.seen(200, 4)[0]


def test_captions_held_out_tell_a_combination_each():
    texts = sentences.held_out(40, 3)
    for k, combination in enumerate(COMBINATIONS):
        assert all(read(text) == combination for text in texts[10 * k : 10 * k + 10])


@pytest.fixture
def perfect(monkeypatch):
    """A generator that draws what it is asked for, and notes how it is asked."""
    asked = []

    def draw(model, tokenizer, prompts, **how):
        asked.append((len(prompts), how))
        told = labels_told(prompts)
        fresh = ToyFaces(len(prompts), seed=how["seed"])
        return draw_faces(torch.where(told >= 0, told, fresh.labels), fresh.jitter)

    monkeypatch.setattr(sentences.t2i, "draw", draw)
    return asked


def test_what_is_drawn_as_it_is_told_is_obedient(perfect):
    values = sentences.measured(None, 300, seed=2, scale=3.0)
    assert all(values[k] > 0.98 for k in ("seen", "held_out", "new_words"))
    assert 0.95 < values["all_right"] <= 1 and 0 < values["frechet"] < 200
    assert [n for n, _ in perfect] == [250, 50] * 3
    assert all(how["scale"] == 3.0 and how["steps"] == 10 for _, how in perfect)
    assert [how["seed"] for _, how in perfect] == [2, 252] * 3


def test_a_network_is_trained_as_the_row_says(perfect, monkeypatch):
    runs = []

    def train(model, data, diffusion, **rest):
        runs.append((model, next(data), rest))
        rest["average"].update_parameters(model)
        yield 1

    z = torch.randn(20_000, 4, 4, 4)
    monkeypatch.setattr(transformer, "tokens", lambda: (None, z, z[:1]))
    sentences._faces.cache_clear()
    monkeypatch.setattr(sentences.ddpm, "train_ddpm", train)
    monkeypatch.setattr(sentences, "DRAWN", 128)
    encoder = load_weights(CLIP, "clip").text_encoder.state_dict()
    for row, options in TABLES["sentences"].rows.items():
        values = sentences.sentences_cell(1, 7, **options)
        model, (x, ids), rest = runs[-1]
        assert values.keys() == {*TABLES["sentences"].columns, "all_right"}
        assert (rest["steps"], rest["lr"], rest["seed"]) == (7, 2e-3, 1)
        assert model.config["way"] == options["way"] and model.config["dim"] == 64, row
        same = all(torch.equal(v, encoder[k]) for k, v in model.text.state_dict().items())
        assert same == options["frozen"] == (not next(model.text.parameters()).requires_grad)
        want = next(t2i.caption_batches(*sentences._faces(), seed=1))
        assert torch.equal(x, want[0]) and torch.equal(ids, want[1])
    labels = ToyFaces(20_000, seed=0).labels
    kept = ~in_combination(labels)
    assert torch.equal(sentences._faces()[0], z[kept])
    assert torch.equal(sentences._faces()[1], labels[kept])
    sentences._faces.cache_clear()


def test_the_shipped_network_under_guidance(perfect):
    values = sentences.prompting_cell(1, 250, scale=5.0)
    assert values.keys() == {*TABLES["prompting"].columns, "all_right", "clip"}
    assert all(how["scale"] == 5.0 for _, how in perfect)
    assert values["diversity"] == pytest.approx(1, abs=0.1)        # drawn as real faces are
    texts, _ = sentences.seen(64, 51)
    eight = [t for t in texts for _ in range(8)]
    drawn = sentences.faces_for(None, eight, 51, 5.0)
    want = clip_score(load_weights(CLIP, "clip"), drawn, eight).mean()
    assert values["clip"] == pytest.approx(float(want))


def test_spread_is_the_variance_within_eights():
    x = ToyFaces(16, seed=3).images()
    f = toy_features(x)
    want = sum(float(f[8 * k : 8 * k + 8].var(0).sum()) for k in range(2)) / 2
    assert sentences._spread(x) == pytest.approx(want, rel=1e-5)


def test_real_faces_of_a_sentence_have_what_it_tells():
    texts, labels = sentences.seen(20, 1)
    told = labels_told(texts).repeat_interleave(8, 0)
    got = attribute_classifier().predict(sentences._others(labels, labels_told(texts), 1))
    right = (got == told)[told >= 0].float().mean()
    assert float(right) > 0.98 and got.shape == (160, len(ATTRIBUTES))
