# %% [markdown]
r"""
# Chapter 1 · GAN objectives

A Gaussian makes no decisions: half-visible glasses. A **generative adversarial network** (GAN) does, and it learns to without
ever writing down a probability. Two networks play: one draws, the other says whether a picture is real.

In this chapter you will

1. solve the game by hand in one dimension and check the theory's numbers;
2. write the losses from logits, and see why the obvious one does not train;
3. watch a generator collapse, count what it lost, and try what helps;
4. train a DCGAN on faces, walk through its latent space, and tell it which hair colour to draw;
5. see what a GAN cannot do.
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
from minigen.data import ATTRIBUTES, ToyFaces, batches, count_modes, ring_of_gaussians
from minigen.files import load_weights
from minigen.metrics import (attribute_probabilities, inception_score, obedience,
                             predict_attributes, results, results_table, toy_frechet)
from minigen.plots import COLOURS, curves, heat, image_grid, panels, points, show
from minigen.widgets import explore

scale, device = minigen.setup()
size = {"small": dict(faces=8192, gan_steps=600, ring_steps=1200),
        "full": dict(faces=20_000, gan_steps=20_000, ring_steps=10_000)}[scale]
faces = ToyFaces(size["faces"], seed=0)
images = faces.images()
print(f"scale: {scale}, {len(faces)} faces of {tuple(images.shape[1:])}")

# %% [markdown]
r"""
Here is where the chapter ends: faces drawn by a GAN that was trained for about twenty minutes on one core of a laptop's processor.
"""

# %%
generator = load_weights(gan.Generator, "gan")
drawn = gan.sample(generator, 2000, seed=7)
show(image_grid(drawn[:24], columns=12),
     """Twenty-four faces drawn by the longer-trained GAN: whole heads with hair, eyes, shirts
     and clear backgrounds; glasses are on or off. Some have uneven eyes or a broken
     outline.""")

# %% [markdown]
r"""
Are they copies? Below each of eight drawn faces stands the face nearest to it in pixels, among the training faces that this chapter has in
memory.
"""

# %%
distance = torch.cdist(drawn[:8].flatten(1), images.flatten(1))
nearest = images[distance.argmin(1)]
show(image_grid(torch.cat([drawn[:8], nearest]), columns=8, row_titles=["drawn", "nearest"]),
     """Eight drawn faces and, below each, the training face nearest in pixels: alike in
     colours, but not the same face.""")

# %% [markdown]
r"""
## 1. The game

*20 minutes.*

The **generator** $G$ turns noise $z \sim \mathcal N(0, I)$ into a sample $G(z)$. Its samples have some distribution $q$, which
nobody can write down. The **discriminator** $D$ looks at a sample and gives the probability that it is real. $D$ is paid for
being right and $G$ for fooling it:

$$\min_G \max_D \; V(D, G) = \mathbb E_{x \sim p}\left[\log D(x)\right] + \mathbb E_{x \sim q}\left[\log (1 - D(x))\right]$$

(Goodfellow et al. 2014, Eq. 1). Freeze $G$ and ask for the best $D$. At each point $x$ it maximises
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
In one dimension everything can be drawn. Let the data be $p = \mathcal N(0, 1)$ and the generator's samples
$q = \mathcal N(m, 1)$. Put $D^*$ back into the game and its value becomes a distance between the two:

$$V(D^*, G) = -\log 4 + 2\,\mathrm{JSD}(p, q),$$

