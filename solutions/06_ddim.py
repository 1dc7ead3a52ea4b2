# %% [markdown]
r"""
# Chapter 6 · DDIM, fewer steps, and some control

Chapter 5 drew good faces and took a thousand runs of a network for each. This chapter trains nothing. It takes the same network and samples it differently: in twenty steps, without chance, backwards, towards a class, or into a hole in a picture.

In this chapter you will

1. leave out steps the wrong way, and see what breaks;
2. derive DDIM, and check it on a distribution whose answer is known exactly;
3. choose which steps to take, and measure what each costs and brings;
4. use determinism: walk between faces, find a face's noise, edit it;
5. steer with classifier-free guidance, and measure what it costs;
6. fill in what is missing from a picture.
"""

# %%
import math
import statistics

import torch
from torch.utils.flop_counter import FlopCounterMode

import minigen
from minigen import check, ddim, ddpm
from minigen.data import ATTRIBUTES, ToyFaces, draw_faces, labels_of, swiss_roll
from minigen.diffusion import Diffusion, ideal_eps
from minigen.files import load_weights
from minigen.guidance import Guided, drop_labels
from minigen.metrics import obedience, results_table
from minigen.paper import reproduce
from minigen.plots import COLOURS, curves, image_grid, legend, panels, show
from minigen.unet import PRESETS, UNet
from minigen.widgets import explore

# %%
scale, device = minigen.setup()
size = {"small": dict(faces=16, steps=20), "full": dict(faces=64, steps=100)}[scale]
diffusion, unet = Diffusion(), load_weights(UNet, "unet").to(device)
hair = ATTRIBUTES["hair"]


def noise(n, seed=0):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).to(device)


def faces_from(xT, y=None, model=unet, **options):
    """DDIM samples as images."""
    options = {"steps": size["steps"], "clip": (-1, 1)} | options
    faces = ddpm.last(ddim.ddim_sample(model, diffusion, xT, y, **options))
    return faces.clamp(-1, 1).cpu()


print(f"scale: {scale}; one network, trained in chapter 5's way, for everything below")

# %% [markdown]
r"""
Here is where it goes: the same noise, sampled with more and more steps.
"""

# %% tags=["nbval-ignore-output"]
few = [2, 5, 10, 20, 50]
by_steps = torch.cat([faces_from(noise(8), steps=n) for n in few])
show(image_grid(by_steps, columns=8, row_titles=[f"{n} steps" for n in few]),
     """Eight noises, each drawn in 2, 5, 10, 20 and 50 steps. With 2 steps noisy ghosts, with 5
     faces already, then only details change; three of them keep a grain. Each column stays the
     same person throughout.""")

# %% [markdown]
r"""
## 1. The simplest wrong thing

*10 minutes.*

Why not run chapter 5's sampler and leave out steps? The network accepts any $t$, so call it at $t = 999, 949, 899, \dots$, and each time take DDPM's step for that $t$.
"""

# %% tags=["nbval-ignore-output"]
dice, x = torch.Generator().manual_seed(1), noise(8).cpu()
for t in range(999, -1, -50):
    at = torch.tensor([t])
    with torch.no_grad():
        eps = unet(x.to(device), at.to(device)).cpu()
    x0 = diffusion.views(eps, x, at)[0].clamp(-1, 1)
    mean, variance = diffusion.posterior(x0, x, at)
    x = mean + variance.sqrt() * torch.randn(x.shape, generator=dice)
show(image_grid(x.clamp(-1, 1), columns=8), """Eight results of DDPM's own steps with forty-nine
     of fifty left out: coloured noise, nothing like a face.""")
wanted = float(1 - diffusion.alpha_bar[49]) ** 0.5
found = float((x - x.mean((2, 3), keepdim=True)).std())
print(f"at the last of these steps the noise should have deviation {wanted:.2f}; "
      f"it has {found:.1f}")

