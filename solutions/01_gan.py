# %% [markdown]
r"""
# Chapter 1 · GAN objectives

A Gaussian makes no decisions: half-visible glasses. A **generative adversarial network** (GAN) does, without
ever writing down a probability. Two networks play: one draws, the other says whether a picture is real.

In this chapter you will

1. solve the game by hand in one dimension;
2. write the losses from logits, and see why the obvious one does not train;
3. write the training loop, which then trains all that is trained here;
4. watch a generator collapse, count what it lost, and measure what helps;
5. train a DCGAN on faces in a minute or so, walk through its latent space, tell it which hair colour to draw;
6. see what a GAN cannot do.
"""

# %%
import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

import minigen
from minigen import check, gan
from minigen.checks import yours
from minigen.data import ATTRIBUTES, ToyFaces, batches, ring_of_gaussians
from minigen.files import load_weights
from minigen.metrics import (attribute_probabilities, inception_score, obedience,
                             predict_attributes, results, results_table, toy_frechet)
from minigen.plots import COLOURS, curves, heat, image_grid, panels, points, show
from minigen.widgets import explore

scale, device = minigen.setup()
size = {"small": dict(faces=8192, gan_steps=1200, ring_steps=1000),
        "full": dict(faces=20_000, gan_steps=20_000, ring_steps=10_000)}[scale]
faces = ToyFaces(size["faces"], seed=0)
images = faces.images()
print(f"scale: {scale}, {len(faces)} faces of {tuple(images.shape[1:])}")

# %% [markdown]
r"""
Here is where the chapter ends: faces drawn by a GAN that was trained for 17 minutes on one core of a processor.
"""

# %%
generator = load_weights(gan.Generator, "gan")
drawn = gan.sample(generator, 2000, seed=7)
show(image_grid(drawn[:24], columns=12),
     """Twenty-four faces drawn by the longer-trained GAN: whole heads with hair, eyes, shirts
     and mostly plain backgrounds; glasses are on or off. Some have uneven eyes or a broken
     outline.""")

# %% [markdown]
r"""
Are they copies? Below each of eight drawn faces stands the training face nearest to it in pixels.
"""

# %%
distance = torch.cdist(drawn[:8].flatten(1), images.flatten(1))
nearest = images[distance.argmin(1)]
show(image_grid(torch.cat([drawn[:8], nearest]), columns=8, row_titles=["drawn", "nearest"]),
     """Eight drawn faces and, below each, the training face nearest in pixels: alike in
     background and shirt, but not the same face.""")

# %% [markdown]
r"""
## 1. The game

*15 minutes.*

The **generator** $G$ turns noise $z \sim \mathcal N(0, I)$ into a sample $G(z)$. Its samples have some distribution $q$, which
nobody can write down. The **discriminator** $D$ gives the probability that a sample is real. $D$ is paid for
being right and $G$ for fooling it:

$$\min_G \max_D \; V(D, G) = \mathbb E_{x \sim p}\left[\log D(x)\right] + \mathbb E_{x \sim q}\left[\log (1 - D(x))\right]$$

(Goodfellow et al. 2014, Eq. 1). For a fixed $G$ the best $D$ maximises, at each point $x$,
$p \log D + q \log (1 - D)$; set the derivative to zero:

$$\frac{p}{D} - \frac{q}{1 - D} = 0 \quad\Longrightarrow\quad D^*(x) = \frac{p(x)}{p(x) + q(x)} .$$

### Exercise 1.1 · `best_discriminator` · ★ · 2 minutes

Write $D^*$ from the two densities.

<details><summary>Hint</summary>

One line; `p` and `q` are tensors of density values on the same grid.

</details>
"""

# %%
def best_discriminator(p, q):
    """D*(x) for densities p (data) and q (generator) on the same grid. Shapes: any, equal."""
    ### BEGIN SOLUTION
    return p / (p + q)
    ### END SOLUTION

# %% points=1
check(best_discriminator)

# %% [markdown]
r"""
**What the game measures.** With $D^*$ in place, and with the mixture $r = (p + q)/2$,

$$V(D^*, G) = -\log 4 + 2\,\mathrm{JSD}(p, q), \qquad \mathrm{JSD}(p, q) = \tfrac12 \mathrm{KL}(p \Vert r) + \tfrac12 \mathrm{KL}(q \Vert r),$$

the **Jensen–Shannon divergence**, a mean of two **Kullback–Leibler divergences**. $\mathrm{KL}(p \Vert r) = \mathbb E_p[-\log r] - \mathbb E_p[-\log p]$ says how surprising samples of
$p$ are to someone who expects $r$ (the **cross-entropy**), less how surprising they are to someone who knows $p$ (the **entropy**): an *excess*, never
negative, and 0 only for $r = p$. So the best that $G$ can do is $p = q$; then $D^* = \frac12$ everywhere and $V = -\log 4$ (Goodfellow et al. 2014, Theorem 1).

<details><summary>The algebra</summary>

Since $p + q = 2r$,

$$V(D^*, G) = \mathbb E_p \log \frac{p}{2r} + \mathbb E_q \log \frac{q}{2r} = \underbrace{\mathbb E_p \log \frac pr}_{\mathrm{KL}(p \Vert r)} + \underbrace{\mathbb E_q \log \frac qr}_{\mathrm{KL}(q \Vert r)} - 2 \log 2 .$$

And since $p \le 2r$, no KL here exceeds $\log 2$, nor does their mean.

</details>

In one dimension this can be checked. Let $p = \mathcal N(0, 1)$ and $q = \mathcal N(m, 1)$. Below, $V$ is an
integral with your $D^*$, and JSD comes from its own definition, without any discriminator.
"""

# %%
best_discriminator = yours(best_discriminator)
x = torch.linspace(-8, 16, 4801, dtype=torch.float64)
dx = float(x[1] - x[0])


def normal(mean, std=1.0):
    return torch.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))


def kl(p, q):
    return float((p * (p / q).log()).sum() * dx)


def jsd(p, q):
    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


for m in (0, 1, 2, 4, 8):
    p, q = normal(0), normal(m)
    fake = best_discriminator(q, p)                # 1 - D*, without rounding where D* is 1
    value = float((p * best_discriminator(p, q).log() + q * fake.log()).sum() * dx)
    print(f"m = {m}:  V = {value:.4f}   -log 4 + 2 JSD = {-math.log(4) + 2 * jsd(p, q):.4f}")
    assert abs(value + math.log(4) - 2 * jsd(p, q)) < 1e-6
print(f"-log 4 = {-math.log(4):.4f}   log 2 = {math.log(2):.4f}")