where JSD is the Jensen–Shannon divergence: 0 if $p = q$, at most $\log 2$. (It is built from the Kullback–Leibler divergence
$\mathrm{KL}(p \Vert q) = \int p \log (p/q)$, how surprising samples of $p$ are to someone who expects $q$.) So the best that $G$ can do is $p = q$; then $D^* = \frac12$
everywhere and $V = -\log 4$.
"""

# %%
x = torch.linspace(-8, 12, 4001, dtype=torch.float64)
dx = float(x[1] - x[0])


def normal(mean, std=1.0):
    return torch.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))


for m in (0, 1, 2, 4, 8):
    value = gan.game_value(normal(0), normal(m), dx)
    jsd = gan.js_divergence(normal(0), normal(m), dx)
    print(f"m = {m}:  V = {value:.4f}   JSD = {jsd:.4f}")
print(f"-log 4 = {-math.log(4):.4f}   log 2 = {math.log(2):.4f}")

# %% [markdown]
r"""
The Jensen–Shannon divergence can be computed without any discriminator, from its own definition: the average
Kullback–Leibler divergence to the mixture $r = (p + q)/2$. The two ways must agree.
"""

# %%
p, q = normal(0), normal(2)
mixture = (p + q) / 2
kl_p = (p * (p / mixture).log()).sum() * dx
kl_q = (q * (q / mixture).log()).sum() * dx
by_definition = (kl_p + kl_q) / 2
through_the_game = gan.js_divergence(p, q, dx)
print(f"by definition {by_definition:.6f}   through the game {through_the_game:.6f}")
assert abs(by_definition - through_the_game) < 1e-9

# %%
def game(mean_of_q):
    p, q = normal(0), normal(mean_of_q)
    fig, axes = panels(1, 2, height=2.3)
    left, right = axes[0]
    lines = {"p, data": p, "q, generator": q, "D*": gan.optimal_discriminator(p, q)}
    curves(lines, x=x, xlabel="x", ax=left)
    left.set_xlim(-4, 8)
    means = torch.linspace(0, 8, 60)
    jsd = [gan.js_divergence(normal(0), normal(float(k)), dx) for k in means]
    curves({"JSD": jsd}, x=means, xlabel="mean of q", ax=right)
    right.plot([mean_of_q], [gan.js_divergence(p, q, dx)], "o", color=COLOURS[1])
    right.axhline(math.log(2), color="grey", lw=0.8, ls="--")
    return fig

# %% [markdown]
r"""
**Play:** move the generator's mean away from the data. Watch $D^*$ turn into a cliff and the divergence flatten at
$\log 2$.
"""

# %% tags=["nbval-ignore-output"]
explore(game, game(2.0), """Left: the densities of data and generator, means 0 and 2, and the
        optimal discriminator falling from 1 to 0 between them. Right: the Jensen–Shannon
        divergence against the generator's mean; it flattens at log 2, the dashed line.""",
        mean_of_q=(0.0, 8.0, 2.0));

# %% [markdown]
r"""
Here lies the first difficulty of GANs. Where the divergence is **flat**, the generator gets no direction: if $q$ is far from
$p$, moving a little closer changes nothing. Two sets of images that do not overlap are in just that position.

Does a network really find $D^*$? Train a small one on samples of the two Gaussians and compare. A network puts out the **logit**
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
error = (learned - gan.optimal_discriminator(p, q))[near].abs().max()
assert error < 0.1

# %%
by_formula = gan.optimal_discriminator(p, q)
lines = {"D* by formula": by_formula[near], "D trained on samples": learned[near]}
show(curves(lines, x=x[near], xlabel="x", height=2.2),
     """The optimal discriminator by formula and one trained on samples, between x = -2 and
     4: the two curves lie on each other.""")

# %% [markdown]
r"""
## 2. Losses

*25 minutes.*

From the logit, $D = \sigma(\ell) = 1/(1 + e^{-\ell})$. Computing $\log \sigma(\ell)$ in two steps fails: for
$\ell = -200$ the sigmoid rounds to 0 and its log is $-\infty$. In one step it is harmless:

$$-\log \sigma(\ell) = \log(1 + e^{-\ell}) = \mathrm{softplus}(-\ell), \qquad -\log(1 - \sigma(\ell)) = \mathrm{softplus}(\ell).$$

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
naive = -torch.log(torch.sigmoid(torch.tensor(-200.0)))
stable = F.softplus(torch.tensor(200.0))
print("naive:", naive.item(), "  from the logit:", stable.item())
zero = torch.zeros(4)
at_zero = gan.discriminator_loss(zero, zero)
print(f"D's loss at logits 0: {at_zero:.4f} = 2 log 2 = {2 * math.log(2):.4f}")