# %% [markdown]
r"""
The step at 999 takes off next to nothing, as it should, for the way to 998. Then the network is told that it is at 949. The picture is noisier than that, and the gap grows with every step. To jump, the *step* must know where it goes.

## 2. A family of processes with the same marginals

*30 minutes.*

Look back at what training used. The loss needs $x_t$ given $x_0$, Eq. 28, and nothing else: how $x_t$ came from $x_{t-1}$ never enters. So any process with the same **marginals** $q(x_t \mid x_0)$ fits the same network. Song, Meng and Ermon (2021) look for the whole family. Suppose that, knowing $x_0$, the step from $t$ to some earlier time $s$ is a Gaussian of the form

$$q_\sigma(x_s \mid x_t, x_0) = \mathcal N\left(\sqrt{\bar\alpha_s}\, x_0 + k \cdot \frac{x_t - \sqrt{\bar\alpha_t}\, x_0}{\sqrt{1 - \bar\alpha_t}},\; \sigma^2 I\right).$$

The fraction is just $\varepsilon$, the noise that is in $x_t$. If $x_t$ has the right marginal, then $\varepsilon \sim \mathcal N(0, I)$, and $x_s$ has the mean $\sqrt{\bar\alpha_s}\, x_0$, as it must, and the variance $k^2 + \sigma^2$. The marginal asks for $1 - \bar\alpha_s$. So $k = \sqrt{1 - \bar\alpha_s - \sigma^2}$, **for every σ** that leaves the root real, and for every $s < t$. Put in the network's $\varepsilon_\theta$ and its guess $\hat x_0$, and this is Eq. 29 of the paper:

$$x_s = \underbrace{\sqrt{\bar\alpha_s}\; \hat x_0}_{\text{the guess}} + \underbrace{\sqrt{1 - \bar\alpha_s - \sigma^2}\; \varepsilon_\theta}_{\text{the old noise again}} + \underbrace{\sigma\, z}_{\text{new noise}}.$$

With $\sigma = 0$ nothing is random: guess the picture, and noise it again *with the noise that was found*, to a lower level. That is **DDIM**.

### Exercise 6.1 · `ddim_move` · ★★ · 6 minutes

Write the step with σ = 0: from $x_t$ and the predicted noise, the guess of $x_0$, then $x_s$.

<details><summary>Hint</summary>

Two lines. `ab` is ᾱ at $t$, `ab_prev` at the earlier time $s$; both are numbers.

</details>
"""

# %%
def ddim_move(xt, eps, ab, ab_prev):
    """One deterministic step. Shapes: xt, eps alike; ab, ab_prev numbers in (0, 1]."""
    ### BEGIN SOLUTION
    x0 = (xt - (1 - ab) ** 0.5 * eps) / ab**0.5
    return ab_prev**0.5 * x0 + (1 - ab_prev) ** 0.5 * eps
    ### END SOLUTION

# %% points=2
check(ddim_move)

# %% [markdown]
r"""
How large may σ be? One choice makes the step DDPM's posterior (if $s = t - 1$); the authors measure σ against it, with $\eta$ from 0 to 1:

$$\sigma = \eta\, \sqrt{\frac{1 - \bar\alpha_s}{1 - \bar\alpha_t}}\, \sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_s}} .$$

### Exercise 6.2 · `step_noise` · ★ · 4 minutes

Write σ.

<details><summary>Hint</summary>

`ab` is at $t$, `ab_prev` at $s$. η = 0 must give 0.

</details>
"""

# %%
def step_noise(ab, ab_prev, eta):
    """sigma of a step from alpha_bar = ab to ab_prev. Numbers."""
    ### BEGIN SOLUTION
    return eta * ((1 - ab_prev) / (1 - ab)) ** 0.5 * (1 - ab / ab_prev) ** 0.5
    ### END SOLUTION

# %% points=1
check(step_noise)

# %% [markdown]
r"""
Is η = 1 with all steps really DDPM? Run both from the same noise, with the same draws. (An untrained function stands in for the network: an identity must hold for any.)
"""

# %%
def any_model(x, t, y=None):
    return torch.sin(2 * x)


def same_draws():
    return torch.Generator().manual_seed(1)


small = Diffusion(diffusion.betas[:100])
first = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
a = ddpm.ddpm_sample(any_model, small, first, generator=same_draws())
b = ddim.ddim_sample(any_model, small, first, steps=100, eta=1.0, generator=same_draws())
difference = (ddpm.last(a) - ddpm.last(b)).abs().max()
print("difference below 1e-10:", bool(difference < 1e-10))

# %% [markdown]
r"""
### A test with a known answer

Let the data be numbers, $x_0 \sim \mathcal N(0.3, 0.5^2)$. The best noise prediction is then a formula, every step is a straight line in $x_t$, and the deviation of what comes out can be computed without drawing anything. Perfect would be 0.5.
"""