# %% [markdown]
r"""
From $m = 4$ to $m = 8$ the value hardly changes. A distance that does not flatten is the **Wasserstein distance** $W$: how
far, on average, must the mass of $q$ be carried to become $p$? In one dimension that is the area between the two cumulative distributions, and for two equal bells, $m$
apart, $W = |m|$.
"""

# %%
def wasserstein(p, q):
    return float(((p - q).cumsum(0) * dx).abs().sum() * dx)


means = torch.linspace(0, 8, 41)
jsds = [jsd(normal(0), normal(float(k))) for k in means]
works = [wasserstein(normal(0), normal(float(k))) for k in means]
print("W at m = 1, 2, 4, 8:", [round(works[5 * k], 3) for k in (1, 2, 4, 8)])


def game(mean_of_q):
    p, q = normal(0), normal(mean_of_q)
    fig, axes = panels(1, 2, height=2.3)
    left, right = axes[0]
    lines = {"p, data": p, "q, generator": q, "D*": best_discriminator(p, q)}
    curves(lines, x=x, xlabel="x", ax=left)
    left.set_xlim(-4, 10)
    lines = {"JSD / log 2": [v / math.log(2) for v in jsds],
             "Wasserstein / 8": [v / 8 for v in works]}
    curves(lines, x=means, xlabel="mean of q", ax=right)
    here = [jsd(p, q) / math.log(2), wasserstein(p, q) / 8]
    right.plot([mean_of_q] * 2, here, "o", color=COLOURS[2])
    return fig

# %% [markdown]
r"""
**Play:** move the generator's mean away from the data. $D^*$ turns into a cliff and the Jensen–Shannon divergence flattens.
"""

# %% tags=["nbval-ignore-output"]
explore(game, game(2.0), """Left: the densities of data and generator, means 0 and 2, and the
        optimal discriminator falling from 1 to 0 between them. Right, against the generator's
        mean: the Jensen–Shannon divergence, as a share of its limit log 2, rises and is flat
        from about 5 on; Wasserstein's distance, as a share of 8, is a straight line.""",
        mean_of_q=(0.0, 8.0, 2.0));

# %% [markdown]
r"""
Where the divergence is **flat**, the generator gets no direction, and two sets of images that do not overlap are in just that position.
$W$ would still say which way to go. Arjovsky et al. (2017)
train with it: it is the largest $\mathbb E_p f - \mathbb E_q f$ over all functions $f$ of slope at most 1, and a network whose slope is held back can play such an $f$.

Does a network find $D^*$? Train a small one on samples of the two Gaussians. A network puts out the **logit**
$\ell = \log \frac{D}{1-D}$, of which $D$ is the sigmoid; for $D^*$ it is $\log p - \log q$, here a straight line.
"""

# %%
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 1))
optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
for _ in range(800):
    loss = gan.discriminator_loss(net(torch.randn(512, 1)), net(torch.randn(512, 1) + 2))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
learned = net(x.float()[:, None]).sigmoid().squeeze(1).detach()
near = (x > -2) & (x < 4)
by_formula = best_discriminator(normal(0), normal(2))
error = float((learned - by_formula)[near].abs().max())
assert error < 0.1
lines = {"D* by formula": by_formula[near], "D trained on samples": learned[near]}
show(curves(lines, x=x[near], xlabel="x", height=2.2),
     """The optimal discriminator by formula and one trained on samples, between x = -2 and
     4: two curves close to each other, with a small gap that is widest on the slope.""")

# %% tags=["nbval-ignore-output"]
print(f"largest gap: {error:.3f}")

# %% [markdown]
r"""
## 2. Losses

*30 minutes.*

Computing $\log \sigma(\ell)$ from $D = \sigma(\ell) = 1/(1 + e^{-\ell})$ in two steps fails: for
$\ell = -200$ the sigmoid rounds to 0 and its log is $-\infty$. As one function of the logit it is harmless,

$$-\log \sigma(\ell) = \log(1 + e^{-\ell}) = \mathrm{softplus}(-\ell), \qquad -\log(1 - \sigma(\ell)) = \mathrm{softplus}(\ell),$$

if computed as `F.softplus(x)` does, by $\max(0, x) + \log(1 + e^{-|x|})$, which is the same and never overflows.

### Exercise 1.2 · `d_loss` · ★★ · 6 minutes

The discriminator maximises $V$, so its loss is $-V$, estimated by means over the batch. Use `F.softplus`.

<details><summary>Hint</summary>

Two terms, one for real and one for fake, each averaged over the batch. Which sign does each logit get inside the softplus?

<details><summary>More</summary>

`F.softplus(-real_logits)` and `F.softplus(fake_logits)`.

</details>
</details>
"""

# %%
def d_loss(real_logits, fake_logits):
    """-E[log D(x)] - E[log(1 - D(G(z)))] from logits. Shapes: any; result a scalar."""
    ### BEGIN SOLUTION
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
    ### END SOLUTION

# %% points=2
check(d_loss)

# %%
d_loss = yours(d_loss)
logit = torch.tensor(-200.0)
in_two_steps = -torch.log(torch.sigmoid(logit))
as_typed = torch.log(1 + torch.exp(-logit))
by_hand = (-logit).clamp(min=0) + torch.log1p(torch.exp(-logit.abs()))
print("sigmoid, then log:", in_two_steps.item(), "  log(1 + e^200):", as_typed.item(),
      "  by max and log1p:", by_hand.item(), "  softplus:", F.softplus(-logit).item())
zero = torch.zeros(4)
at_zero = d_loss(zero, zero)
print(f"D's loss at logits 0: {at_zero:.4f} = 2 log 2 = {2 * math.log(2):.4f}")

# %% [markdown]
r"""
Keep $2 \log 2 \approx 1.386$ in mind: that is $D$'s loss when it cannot tell real from fake at all.

### Why the generator's loss is changed

The game says that $G$ minimises $\mathbb E \log(1 - D(G(z)))$, the **minimax** (or saturating) loss. At the start of training $D$ wins easily, so the logits of fakes are very negative.

**Before you run it:** the figure shows how hard three losses push a fake's logit upwards: the minimax loss $\log(1 - \sigma(\ell))$, its replacement $-\log \sigma(\ell)$, and $-\ell$. On its left $D$ is sure of the fake, on its right $D$ is fooled. Which curve rises to the right, which falls, which is flat?
"""

# %%
logit = torch.linspace(-8, 8, 321, requires_grad=True)
slopes = {}
for kind in gan.LOSSES:
    # each logit on its own: the sum over all of them has the per-logit gradient
    total = sum(gan.generator_loss(one, kind) for one in logit)
    slopes[kind] = -torch.autograd.grad(total, logit)[0]
