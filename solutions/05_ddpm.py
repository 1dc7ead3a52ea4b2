# %% [markdown]
r"""
# Chapter 5 · DDPM, learning to undo noise

Every model so far drew its picture in one go, or token by token. A **diffusion model** starts from pure noise and takes a thousand small steps, each a little less noisy than the one before. It is trained on the simplest task of this course, telling *which* noise was added to a picture, and to the eye its pictures are the cleanest so far.

In this chapter you will

1. destroy pictures step by step, and find the shortcut that does it in one;
2. compute, exactly, what one step back is when the picture is known;
3. see how a bound on the likelihood shrinks to a mean squared error, and what is dropped on the way;
4. meet the best denoiser there can be, and why one would not want it;
5. train a U-Net that denoises faces, draw with it, and count what a thousand steps cost;
6. let the network learn the variance as well, and measure bits.
"""

# %%
import math
import time

import torch
from tqdm.auto import tqdm

import minigen
from minigen import check, ddpm, vlb
from minigen.data import Digits, ToyFaces, batches, swiss_roll
from minigen.diffusion import Diffusion, cosine_betas, ideal_eps, linear_betas
from minigen.files import load_weights
from minigen.metrics import results_table
from minigen.plots import COLOURS, curves, image_grid, legend, panels, points, show
from minigen.unet import PRESETS, PointDenoiser, UNet
from minigen.widgets import explore

# %%
scale, device = minigen.setup()
size = {
    "small": dict(steps=60, point_steps=1200, digit_steps=700),
    "full": dict(steps=20_000, point_steps=6000, digit_steps=6000),
}[scale]
faces, test = ToyFaces(4096, seed=0), ToyFaces(256, seed=2)
images, test_images = faces.images(), test.images()
diffusion, unet = Diffusion(linear_betas(1000)), load_weights(UNet, "unet")
parameters = sum(p.numel() for p in unet.parameters())
print(f"scale: {scale}, {len(faces)} faces, a U-Net of {parameters:,} parameters")

# %% [markdown]
r"""
Here is where it goes: six faces, drawn from noise in a thousand steps by a longer-trained network. This cell takes half a minute, and that is a point we will come back to.
"""

# %% tags=["nbval-ignore-output"]
generator, start = torch.Generator().manual_seed(5), time.time()
noise = torch.randn(6, 3, 32, 32, generator=generator)
steps = ddpm.ddpm_sample(unet.to(device), diffusion, noise.to(device),
                         clip=(-1, 1), generator=generator, progress=True)
trajectory = list(steps)
seconds = time.time() - start

shown = [999, 800, 600, 400, 200, 100, 50, 0]
titles = [f"t = {t}" for t in shown]
states = {s.t: s.x.cpu().clamp(-1, 1) for s in trajectory}
six_rows = torch.stack([states[t] for t in shown], dim=1).flatten(0, 1)
show(image_grid(six_rows, columns=8, titles=titles), """Six rows, each one face coming out of
     noise, at t = 999 (noise), 800, 600, 400, 200, 100, 50 and 0 (a face). Nothing is to be
     seen down to t = 400; shapes and colours come at 200, details in the last hundred
     steps.""")

# %% [markdown]
r"""
## 1. Noise, step by step

*25 minutes.*

Take a picture $x_0$ with values in $[-1, 1]$. One step of the **forward process** shrinks what is there a little and adds a little Gaussian noise (Eq. 26 of the paper):

$$q(x_t \mid x_{t-1}) = \mathcal N\left(\sqrt{1 - \beta_t}\; x_{t-1},\; \beta_t I\right).$$

Why shrink? If $x_{t-1}$ has variance 1, then $x_t$ has $(1 - \beta_t) + \beta_t = 1$ again: the values stay in one range, and after many steps the picture is gone and $\mathcal N(0, I)$ is left. The numbers $\beta_t$ are the **noise schedule**; DDPM's grows in a straight line from 0.0001 to 0.02 over $T = 1000$ steps. (We count $t$ from 0 to 999, as code does; papers count from 1. So before the first step, at "$t = -1$", there is the clean picture, with $\bar\alpha_{-1} = 1$.)

Look at it on the smallest data set with a shape, two thousand points on a rolled-up line, and step by step:
"""

# %%
roll = swiss_roll(2000)
x, kept = roll, {}
step_noise = torch.Generator().manual_seed(0)
for t, beta in enumerate(diffusion.betas.float()):
    x = (1 - beta).sqrt() * x + beta.sqrt() * torch.randn(x.shape, generator=step_noise)
    if t in (49, 199, 399, 999):
        kept[t] = x
names = ["x₀", *(f"t = {t}" for t in kept)]
show(points([roll, *kept.values()], columns=5, limit=3, titles=names), """A swiss roll of
     points, and the same points after 50, 200, 400 and 1000 noise steps: the spiral blurs,
     becomes a cloud, and ends as a round Gaussian.""")
end = [round(float(v), 1) + 0.0 for v in (x.mean(), x.std())]
print("mean and deviation at the end:", end)