# %%
def best_eps(x, t, y=None):
    ab = diffusion.at(diffusion.alpha_bar, t, x)
    return (1 - ab).sqrt() * (x - ab.sqrt() * 0.3) / (ab * 0.25 + 1 - ab)


def deviation(steps, eta):
    """Exact deviation of the samples for x_T ~ N(0, 1), from each step's slope and noise."""
    variance, times = 1.0, ddim.timesteps(1000, steps)
    for t, s in zip(times, [*times[1:], -1], strict=True):
        x, at = torch.tensor([[0.0], [1.0]], dtype=torch.float64), torch.tensor([t])
        eps = best_eps(x, at)
        x0 = diffusion.views(eps, x, at)[0]
        low, high = ddim.ddim_step(diffusion, x0, eps, t, s, eta, 0 * x).flatten().tolist()
        variance = (high - low) ** 2 * variance + ddim.sigma(diffusion, t, s, eta) ** 2
    return math.sqrt(variance)

# %%
counts = [5, 10, 20, 50, 100, 250, 500, 1000]
spread = {f"η = {eta}": [deviation(n, eta) for n in counts] for eta in (0.0, 0.5, 1.0)}
fig = curves(spread | {"the data": [0.5] * len(counts)}, x=counts, xlabel="steps",
             ylabel="deviation of the samples")
fig.axes[0].set_xscale("log")
show(fig, """Deviation of the samples over the number of steps, log scale: for all η it rises
     towards the data's 0.5; with few steps it is too small, and the more so the larger η
     is.""")
print("with 10 steps:", {name: round(v[1], 3) for name, v in spread.items()})

# %% [markdown]
r"""
Few steps make samples that are too alike, too near the mean: the network's guess is an average, and each long step trusts it. Noise makes it worse, since every draw must be repaired by a later, also too long step. So: few steps, η = 0. (With many steps a real network might gain from η = 1, because new noise washes out its errors; section 3 will look.)

(A wrong index, an ᾱ taken from one step off, and this picture changes by far more than its thickness. `minigen`'s tests compare with these numbers to four digits, for two spacings; that is how such errors are caught.)

What do the two kinds of path look like? The swiss roll and its ideal denoiser from chapter 5:
"""

# %%
def ideal(x, t):
    return ideal_eps(diffusion, roll, x, t)


roll = swiss_roll(2000)
starts = 1.2 * torch.randn(24, 2, generator=torch.Generator().manual_seed(2))
fig, axes = panels(1, 2, height=3.6)
for ax, eta in zip(axes.flat, (0.0, 1.0), strict=True):
    states = ddim.ddim_sample(ideal, diffusion, starts, steps=100, eta=eta,
                              generator=torch.Generator().manual_seed(3))
    path = torch.stack([starts, *(s.x for s in states)])
    ax.plot(path[..., 0], path[..., 1], lw=0.7, color=COLOURS[1], alpha=0.5)
    ax.scatter(*roll[::3].T, s=3, color=COLOURS[5], linewidths=0, zorder=3, label="swiss roll")
    ax.scatter(*path[-1].T, s=14, color="black", linewidths=0, zorder=4, label="ends of paths")
    ax.set_title(f"η = {eta:.0f}", fontsize=9)
    ax.set(aspect="equal", xticks=[], yticks=[], xlim=(-4.2, 4.2), ylim=(-4.2, 4.2))
legend(fig, markerscale=2)
show(fig, """Paths of 24 points from noise to the swiss roll. With η = 0 smooth curves; with
     η = 1 jagged random walks all over the plane. The black points, where the paths end, lie on
     the roll in both.""")

# %% [markdown]
r"""
With η = 0 the steps follow a smooth flow, a differential equation, and a smooth curve can be followed with long steps. A random walk cannot.

## 3. Which steps, and how many

*20 minutes.*

From $T = 1000$ times we take a sub-list. Three ways are common, and libraries differ. **Leading**: $0, 100, 200, \dots, 900$ for ten steps; it starts below the top, though the noise it starts *from* is full noise. **Trailing**: $99, 199, \dots, 999$; it starts at the top and jumps the last hundred in one. **Linspace**: both ends, strides in between that are not whole numbers. Whichever: the earlier time of a step is the *next entry of the list*, not $t - T / \text{steps}$ (some libraries compute the latter, which is wrong for linspace).

### Exercise 6.3 · `trailing` · ★ · 4 minutes

The list of trailing time steps, falling, for a number of steps that divides T.

<details><summary>Hint</summary>

`range(T - 1, -1, -stride)`.

</details>
"""