show(curves(slopes, x=logit.detach(), ylabel="push on the logit", height=2.4,
            xlabel="logit of a generated sample (D is sure it is fake ← → D is fooled)"),
     """How hard each loss pushes a fake's logit upwards, against the logit. The minimax loss
     pushes with 0 on the left, where help is needed, and with 1 on the right; the
     non-saturating loss does the opposite; the hinge loss pushes with 1 everywhere.""")

# %% [markdown]
r"""
<details><summary>Answer</summary>

The slopes are $-\sigma(\ell)$, $-(1 - \sigma(\ell))$ and $-1$. So the minimax push rises from 0 to 1, its replacement's falls from 1 to 0, and the third is flat.

</details>
"""

# %%
at = torch.tensor([-20.0], requires_grad=True)
for kind in gan.LOSSES:
    slope = torch.autograd.grad(gan.generator_loss(at, kind), at)[0].item()
    print(f"{kind:<14} gradient at logit -20: {slope:.1e}")

# %% [markdown]
r"""
$-2 \cdot 10^{-9}$ against $-1$: with the minimax loss, a generator whose samples are obviously fake is told almost nothing. So
Goodfellow's paper already changes it: keep the game for $D$, but let $G$ **maximise $\log D(G(z))$** instead, which has the same fixed
point and pushes hardest when the sample is worst.

The push on $G$ is a product: the push on the logit, times the slope of the logit along the
sample. The new loss repairs the first factor; the second, flat in section 1, is up to $D$.

### Exercise 1.3 · `g_loss` · ★ · 3 minutes

The **non-saturating** loss $-\mathbb E \log D(G(z))$, from logits.

<details><summary>Hint</summary>

It is the real half of `d_loss`, applied to the fakes: $G$ wants its samples to be taken for real ones.

</details>
"""

# %%
def g_loss(fake_logits):
    """-E[log D(G(z))] from logits. Shapes: any; result a scalar."""
    ### BEGIN SOLUTION
    return F.softplus(-fake_logits).mean()
    ### END SOLUTION

# %% points=1
check(g_loss)

# %% [markdown]
r"""
### Holding the discriminator back

The other remedy keeps $D$ from becoming a cliff. The **R1 penalty** (Mescheder et al. 2018; after the gradient penalty of Gulrajani et al. 2017) adds
the squared slope of the logit at the real samples to $D$'s loss,

$$R_1 = \frac{\gamma}{2}\, \mathbb E_{x \sim p} \left\lVert \nabla_x\, \ell(x) \right\rVert^2 ,$$

and **spectral normalisation** (Miyato et al. 2018) divides each weight matrix by its largest singular value, so that no layer stretches anything and the whole logit has slope at most 1. How much push does
each leave, under the *minimax* loss? Train $D$ on the two Gaussians and measure the slope of $G$'s loss along $m$.
"""

# %%
g_loss = yours(g_loss)


def push_along_m(m, r1=0.0, spectral=False, steps=300):
    torch.manual_seed(0)
    bound = nn.utils.parametrizations.spectral_norm if spectral else nn.Identity()
    net = nn.Sequential(bound(nn.Linear(1, 32)), nn.LeakyReLU(0.2), bound(nn.Linear(32, 1)))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(steps):
        real, fake = torch.randn(128, 1), torch.randn(128, 1) + m
        loss = d_loss(net(real), net(fake))
        if r1:
            loss = loss + r1 * gan.r1_penalty(net, real)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    mean = torch.tensor(float(m), requires_grad=True)
    minimax = gan.generator_loss(net(torch.randn(4096, 1) + mean), "minimax")
    return torch.autograd.grad(minimax, mean)[0].item()


# %% tags=["nbval-ignore-output"]
nets = {"nothing": {}, "R1, γ = 1": dict(r1=1.0), "spectral norm": dict(spectral=True)}
distances = (1, 2, 4, 8)
print("push on m at        " + "".join(f"m = {m:<8}" for m in distances))
pushes = {}
for name, options in nets.items():
    pushes[name] = [push_along_m(m, **options) for m in distances]
    print(f"  {name:<18}" + "".join(f"{v:<12.1e}" for v in pushes[name]))
assert min(pushes["R1, γ = 1"][-1], pushes["spectral norm"][-1]) > 5 * pushes["nothing"][-1]

# %% [markdown]
r"""
Held back by either means, $D$ leaves about twenty to thirty times as much at $m = 8$. (Where the two are near, R1 costs some of it.)

### Hinge

A third loss drops the probabilities. $D$ only has to bring real logits above $1$ and fake ones below $-1$; beyond the
margin nothing costs and nothing has a gradient:

$$L_D = \tfrac12\left(\mathbb E\,[\max(0, 1 - \ell_{\text{real}})] + \mathbb E\,[\max(0, 1 + \ell_{\text{fake}})]\right), \qquad L_G = -\mathbb E\,[\ell_{\text{fake}}].$$

This is the loss of the paper's autoencoder in chapter 4 (Eqs. 13 and 14). The paper prints Eq. 14 without the $\max$: what would then stop $D$ from sending the loss to $-\infty$?

### Exercise 1.4 · `hinge_d_loss` · ★ · 4 minutes

Write the discriminator's hinge loss from its logits.

<details><summary>Hint</summary>

`F.relu` is $\max(0, \cdot)$. Do not forget the ½.

</details>
"""

# %%
def hinge_d_loss(real_logits, fake_logits):
    """1/2 (E[max(0, 1 - real)] + E[max(0, 1 + fake)]). Shapes: any; result a scalar."""
    ### BEGIN SOLUTION
    return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())
    ### END SOLUTION

# %% points=1
check(hinge_d_loss)

# %%
hinge_d_loss = yours(hinge_d_loss)
undecided = hinge_d_loss(zero, zero)
beyond = hinge_d_loss(zero + 3, zero - 3)
print("hinge loss at logits 0:", undecided.item())
print("both sides beyond the margin:", beyond.item())

# %% [markdown]
r"""
### One step of training

The game is played in turns. The discriminator's: draw a batch of fakes, compute `d_loss`, step. The gradient must not run on into the generator: `fake.detach()` cuts it.

### Exercise 1.5 · `discriminator_step` · ★★ · 10 minutes

One step of $D$ on a real batch `x` and noise `z`, with your `d_loss`. Where a `penalty` is given, `penalty(discriminator, x)` is added to what is minimised (that is how R1 will come in). Return `d_loss` alone,
computed before the step, as a number. The generator must stay as it was found: its weights, its gradients, its mode.

<details><summary>Hint</summary>

The loss; the sum of the loss and the penalty, if there is one; forget the old gradients; backward; step; return.

<details><summary>More</summary>

The loss takes `discriminator(x)` and `discriminator(generator(z).detach())`. `penalty` is `None` or a function. Then `optimiser.zero_grad()`, `total.backward()`,
`optimiser.step()`, and `loss.item()` is the number.

</details>
</details>
"""

