"""Checks of chapter 1's exercises."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen import gan
from minigen.checks.compare import Answer, Wrong, expect, value_of


def check_best_discriminator(answer: Answer) -> None:
    x = torch.linspace(-3, 3, 41)
    p, q = torch.exp(-(x**2)) + 1e-3, torch.exp(-((x - 1) ** 2) / 2) + 1e-3
    mistakes = {
        "That is high where the generator's samples are: D is the probability of *real*.":
            q / (p + q),
        "That is the ratio p / q; a probability needs the sum below.": p / q,
        "That is a logit, log p − log q: pass it through the sigmoid, or write the fraction.":
            (p / q).log(),
        "You returned p, not its share of p + q.": p,
    }
    want = gan.optimal_discriminator(p, q)
    expect(answer(p.clone(), q.clone()), want, "two densities on a grid of 41", mistakes)


def _logits(*shape: int) -> tuple[Tensor, Tensor]:
    return 3 * torch.randn(shape), 3 * torch.randn(shape) - 1


def check_d_loss(answer: Answer) -> None:
    for shape in ((7,), (4, 1), (2, 3, 3)):
        r, f = _logits(*shape)
        want = gan.discriminator_loss(r, f)
        mistakes = {
            "Real and fake are swapped.": gan.discriminator_loss(f, r),
            "You summed over the batch: take the mean.": F.softplus(-r).sum() + F.softplus(f).sum(),
            "The fake half is missing.": F.softplus(-r).mean(),
            "The real half is missing.": F.softplus(f).mean(),
            "You averaged the two halves; Eq. 1 adds them.": want / 2,
            "Both halves push the logits up: the fake half is −log(1 − D), the softplus of +logit.":
                F.softplus(-r).mean() + F.softplus(-f).mean(),
        }
        expect(answer(r.clone(), f.clone()), want, f"logits of shape {shape}", mistakes)
    big = torch.full((4,), 200.0)
    got = answer(-big, big)
    if isinstance(got, torch.Tensor) and not torch.isfinite(got).all():
        raise Wrong("At logits of ±200 the loss is not finite: the sigmoid has rounded to 0 or 1 "
                    "before the log. Compute from the logits: −log sigmoid(x) = softplus(−x).")
    cut_off = ("At logits of ±200 the loss stops at 200: the sigmoid has rounded to 0 or 1, and "
               "binary_cross_entropy cuts the log off at −100. Compute from the logits: "
               "−log sigmoid(x) = softplus(−x).")
    given = "logits of −200 (real) and 200 (fake)"
    expect(got, torch.tensor(400.0), given, {cut_off: torch.tensor(200.0)})


def check_g_loss(answer: Answer) -> None:
    for shape in ((9,), (3, 2)):
        f = _logits(*shape)[1]
        mistakes = {
            "That is the minimax loss log(1 − D), which dies when D is sure.":
                gan.generator_loss(f, "minimax"),
            "That is −log(1 − D): it would teach G to be caught.": F.softplus(f).mean(),
            "That is the hinge loss.": -f.mean(),
            "You summed over the batch: take the mean.": F.softplus(-f).sum(),
        }
        expect(answer(f.clone()), gan.generator_loss(f), f"logits of shape {shape}", mistakes)
    logits = torch.tensor([-200.0, 0.0], requires_grad=True)
    got = answer(logits.clone())
    if not isinstance(got, torch.Tensor):
        raise Wrong("Return the tensor, not a plain number: training needs its gradient.")
    if not torch.isfinite(got).all():
        raise Wrong("At a logit of −200 the loss is not finite: compute from the logit, not from "
                    "the sigmoid.")
    slope = torch.autograd.grad(got, logits)[0]
    expect(slope, torch.tensor([-0.5, -0.25]), "the gradient at the logits −200 and 0")


def check_hinge_d_loss(answer: Answer) -> None:
    for shape in ((8,), (2, 1, 5, 5)):
        r, f = _logits(*shape)
        relu = F.relu
        want = gan.discriminator_loss(r, f, "hinge")
        mistakes = {
            ("The max(0, ·) is missing: without it the loss has no lower bound (the paper's "
             "misprint in Eq. 14)."):
                0.5 * ((1 - r).mean() + (1 + f).mean()),
            "The factor ½ is missing.": relu(1 - r).mean() + relu(1 + f).mean(),
            "The signs inside are swapped: real logits should go above 1, fake ones below −1.":
                0.5 * (relu(1 + r).mean() + relu(1 - f).mean()),
            "Both halves have the same sign inside: the fake one is 1 + logit.":
                0.5 * (relu(1 - r).mean() + relu(1 - f).mean()),
            "The margin of 1 is missing.": 0.5 * (relu(-r).mean() + relu(f).mean()),
        }
        expect(answer(r.clone(), f.clone()), want, f"logits of shape {shape}", mistakes)


def check_discriminator_step(answer: Answer) -> None:
    torch.manual_seed(1)
    g, d = _ToyGenerator(), nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    x, z = torch.randn(6, 2) + 2, torch.randn(6, 3)
    before_g = copy.deepcopy(g.state_dict())
    reference = copy.deepcopy(d)
    want = gan.discriminator_loss(reference(x), reference(g(z).detach()))
    swapped = gan.discriminator_loss(reference(g(z).detach()), reference(x))
    step = torch.optim.SGD(reference.parameters(), lr=0.1)
    want.backward()
    step.step()

    optimiser = torch.optim.SGD(d.parameters(), lr=0.1)
    for p in d.parameters():
        p.grad = torch.ones_like(p)  # left over from an earlier step, as in a real loop
    got = answer(g, d, optimiser, x.clone(), z.clone())
    if any(p.grad is not None for p in g.parameters()):
        raise Wrong("The step left a gradient in the generator: detach its samples, g(z).detach().")
    if any(not torch.equal(v, before_g[k]) for k, v in g.state_dict().items()):
        raise Wrong("The generator's weights changed; this step is the discriminator's.")
    expect(value_of(got), want.detach(), "the loss that is returned",
           {"Real and fake are swapped.": swapped.detach()})
    pairs = list(zip(d.parameters(), reference.parameters(), strict=True))
    moved = [(a - b).abs().max() for a, b in pairs]
    if max(moved) > 1e-5:
        if all(torch.allclose(p, r - 0.1, atol=1e-5) for p, r in pairs):
            raise Wrong("The step added to old gradients: call optimiser.zero_grad() before "
                        "backward().")
        raise Wrong("The discriminator's weights are not where one step of the optimiser takes "
                    "them: zero_grad(), backward(), step(), once each and in this order.")


def check_modes_covered(answer: Answer) -> None:
    centres = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    points = torch.tensor([[0.05, 0.0], [0.0, 0.1], [0.1, 0.1], [0.0, 0.05], [0.02, 0.0],
                           [1.9, 0.0], [1.0, 0.9], [2.0, 1.2]])
    mistakes = {
        "You counted the points that lie on a mode; count the modes that have a point.":
            torch.tensor(6),
        "You counted the mode nearest to every point, however far: use the radius.":
            torch.tensor(3),
        "Every centre is counted.": torch.tensor(4),
        "That is a share: count the modes.": torch.tensor(0.5),
    }
    given = "4 centres, radius 0.3 and points near two of them"
    expect(answer(points, centres, 0.3), 2, given, mistakes)
    expect(answer(points, centres, 0.9), 3, "the same points and radius 0.9")
    expect(answer(points + 9, centres, 0.3), 0, "points far from every centre")
    many = torch.rand(500, 2) * 2
    nearest = torch.cdist(centres, many).min(1).values
    want = int((nearest < 0.05).sum())
    expect(answer(many, centres, 0.05), want, "500 random points and radius 0.05")


class _ToyGenerator(nn.Module):
    latent_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, z: Tensor) -> Tensor:
        return self.layer(z)


def check_with_label(answer: Answer) -> None:
    x, y = torch.randn(3, 2, 4, 5), torch.tensor([2, 0, 1])
    maps = F.one_hot(y, 4).float()[:, :, None, None].expand(-1, -1, 4, 5)
    want = torch.cat([x, maps], 1)
    mistakes = {
        "The label maps come first: put them behind the image's channels.": torch.cat([maps, x], 1),
    }
    got = answer(x.clone(), y.clone(), 4)
    if isinstance(got, torch.Tensor) and got.shape == (3, 3, 4, 5):
        raise Wrong("You added one channel with the label's number: 2 is not twice 1. Use a "
                    "one-hot map, a channel a class.")
    expect(got, want, "images (3, 2, 4, 5) and 4 classes", mistakes)