# %% [markdown]
r"""
### The shortcut

A thousand steps to make *one* training example would be slow. But a sum of independent Gaussians is Gaussian, so all $t$ steps together are one (the paper's Eq. 28, where this product is written $\alpha_t$):

$$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1 - \bar\alpha_t}\; \varepsilon, \qquad \bar\alpha_t = \prod_{s \le t} (1 - \beta_s), \quad \varepsilon \sim \mathcal N(0, I).$$

*Why?* It holds for the first step, by definition. Say it holds for $t - 1$. One more step multiplies the signal by $\sqrt{1 - \beta_t}$, which gives $\sqrt{\bar\alpha_t}$. The noise has the variance $(1 - \beta_t)(1 - \bar\alpha_{t-1}) + \beta_t = 1 - \bar\alpha_t$. So it holds for $t$.

### Exercise 5.1 · `alpha_bar` · ★ · 3 minutes

Compute $\bar\alpha_t$ for every $t$ from the schedule.

<details><summary>Hint</summary>

`torch.cumprod(…, dim=0)` multiplies up.

</details>
"""

# %%
def alpha_bar(betas):
    """The share of the signal's variance left after each step. Shapes: (T,) -> (T,)."""
    ### BEGIN SOLUTION
    return torch.cumprod(1 - betas, dim=0)
    ### END SOLUTION

# %% points=1
check(alpha_bar)

# %% [markdown]
r"""
### Exercise 5.2 · `noised` · ★ · 4 minutes

Noise a batch of images, each to its own level: `ab[i]` is $\bar\alpha$ for image `i`.

<details><summary>Hint</summary>

`ab` has shape `(B,)` and the images `(B, C, H, W)`. `ab[:, None, None, None]` lines them up; without it torch multiplies along the *last* axis.

</details>
"""

# %%
def noised(x0, eps, ab):
    """x_t by Eq. 28. Shapes: x0, eps (B, C, H, W), ab (B,) -> (B, C, H, W)."""
    ### BEGIN SOLUTION
    ab = ab[:, None, None, None]
    return ab.sqrt() * x0 + (1 - ab).sqrt() * eps
    ### END SOLUTION

# %% points=1
check(noised)

# %% [markdown]
r"""
Is the shortcut the same? Send one number, $x_0 = 1.5$, two hundred thousand times through each, and compare mean and deviation with each other and with the formula.
"""

# %%
t = torch.tensor([399])
one = torch.full((200_000, 1), 1.5)
slow = one
for beta in diffusion.betas[:400].float():
    slow = (1 - beta).sqrt() * slow + beta.sqrt() * torch.randn(one.shape, generator=step_noise)
fast = diffusion.add_noise(one, t, torch.randn(one.shape, generator=step_noise))
signal, deviation = diffusion.scales(t, one)
print(f"400 steps: mean {slow.mean():.2f}, deviation {slow.std():.2f}")
print(f"at once:   mean {fast.mean():.2f}, deviation {fast.std():.2f}")
print(f"formula:   mean {1.5 * float(signal):.2f}, deviation {float(deviation):.2f}")

# %% [markdown]
r"""
**Play:** move $t$ and watch a face drown. Where do you lose the glasses? The mouth? The colour of the background? Remember the numbers for section 6.
"""

# %% tags=["nbval-ignore-output"]
fixed_noise = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def drown(t):
    xt = diffusion.add_noise(test_images[:6], torch.tensor([t]), fixed_noise)
    return image_grid(xt.clamp(-1, 1), columns=6)


explore(drown, drown(250), """Six faces noised to t = 250: outlines of hair, face and shirt are
        visible, eyes and mouths hardly.""", t=(0, 999, 250));

# %% [markdown]
r"""
## 2. Schedules

*15 minutes.*

What matters is not $\beta_t$ itself but the **signal-to-noise ratio** $\mathrm{SNR}_t = \bar\alpha_t / (1 - \bar\alpha_t)$. At $\bar\alpha = \tfrac12$ there is as much of one as of the other. Nichol and Dhariwal (2021) found that with the linear schedule the last quarter of the steps is nearly pure noise already, and proposed to choose $\bar\alpha_t$ itself, as a squared **cosine**.
"""

# %%
cosine = Diffusion(cosine_betas(1000))
rooted = Diffusion(torch.linspace(1e-4**0.5, 0.02**0.5, 1000).double() ** 2)
schedules = {"linear in β": diffusion, "cosine": cosine, "linear in √β": rooted}
alpha_bars = {name: d.alpha_bar for name, d in schedules.items()}
ratios = {name: d.snr for name, d in schedules.items()}

fig, axes = panels(1, 2)
curves(alpha_bars, xlabel="t", ylabel="ᾱ, signal's share", ax=axes[0, 0])
curves(ratios, xlabel="t", ylabel="signal-to-noise ratio", logy=True, ax=axes[0, 1])
legend(fig)
show(fig, """Left: the share of the signal over t. Linear in β falls early and is near 0 from
     t = 700 on; the cosine falls evenly; linear in the root of β lies between. Right:
     signal-to-noise ratio on a log scale, from 10⁴ down to 4·10⁻⁵ for linear in β, 7·10⁻⁴ for
     linear in √β, 2·10⁻⁹ for the cosine.""")

left = {name: f"{ab[-1]:.2e}" for name, ab in alpha_bars.items()}
print(f"left at the end: linear {left['linear in β']}, cosine {left['cosine']}, "
      f"linear in the root {left['linear in √β']}")
half = {name: int((snr > 1).sum()) for name, snr in ratios.items()}
print(f"half signal, half noise: linear at t = {half['linear in β']}, "
      f"cosine at t = {half['cosine']}")

# %%
times = range(0, 1000, 125)
rows = [d.add_noise(test_images[3:4], torch.tensor([t]), fixed_noise[:1])
        for d in (diffusion, cosine) for t in times]