# %%
def discriminator_step(generator, discriminator, optimiser, x, z, penalty=None):
    """One step of D with d_loss, and the penalty if there is one; returns d_loss, a number."""
    ### BEGIN SOLUTION
    loss = d_loss(discriminator(x), discriminator(generator(z).detach()))
    total = loss if penalty is None else loss + penalty(discriminator, x)
    optimiser.zero_grad()
    total.backward()
    optimiser.step()
    return loss.item()
    ### END SOLUTION

# %% points=3
check(discriminator_step)

# %% [markdown]
r"""
Then the generator's turn: fakes again, **without** `detach`, and step only $G$. The gradient runs through $D$ into $G$:
"""

# %%
discriminator_step = yours(discriminator_step)
g, d = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
weights = [*g.parameters(), *d.parameters()]
before = [w.clone() for w in weights]
optimiser = torch.optim.Adam(g.parameters(), lr=1e-2)

loss = g_loss(d(g(torch.randn(64, 2))))
optimiser.zero_grad()
loss.backward()
optimiser.step()

moved = [not torch.equal(w, old) for w, old in zip(weights, before, strict=True)]
print("moved:         G", moved[:2], " D", moved[2:])
print("has gradients: G", [w.grad is not None for w in g.parameters()],
      " D", [w.grad is not None for w in d.parameters()])

# %% [markdown]
r"""
$D$ did not move, but the gradient that ran through it was *left* in its weights. If $D$'s next turn did not begin with `zero_grad()`, it would go one step in the
direction that fools it.

## 3. The loop, written by you

*30 minutes.*

Both turns, once for every batch of real data, are the training of a GAN (Goodfellow et al. 2014, Algorithm 1). For each batch $x$ of `data`:

1. draw noise $z$, as many rows as $x$ has, `generator.latent_dim` wide;
2. *$D$'s turn:* one `discriminator_step` on $x$ and $z$;
3. *$G$'s turn:* its loss on $D(G(z))$, not detached; clear $G$'s gradients, go backward, step with `opt_g`;
4. hand both losses to whoever runs the loop, and wait to be asked for the next batch: that is what `yield` does.

So progress bars, pictures and the end belong to the cell that uses it,
`for losses in gan_loop(...)`. (Python calls such a function a generator, too.)

### Exercise 1.6 · `gan_loop` · ★★★ · 20 minutes

Write the loop. `data` gives tuples `(x,)` and may never end. Draw the noise with `generator=rng`, so that a run can be repeated, and put `.to(x.device)` behind it, so that it can run on a GPU. `penalty` goes to
the discriminator's step; `loss` is the generator's, a function of the fakes' logits. Yield two numbers, $D$'s loss and $G$'s.

<details><summary>Hint</summary>

Eight lines: `for (x,) in data:`, the noise, one line for $D$'s turn, four for $G$'s, and `yield for_d, for_g.item()`.

<details><summary>More</summary>

The noise is `torch.randn(len(x), generator.latent_dim, generator=rng).to(x.device)`. $D$'s turn: `for_d = discriminator_step(generator, discriminator, opt_d, x, z, penalty)`. $G$'s loss:
`for_g = loss(discriminator(generator(z)))`; the three lines after it are those of the cell above.

</details>
</details>
"""

# %%
def gan_loop(generator, discriminator, opt_g, opt_d, data, rng, penalty=None, loss=g_loss):
    """Train both networks in turns, a step each a batch; yields D's loss and G's loss."""
    ### BEGIN SOLUTION
    for (x,) in data:
        z = torch.randn(len(x), generator.latent_dim, generator=rng).to(x.device)
        for_d = discriminator_step(generator, discriminator, opt_d, x, z, penalty)
        for_g = loss(discriminator(generator(z)))
        opt_g.zero_grad()
        for_g.backward()
        opt_g.step()
        yield for_d, for_g.item()
    ### END SOLUTION

# %% points=5
check(gan_loop)

# %% [markdown]
r"""
Everything from here on is trained by this loop. (`gan.train_gan` of the package is the same with labels, other losses and a falling learning rate built in; it trained the faces at the top.)

The first task is small enough to see whole: eight Gaussians on a ring, eight **modes**, and a small generator from two noise numbers to a point in the plane.
"""

# %%
gan_loop = yours(gan_loop)
ring = ring_of_gaussians(20_000, seed=0)
angles = torch.arange(8) * math.pi / 4
centres = 2 * torch.stack([angles.cos(), angles.sin()], 1)


class RingGenerator(nn.Sequential):
    latent_dim = 2

    def __init__(self):
        super().__init__(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                         nn.Linear(64, 2))


class RingDiscriminator(nn.Sequential):
    def __init__(self, minibatch=False, hidden=128):
        beside = gan.MinibatchDiscrimination(hidden, kernels=4) if minibatch else nn.Identity()
        super().__init__(nn.Linear(2, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden),
                         nn.LeakyReLU(0.2), beside, nn.Linear(hidden + 4 * minibatch, 1))