# %% [markdown]
r"""
Keep $2 \log 2 \approx 1.386$ in mind: it is what the discriminator's loss says when it cannot tell real from fake at all.

### Why the generator's loss is changed

The game says that $G$ minimises $\mathbb E \log(1 - D(G(z)))$, the **minimax** (or saturating) loss. Look at its gradient with
respect to the logit. At the start of training $D$ wins easily, so the logits of fakes are very negative.
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

# %%
at = torch.tensor([-20.0], requires_grad=True)
for kind in gan.LOSSES:
    slope = torch.autograd.grad(gan.generator_loss(at, kind), at)[0].item()
    print(f"{kind:<14} gradient at logit -20: {slope:.1e}")

# %% [markdown]
r"""
$-2 \cdot 10^{-9}$ against $-1$: with the minimax loss, a generator whose samples are obviously fake is told almost nothing. So
Goodfellow's paper already changes it: keep the game for $D$, but let $G$ **maximise $\log D(G(z))$** instead. The two have the same fixed
point, and the new one pushes hardest exactly when the sample is worst.

Does that contradict the flat divergence of section 1? The push on $G$ is a product: the push on the logit, times the slope of the logit along the
sample. The new loss repairs the first factor. The second can still vanish where $D$ is flat.

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
### Hinge

A third choice drops the probabilities. $D$ only has to bring real logits above $1$ and fake ones below $-1$; what is beyond the
margin costs nothing and gives no gradient:

$$L_D = \tfrac12\left(\mathbb E\,[\max(0, 1 - \ell_{\text{real}})] + \mathbb E\,[\max(0, 1 + \ell_{\text{fake}})]\right), \qquad L_G = -\mathbb E\,[\ell_{\text{fake}}].$$

This is the loss of the paper's autoencoder in chapter 4 (Eqs. 13 and 14). The paper prints Eq. 14 without the $\max$. Read it once
more without: what would stop $D$ from sending the loss to $-\infty$?

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
undecided = gan.discriminator_loss(zero, zero, "hinge")
beyond = gan.discriminator_loss(zero + 3, zero - 3, "hinge")
print("hinge loss at logits 0:", undecided.item())
print("both sides beyond the margin:", beyond.item())

# %% [markdown]
r"""
### One step of training

The game is played in turns. The discriminator's turn: draw a batch of fakes, compute `d_loss`, step. A classic mistake is to let
the gradient run on into the generator. `fake.detach()` cuts it.

### Exercise 1.5 · `discriminator_step` · ★★ · 10 minutes

One step of $D$ on a real batch `x` and noise `z`. Use `gan.discriminator_loss`, the tested version of exercise 1.2, and return the loss, computed
before the step. The generator must stay untouched, its gradients too.

<details><summary>Hint</summary>

Five lines: the loss; forget the old gradients; backward; step; return.

<details><summary>More</summary>

The loss takes `discriminator(x)` and `discriminator(generator(z).detach())`. Then `optimiser.zero_grad()`, `loss.backward()`, `optimiser.step()`.

</details>
</details>
"""

# %%
def discriminator_step(generator, discriminator, optimiser, x, z):
    """One step of the discriminator with the loss of exercise 1.2; returns that loss."""
    ### BEGIN SOLUTION
    loss = gan.discriminator_loss(discriminator(x), discriminator(generator(z).detach()))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss
    ### END SOLUTION

# %% points=3
check(discriminator_step)

# %% [markdown]
r"""
Then the generator's turn: draw fakes again, this time **without** `detach`, and step only $G$. The gradient runs through $D$ into $G$; $D$'s
weights stay where they are.
"""

# %%
g, d = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
weights = [*g.parameters(), *d.parameters()]
before = [w.clone() for w in weights]
optimiser = torch.optim.Adam(g.parameters(), lr=1e-2)

loss = gan.generator_loss(d(g(torch.randn(64, 2))))
optimiser.zero_grad()
loss.backward()
optimiser.step()

moved = [not torch.equal(w, old) for w, old in zip(weights, before, strict=True)]
print("moved: G", moved[:2], " D", moved[2:])

# %% [markdown]
r"""
The tested version of the whole loop is `gan.train_gan`. It is a Python *generator*: it yields after every step and you keep the loop,
so progress bars, pictures and the end are yours.

## 3. Mode collapse

*20 minutes.*

Eight Gaussians on a ring: eight **modes**. A good generator visits all. Here the generator is a small network from two noise numbers
to a point in the plane, so that we can see its whole distribution.
"""