show(image_grid(torch.cat(rows).clamp(-1, 1), columns=8,
                row_titles=["linear", "cosine"], titles=[f"t = {t}" for t in times]),
     """One face at eight times under two schedules. With the linear one it can hardly be made
     out at t = 375 and is gone at 500; with the cosine it is still there at 500.""")

# %% [markdown]
r"""
A trap for the unwary: latent diffusion's code calls a schedule "linear" that is linear in $\sqrt{\beta}$, the third line. From the same ends it leaves eighteen times as much signal, 7·10⁻⁴ instead of 4·10⁻⁵, and the sampler then starts from something the network has never seen. The paper of this course says "linear β", and we take it at its word.

## 3. One step back

*25 minutes.*

To draw, we need $q(x_{t-1} \mid x_t)$: what was there one step ago? That depends on all pictures in the world. But if we *knew* $x_0$, Bayes' rule would tell us exactly. Both factors are Gaussians in $x_{t-1}$:

$$q(x_{t-1} \mid x_t, x_0) \;\propto\; \underbrace{q(x_t \mid x_{t-1})}_{\text{one step forward}} \; \underbrace{q(x_{t-1} \mid x_0)}_{\text{the shortcut}}.$$

A product of Gaussians is a Gaussian, whose precisions (one over the variance) add up, and whose mean is the average weighted by them. Write $\alpha_t = 1 - \beta_t$. The first factor, read as a function of $x_{t-1}$, has precision $\alpha_t / \beta_t$ around $x_t / \sqrt{\alpha_t}$; the second has $1 / (1 - \bar\alpha_{t-1})$ around $\sqrt{\bar\alpha_{t-1}}\, x_0$. Adding and multiplying out gives

$$\tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\, \beta_t, \qquad \tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t}\, x_0 + \frac{\sqrt{\alpha_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\, x_t .$$
"""

# %%
t, x0_value, xt_value = 20, -0.4, 0.3
beta, prev = float(diffusion.betas[t]), float(diffusion.alpha_bar[t - 1])
grid = torch.linspace(-0.8, 0.8, 400, dtype=torch.float64)