# %%
def play(steps, lr_g=1e-3, lr_d=1e-3, seed=0, moments=6, minibatch=False, **options):
    """Train on the ring; returns the generator's points at evenly spaced moments."""
    torch.manual_seed(seed)
    g, d = RingGenerator(), RingDiscriminator(minibatch)
    opt_g = torch.optim.Adam(g.parameters(), lr=lr_g, betas=(0.5, 0.999))
    opt_d = torch.optim.Adam(d.parameters(), lr=lr_d, betas=(0.5, 0.999))
    data, rng = batches(ring, batch_size=64, seed=seed), torch.Generator().manual_seed(seed)
    loop = itertools.islice(gan_loop(g, d, opt_g, opt_d, data, rng, **options), steps)
    seen = []
    for step, _ in enumerate(loop, 1):
        if step % (steps // moments) == 0:
            seen.append(gan.sample(g, 1000, seed=1))
    return seen


n = size["ring_steps"]
seeds = range(3)
runs = {"balanced": [play(n, seed=seed, moments=5) for seed in seeds]}

# %% tags=["nbval-ignore-output"]
clouds = [{"data": ring[:1000], "G": p} for p in runs["balanced"][0]]
show(points(clouds, columns=5, limit=3.2, titles=[f"step {n * k // 5:,}" for k in range(1, 6)]),
     """The ring of eight data clusters and the generator's points at five moments of its
     training: first spread loosely around the ring, then drawn together along it, densest at
     the clusters, with strays between them.""")

# %% [markdown]
r"""
### Exercise 1.7 · `modes_covered` · ★★ · 6 minutes

How good is that? Count the modes. One is covered if at least one point lies nearer to its centre than `radius`. (The tested
`count_modes` of `minigen.data` asks for one per cent of the points.)

<details><summary>Hint</summary>

`torch.cdist(centres, points)` has a row a centre. Take the smallest of each row.

</details>
"""

# %%
def modes_covered(points, centres, radius):
    """Number of centres with a point nearer than radius.

    Shapes: points (N, 2), centres (M, 2) -> int.
    """
    ### BEGIN SOLUTION
    nearest = torch.cdist(centres, points).min(dim=1).values
    return int((nearest < radius).sum())
    ### END SOLUTION

# %% points=2
check(modes_covered)

# %% [markdown]
r"""
## 4. Mode collapse

*15 minutes.*

Both networks had the learning rate 0.001. Now give $G$ ten times as much and $D$ a third.

**Before you run it:** will the faster generator cover the eight modes sooner, later, or not at all? And with twice as many steps?
"""

# %% tags=["nbval-ignore-output"]
modes_covered = yours(modes_covered)
runs["G too fast"] = [play(2 * n, 1e-2, 3e-4, seed, moments=4)
                      for seed in tqdm(seeds, desc="G too fast")]
clouds = [{"data": ring[:1000], "G": p} for by_seed in runs["G too fast"] for p in by_seed]
titles = [f"seed {s}, step {n * k // 2:,}" for s in seeds for k in range(1, 5)]
show(points(clouds, columns=4, limit=3.2, titles=titles),
     """Three rows, one a seed, of four moments of the too fast generator, up to twice as
     many steps as before. All its points lie together, on a bent line, in a small swarm or
     in a single spot, and elsewhere at each moment. They touch two clusters at most and
     never go round the ring.""")

# %% [markdown]
r"""
<details><summary>Answer</summary>

Not at all, and more steps do not help. In each of our three seeds all 1,000 points lie together, on a bent line, in a small swarm or in a single spot, and somewhere else each time one looks. (After
10,000 steps of another run all its points lay on one cluster, within 0.01 of each other.)

</details>

This is **mode collapse**. (Few modes early in a training may only need more time; a long run tells the two apart.)
Why? $D$ judges **one point at a time**. Against a $D$ that stands still, $G$'s best reply is the single point that $D$ takes for real most readily, and a $G$ much faster than $D$ comes near to
playing just that. $D$ learns that this place is full of fakes, and the swarm moves on: $\max_D \min_G$ in place of $\min_G \max_D$.

What helps? Against collapse Salimans et al. (2016) offer **minibatch discrimination**: $D$ also sees, for each sample, how near the others of its batch are,
$\sum_{j \ne i} e^{-\lVert M_i - M_j \rVert_1}$ with learned features $M$, and a batch of equals is suspicious. (Two more of their techniques make training more stable: **feature matching**, where $G$ matches the *mean* of $D$'s features over the
batch, and **one-sided label smoothing**, where real images are called real with probability 0.9 only, so that $D$'s logit has a ceiling.) Beside it we try section 2's R1.
"""

# %% tags=["nbval-ignore-output"]
remedies = {"too fast, R1": dict(penalty=gan.r1_penalty),
            "too fast, minibatch discr.": dict(minibatch=True)}
for name, options in remedies.items():
    runs[name] = [play(n, 1e-2, 3e-4, seed, moments=1, **options)
                  for seed in tqdm(seeds, desc=name)]

rows = {"balanced": -1, "G too fast": 1, "G too fast, twice as long": -1}
rows |= dict.fromkeys(remedies, -1)
print("three seeds:                      modes of 8    on a mode        spread, of the ring's")
for name, moment in rows.items():
    ends = [run[moment] for run in runs[name.split(", twice")[0]]]
    modes = [modes_covered(p, centres, 0.2) for p in ends]
    on = [float((torch.cdist(p, centres).min(1).values < 0.2).float().mean()) for p in ends]
    spread = [float(p.std(0).mean() / ring.std(0).mean()) for p in ends]
    print(f"{name:<32} ", modes, "   ", "  ".join(f"{v:4.0%}" for v in on), "  ",
          "  ".join(f"{v:4.0%}" for v in spread))

# %% tags=["nbval-ignore-output"]
clouds = [{"data": ring[:1000], "G": run[-1]} for name in remedies for run in runs[name]]
show(points(clouds, columns=6, limit=3.2,
            titles=[f"{short}, seed {s}" for short in ("R1", "minibatch") for s in seeds]),
     """The end of six trainings at the rates that collapsed. With minibatch discrimination the
     points lie around the whole ring for all three seeds; with R1 they lie in a small swarm
     or along a line, as without it.""")

# %% [markdown]
r"""
In our three seeds none recovered without help. Minibatch discrimination covered all eight modes each time; it costs time, since each sample is compared with all others of its batch. R1 did not help: a smooth $D$ still
judges one point at a time.

### A score and its limits

And in *images*, where nobody can count modes? The **Inception Score** (Salimans et al. 2016) asks a classifier for
$p(y \mid x)$ of each sample. Each should be certain, and all together should be varied:

$$\mathrm{IS} = \exp\, \mathbb E_x\, \mathrm{KL}\left(p(y \mid x)\,\Vert\, p(y)\right) \in [1, K].$$

Our classifier is chapter 0's and $y$ the hair colour, so $K = 5$. Now try to cheat:
"""

# %%
one_per_colour = images[[int((faces["hair"] == k).nonzero()[0]) for k in range(5)]]
sets = {"2000 real faces": images[:2000],
        "one face, 2000 times": images[:1].repeat(2000, 1, 1, 1),
        "5 faces, 400 times each": one_per_colour.repeat(400, 1, 1, 1)}
for name, x_set in sets.items():
    score = inception_score(attribute_probabilities(x_set, "hair"))
    print(f"{name:<24} score {score:.1f}   toy Fréchet {toy_frechet(x_set):,.0f}")

# %% [markdown]
r"""
Five pictures, one for each colour, score exactly like two thousand real faces. The score sees collapse *across* classes and is blind to collapse
*within* one, because it never compares with real images. (The original uses the 1,000 ImageNet
classes of the Inception network; ours is a toy version.) The Fréchet distance is not fooled by this trick; its own blind spot is mere
copying of the training faces, which is why we also looked at nearest neighbours.

## 5. DCGAN on faces

*20 minutes.*

Radford et al. (2015) found a pair of convolutional networks that trains: strided convolutions in $D$ and transposed ones in $G$ instead of
pooling; fully connected layers only at the ends, $G$'s first, which turns $z$ into a 4×4 map, and $D$'s last, which gives the logit; batch normalisation in both (but not at $G$'s output nor
$D$'s input), ReLU in $G$, leaky ReLU in $D$, tanh at the end, Adam with $\beta_1 = 0.5$. A **transposed convolution** is a convolution read backwards: each number of the small map puts a stamp of 4×4 learned
weights onto the large one, two pixels further for the next, and where stamps overlap they add up. So it doubles the size:
"""

# %%
g, d = gan.Generator(), gan.Discriminator()
h = torch.randn(2, g.latent_dim)
print("z          ", tuple(h.shape))
for layer in [*g.first, *g.rest]:
    h = layer(h)
    if not isinstance(layer, nn.ReLU | nn.BatchNorm2d):
        print(f"{type(layer).__name__:<16}", tuple(h.shape))
print("D's logit       ", tuple(d(h).shape))
count_g, count_d = (sum(p.numel() for p in net.parameters()) for net in (g, d))
print("parameters: G", count_g, " D", count_d)

# %% [markdown]
r"""
We keep DCGAN's layers and change its training. Batch normalisation mixes the images of a batch, and R1 needs each logit to depend on its own image only, so $D$ gives it
up; $\beta_1 = 0$ and a larger learning rate go with R1. To save time R1 looks at four images of each batch. (The longer-trained model's looked at all of them in every eighth step, eight times as strong: the *lazy
regularisation* of Karras et al. 2020.) Against $G$'s jumping about, the learning rates fall to zero over the second half, and what is kept is a running **average of
$G$'s weights**, here over about the last hundred steps.

Now train, with your loop. In a minute or so it sees each of its 8,192 faces about five times; the longer-trained model saw 20,000 faces about thirty times each.

**Before you run it:** which of the two losses will fall?
"""

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
g, d = gan.Generator().to(device), gan.Discriminator(batch_norm=False).to(device)
opt_g = torch.optim.Adam(g.parameters(), lr=1.5e-3, betas=(0.0, 0.99))
opt_d = torch.optim.Adam(d.parameters(), lr=1.5e-3, betas=(0.0, 0.99))
steps = size["gan_steps"]
falling = [torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: min(1, 2 * (1 - k / steps)))
           for optimiser in (opt_g, opt_d)]