# %%
class RingGenerator(nn.Module):
    latent_dim = 2

    def __init__(self, hidden=64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(),
                                 nn.Linear(hidden, hidden), nn.ReLU(),
                                 nn.Linear(hidden, 2))

    def forward(self, z):
        return self.net(z)


class RingDiscriminator(nn.Module):
    def __init__(self, hidden=16, minibatch=False):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, hidden), nn.LeakyReLU(0.2),
                                  nn.Linear(hidden, hidden), nn.LeakyReLU(0.2))
        self.extra = nn.Identity()
        if minibatch:
            self.extra = gan.MinibatchDiscrimination(hidden, kernels=4)
        self.head = nn.LazyLinear(1)

    def features(self, x):
        return self.body(x)

    def forward(self, x):
        return self.head(self.extra(self.features(x))).squeeze(1)

# %% [markdown]
r"""
### Exercise 1.6 · `modes_covered` · ★★ · 6 minutes

To speak of collapse we have to count. A mode is covered if at least one point lies within `radius` of its centre. (The tested
`count_modes` of `minigen.data` is stricter: it asks for one per cent of the points.)

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

# %%
ring = ring_of_gaussians(20_000, seed=0)
moments = [size["ring_steps"] * k // 6 for k in range(1, 7)]


def train_ring(minibatch=False, seed=0, **options):
    """Train on the ring; returns the generator's points at six moments."""
    torch.manual_seed(seed)
    g, d = RingGenerator(), RingDiscriminator(minibatch=minibatch)
    d(ring[:4])                                      # gives the lazy layer its shape
    data = batches(ring, batch_size=64, seed=seed)
    training = gan.train_gan(g, d, data, steps=moments[-1], lr=2e-3, seed=seed, **options)
    return [gan.sample(g, 1000) for s in training if s.step in moments]

# %% tags=["nbval-ignore-output"]
recipes = {"plain": {},
           "label smoothing": dict(smooth=0.1),
           "feature matching": dict(feature_matching=True),
           "minibatch discrimination": dict(minibatch=True)}
runs = {}
for name, options in tqdm(recipes.items(), desc="ring"):
    runs[name] = [train_ring(seed=seed, **options) for seed in range(3)]

clouds = [{"data": ring[:1000], "G": p} for p in runs["plain"][0]]
show(points(clouds, columns=6, limit=3.2, titles=[f"step {k}" for k in moments]),
     """The ring of eight data clusters and the plain generator's points at six moments of its
     training. The points form one narrow swarm that moves about, reaches few clusters at a time
     and often misses all eight.""")

# %% [markdown]
r"""
Each batch of the generator is judged **one point at a time**. A judge of single points cannot see that they are all alike; it learns only that too
much comes from this side, and then the whole swarm moves elsewhere. Losing most modes like this is **mode collapse**. (At this short training the
points do not even settle on the mode they chase.)

What helps (Salimans et al. 2016):

- **One-sided label smoothing:** call real images real with probability 0.9. The best $D$ then never says more than 0.9, so its logit has a ceiling,
  $\log 9 \approx 2.2$. The target of fakes stays 0, hence one-sided.
- **Feature matching:** $G$ matches the *mean* of $D$'s features over the batch, $\lVert \mathbb E f(x) - \mathbb E f(G(z)) \rVert^2$, instead of fooling
  $D$ point by point.
- **Minibatch discrimination:** $D$ also sees, for each sample, how near the others of its batch are, $\sum_{j \ne i} e^{-\lVert M_i - M_j \rVert_1}$ with
  learned features $M$. A batch of equals is suspicious.
"""

# %% tags=["nbval-ignore-output"]
clouds = [{"data": ring[:1000], "G": by_seed[0][-1]} for by_seed in runs.values()]
show(points(clouds, limit=3.2, titles=list(runs)),
     """The generator's points at the end of four trainings, over the ring of data: plain, label
     smoothing, feature matching and minibatch discrimination.""")

