import pytest
import torch

from minigen import ivqvae
from minigen.data import ToyFaces
from minigen.files import load_weights
from minigen.paper import losses, reproduce, tables
from minigen.perceptual import ToyPerceptual
from tests.conftest import defaults


def same(a, b):
    return all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


def test_the_fork_is_two_trainings_from_the_start(monkeypatch):
    """Trained as one up to the judge's start, and each by itself: the same weights."""
    monkeypatch.setattr(losses, "FACES", 500)
    losses._forked.cache_clear()
    perceptual = ToyPerceptual()
    plain, judged = (losses.trained(0, 3, True, judge, start=2)[0] for judge in (False, True))
    assert not same(plain, judged)

    run = losses._run(0, 3)
    losses._train(run, 3, perceptual)
    assert same(losses._kept(run[0]), plain)

    run = losses._run(0, 3)
    losses._train(run, 1, perceptual)
    torch.manual_seed(0)
    judge = ivqvae.PatchDiscriminator(width=32, layers=2)
    losses._train(run, 2, perceptual, judge)
    assert same(losses._kept(run[0]), judged)


def test_what_is_kept_is_what_16_bits_hold_and_no_later_step_changes_it(monkeypatch):
    monkeypatch.setattr(losses, "FACES", 500)
    run = losses._run(0, 2)
    kept = losses._kept(run[0])
    before = kept.decoder.body[0].weight.clone()
    losses._train(run, 1)
    assert torch.equal(before, kept.decoder.body[0].weight) and not kept.training
    assert torch.equal(before, before.half().float())


def test_a_cell_of_the_losses(monkeypatch):
    monkeypatch.setattr(losses, "trained", lambda *a: (load_weights(
        ivqvae.IVQVAE, "ivqvae_judged" if a[3] else "ivqvae_l1"), 1.0))
    cells = {judged: losses.losses_cell(0, 2, judged, judged) for judged in (False, True)}
    for judged, name in ((False, "ivqvae_l1"), (True, "ivqvae_judged")):
        card, cell = load_weights(ivqvae.IVQVAE, name).card, cells[judged]
        assert set(cell) == set(tables.TABLES["losses"].columns)
        assert cell["l1"] == pytest.approx(card["test_l1"], abs=2e-3)
        assert cell["frechet"] == pytest.approx(card["toy_frechet_of_reconstructions"], rel=0.02)
    assert cells[False]["sharpness"] < 0.8 < 1.05 < cells[True]["sharpness"]


def test_sharpness_is_the_mean_step_between_neighbours():
    board = torch.arange(4)[:, None] + torch.arange(4)[None]
    x = (board % 2).float().expand(2, 3, 4, 4)
    assert losses.sharpness(x) == 1 and losses.sharpness(0 * x) == 0
    assert losses.sharpness(torch.arange(4.0).expand(1, 3, 4, 4)) == 0.5      # one direction only
    assert 0.02 < losses.sharpness(ToyFaces(20, seed=0).images()) < 0.5


def test_the_weights_that_come_with_the_course_are_those_of_seed_0():
    names = {"L1": "ivqvae_l1", "+ perceptual": "ivqvae_features", "+ judge": "ivqvae_judged"}
    for c in reproduce.read("losses"):
        if c["seed"] == 0:
            card = load_weights(ivqvae.IVQVAE, names[c["row"]]).card
            assert c["l1"] == pytest.approx(card["test_l1"], abs=1e-4)
            assert c["perceptual"] == pytest.approx(card["test_perceptual"], abs=1e-4)
            assert c["frechet"] == pytest.approx(card["toy_frechet_of_reconstructions"], abs=0.02)


def test_what_is_taken_unless_told():
    assert defaults(losses.losses_cell) == dict(features=True, judged=False)
    assert (losses.FACES, losses.TEST, losses.start_of(1600)) == (20_000, 2000, 961)
    assert (losses.BATCH, losses.LAMBDA_D) == (16, 0.5)
    with pytest.raises(ValueError, match="features=True"):
        losses.trained(0, 2, False, True)