def bell(mean, variance):
    return torch.exp(-((grid - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


forward = bell(xt_value / math.sqrt(1 - beta), beta / (1 - beta))
shortcut = bell(math.sqrt(prev) * x0_value, 1 - prev)
product = forward * shortcut / (forward * shortcut).sum() / (grid[1] - grid[0])

x0, xt = torch.tensor([x0_value]).double(), torch.tensor([xt_value]).double()
mean, variance = diffusion.posterior(x0, xt, torch.tensor([t]))
formula = bell(float(mean), float(variance))
difference = (formula - product).abs().max() / product.max()
print("formula and product of the curves agree to 1e-6 of the peak:", bool(difference < 1e-6))

# %%
bells = {
    "one step forward, from x_t": forward,
    "shortcut, from x₀": shortcut,
    "posterior (formula)": formula,
}
show(curves(bells, x=grid, xlabel="x at t − 1", ylabel="density"), """Three bell curves over x
     at t − 1: one around x_t, narrow; one around x₀, wide; and their product, the posterior,
     narrower than both and close to x_t, a little towards x₀.""")

# %% [markdown]
r"""
### Exercise 5.3 · `posterior_mean` · ★★ · 6 minutes

Write $\tilde\mu_t$, for numbers or tensors.

<details><summary>Hint</summary>

$\alpha_t$ is `1 - beta`, of one step; `ab` is $\bar\alpha_t$ and `ab_prev` is $\bar\alpha_{t-1}$, of all.

</details>
"""

# %%
def posterior_mean(x0, xt, beta, ab, ab_prev):
    """Mean of q(x_{t-1} | x_t, x_0). All tensors of one shape, or numbers that fit."""
    ### BEGIN SOLUTION
    return (ab_prev**0.5 * beta * x0 + (1 - beta) ** 0.5 * (1 - ab_prev) * xt) / (1 - ab)
    ### END SOLUTION

# %% points=2
check(posterior_mean)

# %% [markdown]
r"""
Two facts hold the formula in place, and a test of `minigen` asserts them to twelve digits: averaged over all $x_t$ that $x_0$ can lead to, the posterior must give back the shortcut's mean $\sqrt{\bar\alpha_{t-1}}\, x_0$ and its variance $1 - \bar\alpha_{t-1}$.
"""

# %%
all_t, ones = torch.arange(1000), torch.ones(1000, dtype=torch.float64)
a, variance = diffusion.posterior(ones, 0 * ones, all_t)      # what x₀ = 1 brings
b, _ = diffusion.posterior(0 * ones, ones, all_t)             # what x_t = 1 brings
ab, ab_prev = diffusion.alpha_bar, diffusion.alpha_bar_prev
error_mean = (a + b * ab.sqrt() - ab_prev.sqrt()).abs().max()
error_variance = (b**2 * (1 - ab) + variance - (1 - ab_prev)).abs().max()
print("errors below 1e-12, in 64 bits:", bool(error_mean < 1e-12), bool(error_variance < 1e-12))

# %% [markdown]
r"""
This is the whole idea of sampling. We do not know $x_0$, so a network **guesses** it from $x_t$; we draw $x_{t-1}$ from the posterior *at the guess*; the guess gets better as the noise falls. A single guess from pure noise would be chapter 2's blurry mean; but the weight of the guess in $\tilde\mu_t$ is one in ten thousand at first, and grows to one only at the end, where the guess is good.

## 4. From a likelihood to a mean squared error

*25 minutes.*

Chapter 2's bound holds here as well, with $x_1, \dots, x_T$ as the latents (in this section we count as the papers do, from 1) and nothing to learn in the encoder:

$$-\log p(x_0) \;\le\; \mathbb E_q\Big[\underbrace{\mathrm{KL}\left(q(x_T \mid x_0) \,\|\, p(x_T)\right)}_{\text{nothing to learn}} + \sum_{t > 1} \underbrace{\mathrm{KL}\left(q(x_{t-1} \mid x_t, x_0) \,\|\, p_\theta(x_{t-1} \mid x_t)\right)}_{L_{t-1}} \underbrace{- \log p_\theta(x_0 \mid x_1)}_{L_0}\Big].$$

Each $L_{t-1}$ compares two Gaussians. Give the model the variance $\sigma_t^2$, whatever we choose, and the part of the KL that it can change is the distance of the means:

$$L_{t-1} = \frac{1}{2\sigma_t^2} \left\lVert \tilde\mu_t(x_t, x_0) - \mu_\theta(x_t) \right\rVert^2 + \text{const}.$$

Let the model's mean be the same formula at a guess $\hat x_0$, and let it make its guess by predicting the noise: $\hat x_0 = (x_t - \sqrt{1 - \bar\alpha_t}\, \varepsilon_\theta) / \sqrt{\bar\alpha_t}$. Put it in, and

$$L_{t-1} = \underbrace{\frac{\beta_t^2}{2 \sigma_t^2\, \alpha_t\, (1 - \bar\alpha_t)}}_{\text{weight}} \left\lVert \varepsilon - \varepsilon_\theta(x_t, t) \right\rVert^2 + \text{const}.$$

DDPM **drops the weight**. What is left is the paper's Eq. 27: noise a picture, ask which noise it was, take the squared error.

$$L_{\text{simple}} = \mathbb E_{x_0, \varepsilon, t} \left\lVert \varepsilon - \varepsilon_\theta\left(\sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \varepsilon,\; t\right) \right\rVert^2 .$$

### Exercise 5.4 · `dropped_weight` · ★★ · 5 minutes

Compute the weight for $\sigma_t^2 = \tilde\beta_t$ at all steps but the first (where $\tilde\beta$ is 0).

<details><summary>Hint</summary>

`betas[1:]`, and $\bar\alpha$ from `torch.cumprod`. First $\tilde\beta_t$, then the weight.

</details>
"""

# %%
def dropped_weight(betas):
    """The weight of the squared noise error in the bound, for t = 1 ... T - 1.

    Shapes: (T,) -> (T - 1,).
    """
    ### BEGIN SOLUTION
    ab = torch.cumprod(1 - betas, dim=0)
    beta, ab, ab_prev = betas[1:], ab[1:], ab[:-1]
    variance = (1 - ab_prev) / (1 - ab) * beta
    return beta**2 / (2 * variance * (1 - beta) * (1 - ab))
    ### END SOLUTION

# %% points=2
check(dropped_weight)

# %%
beta, ab, all_ab = diffusion.betas[1:], diffusion.alpha_bar[1:], diffusion.alpha_bar
weight = beta**2 / (2 * diffusion.posterior_variance[1:] * (1 - beta) * (1 - ab))
weights = {"weight in the bound": weight, "weight in L_simple": torch.ones(999)}
errors = {
    "ε": ((1 - all_ab) / all_ab).sqrt(),
    "v": (1 - all_ab).sqrt(),
    "x₀": torch.ones(1000),
}

fig, axes = panels(1, 2)
curves(weights, x=all_t[1:], xlabel="t", logy=True, ax=axes[0, 0])
curves(errors, x=all_t, xlabel="t", ylabel="error of the guess of x₀", logy=True, ax=axes[0, 1])
show(fig, """Left, log scale: the bound weights the very first steps a hundred times more than
     the middle ones; L_simple weights all alike. Right, log scale: what an error of 1 in the
     prediction means for the guess of x₀: for ε it grows from 0.01 to over 100 with t; for v it
     never exceeds 1; for x₀ it is 1.""")
ratio = float(weight[0] / weight[499])
print(f"the bound's weight at t = 1 is {ratio:.0f} times the one at t = 500")

# %% [markdown]
r"""
*What does dropping it do?* The bound cares most for the first steps, where it counts the last, invisible bits of every pixel (section 8 will show them). With equal weights, the network spends its effort on the middle, where faces are decided. The likelihood gets worse, and the pictures better.

### Three views of one output

Given $x_t$, knowing $\varepsilon$ is knowing $x_0$: Eq. 28 turns one into the other. A third choice is a mixture, $v = \sqrt{\bar\alpha_t}\, \varepsilon - \sqrt{1 - \bar\alpha_t}\, x_0$ (Salimans and Ho 2022). All three hold the same information, but a network that errs by the same amount in each errs differently in the picture (right figure above): close to pure noise, an error in $\varepsilon$ is magnified over a hundred times, and $v$ is safe at both ends. The paper predicts $\varepsilon$, and so do we.

### Exercise 5.5 · `x0_from_eps` · ★ · 3 minutes

Solve Eq. 28 for $x_0$.

<details><summary>Hint</summary>

Subtract the noise's part, then divide. `ab` fits the images' shape here.

</details>
"""

# %%
def x0_from_eps(xt, eps, ab):
    """The picture that a noise prediction implies.

    Shapes: xt, eps (B, C, H, W), ab (B, 1, 1, 1).
    """
    ### BEGIN SOLUTION
    return (xt - (1 - ab).sqrt() * eps) / ab.sqrt()
    ### END SOLUTION

# %% points=1
check(x0_from_eps)

# %% [markdown]
r"""
## 5. The best denoiser there is

*25 minutes.*

Before we train anything: how good can a denoiser be? The one with the least squared error is the mean $\mathbb E[x_0 \mid x_t]$. When the data are a *list* of $N$ points, that is a formula. Each point $x_i$ could have led to $x_t$, with a likelihood that falls with its distance:

$$\mathbb E[x_0 \mid x_t] = \sum_i w_i\, x_i, \qquad w = \operatorname{softmax}_i\left( - \frac{\lVert x_t - \sqrt{\bar\alpha_t}\, x_i \rVert^2}{2\,(1 - \bar\alpha_t)} \right).$$

### Exercise 5.6 · `ideal_x0` · ★★★ · 8 minutes

Write it for points in the plane.

<details><summary>Hint</summary>

`torch.cdist(xt, ab**0.5 * data).square()` has shape `(B, N)`. Softmax over the data, then `@ data`.

</details>
"""

# %%
def ideal_x0(xt, data, ab):
    """E[x_0 | x_t] when the data are these points.

    Shapes: xt (B, 2), data (N, 2), ab a number -> (B, 2).
    """
    ### BEGIN SOLUTION
    distance = torch.cdist(xt, ab**0.5 * data).square()
    return (-distance / (2 * (1 - ab))).softmax(dim=1) @ data
    ### END SOLUTION

# %% points=3
check(ideal_x0)

# %%
side = torch.linspace(-2.6, 2.6, 14)
where = torch.cartesian_prod(side, side)
fig, axes = panels(1, 4, height=2.0)
for ax, t in zip(axes.flat, (20, 100, 250, 600), strict=True):
    at = torch.tensor([t])
    goal = diffusion.views(ideal_eps(diffusion, roll, where, at), where, at)[0]
    ax.scatter(*roll[::4].T, s=1, color=COLOURS[5], linewidths=0)
    ax.quiver(*where.T, *(goal - where).T, angles="xy", scale_units="xy", scale=1,
              width=0.006, color=COLOURS[1])
    ax.set_title(f"t = {t}", fontsize=9)
    ax.set(xticks=[], yticks=[], xlim=(-2.8, 2.8), ylim=(-2.8, 2.8), aspect="equal")
show(fig, """Arrows from a grid of places to the ideal guess of x₀, over the swiss roll. At
     t = 20 each arrow ends on the nearest part of the spiral; at 100 still near it; at 250
     between its arms; at 600 all arrows end near the centre, the mean of the data.""")

# %% [markdown]
r"""
With little noise the guess is the nearest piece of the roll. With much noise it is the mean of everything. This is why one step is not enough, and why many are.

Now a small network, three hidden layers that are also told $t$, trained with $L_{\text{simple}}$. To save time the roll gets a schedule of 200 steps that ends at the same noise. Two thousand points, no more: we want to see how the network differs from the formula.
"""

# %% tags=["nbval-ignore-output"]
short = Diffusion(linear_betas(200, 5e-4, 0.1))
torch.manual_seed(0)
point_net = PointDenoiser(2)
training = ddpm.train_ddpm(point_net, batches(roll, batch_size=256), short,
                           steps=size["point_steps"], lr=3e-3)
losses = [s.loss for s in tqdm(training, total=size["point_steps"], desc="swiss roll")]

# %% tags=["nbval-ignore-output"]
def ideal_net(x, t):
    return ideal_eps(short, roll, x, t)


generator = torch.Generator().manual_seed(3)
t = torch.arange(200).repeat_interleave(100)
x0 = roll[torch.randint(2000, (len(t),), generator=generator)]
eps = torch.randn(len(t), 2, generator=generator)
xt = short.add_noise(x0, t, eps)
by_t = {}
with torch.no_grad():
    for name, denoiser in (("network", point_net), ("ideal", ideal_net)):
        error = (denoiser(xt, t) - eps).square().mean(1)
        by_t[name] = error.view(200, 100).mean(1)
show(curves(by_t, x=torch.arange(200), xlabel="t", ylabel="mean squared error of ε", logy=True,
            smooth=5),
     """Squared error of the predicted noise over t, log scale: the network's curve lies on the
     ideal one, but for the first few steps and the last thirty, where it is above.""")
mean_loss = {name: float(v.mean()) for name, v in by_t.items()}
print("loss:", {name: round(v, 3) for name, v in mean_loss.items()})
assert mean_loss["ideal"] < mean_loss["network"] < 1.3 * mean_loss["ideal"]

# %% [markdown]
r"""
The loss does not go to zero, and *cannot*: even the ideal denoiser cannot know which noise it was. So a diffusion model's loss says little by itself; what counts is the distance to this floor, and for pictures nobody knows the floor. Now draw with both.
"""

# %% tags=["nbval-ignore-output"]
start_noise = torch.randn(500, 2, generator=generator)
generator, drawn = torch.Generator().manual_seed(4), {}
for name, denoiser in (("ideal", ideal_net), ("network", point_net)):
    drawn[name] = ddpm.last(ddpm.ddpm_sample(denoiser, short, start_noise, generator=generator))
drawn["fresh data"] = swiss_roll(500, seed=9)
show(points(list(drawn.values()), columns=3, limit=2.6, titles=list(drawn)), """Samples with the
     ideal denoiser, with the network, and fresh data: all three show the spiral; the network's
     is thicker, and ragged at its inner end.""")

nearest = {name: torch.cdist(x, roll).min(1).values for name, x in drawn.items()}
mean_distance = {name: round(float(v.mean()), 4) for name, v in nearest.items()}
print("mean distance to the nearest of the 2000 points:")
print(" ", mean_distance)
assert nearest["ideal"].mean() < nearest["fresh data"].mean() < nearest["network"].mean()

# %% [markdown]
r"""
Read the numbers twice. The ideal denoiser's samples lie *closer* to the training points than fresh data do. Its last step lands on a mean of the few points within the last, smallest noise; with finer steps, on one of them exactly. **The best possible denoiser of a finite data set draws nothing new.** What makes a diffusion model useful is that the network cannot be ideal: it is smooth, and where the formula would jump to the nearest training point it draws the line between them. Generalisation is an error of the right kind.

## 6. Faces

*25 minutes.*

For pictures, DDPM uses a **U-Net**. It goes down, halving the resolution at every stage, and up again; each block on the way up also sees what its partner on the way down made (**skip connections**), so that fine detail need not pass through the bottom. Every residual block is told the time: $t$ becomes sines and cosines of many frequencies, then a vector, which is added to all pixels.
"""

# %%
def describe(config):
    net = UNet(**config)
    sizes = [config["size"] // 2**i for i in range(len(config["multipliers"]) + 1)]
    widths = [config["width"] * m for m in config["multipliers"]]
    millions = sum(p.numel() for p in net.parameters()) / 1e6
    print(f"{config['size']}×{config['size']}: resolutions {sizes}, widths {widths},")
    print(f"  blocks a stage: {config['blocks']}, attention at {config['attention_at']}, "
          f"{millions:.1f} million parameters")


with torch.device("meta"):          # shapes only: nothing is computed, no memory is used
    describe(PRESETS["paper"])
    describe(PRESETS["small"])

# %% [markdown]
r"""
Four stages down and four up in both. The first is the paper's baseline (Table 4), whose width it does not state; the second is ours.

### A running average of the weights

Adam's steps are noisy, and the pictures show it. So one samples from a slow average of the weights, $\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta$ with $d = 0.9999$. But at the start $\bar\theta$ is the untrained network, and $0.9999^{n}$ forgets it slowly:
"""

# %%
steps = torch.arange(20_000)                       # n, the number of updates before
constant = 0.9999 ** (steps + 1.0).double()
warm_d = torch.minimum(torch.tensor(0.9999).double(), (1 + steps) / (10 + steps.double()))
warm = torch.cumprod(warm_d, 0)
shares = {"d = 0.9999 from the start": constant, "with warm-up": warm.clamp_min(1e-12)}
show(curves(shares, x=steps, xlabel="training step", ylabel="share of the untrained weights",
            logy=True),
     """Share of the untrained weights in the average, log scale: with a constant d = 0.9999
     still 37 % after 10,000 steps; with the warm-up it falls below 1e-6 within a few dozen
     steps.""")
print(f"after 2000 steps: constant {float(constant[1999]):.2f}, "
      f"warmed up {'below' if float(warm[1999]) < 1e-6 else 'above'} 1e-6")

# %% [markdown]
r"""
### Exercise 5.7 · `ema_step` · ★ · 4 minutes

One update with warm-up, $d = \min\left(d_{\max}, \frac{1 + n}{10 + n}\right)$, where $n$ is the number of updates before this one.

<details><summary>Hint</summary>

At $n = 0$ the average takes nine tenths of the new weights. (`ddpm.ema`, which is torch's `AveragedModel`, takes all of them the first time.)

</details>
"""

# %%
def ema_step(average, weights, n, d_max):
    """The new average, a new tensor. Shapes: average, weights alike; n, d_max numbers."""
    ### BEGIN SOLUTION
    d = min(d_max, (1 + n) / (10 + n))
    return d * average + (1 - d) * weights
    ### END SOLUTION

# %% points=1
check(ema_step)

# %% [markdown]
r"""
### Training

All of it in six lines; `ddpm.train_ddpm` draws $t$ and $\varepsilon$ for every picture and follows the learning rate schedule. Sixty steps, a quarter of a minute, are far too few for faces, so this shows only that the loss falls; then we go on with the longer-trained network. That one was also told the colour of the hair in six of seven cases, which chapter 6 will use; here we do not tell it.
"""

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
young = UNet(**PRESETS["small"]).to(device)
average = ddpm.ema(young, 0.99)
training = ddpm.train_ddpm(young, batches(images, batch_size=32), diffusion,
                           steps=size["steps"], average=average)
losses = [s.loss for s in tqdm(training, total=size["steps"], desc="U-Net")]
young = average.module.cpu()
show(curves({"loss": losses}, ylabel="mean squared error of ε", smooth=10), """Training loss of
     the U-Net: from 1, the error of predicting no noise at all, it falls steeply and then
     slowly.""")
last_ten = sum(losses[-10:]) / 10
print(f"from {losses[0]:.2f} to {last_ten:.2f}; the longer-trained network has "
      f"{unet.card['test_loss']:.4f} on unseen faces")
assert last_ten < 0.5 * losses[0]

# %% [markdown]
r"""
**Play:** noise a face to level $t$ and let a network guess the clean one, in one step. Below which $t$ is it the right face? Above which is it merely *a* face, or the mean of all? Compare with what you saw by eye in section 1.

<details><summary>Answer</summary>

By eye the mouths go at about $t = 150$, the glasses at 200, the colours of the backgrounds between 300 and 400. The longer-trained network sees further: up to 300 all glasses are right, though a mouth or an eye has changed; at 400 pale rims appear on the first face, who wears none; the backgrounds keep their hue to about 450, and at 700 little is left but a noisy head.

</details>
"""

# %% tags=["nbval-ignore-output"]
networks = {"just trained": young, "longer-trained": unet}


def guesses(t, network):
    at = torch.tensor([t])
    xt = diffusion.add_noise(test_images[:6], at, fixed_noise)
    with torch.no_grad():
        eps = networks[network].cpu()(xt, at)
    x0 = diffusion.views(eps, xt, at)[0]
    three_rows = torch.cat([test_images[:6], xt, x0]).clamp(-1, 1)
    return image_grid(three_rows, columns=6, row_titles=["real", f"t = {t}", "guess"])


explore(guesses, guesses(300, "longer-trained"), """Six faces, the same noised to t = 300, and
        the longer-trained network's guesses of the clean ones: right in colours, hair and
        glasses, a little soft in the mouths.""",
        t=(0, 999, 300), network=(list(networks), "longer-trained"));

# %% [markdown]
r"""
## 7. Drawing, and what it costs

*15 minutes.*

**Ancestral sampling** (DDPM's Algorithm 2) is section 3 in a loop:

1. $x_T \sim \mathcal N(0, I)$.
2. For $t = T - 1, \dots, 0$: predict $\varepsilon_\theta(x_t, t)$; turn it into $\hat x_0$ (for pixels, clipped to $[-1, 1]$); draw $x_{t-1} \sim \mathcal N(\tilde\mu_t(x_t, \hat x_0), \tilde\beta_t I)$, without noise in the very last step.

The cell at the top of this chapter did that. What did it guess on its way?
"""

# %% tags=["nbval-ignore-output"]
first_guess = {s.t: s.x0[:3].cpu().clamp(-1, 1) for s in trajectory}
three_rows = torch.stack([first_guess[t] for t in shown], dim=1).flatten(0, 1)
show(image_grid(three_rows, columns=8, titles=titles), """The guess of x₀ along the way of three
     of the faces: at t = 999 it is glaring noise, at 800 a noisy head, at 600 a blurred face in
     wrong colours, at 400 a face of which hair, glasses or shirt may still change; after 200
     hardly anything does.""")
each = 1000 * seconds / 6000
print(f"{len(trajectory)} steps, 6 faces: {seconds:.0f} s here, {each:.1f} ms a face and step")
print(f"a GAN of chapter 1 runs once; this network ran {len(trajectory)} times")

# %% [markdown]
r"""
The first guesses are not the blurred mean that section 5's formula gives: they are glaring noise. Section 4's right figure says why: at $t = 999$ an error of one hundredth in $\varepsilon$ is an error of 1.6 in $x_0$, and no network is that exact. An error of chance does little harm *here*: the guess's weight is one in ten thousand at this step, and new noise covers the traces. Keep it in mind for the next chapter, where steps are long. And look at what is decided when: the head, then colours and hair, then eyes and mouth; never all at once.

And the price. The 2,000 faces of our results table would take hours this way on a laptop, so its row for this chapter was measured with a hundred of the thousand steps (how that is possible is chapter 6's subject).
"""

# %%
print(results_table(through_chapter=5))

# %% [markdown]
r"""
Now that is a surprise: the faces above are cleaner than the GAN's of chapter 1, and the distance is three times as large. Numbers and eyes disagree, so ask what the number sees. Read the attributes of 300 samples with the classifier (`metrics.predict_attributes`), and look at the mean colours; this was measured beforehand:

| | data | samples (100 steps) |
|---|---|---|
| slate, the darkest background | 17 % | 26 % |
| sand and cream, bright ones | 33 % | 25 % |
| neutral mouths | 33 % | 38 % |
| mean of all red values | 0.33 | 0.26 |

Every face is plausible; the *mixture* is too dark. What decides the overall brightness? Our guess, which nothing here proves: the noisiest steps, where a prediction of ε says least about $x_0$. Errors of chance average out over a thousand steps; a small *bias* of a small network, trained for less than an hour, does not. Single pictures do not show it, a distribution does. A Fréchet distance is right to punish it, and wrong as the only judge: it counts a shifted mean colour like a missing nose. (Predicting $v$, a longer training, or working in a space where colours are no matter of a mean: chapter 7 takes the third way, and its distance is a tenth of this.)

## 8. Learning the variance

*20 minutes.*

DDPM fixes $\sigma_t^2$ to $\beta_t$ or to $\tilde\beta_t$ and finds no difference in the pictures. For the *likelihood* there is one. Nichol and Dhariwal (2021) let the network give, beside the noise, a number $v$ for each pixel that picks a variance on a logarithmic scale, $\tilde\beta_t$ for −1 and $\beta_t$ for 1 (nothing keeps it between the two, but there is little reason to leave):

$$\sigma^2 = \exp\left(f \log \beta_t + (1 - f) \log \tilde\beta_t\right), \qquad f = \tfrac{v + 1}{2}.$$

$L_{\text{simple}}$ says nothing about variances, so they add a little of the bound, $L_{\text{hybrid}} = L_{\text{simple}} + 0.001\, L_{\text{vlb}}$, and cut the mean out of the second term: it is there to teach the variance only.

The bound can be *counted*: divided by the number of pixels and by $\log 2$, it is **bits per dimension**, what a file of the picture would need. The scanned digits have 64 pixels with 17 grey levels, $\log_2 17 = 4.09$ bits each if nothing is known. Forty steps are enough for them, and a small network.
"""

# %% tags=["nbval-ignore-output"]
digits = Digits().images.flatten(1)
few = Diffusion(linear_betas(40, 5e-3, 0.4))
torch.manual_seed(0)
digit_net = PointDenoiser(64, 256, learn_variance=True)


def loss17(*args):
    return vlb.hybrid_loss(*args, levels=17)


training = ddpm.train_ddpm(digit_net, batches(digits[:1500], batch_size=128), few,
                           steps=size["digit_steps"], lr=2e-3, loss=loss17)
for _ in tqdm(training, total=size["digit_steps"], desc="digits"):
    pass

# %% tags=["nbval-ignore-output"]
def without_v(x, t):
    return digit_net(x, t)[:, :64]


bits = {}
for variance in ("small", "large", "learned"):
    network = digit_net if variance == "learned" else without_v
    bits[variance] = vlb.bits_per_dim(network, few, digits[1500:], variance, levels=17,
                                      generator=torch.Generator().manual_seed(0))
sums = {name: round(float(b.sum()), 2) for name, b in bits.items()}
nothing = round(math.log2(17), 2)
print("bits per pixel on 297 unseen digits:", sums)
print("knowing nothing:", nothing)
assert bits["learned"].sum() < bits["large"].sum() < bits["small"].sum()

# %% tags=["nbval-ignore-output"]
at, v = torch.arange(40), []
with torch.no_grad():
    for t in at:
        eps = torch.randn(200, 64, generator=generator)
        xt = few.add_noise(digits[1500:1700], t[None], eps)
        v.append(digit_net(xt, t[None])[:, 64:].mean())
choices = {
    "learned, mean over pixels": v,
    "β (large)": torch.ones(40),
    "β̃ (small)": -torch.ones(40),
}

fig, axes = panels(1, 2)
curves({name: b[:-1] for name, b in bits.items()}, x=at, xlabel="t", ylabel="bits per pixel",
       logy=True, ax=axes[0, 0])
curves(choices, x=at, xlabel="t", ylabel="v", ax=axes[0, 1])
show(fig, """Left: bits per pixel of every step, log scale: the first few steps hold most of
     them, and the three variances differ there. Right: the v the network learned over t, mean
     over pixels, between the two fixed choices: about 0.5 at first, where the guess is
     uncertain, then falling to −0.3.""")

# %% [markdown]
r"""
The same noise prediction, three variances, three bit counts: the small one is right only if $x_0$ is known, and it is punished for its confidence. Where are the bits? In the first few of forty steps: the grey level's last digit costs more than the shape of the numeral. That is what the dropped weight of section 4 was about: a model of *likelihood* must spend its effort there, a model for *looking at* had better not.

## 9. What it cannot do yet

A diffusion model trains as calmly as a regression, and its single pictures are the cleanest so far; its mixture could be better. But a thousand runs of the network for each of them is a price that the paper's Table 3 puts at ten seconds an image, on a GPU. Next chapter: the same network, no new training, twenty steps.

## Summary

- Forward: $x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \varepsilon$, for every $t$ at once. Schedules are best compared by their signal-to-noise ratio; "linear" should say in what.
- Backward, $x_0$ known: a Gaussian with a formula. $x_0$ unknown: the same at a guess.
- The bound is a sum of weighted squared errors of the noise; without the weights it is Eq. 27.
- ε, x₀ and v are one prediction seen three ways, and errors weigh differently in each.
- The ideal denoiser is a softmax over the data, sets the floor of the loss, and copies; a network does better by being worse.
- Sample from a warmed-up average of the weights. A learned variance buys likelihood.
"""

# %% tags=["nbval-ignore-output"]
minigen.progress()

# %% [markdown]
r"""
### Words

| English | 中文 | meaning here |
|---|---|---|
| diffusion model | 扩散模型 | a model that undoes noise step by step |
| forward process | 前向过程 | adding noise, fixed, nothing learned |
| noise schedule | 噪声调度 | the list of β |
| signal-to-noise ratio | 信噪比 | ᾱ / (1 − ᾱ) |
| posterior | 后验分布 | q of x at t − 1, given x at t and x₀ |
| ε-prediction | 噪声预测 | the network answers with the noise |
| U-Net | U 形网络 | down, up, and skip connections |
| ancestral sampling | 祖先采样 | a draw from every step's Gaussian |
| running average (EMA) | 指数滑动平均 | slow average of the weights |
| bits per dimension | 每维比特数 | the bound, per pixel, in base 2 |

### References

- Liu, Chen, Gao 2026, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): §3.3, Eqs. 26 to 28, Algorithm 2; the baseline of Table 4.
- Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): Eqs. 5 to 14, Algorithms 1 and 2, appendix B.
- Sohl-Dickstein et al. 2015, *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*, [arXiv:1503.03585](https://arxiv.org/abs/1503.03585): the idea.
- Nichol, Dhariwal 2021, *Improved Denoising Diffusion Probabilistic Models*, [arXiv:2102.09672](https://arxiv.org/abs/2102.09672): Eqs. 15 to 17.
- Salimans, Ho 2022, *Progressive Distillation*, [arXiv:2202.00512](https://arxiv.org/abs/2202.00512): v.
- Ronneberger, Fischer, Brox 2015, *U-Net*, [arXiv:1505.04597](https://arxiv.org/abs/1505.04597).
- Vincent 2011, *A Connection Between Score Matching and Denoising Autoencoders*, [doi:10.1162/NECO_a_00142](https://doi.org/10.1162/NECO_a_00142): why a denoiser knows the distribution.
"""