# %% tags=["nbval-ignore-output"]
print("modes covered (of 8): at the end for three seeds, and in the mean over all six moments;")
print("share of the points that lie on a mode at the end")
for name, by_seed in runs.items():
    last = [count_modes(r[-1]) for r in by_seed]
    modes = [m for m, _ in last]
    on_a_mode = sum(on for _, on in last) / 3
    mean = sum(count_modes(p)[0] for r in by_seed for p in r) / (3 * len(moments))
    print(f"{name:<26} {modes}   mean {mean:.1f}   on a mode {on_a_mode:.0%}")

# %% [markdown]
r"""
Three seeds, because one run proves little: with this little training a single seed may reverse any order. On our machine minibatch discrimination
was ahead for every seed and at nearly every moment; smoothing and feature matching helped sometimes. It also costs more: each sample
is compared with all others of its batch.

### A score and its limits

How do we notice collapse in *images*, where nobody can count modes? The **Inception Score** (Salimans et al. 2016) asks a classifier for
$p(y \mid x)$ of each sample. Each should be certain, and all together should be varied:

$$\mathrm{IS} = \exp\, \mathbb E_x\, \mathrm{KL}\left(p(y \mid x)\,\Vert\, p(y)\right) \in [1, K].$$

Our classifier is the one from chapter 0 and $y$ the hair colour, so $K = 5$. Now try to cheat the score:
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
Five pictures, one for each colour, score 5.0, exactly like two thousand real faces. The score sees collapse *across* classes and is blind to collapse
*within* a class, because it asks only for clear and varied classes and never compares with real images. (The original uses the 1,000 ImageNet
classes of the Inception network; ours is a toy version.) The Fréchet distance is not fooled by this trick. It has a blind spot of its
own: a generator that merely copies the training faces gets a perfect value. That is why we also looked at nearest neighbours.

## 4. DCGAN on faces

*20 minutes.*

Radford et al. (2015) found a pair of convolutional networks that trains. Their rules: strided convolutions in $D$ and transposed ones in $G$ instead of
pooling, no hidden fully connected layers, batch normalisation in both networks (but not at $G$'s output nor $D$'s input), ReLU in $G$, leaky ReLU in
$D$, tanh at the end, Adam with $\beta_1 = 0.5$. At 32×32 pixels:
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
We keep DCGAN's layers and change its training. In our trials at this size, $D$ with batch normalisation soon won and $G$ learned slowly. The **R1 penalty**
(Mescheder et al. 2018) keeps $D$ from growing ever steeper around the real images:

$$R_1 = \frac{\gamma}{2}\, \mathbb E_{x \sim p} \left\lVert \nabla_x\, \ell(x) \right\rVert^2 , \qquad \gamma = 1 .$$

It needs each logit to depend on its own image only, so $D$ gives up batch normalisation; $\beta_1 = 0$ and a larger learning rate go with it. To save
time the penalty is added every eighth step, eight times as strong. The longer-trained model was trained so, and in addition its learning rate fell to zero in the
second half, and what is kept is a running average of $G$'s weights, which smooths the last steps.

Now train, in front of you. At small scale each face is seen about twice, enough to see faces appear; the longer-trained model saw 20,000 faces
about thirty times each.
"""

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
g, d = gan.Generator().to(device), gan.Discriminator(batch_norm=False).to(device)
steps = size["gan_steps"]
wanted = [steps * k // 6 for k in range(1, 7)]
data = batches(images, batch_size=32, seed=0)
training = gan.train_gan(g, d, data, steps=steps, lr=1.5e-3, betas=(0.0, 0.99), r1=1.0)

history, film = [], []
for s in tqdm(training, total=steps, desc="DCGAN"):
    history.append(s)
    if s.step in wanted:
        film.append(gan.sample(g, 8, seed=3))
    if s.step == wanted[0]:
        early = toy_frechet(gan.sample(g, 2000))
show(image_grid(torch.cat(film), columns=8, row_titles=[f"step {k}" for k in wanted]),
     """Six rows of the same eight noise vectors at growing training steps: from coloured
     blotches to heads with hair, glasses and shirts, their backgrounds still mottled.""")

# %% tags=["nbval-ignore-output"]
losses = {"D's loss": [s.d_loss for s in history], "G's loss": [s.g_loss for s in history]}
verdicts = {"D on real": [s.d_real for s in history], "D on fakes": [s.d_fake for s in history]}
fig, axes = panels(1, 2, height=2.4)
left, right = axes[0]
curves(losses, smooth=20, ylabel="loss", ax=left)
left.axhline(2 * math.log(2), color="grey", lw=0.8)
curves(verdicts, smooth=20, ylabel="mean probability of real", ax=right)
show(fig, """Left: both losses by step; D's soon lies below the grey line 2 log 2, the value of
     knowing nothing. Right: D's mean probability of real is higher on real images than on
     fakes.""")

# %% tags=["nbval-ignore-output"]
late = toy_frechet(gan.sample(g, 2000))
print(f"toy Fréchet at step {wanted[0]}: {early:,.0f}   at the end: {late:,.0f}")
assert late < 0.9 * early, "this training should have moved the samples towards faces"

# %% [markdown]
r"""
**How to read these curves.** They do not fall. In an ordinary training a falling loss means progress; here each network's loss is the other's
success. What you can read: $D$'s loss near 0 means $D$ has won and $G$ learns slowly; $D$'s loss at $2 \log 2$ with poor pictures means $D$ has given
up. To know whether the *samples* improve you must look at them, or measure them.

What more time gives stands at the top of the chapter. Its numbers:
"""

# %%
longer = toy_frechet(drawn)
print(results_table(through_chapter=1, GAN=longer))
recorded = {row["model"]: row["frechet"] for row in results()}
assert longer < recorded["Gaussian"] / 3, "the GAN should be at most a third of the Gaussian"

# %%
rows = torch.cat([images[:20], drawn[100:120]])
show(image_grid(rows, columns=10, row_titles=["real", "", "GAN", ""]),
     """Twenty real faces above twenty from the longer-trained GAN. The GAN's have decided,
     unlike the Gaussian's of chapter 0: one hair colour, one background, glasses or none.""")

# %% [markdown]
r"""
### A walk through the latent space

If $G$ has learned faces and not a list of pictures, then points *between* two noise vectors are faces as well. (On a straight line the middle is
shorter than either end, about 5.7 instead of 8 in 64 dimensions, a length that $G$ has hardly seen; chapter 6 walks on the sphere instead.)
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
     """Three walks of ten faces each, from one noise vector to another. Colours and features
     change gradually, and most faces on the way are whole.""")

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
## 5. Telling the generator what to draw

*10 minutes.*

A **conditional GAN** (Mirza and Osindero 2014) gives both networks the label: $G(z, y)$ draws a face with hair colour $y$, and $D(x, y)$ judges
whether the face is real *and* fits its label. The label enters as a **one-hot** vector: for $G$ it is appended to $z$, for $D$ it becomes constant maps beside the image.

### Exercise 1.7 · `with_label` · ★★ · 8 minutes

Append one channel a class to a batch of images: ones in the channel of the label, zeros in the others.

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
conditional = load_weights(gan.Generator, "cgan")
colours = ATTRIBUTES["hair"]
rows = [gan.sample(conditional, 10, y=torch.full((10,), k), seed=2) for k in range(5)]
same_noise = torch.cat(rows)
show(image_grid(same_noise, columns=10, row_titles=list(colours)),
     """Five rows of ten faces. Each column is one noise vector, each row one hair colour asked
     for: black, chestnut, blond, red, grey. The hair follows the row, the rest of the face
     mostly the column.""")

# %% [markdown]
r"""
Does it obey? We do not have to guess. The classifier reads hair colour on real faces with practically no mistake, so the share of samples in
which it reads the colour we asked for is a measurement. By chance it would be one fifth.
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
show(fig, """A table of hair colours asked for against those read: all but a few samples lie on
     the diagonal.""")

# %% [markdown]
r"""
## 6. What goes wrong

*10 minutes.*

**Unbalanced networks.** Let $D$ train alone first, for longer and longer. How strong is the first push that $G$ then gets? On the ring this takes
seconds to see:
"""

# %% tags=["nbval-ignore-output"]
def slope_of_generator(kind, head_start):
    """Size of G's gradient on the ring when D has trained alone for `head_start` steps."""
    torch.manual_seed(0)
    g, d = RingGenerator(), RingDiscriminator()
    d(ring[:4])
    optimiser = torch.optim.Adam(d.parameters(), lr=1e-3)
    data = batches(ring, batch_size=128)
    for _ in range(head_start):
        loss = gan.discriminator_loss(d(next(data)[0]), d(g(torch.randn(128, 2)).detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    gan.generator_loss(d(g(torch.randn(512, 2))), kind).backward()
    return math.sqrt(sum(p.grad.square().sum().item() for p in g.parameters()))


starts = [0, 50, 100, 200, 400, 800]
norms = {kind: [slope_of_generator(kind, n) for n in starts]
         for kind in ("minimax", "nonsaturating")}
show(curves(norms, x=starts, logy=True, height=2.4,
            xlabel="steps that D has trained alone", ylabel="size of G's gradient"),
     """The size of the generator's gradient on a log scale against the head start of D: with
     the minimax loss it soon falls, with the non-saturating loss it grows; after 800 steps they
     are hundreds of times apart.""")
assert norms["minimax"][-1] < 0.1 * norms["nonsaturating"][-1]

# %% [markdown]
r"""
**No likelihood.** A GAN cannot say how probable an image is. There is no held-out score that tells you it has memorised or forgotten
something; we needed a second network, the classifier, to measure it at all. What does it forget? Compare how often each attribute appears:
"""

# %%
seen = predict_attributes(drawn)
for name in ("glasses", "smile", "pose"):
    values = ATTRIBUTES[name]
    of_data = torch.bincount(faces[name], minlength=len(values)) / len(faces)
    of_gan = torch.bincount(seen[name], minlength=len(values)) / len(drawn)
    row = [f"{v} {a:.0%} → {b:.0%}" for v, a, b in zip(values, of_data, of_gan, strict=True)]
    print(f"{name:<8} data → GAN: ", "   ".join(row))

# %% [markdown]
r"""
**No encoder.** Given a photograph, which $z$ draws it? A GAN has no answer but search: start anywhere and follow the gradient of the error. Here are
four real faces and what 150 steps of search find.
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
     colours fit roughly, details and identity do not.""")

# %% [markdown]
r"""
Chapter 2 turns all this around. A **variational autoencoder** has an encoder from the start, and its loss is a bound on the likelihood. It
will be blurry, and we will find out why.

## Summary

- The optimal discriminator is $p/(p+q)$; with it the game measures the Jensen–Shannon divergence, which is flat where $p$ and $q$ do not overlap.
- The minimax loss gives the generator almost no gradient when it needs one; the non-saturating and the hinge loss do. All are computed from logits.
- A GAN judges samples one at a time, so the generator may cover few modes. Count them; smoothing, feature matching and
  minibatch discrimination help, no single one always.
- GAN losses do not tell progress. The Fréchet distance, and looking, do.
- GANs are sharp and decisive. They have no likelihood and no encoder.
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
| mode collapse | 模式坍塌 | the generator covers only part of the data |
| latent space | 潜在空间 | where z lives |
| conditional | 条件 | drawn for a given label |

### References

- Goodfellow et al. 2014, *Generative Adversarial Nets*, [arXiv:1406.2661](https://arxiv.org/abs/1406.2661): Eq. 1, Proposition 1, Theorem 1, Algorithm 1.
- Radford, Metz, Chintala 2015, *Unsupervised Representation Learning with Deep Convolutional GANs*, [arXiv:1511.06434](https://arxiv.org/abs/1511.06434).
- Salimans et al. 2016, *Improved Techniques for Training GANs*, [arXiv:1606.03498](https://arxiv.org/abs/1606.03498): §3.1 feature matching, §3.2 minibatch discrimination, §3.4 label smoothing, §4 Inception Score.
- Mescheder, Geiger, Nowozin 2018, *Which Training Methods for GANs do actually Converge?*, [arXiv:1801.04406](https://arxiv.org/abs/1801.04406): the R1 penalty, Eq. 9.
- Mirza, Osindero 2014, *Conditional Generative Adversarial Nets*, [arXiv:1411.1784](https://arxiv.org/abs/1411.1784).
- Lim, Ye 2017, *Geometric GAN*, [arXiv:1705.02894](https://arxiv.org/abs/1705.02894): the hinge loss.
- Liu, Chen, Gao 2026, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): Eqs. 13 and 14, the hinge loss of the autoencoder (chapter 4).
"""