moving = torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)
average = torch.optim.swa_utils.AveragedModel(g, multi_avg_fn=moving, use_buffers=True)
data = ((x.to(device),) for (x,) in batches(images, batch_size=32, seed=0))
training = gan_loop(g, d, opt_g, opt_d, data, torch.Generator().manual_seed(0),
                    penalty=lambda d, x: gan.r1_penalty(d, x[:4]))

history, film, scores = [], [], {}
wanted = [steps * k // 6 for k in range(1, 7)]
for step, losses in enumerate(tqdm(itertools.islice(training, steps), total=steps), 1):
    average.update_parameters(g)
    for schedule in falling:
        schedule.step()
    history.append(losses)
    if step in wanted:
        film.append(gan.sample(average.module, 8, seed=3))
    if step in wanted[2::2] or step == steps:
        scores[step] = toy_frechet(gan.sample(average.module, 2000))

# %% tags=["nbval-ignore-output"]
show(image_grid(torch.cat(film), columns=8, row_titles=[f"step {k:,}" for k in wanted]),
     """Six rows of the same eight noise vectors at growing training steps, drawn by the running
     average: faint grey heads at step 200, then heads with hair, glasses and shirts, whose
     colours and outlines grow clearer; the last rows differ little.""")

# %% tags=["nbval-ignore-output"]
losses = dict(zip(("D's loss", "G's loss"), zip(*history, strict=True), strict=True))
fig = curves(losses, smooth=20, ylabel="loss", height=2.4)
fig.axes[0].axhline(2 * math.log(2), color="grey", lw=0.8)
show(fig, """Both losses by step. After some wild first steps D's lies near 1.1, below the grey
     line 2 log 2, the value of knowing nothing, and sinks slowly to 0.8; G's stays near
     1.3.""")

# %% [markdown]
r"""
<details><summary>Answer</summary>

Hardly either: $D$'s sinks slowly from about 1.1 to 0.8, $G$'s stays near 1.3. Meanwhile blotches have become faces.

</details>

**How to read these curves.** Elsewhere a falling loss means progress; here each network's loss is the other's
success. $D$'s loss near 0 means that $D$ has won and $G$ learns slowly; at $2 \log 2$ with poor pictures, that $D$ has given
up. Whether the *samples* improve one must see, or measure:
"""

# %% tags=["nbval-ignore-output"]
recorded = {row["model"]: row["frechet"] for row in results()}
longer = toy_frechet(drawn)
print("toy Fréchet distance of your GAN (lower is better)")
for step, score in scores.items():
    print(f"  after {step:>6,} steps    {score:6.0f}")
print(f"  the last G itself    {toy_frechet(gan.sample(g, 2000)):6.0f}   (not averaged)")
print(f"chapter 0's Gaussian   {recorded['Gaussian']:6.0f}")
print(f"20,000 steps           {longer:6.0f}   (longer-trained, 17 minutes)")
assert scores[steps] < recorded["Gaussian"], "your GAN should beat the Gaussian"

# %% [markdown]
r"""
A minute or so of training, 6 % of the longer one's steps, beats the Gaussian (three seeds: 164, 141 and 169), and 17 minutes bring the distance to 76. The losses say so little about it because each measures $G$ against
the $D$ of the moment, and $D$ has got better too.
"""

# %%
print(results_table(through_chapter=1, GAN=longer))
assert longer < recorded["Gaussian"] / 3, "the GAN should be at most a third of the Gaussian"

# %% tags=["nbval-ignore-output"]
yours_now = gan.sample(average.module, 20, seed=5)
rows = torch.cat([images[:20], yours_now, drawn[100:120]])
show(image_grid(rows, columns=10, row_titles=["real", "", "your GAN", "", "longer", ""]),
     """Twenty real faces above twenty of your GAN's and twenty of the longer-trained one. Yours
     are whole heads, each with a hair colour and a shirt, but rough: smeared eyes, ragged
     outlines, blotchy backgrounds, and glasses or something like them on nearly all. The
     longer-trained ones have clear outlines, and glasses or none.""")

# %% [markdown]
r"""
### A walk through the latent space

If $G$ has learned faces and not a list of pictures, points *between* two noise vectors are faces as well. (The middle of a straight line is
shorter than its ends, about 5.7 instead of 8 in 64 dimensions, which $G$ has hardly seen; chapter 6 walks on the sphere.)
"""

# %%
def two_noises(seed):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(2, generator.latent_dim, generator=random)


@torch.no_grad()
def walk(z0, z1, steps=10):
    t = torch.linspace(0, 1, steps)[:, None]
    return generator((1 - t) * z0 + t * z1)


pairs = [two_noises(seed) for seed in (12, 31, 47)]
show(image_grid(torch.cat([walk(*pair) for pair in pairs]), columns=10),
     """Three walks of ten faces each, from one noise vector to another. Skin and features
     change gradually, backgrounds and shirts switch within a step or two, and most faces on
     the way are whole.""")

# %% [markdown]
r"""
**Play:** choose two noise vectors by their seed and walk between them.
"""

# %% tags=["nbval-ignore-output"]
@torch.no_grad()
def between(seed, position):
    start, end = two_noises(seed)
    z = (1 - position) * start + position * end
    return image_grid(generator(z[None]), width=2.4)


explore(between, image_grid(walk(*pairs[1]), columns=10),
        "A walk of ten faces between two noise vectors.",
        seed=(0, 99, 31), position=(0.0, 1.0, 0.3));

# %% [markdown]
r"""
## 6. Telling the generator what to draw

*10 minutes.*

A **conditional GAN** (Mirza and Osindero 2014) gives both networks the label: $G(z, y)$ draws a face with hair colour $y$, and $D(x, y)$ judges
whether the face is real *and* fits its label. The label is a **one-hot** vector: for $G$ appended to $z$, for $D$ spread into constant maps beside the image.

### Exercise 1.8 · `with_label` · ★★ · 8 minutes

Append one channel for each of `num_classes` classes to a batch of images: ones in the channel of the label, zeros in the others.

<details><summary>Hint</summary>

`F.one_hot(y, num_classes)` has shape `(B, K)`. Give it two more axes, `[:, :, None, None]`, expand them to the image's height and width, and
concatenate along the channels, `dim=1`. One-hot vectors are integers; `.to(x.dtype)`.

</details>
"""

# %%
def with_label(x, y, num_classes):
    """Shapes: x (B, C, H, W), y (B,) integers -> (B, C + num_classes, H, W)."""
    ### BEGIN SOLUTION
    maps = F.one_hot(y, num_classes).to(x.dtype)[:, :, None, None]
    return torch.cat([x, maps.expand(-1, -1, *x.shape[2:])], dim=1)
    ### END SOLUTION

# %% points=2
check(with_label)

# %%
with_label = yours(with_label)
colours = ATTRIBUTES["hair"]
seen_by_d = with_label(images[:3], faces["hair"][:3], 5)
print("what D sees of three faces:", tuple(seen_by_d.shape))
for k in range(3):
    print(f"  {colours[int(faces['hair'][k])]:<9} means of its five maps:",
          seen_by_d[k, 3:].mean((1, 2)).tolist())

# %%
conditional = load_weights(gan.Generator, "cgan")
rows = [gan.sample(conditional, 10, y=torch.full((10,), k), seed=2) for k in range(5)]
same_noise = torch.cat(rows)
show(image_grid(same_noise, columns=10, row_titles=list(colours)),
     """Five rows of ten faces. Each column is one noise vector, each row one hair colour asked
     for: black, chestnut, blond, red, grey. The hair follows the row, the rest of the face
     mostly the column.""")

# %% [markdown]
r"""
Does it obey? The classifier reads hair colour on real faces with practically no mistake, so it can count. By chance it would read the colour asked for in one fifth.
"""

# %%
asked = torch.arange(5).repeat_interleave(200)
samples = gan.sample(conditional, 1000, y=asked, seed=5)
for k, name in enumerate(colours):
    of_k = asked == k
    print(f"{name:<9} obeyed in {obedience(samples[of_k], 'hair', asked[of_k]):.0%}")
share = obedience(samples, "hair", asked)
assert share > 0.8, "the conditional GAN should obey in most samples"

# %%
read = predict_attributes(samples)["hair"]
counts = torch.zeros(5, 5).index_put_((asked, read), torch.ones(1000), accumulate=True)
confusion = counts / 200
fig, axes = panels(1, 1, height=2.8, width=4.0)
ax = axes[0, 0]
heat(ax, confusion, low=0, high=1, colours="Blues")
ax.set_xticks(range(5), colours, fontsize=7, rotation=30)
ax.set_yticks(range(5), colours, fontsize=7)
ax.set_xlabel("read by the classifier", fontsize=9)
ax.set_ylabel("asked for", fontsize=9)
for i, j in itertools.product(range(5), range(5)):
    ax.text(j, i, f"{confusion[i, j]:.0%}", ha="center", va="center", fontsize=7,
            color="white" if confusion[i, j] > 0.5 else "black")
show(fig, """A table of hair colours asked for against those read by the classifier: every cell
     on the diagonal says 100 %, every other 0 %.""")

# %% [markdown]
r"""
## 7. What goes wrong

*10 minutes.*

**Break it: too strong a discriminator.** Let $D$ train alone for 800 steps, then play 1,000 with the minimax loss, or with the other. $G$ steps by plain gradient descent (Adam divides a gradient by its
own usual size, which hides how small it is).

**Before you run it:** what will the points of the two generators do?
"""

# %% tags=["nbval-ignore-output"]
def after_a_head_start(loss, steps):
    """G's points on the ring when D has trained alone for 800 steps, then both for `steps`."""
    torch.manual_seed(0)
    g, d = RingGenerator(), RingDiscriminator()
    opt_g = torch.optim.SGD(g.parameters(), lr=0.01)
    opt_d = torch.optim.Adam(d.parameters(), lr=1e-3, betas=(0.5, 0.999))
    data, rng = batches(ring), torch.Generator().manual_seed(0)
    for (x,) in itertools.islice(data, 800):
        discriminator_step(g, d, opt_d, x, torch.randn(len(x), 2))
    for _ in itertools.islice(gan_loop(g, d, opt_g, opt_d, data, rng, loss=loss), steps):
        pass
    return gan.sample(g, 1000)


def minimax_loss(fake_logits):
    return -F.softplus(fake_logits).mean()


ends = {"the start": after_a_head_start(g_loss, 0),
        "minimax": after_a_head_start(minimax_loss, 1000),
        "non-saturating": after_a_head_start(g_loss, 1000)}
for name, p in ends.items():
    way = float((p - ends["the start"]).norm(dim=1).mean())
    print(f"{name:<15} mean way of a point {way:.2f},  modes covered",
          modes_covered(p, centres, 0.2))
clouds = [{"data": ring[:1000], "G": p} for p in ends.values()]
show(points(clouds, columns=3, limit=3.2, titles=list(ends)),
     """Three panels over the ring of data: the generator's points at the start, a small swarm
     in the middle; after 1,000 steps with the minimax loss, the same swarm in the same place;
     and with the non-saturating loss, where the points have come out and surround the
     whole ring.""")

# %% [markdown]
r"""
<details><summary>Answer</summary>

With the minimax loss next to nothing: $D$ is sure of every fake, $\sigma(\ell)$ is nearly 0, and so is the push. It is no collapse, only silence. With the non-saturating loss they leave at once. (Section 3
had no head start and used Adam, which makes up for small gradients.)

</details>

**No likelihood.** A GAN cannot say how probable an image is, so no held-out score tells that it has memorised or forgotten
something; we needed a classifier to measure it at all. What does it forget? Compare how often each attribute appears:
"""

# %%
seen = predict_attributes(drawn)
for name in ("glasses", "smile", "pose", "hair_length", "background"):
    values = ATTRIBUTES[name]
    of_data = torch.bincount(faces[name], minlength=len(values)) / len(faces)
    of_gan = torch.bincount(seen[name], minlength=len(values)) / len(drawn)
    row = [f"{v} {a:.0%}→{b:.0%}" for v, a, b in zip(values, of_data, of_gan, strict=True)]
    print(f"{name:<11}", " ".join(row))

# %% [markdown]
r"""
No value is missing, but the shares are off by more than chance, which is about one point with 2,000 samples: glasses and smiles by three, long hair by four, and of the slate backgrounds nearly a third is gone. $D$ looks at a batch of 32 and would have to count to see it. A missing *combination* would not show here, nor
an attribute for which nobody trained a classifier.

**No encoder.** Given a photograph, which $z$ draws it? A GAN has no answer but search along the gradient of the error. What do 150 steps find?
"""

# %%
targets = images[40:44]
z = torch.zeros(4, generator.latent_dim, requires_grad=True)
search = torch.optim.Adam([z], lr=0.1)
for _ in range(150):
    error = (generator(z) - targets).abs().mean()
    search.zero_grad()
    error.backward()
    search.step()
found = generator(z).detach()
rows = torch.cat([targets, found])
show(image_grid(rows, columns=4, row_titles=["wanted", "found"], width=4),
     """Four real faces above the nearest ones that a search in the GAN's latent space finds:
     hair and background fit roughly, both white shirts have become purple, and eyes and
     mouths are another person's.""")

# %% [markdown]
r"""
Chapter 2 turns this around. A **variational autoencoder** has an encoder from the start, and its loss is a bound on the likelihood. It
draws faces that are blurred or undecided, and we will find out why.

## Summary

- The optimal discriminator is $p/(p+q)$; with it the game measures the Jensen–Shannon divergence, $V = -\log 4 + 2\,\mathrm{JSD}$, which is flat where $p$ and $q$ do not overlap. Wasserstein's distance is not.
- The minimax loss gives the generator almost no gradient when it needs one; the non-saturating and the hinge loss do. A penalty on $D$'s slope, or spectral normalisation, keeps $D$ from becoming a cliff.
- The loop is two turns: $D$ on detached fakes, $G$ through $D$; each clears its own gradients first.
- A generator much faster than its judge of single points collapses, and stays collapsed; minibatch discrimination helps. Count modes over several seeds and a long run.
- GAN losses do not tell progress. The Fréchet distance, and looking, do. GANs are sharp and decisive, without likelihood or encoder.
"""

# %% tags=["nbval-ignore-output"]
minigen.progress()

# %% [markdown]
r"""
### Words

| English | 中文 | meaning here |
|---|---|---|
| generator, discriminator | 生成器, 判别器 | the network that draws, the network that judges |
| logit | 对数几率 | what the network puts out before the sigmoid |
| minimax game | 极小极大博弈 | one side minimises what the other maximises |
| non-saturating loss | 非饱和损失 | −log D(G(z)), which pushes hardest at bad samples |
| hinge loss | 铰链损失 | nothing to pay beyond a margin |
| mode collapse | 模式坍塌 | the generator covers only part of the data, however long it trains |
| Wasserstein distance | Wasserstein 距离 | how far mass must be carried from one distribution to the other |
| spectral normalisation | 谱归一化 | dividing each weight matrix by its largest singular value |
| latent space | 潜在空间 | where z lives |
| conditional | 条件 | drawn for a given label |

### References

- Goodfellow et al. 2014, *Generative Adversarial Nets*, [arXiv:1406.2661](https://arxiv.org/abs/1406.2661): Eq. 1, Proposition 1, Theorem 1, Algorithm 1.
- Radford, Metz, Chintala 2015, *Unsupervised Representation Learning with Deep Convolutional GANs*, [arXiv:1511.06434](https://arxiv.org/abs/1511.06434).
- Salimans et al. 2016, *Improved Techniques for Training GANs*, [arXiv:1606.03498](https://arxiv.org/abs/1606.03498): §3.1 feature matching, §3.2 minibatch discrimination, §3.4 label smoothing, §4 Inception Score.
- Mescheder, Geiger, Nowozin 2018, *Which Training Methods for GANs do actually Converge?*, [arXiv:1801.04406](https://arxiv.org/abs/1801.04406): the R1 penalty, Eq. 9.
- Arjovsky, Chintala, Bottou 2017, *Wasserstein GAN*, [arXiv:1701.07875](https://arxiv.org/abs/1701.07875).
- Gulrajani et al. 2017, *Improved Training of Wasserstein GANs*, [arXiv:1704.00028](https://arxiv.org/abs/1704.00028): the gradient penalty.
- Miyato et al. 2018, *Spectral Normalization for Generative Adversarial Networks*, [arXiv:1802.05957](https://arxiv.org/abs/1802.05957).
- Karras et al. 2020, *Analyzing and Improving the Image Quality of StyleGAN*, [arXiv:1912.04958](https://arxiv.org/abs/1912.04958): lazy regularisation.
- Mirza, Osindero 2014, *Conditional Generative Adversarial Nets*, [arXiv:1411.1784](https://arxiv.org/abs/1411.1784).
- Lim, Ye 2017, *Geometric GAN*, [arXiv:1705.02894](https://arxiv.org/abs/1705.02894): the hinge loss.
- Liu, Chen, Gao 2026, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): Eqs. 13 and 14, the hinge loss of the autoencoder (chapter 4).
"""