# %%
def trailing(T, steps):
    """A falling list of `steps` integers that starts at T - 1."""
    ### BEGIN SOLUTION
    return list(range(T - 1, -1, -(T // steps)))
    ### END SOLUTION

# %% points=1
check(trailing)

# %% tags=["nbval-ignore-output"]
spacings = ("leading", "trailing", "linspace")
by_spacing = torch.cat([faces_from(noise(8), steps=6, spacing=s) for s in spacings])
show(image_grid(by_spacing, columns=8, row_titles=list(spacings)), """Eight noises sampled in
     six steps with three spacings: the same faces; with leading a little paler and smoother,
     with trailing and linspace stronger in colour, and grainier.""")
for s in spacings:
    print(f"{s:<10}{ddim.timesteps(1000, 6, s)}")

# %% [markdown]
r"""
We use trailing, as the default of `minigen`.

### The paper's Table 3, in pixel space

Now measure. For every number of steps, 300 faces, three seeds; the cells were measured beforehand by `python -m minigen reproduce table3_pixels`.
"""

# %%
print(reproduce.as_text("table3_pixels"))

# %% tags=["nbval-ignore-output"]
cells, counts = reproduce.read("table3_pixels"), [5, 10, 20, 50, 100]
measured = {(c["row"], c["seed"]): c for c in cells}
labels = {"frechet": "toy Fréchet distance", "ms": "milliseconds a face"}
fig, axes = panels(1, 2)
for ax, (column, label) in zip(axes.flat, labels.items(), strict=True):
    lines = {f"seed {seed}": [measured[f"DDIM {n}", seed][column] for n in counts]
             for seed in range(3)}
    curves(lines, x=counts, xlabel="DDIM steps", ylabel=label, ax=ax)
    ax.set_xscale("log")
    ax.set_xticks(counts, counts)
axes[0, 0].set_yscale("log")
legend(fig)
show(fig, """Left: toy Fréchet distance over the number of DDIM steps, both log: it falls
     steeply to about 20 steps and then little. Right: time a face, which grows with the steps.
     A line for each of three seeds.""")


def mean_distance(row):
    return statistics.mean(c["frechet"] for c in cells if c["row"] == row)


assert mean_distance("DDIM 5") > mean_distance("DDIM 20")

# %% [markdown]
r"""
The shape is the paper's: quality rises quickly, then slowly; cost rises in proportion (roughly, here: the machine was busy with other things, so the times scatter). New noise, η = 1, does harm with 20 steps for two of three seeds, and makes no difference with 100 that three seeds could show. (The paper's times are not in proportion: 851, 1140, 1431 and 4026 ms for 50, 100, 200 and 500 steps, that is 5.8, 2.9 and 8.7 ms for each further step. It does not say why.) Its DDPM row takes ten seconds an image, but that is the pixel U-Net of its Table 4, not the model of the other rows; chapter 8 comes back to this.

Look at the faces once more. With η = 0 some keep a **grain**, or a tint that no drawn face has. Chapter 5 showed where it comes from: at the top of the schedule a small error of ε is a glaring error of the guess, and a long deterministic step carries it along, where ancestral sampling would have covered it with new noise. It is a part of why this table's values are far above those of 300 real faces (81); the larger part must be the dark mixture of chapter 5, since η = 1 with 100 steps, without the grain, scores no better. Better training helps, and so does predicting *v*; the next chapter's model, which works on latents and ends in a quantizer, hardly suffers from it.

## 4. What determinism is good for

*25 minutes.*

With η = 0 the picture is a **function of the noise**. You saw it at the top of the chapter: with 10 or 50 steps, the same person. So the noise is a code, like the latent of chapters 1 and 2, as large as the picture itself.

### Walking between faces

Take two noises and go from one to the other in a straight line. In the middle, $\tfrac12 (a + b)$ of two independent Gaussians has variance $\tfrac12$, not 1. In 3,072 dimensions all noise lies on a thin shell of radius $\sqrt{3072}$, and the middle of the line lies far inside, where no noise ever is. Go along the **arc** instead (Shoemake's *slerp*):

$$\operatorname{slerp}(a, b; w) = \frac{\sin((1 - w)\,\theta)\; a + \sin(w\,\theta)\; b}{\sin\theta}, \qquad \cos\theta = \frac{a \cdot b}{\lVert a \rVert\, \lVert b \rVert}.$$

### Exercise 6.4 · `on_the_arc` · ★★ · 6 minutes

Write it for two vectors.

<details><summary>Hint</summary>

`torch.arccos((a @ b) / (a.norm() * b.norm()))`

</details>
"""

# %%
def on_the_arc(a, b, w):
    """Spherical interpolation. Shapes: a, b (D,), w a number from 0 (a) to 1 (b)."""
    ### BEGIN SOLUTION
    theta = torch.arccos((a @ b) / (a.norm() * b.norm()))
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)
    ### END SOLUTION

# %% points=2
check(on_the_arc)

# %% tags=["nbval-ignore-output"]
a, b = (noise(8)[k : k + 1].expand(8, -1, -1, -1) for k in (1, 7))
w = torch.linspace(0, 1, 8)
share = w.view(-1, 1, 1, 1).to(device)
line, arc = (1 - share) * a + share * b, ddim.slerp(a, b, w)
walks = torch.cat([faces_from(line), faces_from(arc)])
show(image_grid(walks, columns=8, row_titles=["line", "arc"]), """From one face to another in
     eight steps. Along the line the faces in the middle are flat and pale, poor in detail;
     along the arc every one is a whole face.""")
length = {name: round(float(x[4].norm() / a[0].norm()), 2)
          for name, x in (("line", line), ("arc", arc))}
print("length of the middle noise, relative:", length["line"], "on the line,",
      length["arc"], "on the arc")

# %% [markdown]
r"""
### Backwards

If the steps follow a smooth curve, they can follow it in the other direction: from a picture to *its* noise. A step up from $s$ to $t$ would need $\varepsilon_\theta(x_t, t)$ at its end, which we do not have yet. Plain **inversion** asks the network at the beginning instead, $\varepsilon_\theta(x_s, t)$; one can then ask again at the end found (`refine`), as often as one likes. How far from the start does one land after going up and down again?
"""

# %% tags=["nbval-ignore-output"]
two = [labels_of(hair="black", glasses="yes", smile="smile"),
       labels_of(hair="blond", skin="umber", hair_length="long")]
original = draw_faces(torch.cat(two)).to(device)
tries, back = (10, 20, 40), {}
for name, refine in (("plain", 0), ("refined twice", 2)):
    for n in tries:
        inverted = ddim.ddim_invert(unet, diffusion, original, steps=n, refine=refine)
        back[name, n] = faces_from(ddpm.last(inverted), steps=n, clip=None)
columns = {
    "face": original.cpu(),
    "10 steps": back["plain", 10],
    "40 steps": back["plain", 40],
    "40, refined": back["refined twice", 40],
}
pairs = torch.stack(list(columns.values()), dim=1).flatten(0, 1)
show(image_grid(pairs, columns=4, titles=list(columns), width=4.5), """Two drawn faces, and what
     comes back after inversion and sampling: with 10 steps too pale and without detail, with 40
     close, with refinement hardly to be told from the original.""")

# %% tags=["nbval-ignore-output"]
def error(name, n):
    return float((back[name, n] - original.cpu()).abs().mean())


print("mean absolute error of the round trip:")
for name in ("plain", "refined twice"):
    print(f"  {name:<14}", {n: round(error(name, n), 3) for n in tries})
assert error("plain", 40) < error("plain", 10)
assert error("refined twice", 40) < error("plain", 40)

# %% [markdown]
r"""
### Editing

Now the trick. Our network can be told the colour of the hair. Invert a face **with its own colour** as the label: what the label already says need not be in the noise. Then sample from that noise with *another* label.
"""

# %% tags=["nbval-ignore-output"]
own = torch.tensor([hair.index("black"), hair.index("blond")], device=device)
inverted = ddim.ddim_invert(unet, diffusion, original, own, steps=40, refine=2)
code = ddpm.last(inverted)
edited = [faces_from(code, torch.full_like(own, k), steps=40, clip=None) for k in range(5)]
strip = torch.stack([original.cpu(), *edited], dim=1).flatten(0, 1)
show(image_grid(strip, columns=6, titles=["face", *hair]),
     """Two faces and, from their own noise, the same with five hair colours asked for: the
     hair follows the label, while face, shirt, glasses and background mostly stay.""")
obeyed = obedience(torch.cat(edited), "hair", torch.arange(5).repeat_interleave(2))
print("the classifier reads the colour asked for in", f"{obeyed:.0%} of the ten")

# %% [markdown]
r"""
## 5. Guidance

*25 minutes.*

How was the network told? With a label embedding added to the time's. And *not* told, in one of seven cases: then the label was replaced by a sixth one, "none". So one network learned both $\varepsilon_\theta(x_t, y)$ and $\varepsilon_\theta(x_t)$.

### Exercise 6.5 · `forget_some` · ★ · 4 minutes

Replace labels by `null` where the random numbers `u` are below `p`. Do not change the labels you were given: they belong to the data set, and would be gone in the next epoch. (That mistake is in a well-known library.)

<details><summary>Hint</summary>

`torch.where(condition, null, y)` makes a new tensor.

</details>
"""

# %%
def forget_some(y, u, p, null):
    """Shapes: y (B,) integers, u (B,) uniform in [0, 1), p, null numbers -> (B,) integers."""
    ### BEGIN SOLUTION
    return torch.where(u < p, null, y)
    ### END SOLUTION

# %% points=1
check(forget_some)

# %%
y = torch.arange(5).repeat(2000)
dropped = drop_labels(y, 5, 0.15, torch.Generator().manual_seed(0))
share = float((dropped == 5).float().mean())
print(f"{share:.0%} dropped; the original labels: {sorted(set(y.tolist()))}")

# %% [markdown]
r"""
**Classifier-free guidance** (Ho and Salimans 2022). The difference $\varepsilon_\theta(x_t, y) - \varepsilon_\theta(x_t)$ points to where the label matters. Go further in that direction than the network says:

$$\hat\varepsilon = \varepsilon_\theta(x_t) + s\,\left(\varepsilon_\theta(x_t, y) - \varepsilon_\theta(x_t)\right).$$

**Scale convention**: $s = 0$ ignores the label, $s = 1$ is the plain conditional model, $s > 1$ exaggerates. The paper of Ho and Salimans writes $w$ for $s - 1$; when someone reports a "scale", ask which. It costs a second run of the network, except at 0 and 1.

### Exercise 6.6 · `guided_eps` · ★ · 3 minutes

Write it, for every channel. (A much-copied implementation guides only the first three of four latent channels, "for exact reproducibility".)

<details><summary>Hint</summary>

Check for yourself: at `s = 1` the result must be `conditional`, at `s = 0` it must be `unconditional`.

</details>
"""

# %%
def guided_eps(conditional, unconditional, s):
    """Shapes: two predictions (B, C, H, W), s a number."""
    ### BEGIN SOLUTION
    return unconditional + s * (conditional - unconditional)
    ### END SOLUTION

# %% points=1
check(guided_eps)

# %% tags=["nbval-ignore-output"]
red = torch.full((8,), hair.index("red"), device=device)
by_scale = {s: faces_from(noise(8), red, Guided(unet, 5, float(s)), steps=12)
            for s in (0, 1, 2, 5)}
show(image_grid(torch.cat(list(by_scale.values())), columns=8,
                row_titles=[f"s = {s}" for s in by_scale]),
     """Eight noises, red hair asked for with scale 0, 1, 2 and 5. At 0 hair of all colours;
     from 1 on red; at 5 the red is deeper and begins to tint skin and mouths.""")
obeyed = {s: f"{obedience(x, 'hair', red.cpu()):.0%}" for s, x in by_scale.items()}
print("red, says the classifier:", obeyed)

# %% [markdown]
r"""
### What it costs

Measured beforehand on 130 faces, three seeds (`python -m minigen reproduce guidance`): how often the classifier reads the colour asked for (**obedience**), how varied the faces *asked for one colour* are (**diversity**, the spread of the classifier's features, relative to real faces of one colour; at scale 0 all colours are mixed, so compare from scale 1 on), and the Fréchet distance.
"""

# %%
print(reproduce.as_text("guidance"))

# %% tags=["nbval-ignore-output"]
cells, scales = reproduce.read("guidance"), [0, 1, 1.5, 2, 3, 5]


def mean_over_seeds(column):
    return [statistics.mean(c[column] for c in cells if c["row"] == f"scale {s}")
            for s in scales]


obeyed, varied = mean_over_seeds("obedience"), mean_over_seeds("diversity")
fig, axes = panels(1, 2)
curves({"obedience": obeyed, "diversity": varied}, x=scales, xlabel="scale s",
       ylabel="share; 1 is the data's", ax=axes[0, 0])
curves({"toy Fréchet distance": mean_over_seeds("frechet")}, x=scales, xlabel="scale s",
       ax=axes[0, 1])
show(fig, """Left: obedience jumps from 0.23 at scale 0, which is chance, to 1 at scale 1;
     diversity falls slowly as the scale grows. Right: the Fréchet distance is least for scales
     1 to 2 and rises beyond.""")
assert obeyed[1] > 0.5 > obeyed[0]

# %% [markdown]
r"""
Hair colour is an easy label: the plain conditional model obeys it almost always, so guidance has little left to win here and something to lose. It earns its price where the label is hard (a sentence, one breed of a hundred). Guidance samples from nothing anyone has trained: it trades variety for obedience, and for the looks of the typical.

**Play:** the scale, the colour, and the number of steps.
"""

# %% tags=["nbval-ignore-output"]
def play(colour, scale, steps):
    y = torch.full((6,), hair.index(colour), device=device)
    faces = faces_from(noise(6, seed=4), y, Guided(unet, 5, float(scale)), steps=steps)
    return image_grid(faces, columns=6)


explore(play, play("blond", 1.5, 10), """Six faces with blond hair, asked for with scale 1.5, in
        ten steps.""",
        colour=(list(hair), "blond"), scale=(0.0, 8.0, 1.5), steps=(2, 40, 10));

# %% [markdown]
r"""
## 6. Filling in

*15 minutes.*

A mask says which pixels are known. The unconditional network was never trained for this, and need not be: sample as always, but after every step **overwrite the known part** with the known picture, noised to the level of that step. The rest has to fit, because the network sees both.

### Exercise 6.7 · `keep_known` · ★★ · 5 minutes

Do it: where the mask is 1, the known picture noised to ᾱ = `ab_prev`; elsewhere `x` as it is.

<details><summary>Hint</summary>

`torch.where(mask.bool(), …, x)`. At the last step `ab_prev` is 1, and the known part is exact.

</details>
"""

# %%
def keep_known(x, known, mask, ab_prev, noise):
    """Shapes: x, known, noise (B, C, H, W), mask (1, 1, H, W) of 0 and 1, ab_prev a number."""
    ### BEGIN SOLUTION
    return torch.where(mask.bool(), ab_prev**0.5 * known + (1 - ab_prev) ** 0.5 * noise, x)
    ### END SOLUTION

# %% points=2
check(keep_known)

# %% tags=["nbval-ignore-output"]
known, mask = ToyFaces(4, seed=12).images().to(device), torch.ones(1, 1, 32, 32, device=device)
mask[..., 9:17, 6:26] = 0                            # the eyes


def fill(seed, repeats):
    states = ddim.inpaint(unet, diffusion, known, mask, noise(4, seed=seed), steps=20,
                          repeats=repeats, clip=(-1, 1),
                          generator=torch.Generator().manual_seed(seed))
    return ddpm.last(states)


rows = {
    "real": known,
    "masked": known * mask,
    "once": fill(0, 1),
    "3 times": fill(0, 3),
    "3 times,\nother seed": fill(1, 3),
}
fig = image_grid(torch.cat(list(rows.values())).clamp(-1, 1).cpu(), columns=4,
                 row_titles=list(rows), width=4.5)
fig.set_figheight(4.7)                  # the row titles leave the images less width
show(fig, """Four faces with glasses, the same with eyes and glasses cut out, and three
     fillings: glasses are put back where their ends were left, with other eyes; doing each step
     three times makes the lines a little cleaner.""")
filled = list(rows.values())[2:]
print("known pixels unchanged:", all(torch.equal(x * mask, known * mask) for x in filled))

# %% [markdown]
r"""
Done plainly, the known part never listens to the filled part: at each step it is overwritten, and the two can disagree at their border. Lugmayr et al. (2022) go up again by one step and repeat (`repeats`), so that both have time to agree. Glasses that were cut through are the test: is the rest drawn? Here even the plain way draws it, since the ends of the frame tell the network what is missing.

## 7. Why pixels are expensive

*5 minutes.*

Fewer steps are one way to a cheaper model. The other is a cheaper step. Count the multiplications of one run of the network:
"""

# %%
def billions(net):
    """Multiplications of one run on one image, in billions."""
    pixels = net.config["size"]
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, 3, pixels, pixels), torch.zeros(1))
    return counter.get_total_flops() / 2e9


