# %% [markdown]
r"""
# Chapter 5 · DDPM, learning to undo noise

Every model so far drew its picture in one go, or token by token. A **diffusion model** starts from pure noise and takes a thousand small steps, each a little less noisy than the one before. It is trained on the simplest task of this course: telling *which* noise was added to a picture.

In this chapter you will

1. destroy pictures step by step, and find the shortcut that does it in one;
2. compute, exactly, what one step back is when the picture is known;
3. derive the loss from a bound on the likelihood, every line of it, and write the training step;
4. meet the best denoiser there can be, write the sampler, and see why one would not want the best;
5. find out what a denoiser knows: the slope of the log of the density;
6. build a U-Net from its blocks, train it with your step and draw faces with your sampler;
7. find out why those faces are too dark, and put it right by changing what is predicted;
8. let a network learn the variance as well, and measure bits.

It takes about two and a half hours; section 10 can be left out.
"""

# %%
import math
import time

import torch
from torch import nn
from tqdm.auto import tqdm

import minigen
from minigen import check, ddim, ddpm, metrics, vlb
from minigen.checks import yours
from minigen.common import Attention, group_norm, one_cycle, time_features
from minigen.data import Digits, ToyFaces, batches, swiss_roll
from minigen.diagrams import unet_diagram
from minigen.diffusion import Diffusion, cosine_betas, ideal_eps, linear_betas
from minigen.files import load_weights
from minigen.paper import reproduce
from minigen.plots import COLOURS, curves, heat, image_grid, legend, panels, points, show
from minigen.unet import PRESETS, PointDenoiser, TimeBlock, UNet
from minigen.widgets import explore

# %%
scale, device = minigen.setup()
size = {
    "small": dict(steps=60, point_steps=1200, digit_steps=500, drawn=96),
    "full": dict(steps=20_000, point_steps=6000, digit_steps=6000, drawn=1000),
}[scale]
faces, test = ToyFaces(4096, seed=0), ToyFaces(256, seed=2)
images, test_images = faces.images(), test.images()
diffusion, unet = Diffusion(linear_betas(1000)), load_weights(UNet, "unet").to(device)
parameters = sum(p.numel() for p in unet.parameters())
print(f"scale: {scale}, {len(faces)} faces, a U-Net of {parameters:,} parameters")

# %% [markdown]
r"""
Here is where it goes: two faces, drawn from noise in a thousand steps by a longer-trained network. This cell takes about twenty seconds, and that is a point we will come back to.
"""

# %% tags=["nbval-ignore-output"]
generator, start = torch.Generator().manual_seed(5), time.time()
noise = torch.randn(2, 3, 32, 32, generator=generator)
steps = ddpm.ddpm_sample(unet, ddpm.diffusion_of(unet), noise.to(device),
                         clip=(-1, 1), generator=generator, progress=True)
trajectory = list(steps)
seconds = time.time() - start

shown = [999, 900, 800, 600, 400, 200, 100, 0]
titles = [f"t = {t}" for t in shown]
states = {s.t: s.x.cpu().clamp(-1, 1) for s in trajectory}
rows = torch.stack([states[t] for t in shown], dim=1).flatten(0, 1)
show(image_grid(rows, columns=8, titles=titles), """Two rows, each one face coming out of
     noise, at t = 999 (noise), 900, 800, 600, 400, 200, 100 and 0 (a face).""")

# %% [markdown]
r"""
## 1. Noise, step by step

*20 minutes.*

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
Is the shortcut the same? Send one number, $x_0 = 1.5$, two hundred thousand times through each, and compare mean and deviation with each other and with the formula. (Here, and below every exercise, the cells work with *your* function once it has passed its check; until then with the course's. The printed line says which.)
"""

# %%
alpha_bar, noised = yours(alpha_bar), yours(noised)
one = torch.full((200_000, 1, 1, 1), 1.5)
slow = one
for beta in diffusion.betas[:400].float():
    slow = (1 - beta).sqrt() * slow + beta.sqrt() * torch.randn(one.shape, generator=step_noise)
ab = alpha_bar(diffusion.betas)[399].float()
fast = noised(one, torch.randn(one.shape, generator=step_noise), ab.expand(len(one)))
print(f"400 steps: mean {slow.mean():.2f}, deviation {slow.std():.2f}")
print(f"at once:   mean {fast.mean():.2f}, deviation {fast.std():.2f}")
print(f"formula:   mean {1.5 * ab.sqrt():.2f}, deviation {(1 - ab).sqrt():.2f}")

# %% [markdown]
r"""
**Play:** move $t$ and watch a face drown. Where do you lose the glasses? The mouth? The colour of the background? Remember the numbers for section 7.
"""

# %% tags=["nbval-ignore-output"]
fixed_noise = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def drown(t):
    xt = noised(test_images[:6], fixed_noise, diffusion.alpha_bar[t].float().expand(6))
    return image_grid(xt.clamp(-1, 1), columns=6)


explore(drown, drown(250), """Six faces noised to t = 250: outlines of hair, face and shirt are
        visible, eyes and mouths hardly.""", t=(0, 999, 250));

# %% [markdown]
r"""
## 2. Schedules

*10 minutes.*

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

*15 minutes.*

To draw, we need $q(x_{t-1} \mid x_t)$: what was there one step ago? That depends on all pictures in the world. But if we *knew* $x_0$, Bayes' rule would tell us exactly. Both factors are Gaussians in $x_{t-1}$:

$$q(x_{t-1} \mid x_t, x_0) \;\propto\; \underbrace{q(x_t \mid x_{t-1})}_{\text{one step forward}} \; \underbrace{q(x_{t-1} \mid x_0)}_{\text{the shortcut}}.$$

A product of Gaussians is a Gaussian, whose precisions (one over the variance) add up, and whose mean is the average weighted by them. Write $\alpha_t = 1 - \beta_t$. The first factor, read as a function of $x_{t-1}$, has precision $\alpha_t / \beta_t$ around $x_t / \sqrt{\alpha_t}$; the second has $1 / (1 - \bar\alpha_{t-1})$ around $\sqrt{\bar\alpha_{t-1}}\, x_0$. Adding and multiplying out gives

$$\tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\, \beta_t, \qquad \tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t}\, x_0 + \frac{\sqrt{\alpha_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\, x_t .$$
"""

# %%
few = Diffusion(linear_betas(40, 5e-3, 0.4))        # coarse steps: there is more to see
t, x0_value, xt_value = 6, -0.4, 0.3
beta, prev = float(few.betas[t]), float(few.alpha_bar[t - 1])
grid = torch.linspace(-1.6, 1.4, 600, dtype=torch.float64)


