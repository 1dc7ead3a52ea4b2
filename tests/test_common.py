"""Every training loop by one rule, and what else the lessons share."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from minigen import common, ddpm, gan, ivqvae, pixelcnn, unet, vae, vqvae
from minigen.common import evaluating
from minigen.data import ToyFaces, batches
from minigen.diffusion import Diffusion, linear_betas
from tests.test_inputs import cases, refused

NAN, INF = math.nan, math.inf
X, X16 = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 16, 16)
CODES, Y = torch.zeros(2, 4, 4).long(), torch.tensor([0, 2])
D = Diffusion(linear_betas(10, 0.01, 0.2))
TINY16 = dict(size=16, width=8, multipliers=(1, 2, 2), attention_at=8, num_codes=16)
TINY_UNET = dict(size=16, width=8, multipliers=(1, 2), attention_at=8)


TRAINERS = {
    "gan": lambda data, **k: gan.train_gan(
        gan.Generator(4, 8, 8), gan.Discriminator(8, 8), data, **k
    ),
    "vae": lambda data, **k: vae.train_vae(vae.VAE(4, 8, 8), data, **k),
    "vqvae": lambda data, **k: vqvae.train_vqvae(vqvae.VQVAE(16, 4, 8, 8), data, **k),
    "pixelcnn": lambda data, **k: pixelcnn.train_pixelcnn(pixelcnn.PixelCNN(16, 8, 1), data, **k),
    "ivqvae": lambda data, **k: ivqvae.train_ivqvae(ivqvae.IVQVAE(**TINY16), data, **k),
    "ddpm": lambda data, **k: ddpm.train_ddpm(unet.UNet(**TINY_UNET), data, D, **k),
}
FOOD = {"gan": X, "vae": X, "vqvae": X, "pixelcnn": CODES, "ivqvae": X16, "ddpm": X16}


@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_says_when_the_data_end(name):
    train, batch = TRAINERS[name], (FOOD[name],)
    assert [s.step for s in train([batch] * 3, steps=3)] == [1, 2, 3]
    assert [s.step for s in train(DataLoader(TensorDataset(batch[0]), batch_size=1), steps=2)] == [
        1,
        2,
    ]
    for data in ([batch] * 2, DataLoader(TensorDataset(batch[0]), batch_size=1)):
        with pytest.raises(
            ValueError, match=r"ended after 2 of 5 steps; minigen.data.batches goes on for ever"
        ):
            list(train(data, steps=5))
    used_up = 2 if name in ("vqvae", "ivqvae") else 0
    with pytest.raises(ValueError, match=f"ended after {2 - used_up} batches"):
        list(train(iter([batch] * 2), steps=3))
    with pytest.raises(ValueError, match="ended after 0 batches"):
        list(train(iter([]), steps=3))


@pytest.mark.parametrize("name", TRAINERS)
@cases(
    (dict(steps=0), "steps must be a whole number, at least 1; got 0"),
    (dict(steps=-2), "got -2"),
    (dict(steps=2.0), "got 2.0"),
    (dict(steps=2, lr=NAN), "lr must be a finite number, at least 0; got nan"),
    (dict(steps=2, lr=INF), "lr"),
    (dict(steps=2, lr=-1.0), "lr"),
    (dict(steps=2, lr="a"), "lr must be"),
)
def test_every_trainer_takes_whole_steps_and_a_rate(name, call, words):
    refused(lambda: next(TRAINERS[name]([(FOOD[name],)] * 4, **call)), words)


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([X], "a batch must be a tuple of tensors"),
        (X, "data must be an iterable of batches"),
        (3, "data must be"),
        (
            ToyFaces(4, size=8),
            "data must be an iterable of batches.*got ToyFaces: minigen.data.batches",
        ),
        (TensorDataset(X), "data must be"),
        ([(X.numpy(),)], "a batch must be"),
        ([{"x": X}], "a batch must be"),
    ],
    ids=range(7),
)
def test_every_trainer_takes_batches(name, data, words):
    refused(lambda: next(TRAINERS[name](data, steps=2)), words)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("vqvae", dict(init_batches=-1), "init_batches must be a whole number"),
        ("ivqvae", dict(discriminator=ivqvae.PatchDiscriminator(8, 1), start=1.5), "from 1 to 2"),
        ("gan", dict(betas=0.5), "betas must be two numbers"),
        ("gan", dict(betas=(0.5, NAN)), "each of betas"),
        ("gan", dict(r1_every=0), "r1_every"),
        ("gan", dict(r1=-1.0), "r1 must be"),
        ("gan", dict(smooth=2), "smooth"),
        ("vae", dict(warm_up="a"), "warm_up is a share"),
        ("vae", dict(beta=NAN), "beta"),
        ("vae", dict(seed=0.5), "seed"),
        ("pixelcnn", dict(label_dropout=2), "label_dropout"),
        ("ddpm", dict(clip=0), "clip must be positive"),
    ],
)
def test_settings_of_single_trainers(name, options, words):
    refused(lambda: next(TRAINERS[name]([(FOOD[name],)] * 2, steps=2, **options)), words)


def test_what_a_gan_is_trained_on():
    g, d = gan.Generator(4, 8, 8), gan.Discriminator(8, 8)
    refused(lambda: next(gan.train_gan(g, d, [(X, Y)])), "not conditional")
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    refused(lambda: next(gan.train_gan(g, other, [(X,)], feature_matching=True)), "`features`")
    assert len(list(gan.train_gan(g, d, [(X,)] * 3))) == 3  # steps=None: to the data's end


def test_counted():
    batch = (X,)
    assert [step for step, _ in common.counted([batch] * 3, None)] == [1, 2, 3]
    left = iter([batch] * 5)
    assert (
        len(list(common.counted(left, 2))) == 2 and len(list(left)) == 3
    )  # no batch more than it needs
    assert list(itertools.islice(common.counted(batches(X, batch_size=1), 9), 2))[1][0] == 2
    refused(
        lambda: list(common.counted([batch], 2)),
        "ended after 1 batches, so training ended after 1 of 2 steps",
    )
    refused(
        lambda: list(common.counted(iter([]), 2, 2)),
        r"0 batches \(2 went before into the codebook\)",
    )


@pytest.mark.parametrize(
    ("name", "betas"),
    [
        ("vae", (0.9, 0.999)),
        ("vqvae", (0.9, 0.999)),
        ("pixelcnn", (0.9, 0.999)),
        ("ivqvae", (0.9, 0.999)),
        ("ddpm", (0.9, 0.999)),
    ],
)
def test_only_the_rate_follows_the_cycle(name, betas, monkeypatch):
    seen, made = [], common.one_cycle

    def watched(optimiser, lr, steps):
        schedule = made(optimiser, lr, steps)
        seen.append(optimiser)
        return schedule

    module = {"vae": vae, "vqvae": vqvae, "pixelcnn": pixelcnn, "ivqvae": ivqvae, "ddpm": ddpm}[
        name
    ]
    monkeypatch.setattr(module, "one_cycle", watched)
    moved = set()
    for _ in TRAINERS[name]([(FOOD[name],)] * 12, steps=12, lr=1e-3):
        (group,) = seen[0].param_groups
        assert group["betas"] == betas
        moved.add(group["lr"])
    assert len(moved) > 5 and max(moved) <= 1e-3


def test_one_cycle_ends_with_its_steps():
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0, momentum=0.7)
    schedule, rates = common.one_cycle(optimiser, 0.5, 20), []
    for _ in range(20):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert max(rates) == pytest.approx(0.5, abs=0.01) and optimiser.param_groups[0]["lr"] < 1e-4
    assert optimiser.param_groups[0]["momentum"] == 0.7
    refused(lambda: common.one_cycle(optimiser, 0.5, 0), "steps")


def test_evaluating_gives_every_part_its_mode_back():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Sequential(nn.Dropout()))
    net.train()
    net[1].eval()  # a frozen norm
    for error in (None, RuntimeError("from the block")):
        try:
            with evaluating(net) as inside:
                assert (
                    inside is net
                    and not any(m.training for m in net.modules())
                    and not torch.is_grad_enabled()
                )
                if error:
                    raise error
        except RuntimeError as e:
            assert e is error
        assert [m.training for m in net.modules()] == [
            True,
            True,
            False,
            True,
            True,
        ] and torch.is_grad_enabled()
    with evaluating(len) as function:
        assert function is len


def test_the_introducing_lesson_shows_what_it_shares():
    """A reader finds each part where its chapter introduces it, under one and the same object."""
    introduced = {
        gan: ("evaluating", "with_label", "stages_of"),
        vqvae: ("start_codebook", "perplexity"),
        ivqvae: ("Attention", "group_norm"),
        unet: ("time_features", "class_rows"),
    }
    for lesson, names in introduced.items():
        for name in names:
            assert getattr(lesson, name) is getattr(common, name), name