with torch.device("meta"):          # shapes only: nothing is computed
    work = {
        "U-Net, 32×32 (ours)": billions(UNet(**PRESETS["small"])),
        "U-Net, 256×256 (the paper's baseline)": billions(UNet(**PRESETS["paper"])),
    }
print("multiplications:")
for name, giga in work.items():
    print(f"{name:<38}{giga:8.2f} billion a step, {giga:6.1f} trillion for 1000 steps")

# %%
numbers = {
    "32×32 pixels": 3 * 32**2,
    "256×256 pixels": 3 * 256**2,
    "4×4×4 latent of 256×256": 4 * 4 * 4,
}
fig, axes = panels(1, 1, height=1.6)
axes[0, 0].barh(list(numbers), list(numbers.values()), color=COLOURS[:3])
axes[0, 0].set_xscale("log")
axes[0, 0].set_xlabel("numbers to denoise", fontsize=9)
show(fig, """Numbers to denoise, log scale: 3,072 for 32×32 pixels, 196,608 for 256×256, and 64
     for the paper's latent of a 256×256 image.""")

# %% [markdown]
r"""
At 256×256 most of that effort goes into detail that a decoder could put back. Chapter 4's autoencoder turns a photograph into 4×4×4 numbers, three thousand times fewer. A diffusion model there needs no U-Net of convolutions; sixteen tokens are a job for a Transformer. That is the paper, and the next chapter.
"""