def bell(mean, variance):
    return torch.exp(-((grid - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


forward = bell(xt_value / math.sqrt(1 - beta), beta / (1 - beta))
shortcut = bell(math.sqrt(prev) * x0_value, 1 - prev)
product = forward * shortcut / (forward * shortcut).sum() / (grid[1] - grid[0])

x0, xt = torch.tensor([x0_value]).double(), torch.tensor([xt_value]).double()
mean, variance = few.posterior(x0, xt, torch.tensor([t]))
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
     at t − 1: one around 0.31, from x_t; one around −0.37, from x₀, wider; and their product,
     the posterior, narrower than both and between them, nearer to x_t.""")

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
posterior_mean = yours(posterior_mean)
all_t, ones = torch.arange(1000), torch.ones(1000, dtype=torch.float64)
beta, ab, ab_prev = diffusion.betas, diffusion.alpha_bar, diffusion.alpha_bar_prev
variance = diffusion.posterior_variance
a = posterior_mean(ones, 0 * ones, beta, ab, ab_prev)         # what x₀ = 1 brings
b = posterior_mean(0 * ones, ones, beta, ab, ab_prev)         # what x_t = 1 brings
error_mean = (a + b * ab.sqrt() - ab_prev.sqrt()).abs().max()
error_variance = (b**2 * (1 - ab) + variance - (1 - ab_prev)).abs().max()
print("errors below 1e-12, in 64 bits:", bool(error_mean < 1e-12), bool(error_variance < 1e-12))

# %% [markdown]
r"""
This is the whole idea of sampling. We do not know $x_0$, so a network **guesses** it from $x_t$; we draw $x_{t-1}$ from the posterior *at the guess*; the guess gets better as the noise falls. A single guess from pure noise would be chapter 2's blurry mean; but the weight of the guess in $\tilde\mu_t$ is one in ten thousand at first, and grows to one only at the end, where the guess is good.

## 4. From a likelihood to a mean squared error

*25 minutes.*

Chapter 2's bound holds here as well, with $x_1, \dots, x_T$ as the latents (in this section we count as the papers do, from 1) and nothing to learn in the encoder $q$:

$$-\log p(x_0) \;\le\; \mathbb E_q\left[ \log \frac{q(x_1, \dots, x_T \mid x_0)}{p_\theta(x_0, \dots, x_T)} \right] = \mathbb E_q\left[ -\log p(x_T) + \sum_{t \ge 1} \log \frac{q(x_t \mid x_{t-1})}{p_\theta(x_{t-1} \mid x_t)} \right].$$

The left step is chapter 2's: right minus left is a KL divergence, of $q$ to the model's own posterior over the latents, and no KL is negative. The right step only writes both as products of their steps: $q$ goes up the chain from $x_0$, the model comes down it from $x_T$.

**Turn the fractions round.** They compare a step *up* with a step *down*, which are not densities of the same thing. Two facts help. Given $x_{t-1}$, the older $x_0$ says nothing more about $x_t$ (the chain forgets), so $q(x_t \mid x_{t-1}) = q(x_t \mid x_{t-1}, x_0)$. And with $x_0$ as a condition everywhere, Bayes' rule turns it, for $t > 1$:

$$q(x_t \mid x_{t-1}, x_0) = q(x_{t-1} \mid x_t, x_0) \; \frac{q(x_t \mid x_0)}{q(x_{t-1} \mid x_0)}.$$

The logs of the last fractions **telescope**: in the sum over $t = 2, \dots, T$ each $\log q(x_t \mid x_0)$ comes once with plus and once with minus, and $\log q(x_T \mid x_0) - \log q(x_1 \mid x_0)$ is left. The term at $t = 1$, which we did not turn, is $\log q(x_1 \mid x_0) - \log p_\theta(x_0 \mid x_1)$, and its first half cancels the second of these. So the bound is

$$\mathbb E_q\Big[\underbrace{\mathrm{KL}\left(q(x_T \mid x_0) \,\|\, p(x_T)\right)}_{\text{nothing to learn}} + \sum_{t > 1} \underbrace{\mathrm{KL}\left(q(x_{t-1} \mid x_t, x_0) \,\|\, p_\theta(x_{t-1} \mid x_t)\right)}_{L_{t-1}} \underbrace{- \log p_\theta(x_0 \mid x_1)}_{L_0}\Big].$$

Each $L_{t-1}$ compares two Gaussians over the same $x_{t-1}$: section 3's posterior, and the model's, to which we give a variance $\sigma_t^2$ of our choice. In $D$ dimensions (chapter 2 had the case $\mathcal N(0, I)$ on the right)

$$L_{t-1} = \frac{1}{2\sigma_t^2} \left\lVert \tilde\mu_t(x_t, x_0) - \mu_\theta(x_t) \right\rVert^2 + \underbrace{\frac D2 \left( \frac{\tilde\beta_t}{\sigma_t^2} - 1 - \log \frac{\tilde\beta_t}{\sigma_t^2} \right)}_{\text{nothing to learn}}.$$

**Now the means.** Let the model's be the same formula $\tilde\mu_t$ at a guess $\hat x_0$. The parts with $x_t$ are equal and drop out:

$$\tilde\mu_t - \mu_\theta = \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t} \left( x_0 - \hat x_0 \right).$$

Let the network make its guess by predicting the noise, $\hat x_0 = (x_t - \sqrt{1 - \bar\alpha_t}\, \varepsilon_\theta) / \sqrt{\bar\alpha_t}$. The true $x_0$ is the same with the true $\varepsilon$, so

$$x_0 - \hat x_0 = - \frac{\sqrt{1 - \bar\alpha_t}}{\sqrt{\bar\alpha_t}} \left( \varepsilon - \varepsilon_\theta \right), \qquad \tilde\mu_t - \mu_\theta = - \frac{\beta_t}{\sqrt{\alpha_t}\, \sqrt{1 - \bar\alpha_t}} \left( \varepsilon - \varepsilon_\theta \right),$$

because $\bar\alpha_t = \alpha_t\, \bar\alpha_{t-1}$. Squared, and over $2\sigma_t^2$:

$$L_{t-1} = \underbrace{\frac{\beta_t^2}{2 \sigma_t^2\, \alpha_t\, (1 - \bar\alpha_t)}}_{\text{weight}} \left\lVert \varepsilon - \varepsilon_\theta(x_t, t) \right\rVert^2 + \text{const}.$$

A formula of so many lines wants a check: one picture of three numbers, a network that errs by known amounts, and the KL divergence itself.
"""

# %%
beta, ab = diffusion.betas[1:], diffusion.alpha_bar[1:]                # t = 1 … 999, σ² = β̃
weight = beta**2 / (2 * diffusion.posterior_variance[1:] * (1 - beta) * (1 - ab))

t = torch.tensor([300])
dice = torch.Generator().manual_seed(0)
x0, eps, error = torch.randn(3, 1, 3, generator=dice, dtype=torch.float64)
xt = diffusion.add_noise(x0, t, eps)
guess = diffusion.views(eps + error, xt, t)[0]
means = [diffusion.posterior(x, xt, t)[0] for x in (x0, guess)]
variance = float(diffusion.posterior_variance[300])
kl = float(vlb.gaussian_kl(means[0], variance, means[1], variance).sum())
shortened = float(weight[299] * error.square().sum())
print("the KL is the weight times the squared error, to 1e-9:", abs(kl / shortened - 1) < 1e-9)

# %% [markdown]
r"""
DDPM **drops the weight**. What is left is the paper's Eq. 27: noise a picture, ask which noise it was, take the squared error.

$$L_{\text{simple}} = \mathbb E_{x_0, \varepsilon, t} \left\lVert \varepsilon - \varepsilon_\theta\left(\sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \varepsilon,\; t\right) \right\rVert^2 .$$

### Three views of one output

Given $x_t$, knowing $\varepsilon$ is knowing $x_0$: Eq. 28 turns one into the other. A third choice is a mixture (Salimans and Ho 2022),

$$v = \sqrt{\bar\alpha_t}\, \varepsilon - \sqrt{1 - \bar\alpha_t}\, x_0, \qquad x_0 = \sqrt{\bar\alpha_t}\, x_t - \sqrt{1 - \bar\alpha_t}\, v .$$

All three hold the same information. But a network that errs by the same amount in each errs differently in the picture: the right figure below.
"""

# %%
all_ab = diffusion.alpha_bar
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
*What does dropping the weight do?* The bound cares most for the first steps, where it counts the last, invisible bits of every pixel (section 10 will show them). With equal weights, the network spends its effort on the middle, where faces are decided. The likelihood gets worse, and the pictures better.

*And the views?* Close to pure noise an error in $\varepsilon$ is magnified over a hundred times, and $v$ is safe at both ends. **The paper predicts $\varepsilon$, as DDPM did, and so do we up to section 8.** What that costs is the subject of section 9; the network at the top of this chapter, and in the next one, predicts $v$.

### Exercise 5.4 · `x0_from_eps` · ★ · 3 minutes

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
### Exercise 5.5 · `training_step` · ★★★ · 15 minutes

Algorithm 1 of DDPM, the whole of the training: for every image of a batch a time step of its own, each of the $T$ equally likely, and its own noise; the loss; one step of the optimiser. This function trains every network up to section 8.

<details><summary>Hint</summary>

Two draws (`torch.randint` with as many numbers as images, `torch.randn` in the images' shape), one noising, one call `model(xt, t)`, a mean of squares. Then what every training step ends with, in the order that forgets the gradients of the step before.

</details>

<details><summary>Second hint</summary>

`diffusion.add_noise(x0, t, eps)` is your `noised` for any shape. `.item()` makes a number of the loss.

</details>
"""

# %%
def training_step(model, optimiser, diffusion, x0, generator=None):
    """One step of Algorithm 1; both draws come from `generator`. Returns the loss, a number.

    Shapes: x0 (B, …); model takes (B, …) and t, (B,) integers from 0 to diffusion.T - 1.
    """
    ### BEGIN SOLUTION
    t = torch.randint(diffusion.T, (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    xt = diffusion.add_noise(x0, t, eps)
    loss = (model(xt, t) - eps).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()
    ### END SOLUTION

# %% points=4
check(training_step)

# %% [markdown]
r"""
## 5. The best denoiser there is

*25 minutes.*

Before we train anything: how good can a denoiser be? The one with the least squared error is the mean $\mathbb E[x_0 \mid x_t]$. When the data are a *list* of $N$ points, that is a formula. Each point $x_i$ could have led to $x_t$, with a likelihood that falls with its distance:

$$\mathbb E[x_0 \mid x_t] = \sum_i w_i\, x_i, \qquad w = \operatorname{softmax}_i\left( - \frac{\lVert x_t - \sqrt{\bar\alpha_t}\, x_i \rVert^2}{2\,(1 - \bar\alpha_t)} \right).$$

### Exercise 5.6 · `ideal_x0` · ★★★ · 8 minutes

Write it for points in the plane. It should hold for the smallest noise as well, where `exp` of so large a negative number is 0.

<details><summary>Hint</summary>

`torch.cdist` gives all distances between two sets of points, `(B, N)`. Which of them is shrunk before? Over which axis do the weights sum to 1?

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
ideal_x0 = yours(ideal_x0)
side = torch.linspace(-2.6, 2.6, 14)
where = torch.cartesian_prod(side, side)
fig, axes = panels(1, 4, height=2.0)
for ax, t in zip(axes.flat, (20, 100, 250, 600), strict=True):
    goal = ideal_x0(where, roll, float(diffusion.alpha_bar[t]))
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

Now a small network, three hidden layers that are also told $t$, trained with your step. To save time the roll gets a schedule of 200 steps that ends at the same noise. Two thousand points, no more: we want to see how the network differs from the formula.
"""

# %% tags=["nbval-ignore-output"]
training_step = yours(training_step)
short = Diffusion(linear_betas(200, 5e-4, 0.1))


def train_points(data, batch_size=256):
    """A network for points, trained by `training_step`, and its losses."""
    torch.manual_seed(0)
    net, dice = PointDenoiser(2), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    rate = one_cycle(optimiser, 3e-3, size["point_steps"])         # up, then slowly down
    losses = []
    data = batches(data, batch_size=batch_size)
    for _ in tqdm(range(size["point_steps"]), desc="points"):
        losses.append(training_step(net, optimiser, short, *next(data), dice))
        rate.step()
    return net, losses


point_net, losses = train_points(roll)
print(f"loss: {losses[0]:.2f} at first, {sum(losses[-100:]) / 100:.3f} at the end")

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
mean_loss = {name: float(e.mean()) for name, e in by_t.items()}
print("loss:", {name: round(e, 3) for name, e in mean_loss.items()})
assert mean_loss["ideal"] < mean_loss["network"] < 1.3 * mean_loss["ideal"]

# %% [markdown]
r"""
The loss does not go to zero, and *cannot*: even the ideal denoiser cannot know which noise it was. So a diffusion model's loss says little by itself; what counts is the distance to this floor, and for pictures nobody knows the floor.

### Exercise 5.7 · `ancestral_sample` · ★★★ · 15 minutes

Now draw. **Ancestral sampling**, Algorithm 2 of DDPM, is section 3 in a loop:

1. $x_T \sim \mathcal N(0, I)$: it is given.
2. For $t = T - 1, \dots, 0$: ask the network; turn its answer into $\hat x_0$; draw $x_{t-1} \sim \mathcal N\left(\tilde\mu_t(x_t, \hat x_0),\, \tilde\beta_t I\right)$. At $t = 0$ the variance is 0.

Two things for later: with `clip=True` (for pixels) the guess $\hat x_0$ is kept in $[-1, 1]$; and the network may predict something other than $\varepsilon$: it says what, `ddpm.prediction_of(model)`.

<details><summary>Hint</summary>

`diffusion.views(output, x, at, prediction)` returns $\hat x_0$ and $\hat\varepsilon$, `diffusion.posterior(x0, x, at)` mean and variance. `at` is a tensor of integers, one for each image.

</details>

<details><summary>Second hint</summary>

The loop's last line is the mean plus the *root* of the variance times `torch.randn(x.shape, generator=generator)`. Ask the network inside `torch.no_grad()`: a thousand steps of graph are a lot of memory.

</details>
"""

# %%
def ancestral_sample(model, diffusion, x, generator=None, clip=False):
    """Draw by Algorithm 2 from x, pure noise; one draw of noise a step, from `generator`.

    Shapes: x (N, …); model takes (N, …) and t (N,) -> (N, …).
    """
    ### BEGIN SOLUTION
    for t in reversed(range(diffusion.T)):
        at = torch.full((len(x),), t)
        with torch.no_grad():
            output = model(x, at)
        x0, _ = diffusion.views(output, x, at, ddpm.prediction_of(model))
        if clip:
            x0 = x0.clamp(-1, 1)
        mean, variance = diffusion.posterior(x0, x, at)
        x = mean + variance.sqrt() * torch.randn(x.shape, generator=generator)
    return x
    ### END SOLUTION

# %% points=4
check(ancestral_sample)

# %% tags=["nbval-ignore-output"]
ancestral_sample = yours(ancestral_sample)
start_noise = torch.randn(500, 2, generator=generator)
generator, drawn = torch.Generator().manual_seed(4), {}
for name, denoiser in (("ideal", ideal_net), ("network", point_net)):
    drawn[name] = ancestral_sample(denoiser, short, start_noise, generator)
drawn["fresh data"] = swiss_roll(500, seed=9)
show(points(list(drawn.values()), columns=3, limit=2.6, titles=list(drawn)), """Samples with the
     ideal denoiser, with the network, and fresh data: all three show the spiral; the network's
     is thicker, and ragged at its inner end.""")

nearest = {name: torch.cdist(x, roll).min(1).values for name, x in drawn.items()}
mean_distance = {name: round(float(d.mean()), 4) for name, d in nearest.items()}
print("mean distance to the nearest of the 2000 points:")
print(" ", mean_distance)
assert nearest["ideal"].mean() < nearest["fresh data"].mean() < nearest["network"].mean()

# %% [markdown]
r"""
Read the numbers twice. The ideal denoiser's samples lie *closer* to the training points than fresh data do. Its last step lands on a mean of the few points within the last, smallest noise; with finer steps, on one of them exactly. **The best possible denoiser of a finite data set draws nothing new.** What makes a diffusion model useful is that the network cannot be ideal.

*Predict:* with twenty points instead of two thousand, what will the ideal denoiser draw? And the network, trained on the same twenty?
"""

# %% tags=["nbval-ignore-output"]
twenty = roll[:20]
small_net, _ = train_points(twenty, batch_size=20)


def ideal_of_twenty(x, t):
    return ideal_eps(short, twenty, x, t)


clouds = [{"drawn": ancestral_sample(net, short, start_noise, generator), "the twenty": twenty}
          for net in (ideal_of_twenty, small_net)]
show(points(clouds, columns=2, limit=2.6, titles=["ideal", "network"], size=8),
     """500 samples, and the twenty points they were learned from. Ideal: every sample lies on
     one of the twenty. Network: a thick arc through the outer points, and many samples spread
     over the inside, where the roll has a gap.""")
far = [float(torch.cdist(c["drawn"], twenty).min(1).values.mean()) for c in clouds]
print(f"mean distance to the nearest of the twenty: ideal {far[0]:.3f}, network {far[1]:.3f}")
assert far[0] < far[1]

# %% [markdown]
r"""
Where the formula jumps to the nearest training point, the network, being smooth, fills in what lies between: much of the outer arm, of which it was never shown the parts between the points, and a good deal that is no part of the roll. Both are what a smooth function makes of twenty points. **Generalisation is an error of the right kind**, and whether it is of the right kind depends on the network and on how densely the data lie.

## 6. What a denoiser knows: the score

*15 minutes.*

A network that learned to tell noise can draw the data. Where in it does their distribution stand? Write $\sigma_t = \sqrt{1 - \bar\alpha_t}$, and $p(x_t)$ for the density of all noised pictures, $p(x_t) = \int q(x_t \mid x_0)\, p(x_0)\, dx_0$. The gradient of its log is called the **score**. Take it, inside the integral:

$$\nabla \log p(x_t) = \frac{\int \nabla q(x_t \mid x_0)\, p(x_0)\, dx_0}{p(x_t)} = \int \nabla \log q(x_t \mid x_0)\; p(x_0 \mid x_t)\, dx_0 = \mathbb E\left[ - \frac{x_t - \sqrt{\bar\alpha_t}\, x_0}{\sigma_t^2} \,\Big|\, x_t \right].$$

(The second step is $\nabla q = q\, \nabla \log q$ and Bayes' rule; the third is the log of a Gaussian.) The numerator is $\sigma_t\, \varepsilon$. So

$$\mathbb E[\varepsilon \mid x_t] = -\,\sigma_t\, \nabla \log p(x_t), \qquad \mathbb E[x_0 \mid x_t] = \frac{x_t + \sigma_t^2\, \nabla \log p(x_t)}{\sqrt{\bar\alpha_t}} .$$

The right one is **Tweedie's formula**: the best guess of the clean picture is the noisy one, moved uphill to where noisy pictures are more frequent. It needs the density of the *noisy* pictures only.

Now the turn that Vincent (2011) found. Fitting a network to the score looks hopeless: nobody can compute $\nabla \log p(x_t)$ for pictures. But a regression with squared error ends at the conditional mean, and the mean of $\varepsilon$ given $x_t$ *is* the score, up to $-\sigma_t$. So noising, asking which noise it was, and taking the squared error **is** fitting the score. This is why a denoiser knows the distribution: for each $t$ it holds the slope of the log density, everywhere.

First the formula, on the roll's two thousand points, whose noised density is a mixture of two thousand Gaussians and can be differentiated.
"""

# %%
def log_density(x, t):
    """log p(x_t) of the noised roll, up to a constant."""
    signal, noise = short.scales(t, x)
    square = torch.cdist(x, signal * roll.to(x)).square()
    return (-square / (2 * noise**2)).logsumexp(1)


t = torch.tensor([60])
x = torch.randn(100, 2, generator=torch.Generator().manual_seed(6)).double().requires_grad_()
(slope,) = torch.autograd.grad(log_density(x, t).sum(), x)
best_eps = ideal_eps(short, roll.double(), x.detach(), t)
gap = (short.score(best_eps, t) - slope).abs().max()
print("the gradient is −E[ε | x_t] / σ, to 1e-9:", bool(gap < 1e-9))

# %% tags=["nbval-ignore-output"]
line = torch.linspace(-2.8, 2.8, 120)
across, up = torch.meshgrid(line, line, indexing="xy")
fine = torch.stack([across, up], 2).view(-1, 2)
fig, axes = panels(1, 3, height=2.5)
for ax, t in zip(axes.flat, (5, 30, 90), strict=True):
    at = torch.tensor([t])
    density = log_density(fine, at).view(120, 120).exp()
    ax.imshow(density, origin="lower", extent=(-2.8, 2.8) * 2, cmap="Blues")
    with torch.no_grad():
        step = -0.25 * point_net(where, at)               # σ times the score, shortened
    ax.quiver(*where.T, *step.T, angles="xy", scale_units="xy", scale=1, width=0.006,
              color=COLOURS[1])
    ax.set_title(f"t = {t}, σ = {float((1 - short.alpha_bar[t]).sqrt()):.2f}", fontsize=9)
    ax.set(xticks=[], yticks=[])
show(fig, """The density of the noised roll in blue, at t = 5, 30 and 90: a thin spiral, a thick
     one with its arms run together, a round hill. The network's arrows, over it, point uphill
     everywhere: at t = 5 from both sides to the nearest arm, at 30 to the ridge, at 90 to the
     middle. They are shortest on the ridges.""")

with torch.no_grad():
    alike = {}
    for t in (5, 30, 90):
        at = torch.tensor([t])
        xt = short.add_noise(roll, at, torch.randn(roll.shape, generator=generator))
        pair = point_net(xt, at), ideal_net(xt, at)
        alike[f"t = {t}"] = round(float(torch.cosine_similarity(*pair).mean()), 3)
print("cosine between the network's arrows and the true ones, where noised points lie:")
print(" ", alike)

# %% [markdown]
r"""
Nobody showed the network a density, and its arrows climb it. If it knows the slope, one should be able to draw with the slope *alone*, at a fixed $t$, without any chain of steps. **Langevin's dynamics** does that: a step uphill, and a random step against settling on the top,

$$x \;\leftarrow\; x + h\, \nabla \log p(x_t) + \sqrt{2h}\; z, \qquad z \sim \mathcal N(0, I),$$

repeated, draws from $p(x_t)$ for small $h$, wherever it begins.
"""

# %% tags=["nbval-ignore-output"]
dice, clouds = torch.Generator().manual_seed(8), []
begin = 2.5 * torch.rand(500, 2, generator=dice)             # a square, at the upper right
for t in (90, 5):
    at, x = torch.tensor([t]), begin
    h = 0.1 * float(1 - short.alpha_bar[t])
    for _ in range(400):
        with torch.no_grad():
            slope = short.score(point_net(x, at), at)
        x = x + h * slope + math.sqrt(2 * h) * torch.randn(x.shape, generator=dice)
    truth = short.add_noise(drawn["fresh data"], at, torch.randn(500, 2, generator=dice))
    clouds += [x, truth]
names = ["t = 90, Langevin", "t = 90, noised data", "t = 5, Langevin", "t = 5, noised data"]
show(points(clouds, columns=4, limit=2.8, titles=names), """500 points after 400 Langevin steps
     with the network's score, beside noised data. At t = 90 the two round clouds look alike. At
     t = 5 the points lie on the roll, but only on the right part of its outer arm and some of
     the inner one; the left half of the roll is empty.""")

# %% [markdown]
r"""
The points began in a square at the upper right. At much noise the density is one broad hill, and the slope alone finds all of it. At little noise there are arms with empty land between them, where the slope points to the nearest arm and hardly a step leads over. So one wants both: to begin at much noise, where everything can be reached, and to end at little, where the detail is. Going down through the noise levels, with a few such steps at each, is the sampler of Song and Ermon (2019); ancestral sampling is its close relative, and both use nothing but the score. (That the score also gives a path *without* chance is chapter 6.)

## 7. A network for faces

*20 minutes.*

For pictures, DDPM uses a **U-Net**. It goes down, halving the resolution at every stage, and up again; each block on the way up also sees what its partner on the way down made (**skip connections**), so that fine detail need not pass through the bottom. Here is ours, drawn from its configuration:
"""

# %%
show(unet_diagram(PRESETS["small"]), """The U-Net as a U of nine boxes. Down on the left: 16
     channels at 32×32, 32 at 16×16, 64 at 8×8 with attention, 128 at 4×4; at the bottom two
     blocks of 128 at 2×2; up on the right the same again. Dashed arrows, the skips, join left
     and right at each resolution. Above: t becomes sines and cosines, then a vector of 64,
     which is added in every block.""")

with torch.device("meta"):          # shapes only: nothing is computed, no memory is used
    for name in ("small", "paper"):
        config = PRESETS[name]
        millions = sum(p.numel() for p in UNet(**config).parameters()) / 1e6
        print(f"{name}: size {config['size']}, width {config['width']} times "
              f"{config['multipliers']}, blocks a stage: {config['blocks']}, "
              f"{millions:.1f} million parameters")

# %% [markdown]
r"""
"paper" is the baseline of the paper's Table 4, whose width it does not state; 128 is DDPM's.

### How a network is told the time

The same network must do very different things at $t = 10$ and at $t = 900$, and one number among thousands of pixels is easily overlooked. So $t$ becomes the hands of many clocks: $\cos(\omega_k t)$ and $\sin(\omega_k t)$ for frequencies $\omega_k$ from one radian a step down to one in thousands. The fast hands tell neighbouring steps apart, the slow ones early from late, and steps near each other look alike.
"""

# %%
clocks = time_features(torch.arange(1000), 32)                        # (1000, 32)
many = time_features(torch.arange(1000), 256)
likeness = many @ many.T / 128                                        # 1 with itself
fig, axes = panels(1, 2, height=2.4)
heat(axes[0, 0], clocks.T, "16 cosines, then 16 sines", colours="PuOr", aspect="auto")
axes[0, 0].set_xlabel("t, from 0 to 999", fontsize=9)
curves({f"with t = {t}": likeness[t] for t in (200, 700)}, x=torch.arange(1000),
       xlabel="t", ylabel="likeness of 256 features", ax=axes[0, 1])
show(fig, """Left: 32 features over t, as stripes. The upper cosines and sines change sign at
     every step or few, the lower ones once or less in a thousand. Right: the likeness of the
     features of t = 200, and of t = 700, with those of all t: a peak of 1 at the step itself,
     steep at first, then falling off slowly and unevenly to both sides.""")

# %% [markdown]
r"""
Two linear layers make a vector of them, and every residual block adds its own linear map of that vector to all pixels alike, between its two convolutions: `TimeBlock`, chapter 4's residual block with that one addition.

$$h \;\mapsto\; \text{shortcut}(h) + \text{conv}\left(\text{act}\left(\text{conv}(\text{act}(h)) + W\, c(t)\right)\right)$$

With `TimeBlock` and chapter 4's `Attention` the whole network is forty lines. Read `forward` beside the diagram: `kept` is a stack, so the last thing put on it, the smallest map, is the first to be joined again.
"""

# %%
class SmallUNet(nn.Module):
    """Noisy image and time → noise. Shapes: x (B, 3, 32, 32), t (B,) -> (B, 3, 32, 32)."""

    def __init__(self, width=16, multipliers=(1, 2, 4, 8), size=32, attention_at=8):
        super().__init__()
        dim, down = 4 * width, [width * m for m in multipliers]
        up, bottom = down[::-1], down[-1]
        sides = [size // 2**i for i in range(len(down) + 1)]          # 32, 16, 8, 4, 2

        def block(c_in, c_out, side):
            attend = Attention(c_out) if side == attention_at else nn.Identity()
            return nn.ModuleList([TimeBlock(c_in, c_out, dim), attend])

        self.width = width
        self.time = nn.Sequential(nn.Linear(width, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.first = nn.Conv2d(3, width, 3, 1, 1)
        self.down = nn.ModuleList(map(block, [width, *down], down, sides))
        self.shrink = nn.ModuleList(nn.Conv2d(c, c, 3, 2, 1) for c in down)
        self.grow = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(c_in, c, 3, 1, 1))
            for c_in, c in zip([bottom, *up[:-1]], up, strict=True))
        self.up = nn.ModuleList(map(block, [2 * c for c in up], up, sides[-2::-1]))
        self.middle = nn.ModuleList(block(bottom, bottom, sides[-1]) for _ in range(2))
        self.last = nn.Sequential(group_norm(width), nn.SiLU(), nn.Conv2d(width, 3, 3, 1, 1))

    def forward(self, x, t):
        c = self.time(time_features(t, self.width, count=len(x)))     # (B, 64)
        h, kept = self.first(x), []
        for (block, attend), shrink in zip(self.down, self.shrink, strict=True):
            h = attend(block(h, c))
            kept.append(h)
            h = shrink(h)                                             # half the resolution
        for block, attend in self.middle:
            h = attend(block(h, c))
        for (block, attend), grow in zip(self.up, self.grow, strict=True):
            h = torch.cat([grow(h), kept.pop()], 1)                   # the skip
            h = attend(block(h, c))
        return self.last(h)

# %% [markdown]
r"""
Is it the package's network? Give both the same weights and ask them the same.
"""

# %%
torch.manual_seed(0)
ours, packaged = SmallUNet(), UNet(**PRESETS["small"])
with torch.no_grad():
    for theirs, mine in zip(packaged.parameters(), ours.parameters(), strict=True):
        theirs.copy_(mine.normal_(0, 0.1))
    x, t = torch.randn(4, 3, 32, 32), torch.tensor([0, 10, 300, 999])
    gap, largest = (ours(x, t) - packaged(x, t)).abs().max(), ours(x, t).abs().max()
print("the two agree to a millionth of what they say:", bool(gap < 1e-6 * largest))
print("the time matters:", bool((ours(x, t) - ours(x, t * 0)).abs().max() > 0.01 * largest))

# %% [markdown]
r"""
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
### Exercise 5.8 · `ema_step` · ★ · 4 minutes

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

Now everything is yours: the network, the step, the average. (`ddpm.train_ddpm` is the same in one call; it also shortens gradients that are too long.) Sixty steps, a quarter of a minute, are far too few for faces, so this shows only that the loss falls; then we go on with a network of the same kind that was trained for 14,000 steps. That one was also told the colour of the hair in six of seven cases, which chapter 6 will use; here we do not tell it.
"""

# %% tags=["nbval-ignore-output"]
ema_step = yours(ema_step)
eps_net = load_weights(UNet, "unet_eps").to(device)
torch.manual_seed(0)
young, average = SmallUNet().to(device), SmallUNet().to(device)
optimiser = torch.optim.Adam(young.parameters(), lr=1e-3)
rate, dice = one_cycle(optimiser, 1e-3, size["steps"]), torch.Generator(device).manual_seed(0)
losses, data = [], batches(images, batch_size=16)
with torch.device(device):                         # where the step's draws are made
    for n in tqdm(range(size["steps"]), desc="U-Net"):
        x0 = next(data)[0].to(device)
        losses.append(training_step(young, optimiser, diffusion, x0, dice))
        rate.step()
        for mean, now in zip(average.parameters(), young.parameters(), strict=True):
            mean.data = ema_step(mean.data, now.data, n, 0.99)
show(curves({"loss": losses}, ylabel="mean squared error of ε", smooth=5), """Training loss of
     the U-Net, pale, and its mean over the last five steps: from about 1, the error of
     predicting no noise at all, it falls steeply and then slowly.""")
last_ten = sum(losses[-10:]) / 10
print(f"from {losses[0]:.2f} to {last_ten:.2f}; the longer-trained network has "
      f"{eps_net.card['test_loss']:.4f} on unseen faces")
assert last_ten < 0.5 * losses[0]

# %% [markdown]
r"""
**Play:** noise a face to level $t$ and let a network guess the clean one, in one step. Below which $t$ is it the right face? Above which is it merely *a* face, or the mean of all? Compare with what you saw by eye in section 1.

<details><summary>Answer</summary>

By eye the mouths go at about $t = 150$, the glasses at 200, the colours of the backgrounds between 300 and 400. The longer-trained network sees further: up to 300 all glasses are right, though a mouth or an eye has changed; at 400 pale rims appear on the first face, who wears none; the backgrounds keep their hue to about 450, and at 700 little is left but a noisy head.

</details>
"""

# %% tags=["nbval-ignore-output"]
x0_from_eps = yours(x0_from_eps)
networks = {"just trained": average.cpu(), "longer-trained": load_weights(UNet, "unet_eps")}


def guesses(t, network):
    ab = diffusion.alpha_bar[t].float().expand(6)
    xt = noised(test_images[:6], fixed_noise, ab)
    with torch.no_grad():
        eps = networks[network](xt, torch.tensor([t]))
    x0 = x0_from_eps(xt, eps, ab[:, None, None, None])
    three_rows = torch.cat([test_images[:6], xt, x0]).clamp(-1, 1)
    return image_grid(three_rows, columns=6, row_titles=["real", f"t = {t}", "guess"])


explore(guesses, guesses(300, "longer-trained"), """Six faces, the same noised to t = 300, and
        the longer-trained network's guesses of the clean ones: right in colours, hair and
        glasses, a little soft in the mouths.""",
        t=(0, 999, 300), network=(list(networks), "longer-trained"));

# %% [markdown]
r"""
## 8. Drawing, and what it costs

*10 minutes.*

Your sampler, and the $\varepsilon$-network:
"""

# %% tags=["nbval-ignore-output"]
dice, start = torch.Generator(device).manual_seed(1), time.time()
with torch.device(device):
    noise = torch.randn(2, 3, 32, 32, generator=dice)
    first_faces = ancestral_sample(eps_net, diffusion, noise, dice, clip=True)
each = 1000 * (time.time() - start) / 2000
show(image_grid(first_faces.cpu().clamp(-1, 1), columns=4), """Two faces, one before slate,
     one before pink: hair and glasses are clear, the mouths a little smudged.""")
print(f"1000 steps, {each:.1f} ms a face and step; a GAN of chapter 1 runs once")

# %% [markdown]
r"""
And what did the network at the top of the chapter guess on its way? It predicts $v$, so its guess is $\sqrt{\bar\alpha_t}\, x_t - \sqrt{1 - \bar\alpha_t}\, v$.
"""

# %% tags=["nbval-ignore-output"]
first_guess = {s.t: s.x0.cpu().clamp(-1, 1) for s in trajectory}
both = torch.stack([first_guess[t] for t in shown], dim=1).flatten(0, 1)
show(image_grid(both, columns=8, titles=titles), """The guess of x₀ along the way of
     both faces: a brown blur on grey at t = 999, a head in other colours at 900, the person by
     600; after 400 hardly anything changes.""")

# %% [markdown]
r"""
Its first guess is a blur, near the mean of all faces, as section 5's formula wants it. (An ε-network's first guess is glaring noise: at $t = 999$ an error of one hundredth in $\varepsilon$ is one of 1.6 in $x_0$.) Then look at what is decided when: first colours and the head, then hair, then eyes and mouth; never all at once.

And the price: a thousand calls. The 2,000 faces of our results table would take hours this way on a laptop, so its rows for diffusion in pixels are measured with fewer of the thousand steps (how that is possible is chapter 6's subject; the next section borrows it).

## 9. Where the colour goes

*25 minutes.*

Two faces look well. Draw a hundred, with the $\varepsilon$-network, and look at all of them together. (25 steps of chapter 6's sampler instead of a thousand. `from_level` begins at any level of noise; it is named by the noise-to-signal ratio $\sqrt{1 - \bar\alpha_t} / \sqrt{\bar\alpha_t}$, since the same $t$ is not the same noise on every schedule.)
"""

# %% tags=["nbval-ignore-output"]
def level(net, ratio):
    """The t of a network's schedule at which noise is `ratio` times the signal, or its last."""
    snr = ddpm.diffusion_of(net).snr
    return int((snr.rsqrt() - ratio).abs().argmin()) if ratio < math.inf else len(snr) - 1


def from_level(net, ratio, x0, calls=25):
    """Real faces x0 noised to a level, and drawn from there. math.inf: pure noise."""
    own, top = ddpm.diffusion_of(net), level(net, ratio)
    dice = torch.Generator().manual_seed(7)
    x = torch.randn(x0.shape, generator=dice)
    x = x if ratio == math.inf else own.add_noise(x0, torch.tensor([top]), x)
    times = [round(top * k / calls) for k in range(calls, 0, -1)]
    for t, following in zip(times, [*times[1:], -1], strict=True):
        with torch.no_grad():
            guess, eps, _ = ddpm.guess(net, own, x.to(device), t, clip=(-1, 1))
        x = ddim.ddim_step(own, guess, eps, t, following).cpu()
    return x.clamp(-1, 1)


real = ToyFaces(size["drawn"], seed=4).images()
grey = from_level(eps_net, math.inf, real)
show(image_grid(torch.cat([real[:16], grey[:16]]), columns=8,
                row_titles=["real", "", "drawn", ""]), """Two rows of real faces, on flat and
     mostly bright backgrounds, and two rows of drawn ones: whole faces, but several on murky
     backgrounds that the data do not have, five with a grain over everything, and some with
     smudged mouths and eyes.""")

# %% tags=["nbval-ignore-output"]
def colour(x):
    """Mean colour of every face. Shapes: (N, 3, 32, 32) -> (N, 3)."""
    return x.mean((2, 3))


def background(x):
    """Mean colour of the upper left corner. Shapes: (N, 3, 32, 32) -> (N, 3)."""
    return x[:, :, :4, :4].mean((2, 3))


def show_colours(sets, caption):
    """Histograms of the faces' mean red, and their backgrounds, red against green.

    Returns: how far the last set's backgrounds are from the nearest real one, on average.
    """
    fig, axes = panels(1, 2)
    hist, plane = axes.flat
    edges = torch.linspace(-0.6, 1, 21).tolist()
    for k, (name, x) in enumerate(sets.items()):
        hist.hist(colour(x)[:, 0].tolist(), edges, density=True, histtype="step", lw=1.5,
                  color=COLOURS[k], label=name)
        plane.scatter(*background(x).T[:2], s=(3, 9, 9)[k], color=COLOURS[k], zorder=-k)
        apart = torch.cdist(background(x), background(images[1000:])).amin(1).mean()
        print(f"{name:15}  mean red {float(colour(x)[:, 0].mean()):.2f}, "
              f"background to the nearest real one: {float(apart):.3f}")
    hist.set(xlabel="mean of a face's red values", ylabel="density")
    plane.set(xlabel="red of the background", ylabel="green of the background")
    legend(fig)
    show(fig, caption)
    return float(apart)


real_and_grey = {"real faces": images[:1000], "the ε-network's": grey}
apart_eps = show_colours(real_and_grey, """Left, histograms of the faces' mean red: the
     ε-network's reach further down than the data's, to −0.5. Right, red against green of the
     backgrounds: the real ones lie on six short lines; the network's are scattered around and
     between them, and beyond them on the dark side.""")

# %% [markdown]
r"""
Six colours, a little brighter or darker, stand behind the faces of the data, and no others (the short lines on the right). The network's backgrounds lie between and beside them, and a few faces are darker than any real one. Which of the thousand steps does that? Noise unseen faces to every level, let the network guess, and measure two errors: of the pixels, and of the *mean colour* of the guess.
"""

# %% tags=["nbval-ignore-output"]
ratios = [0.03, 0.1, 0.3, 0.7, 1.5, 3, 6, 10, 16, 25, 40, 70, 110]
some = test_images[:48]


def errors_of_guess(net):
    """Root mean squared error of the guess of x₀: of the pixels, of the mean colour."""
    own, dice = ddpm.diffusion_of(net), torch.Generator().manual_seed(9)
    pixels, colours = [], []
    for ratio in ratios:
        at = torch.tensor([level(net, ratio)])
        xt = own.add_noise(some, at, torch.randn(some.shape, generator=dice))
        with torch.no_grad():
            guess = ddpm.guess(net, own, xt.to(device), int(at))[0].cpu()
        pixels.append((guess - some).square().mean().sqrt())
        colours.append(colour(guess - some).square().mean().sqrt())
    return pixels, colours

# %% tags=["nbval-ignore-output"]
def show_errors(found, caption):
    """Both errors of every network over the level of noise, and what knowing nothing costs."""
    fig, axes = panels(1, 2)
    off = images - images.mean(0)
    knowing = off.square().mean().sqrt(), colour(off).square().mean().sqrt()
    for k, what in enumerate(("a pixel", "the mean colour")):
        ax = axes[0, k]
        lines = {name: both[k] for name, both in found.items()}
        lines["guessing the mean of the data"] = [knowing[k]] * len(ratios)
        if k == 1:                                 # 1,024 pixels: a thirty-second of the noise
            lines["averaging the pixels of x_t"] = [ratio / 32 for ratio in ratios]
        curves(lines, x=ratios, xlabel="noise over signal", logy=True, ax=ax,
               ylabel=f"error of {what}")
        ax.set_xscale("log")
    legend(fig)
    show(fig, caption)


found = {"ε-network": errors_of_guess(eps_net)}
show_errors(found, """Two figures, both axes logarithmic. Left, the error of a pixel: it rises
     steadily with the noise and passes the dashed line, what guessing the mean of the data
     costs, at a noise of about 12 times the signal. Right, the error of the mean colour: up to
     6 times it stays on or below what averaging the pixels would give; from about 22 times on
     it is above the dashed line, and at 110 times it is near 0.9 where the line is at 0.22.""")

# %% [markdown]
r"""
Up to a noise of ten times the signal the guess of the colour is as good as can be wished. From about twenty times on it is worse than *no* guess, and at the top four times worse. Sampling passes through all of these levels, and all it does about such guesses is to cut them to $[-1, 1]$.

Why? A picture's colour is shared by 1,024 pixels. Averaging over them takes the noise down to a thirty-second, so the colour can still be *read* where no single pixel can (the straight line on the right): it is decided at high noise, and what is decided there is hardly changed later. But the network says $\varepsilon$, and $\hat x_0 = (x_t - \sigma_t\, \hat\varepsilon)/\sqrt{\bar\alpha_t}$ multiplies its error by the ratio on the axis. How much does the loss care?
"""

# %%
print("an error of 0.05 in the whole picture's colour costs, in the mean squared error:")
for ratio in (3, 10, 30):
    as_v = 0.05**2 * (1 + 1 / ratio**2)            # an error e in x₀ is e / √(1 − ᾱ) in v
    print(f"  noise {ratio:2} times the signal: of ε {(0.05 / ratio) ** 2:.6f}, "
          f"of v {as_v:.6f}")
print(f"the ε-network's whole loss: {eps_net.card['test_loss']:.6f}")

# %% [markdown]
r"""
The ε-network can lower its loss by a few thousandths of itself by getting the colour right, and has better things to do. A bias that small is invisible in the loss and plain in the distribution.

### Two experiments

Is that all that is wrong with these faces? Two questions, two experiments. *First:* begin not with pure noise but with real faces, noised to some level: what is decided above that level is then right. *Second:* leave the network out. Take real faces, but as dark a mixture as the network's; if the mixture were the whole fault, they would be as far from the data as the network's.
"""

# %% tags=["nbval-ignore-output"]
eight = real[:8]
rows = [eight, from_level(eps_net, 0.7, eight, 10), from_level(eps_net, 6, eight, 20), grey[:8]]
show(image_grid(torch.cat(rows), columns=8,
                row_titles=["real", "0.7 ×", "6 ×", "pure noise"]), """Eight real faces, and
     what the ε-network draws from them at three levels. 0.7 ×: the same persons and
     backgrounds, eyes and mouths changed in several. 6 ×: the backgrounds' hues and the
     long hair are kept, the persons are others, mouths and eyes are smudged. Pure
     noise: nothing is kept; backgrounds that the data do not have, one face dark and
     full of grain.""")

# %% [markdown]
r"""
And the numbers, of 300 faces a row and three seeds (`python -m minigen reproduce origins`), for this network and for the one that we come to below. *Clear* is the share of faces whose nine attributes the classifier all reads with more than 0.9.
"""

# %%
print(reproduce.as_text("origins"))

# %% [markdown]
r"""
Read it row by row. From 0.7 times the signal the colours are *given*, only details have to be restored; and yet the distance about doubles, and almost half of the faces can no longer be read. From 6 times the mean red is still the data's, and the distance is as large as from pure noise, as far as three seeds can tell. So most of what this yardstick counts is lost *below* 6 times, in details. What happens above takes the mean red down by almost a tenth, which the eye sees at once in a hundred faces, and moves the distance by no more than the seeds do. There are **two faults**, and the visible one is not the expensive one.

The rows of the mixture warn against a quick word the other way. Real and perfectly clear faces, with every attribute as often as it is read off the network's, are far from the data as well. But a smudged mouth is read as *some* mouth, so the mixture that is read is itself bent by lost details; and what is counted on 300 faces scatters. A Fréchet distance adds up whatever differs; only experiments say what, and this one cannot part the two.

### Predict v

The colour's cause is known: in $\varepsilon$'s loss a wrong colour costs nearly nothing. In $v$'s it costs what it costs in the picture. So train the same network to answer $v$. In your `training_step` one line changes, the target: `diffusion.target(x0, eps, t, "v")`.

Does it hold if nothing else is changed? Four ways, three seeds each, every network trained for equally long and from the same start (`python -m minigen reproduce predictions`):
"""

# %%
print(reproduce.as_text("predictions"))

# %% [markdown]
r"""
After so few steps all of them draw poor faces, and the question of colour is settled already: the ε-networks' mean colour is off by a quarter, $v$'s by a hundredth or two. By the distance, $v$ alone gains less than the seeds scatter; the cosine schedule, which spends more of the steps where there is something to be seen, takes off a quarter, and the last row, which we come to, another.

The course's own network predicts $v$, on the cosine schedule. It is the one at the top of the chapter.
"""

# %% tags=["nbval-ignore-output"]
found["v-network"] = errors_of_guess(unet)
show_errors(found, """The same two figures with the v-network's curve added. At low noise the
     two networks are alike; from ten times on the v-network's errors level off at the
     dashed line, what guessing the mean of the data costs, where the ε-network's go on
     rising.""")

# %% tags=["nbval-ignore-output"]
bright = from_level(unet, math.inf, real)
apart_v = show_colours(real_and_grey | {"the v-network's": bright}, """As above, with the
     v-network's faces: their histogram has no tail on the dark side, and their backgrounds lie
     on the six lines, or close by.""")
show(image_grid(torch.cat([grey[:16], bright[:16]]), columns=8,
                row_titles=["ε", "", "v", ""]), """Sixteen faces of the ε-network, several on
     murky or grainy backgrounds, above sixteen of the v-network from the same noise, on
     even, bright ones.""")
assert apart_v < 0.5 * apart_eps

# %% [markdown]
r"""
The colours are there: the backgrounds lie several times nearer to those of the data. (The mean of so few faces scatters; over the 2,000 of the results table the v-network's red, green and blue are 0.35, 0.25 and 0.17, and the data's 0.34, 0.25 and 0.16.)

### The details

In the table of origins the rows at 0.7 times hold no question of colour: it was *given*. What is lost there is lost at middle and low noise, in mouths and eyes of two to six pixels. The squared error counts a pixel as a pixel, and six among a thousand can be smudged for next to nothing. Chapter 4 met the same fault in reconstructions, and its cure works here: a second loss, the perceptual distance between the network's guess $\hat x_0$ and the picture,

$$L = \lVert v - v_\theta \rVert^2 + \lambda\; d(\hat x_0, x_0) \quad \text{where} \quad \frac{\sqrt{1 - \bar\alpha_t}}{\sqrt{\bar\alpha_t}} < 1 .$$

Only where the noise is smaller than the signal: above, the best guess *is* a blur, the mean of all faces it could be, and a distance that dislikes blur would draw the guess away from the mean that the sampler needs. `minigen.details.detail_loss` is that in twenty lines. The last row of the table of predictions above is $v$ with it, and the course's network was trained so, for longer.

What else was tried, before the long training? Four recipes, 48,000 faces seen by each, one seed, 500 faces drawn; so take differences of less than a tenth for chance:

| $v$, cosine, and | from real faces at 0.7 × | from pure noise |
|---|---|---|
| most $t$ at a noise near 0.4 × the signal, no second loss | 231 | 620 |
| $\lambda = 1$, 1,500 steps of 32 faces | 207 | 307 |
| $\lambda = 4$, up to a noise of twice the signal | 205 | 368 |
| $\lambda = 1$, 3,000 steps of 16 faces | 189 | 301 |

Most of the practice at low noise seems to starve the levels where the picture is decided. A stronger second loss buys no more than a weak one. Small batches, that is more steps, did best, if by little, and so the course's network was trained: 22,000 steps of 16 faces, a bit more than an hour of one processor core.

And after it, the last recipe again, with other faces and noises to measure by (so compare these four with each other only; one seed):

| $\lambda = 1$, 3,000 steps of 16 faces, and | from real faces at 0.7 × | from pure noise |
|---|---|---|
| nothing else (learning rate 0.001) | 149 | 324 |
| the first loss weighed by $\min(\mathrm{SNR}, 5) / (\mathrm{SNR} + 1)$ (min-SNR, Hang et al. 2023) | 121 | 436 |
| learning rate 0.0005 | 165 | 389 |
| learning rate 0.002 | 132 | 281 |

Min-SNR keeps the details best of all and loses the colours again (a mean red of 0.16 for 0.34): it gives the high noise levels next to no weight, and there the colour is decided. The higher rate is better at both ends. The course's network was trained before we knew; whoever trains it anew should begin there.

One caution. The perceptual distance looks with the eyes of the attribute classifier, and so does the yardstick. A network that was trained to please the judge gets a better mark from this judge than from another. Chapter 4 had the same conflict, and so has every paper that trains with one pretrained network's features and is measured by its cousin's. So look at the pictures.

What does the course's table say?
"""

# %%
print(metrics.results_table(through_chapter=5))

# %% [markdown]
r"""
Chapter 0's Gaussian, which draws fog, has 227.75. The ε-network, whose single faces are far better, is hardly nearer to the data by this yardstick: a number that says 220 of the one and 228 of the other says *how far*, and not *in what*. The fog has the right colours and no details at all; the ε-network has faces with wrong ones of both. With $v$, the cosine schedule and the second loss the colours are right, and the distance falls by a fifth. It is still more than twice the GAN's. Look at the sixteen faces above and you see what is left: eyes of two colours, mouths that are no mouth, shirts that change their mind half way.

So does diffusion win? In pixels, with an hour of one core, not yet, and not for want of a trick: among 3,072 numbers the few that make a mouth are learned last. More training should go on improving them; ours stopped after an hour. The paper goes another way. It lets an autoencoder, trained with a perceptual loss (chapter 4), take care of mouths, and asks diffusion only *which* mouth. Chapter 7 measures what that buys.

## 10. Learning the variance

*10 minutes, and not needed for what follows.*

DDPM fixes $\sigma_t^2$ to $\beta_t$ or to $\tilde\beta_t$ and finds no difference in the pictures. For the *likelihood* there is one. Nichol and Dhariwal (2021) let the network give, beside the noise, a number $r$ for each pixel (they call it $v$; it has nothing to do with the $v$ above) that picks a variance on a logarithmic scale, $\tilde\beta_t$ for −1 and $\beta_t$ for 1 (nothing keeps it between the two, but there is little reason to leave):

$$\sigma^2 = \exp\left(f \log \beta_t + (1 - f) \log \tilde\beta_t\right), \qquad f = \tfrac{r + 1}{2}.$$

$L_{\text{simple}}$ says nothing about variances, so they add a little of the bound, $L_{\text{hybrid}} = L_{\text{simple}} + 0.001\, L_{\text{vlb}}$, and cut the mean out of the second term: it is there to teach the variance only.

The bound can be *counted*: divided by the number of pixels and by $\log 2$, it is **bits per dimension**, what a file of the picture would need. The scanned digits have 64 pixels with 17 grey levels, $\log_2 17 = 4.09$ bits each if nothing is known. Forty steps are enough for them, and a small network.
"""

# %% tags=["nbval-ignore-output"]
digits = Digits().images.flatten(1)
torch.manual_seed(0)
digit_net = PointDenoiser(64, 256, learn_variance=True)


def loss17(*args):
    return vlb.hybrid_loss(*args, levels=17)


training = ddpm.train_ddpm(digit_net, batches(digits[:1500], batch_size=128), few,
                           steps=size["digit_steps"], lr=2e-3, loss=loss17)
for _ in tqdm(training, total=size["digit_steps"], desc="digits"):
    pass

# %% tags=["nbval-ignore-output"]
def without_r(x, t):
    return digit_net(x, t)[:, :64]


bits = {}
for variance in ("small", "large", "learned"):
    network = digit_net if variance == "learned" else without_r
    bits[variance] = vlb.bits_per_dim(network, few, digits[1500:], variance, levels=17,
                                      generator=torch.Generator().manual_seed(0))
sums = {name: round(float(b.sum()), 2) for name, b in bits.items()}
nothing = round(math.log2(17), 2)
print("bits per pixel on 297 unseen digits:", sums)
print("knowing nothing:", nothing)
assert bits["learned"].sum() < bits["large"].sum() < bits["small"].sum()

# %% tags=["nbval-ignore-output"]
at, r = torch.arange(40), []
with torch.no_grad():
    for t in at:
        eps = torch.randn(200, 64, generator=generator)
        xt = few.add_noise(digits[1500:1700], t[None], eps)
        r.append(digit_net(xt, t[None])[:, 64:].mean())
choices = {
    "learned, mean over pixels": r,
    "β (large)": torch.ones(40),
    "β̃ (small)": -torch.ones(40),
}

fig, axes = panels(1, 2)
curves({name: b[:-1] for name, b in bits.items()}, x=at, xlabel="t", ylabel="bits per pixel",
       logy=True, ax=axes[0, 0])
curves(choices, x=at, xlabel="t", ylabel="r", ax=axes[0, 1])
show(fig, """Left: bits per pixel of every step, log scale: the first few steps hold most of
     them, and the three variances differ there. Right: the r the network learned over t, mean
     over pixels, between the two fixed choices: about 0.5 at first, where the guess is
     uncertain, then falling to −0.3.""")

# %% [markdown]
r"""
The same noise prediction, three variances, three bit counts: the small one is right only if $x_0$ is known, and it is punished for its confidence. Where are the bits? In the first few of forty steps: the grey level's last digit costs more than the shape of the numeral. That is what the dropped weight of section 4 was about: a model of *likelihood* must spend its effort there, a model for *looking at* had better not.

## 11. What it cannot do yet

A diffusion model trains as calmly as a regression, and draws well once it is asked for the right thing. But a thousand runs of the network for each picture is a price that the paper's Table 3 puts at ten seconds an image, on a GPU. Next chapter: the same network, no new training, twenty steps.

## Summary

- Forward: $x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \varepsilon$, for every $t$ at once. Schedules are best compared by their signal-to-noise ratio; "linear" should say in what.
- Backward, $x_0$ known: a Gaussian with a formula. $x_0$ unknown: the same at a guess.
- The bound, turned round by Bayes' rule, is a sum of KL divergences of Gaussians, that is, of weighted squared errors of the noise; without the weights it is Eq. 27.
- Algorithm 1: a t and a noise for each image, a squared error, a step. Algorithm 2: guess x₀, draw from the posterior at the guess, a thousand times.
- The ideal denoiser is a softmax over the data, sets the floor of the loss, and copies; a network does better by being worse.
- E[ε | x_t] = −σ ∇ log p(x_t): a denoiser holds the slope of the log density at every level of noise.
- ε, x₀ and v are one prediction seen three ways, and errors weigh differently in each. What a whole picture shares, its colour, is decided at high noise, where ε's loss hardly sees it and v's does.
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
| v-prediction | 速度预测 | it answers with a mixture of noise and picture |
| score | 分数函数 | the gradient of the log of the density |
| Langevin dynamics | 朗之万动力学 | steps up the score, and noise |
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
- Hang et al. 2023, *Efficient Diffusion Training via Min-SNR Weighting Strategy*, [arXiv:2303.09556](https://arxiv.org/abs/2303.09556).
- Ronneberger, Fischer, Brox 2015, *U-Net*, [arXiv:1505.04597](https://arxiv.org/abs/1505.04597).
- Vincent 2011, *A Connection Between Score Matching and Denoising Autoencoders*, [doi:10.1162/NECO_a_00142](https://doi.org/10.1162/NECO_a_00142): why a denoiser knows the distribution.
- Efron 2011, *Tweedie's Formula and Selection Bias*, [doi:10.1198/jasa.2011.tm11181](https://doi.org/10.1198/jasa.2011.tm11181).
- Song, Ermon 2019, *Generative Modeling by Estimating Gradients of the Data Distribution*, [arXiv:1907.05600](https://arxiv.org/abs/1907.05600): Langevin's dynamics down the levels of noise.
- Deck, Bischoff 2023, *Easing Color Shifts in Score-Based Diffusion Models*, [arXiv:2306.15832](https://arxiv.org/abs/2306.15832): the same fault in other networks.
- Lin et al. 2023, *Common Diffusion Noise Schedules and Sample Steps are Flawed*, [arXiv:2305.08891](https://arxiv.org/abs/2305.08891): what the last step of a schedule leaves of the colour.
"""