# %%
print(results_table(through_chapter=6))

# %% [markdown]
r"""
## Summary

- Training needs the marginals only, so a family of samplers fits one network: Eq. 29, with η from 0 (DDIM) to 1 (DDPM).
- A step must know where it goes: its earlier time is the next entry of the list.
- With few steps samples are too alike; a Gaussian's exact answer shows by how much, and catches wrong indices.
- η = 0 makes the noise a code: slerp between codes, invert, edit.
- Guidance: $\varepsilon_u + s(\varepsilon_c - \varepsilon_u)$; obedience up, diversity down; say which scale you mean.
- Filling in needs no training: overwrite the known part at every step's noise level.
"""

# %% tags=["nbval-ignore-output"]
minigen.progress()

# %% [markdown]
r"""
### Words

| English | 中文 | meaning here |
|---|---|---|
| marginal | 边缘分布 | q of x at t given x₀, whatever the path |
| non-Markovian | 非马尔可夫 | a step that also looks at x₀ |
| deterministic sampling | 确定性采样 | η = 0: the picture is a function of the noise |
| spacing | 时间步间隔 | which of the T times are visited |
| spherical interpolation | 球面插值 | along the arc, not the line |
| inversion | 反演 | from a picture to its noise |
| classifier-free guidance | 无分类器引导 | exaggerate what the label adds |
| inpainting | 图像修复 | filling in a masked region |

### References

- Liu, Chen, Gao 2026, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): §3.4, Eq. 29, Algorithm 3, Table 3.
- Song, Meng, Ermon 2021, *Denoising Diffusion Implicit Models*, [arXiv:2010.02502](https://arxiv.org/abs/2010.02502): Eqs. 7, 12, 16; §4.3, §5.3; appendix D.
- Ho, Salimans 2022, *Classifier-Free Diffusion Guidance*, [arXiv:2207.12598](https://arxiv.org/abs/2207.12598): Eq. 6, Algorithms 1 and 2.
- Lugmayr et al. 2022, *RePaint*, [arXiv:2201.09865](https://arxiv.org/abs/2201.09865): Algorithm 1.
- Shoemake 1985, *Animating Rotation with Quaternion Curves*, [doi:10.1145/325165.325242](https://doi.org/10.1145/325165.325242).
- Lin et al. 2024, *Common Diffusion Noise Schedules and Sample Steps are Flawed*, [arXiv:2305.08891](https://arxiv.org/abs/2305.08891): spacings.
"""
