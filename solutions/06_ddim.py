# %% [markdown]
r"""
# Chapter 6 · DDIM, fewer steps, and some control

Chapter 5 drew good faces and took a thousand runs of a network for each. This chapter trains nothing. It takes the same network and samples it differently: in ten or twenty steps, without chance, backwards, towards a class, or into a hole in a picture.

In this chapter you will

1. leave out steps the wrong way, and see what breaks;
2. derive DDIM, and check it on a distribution whose answer is known exactly;
3. write its loop, which then draws the pictures of this chapter, and choose the steps it takes;
4. find the differential equation behind it, follow it with a step of second order, and measure what each network run buys;
5. use determinism: walk between faces, find a face's noise, edit it, and count what the edit changed;
6. derive classifier-free guidance from Bayes' rule, ask for two things at once, and measure what it costs;
7. fill in what is missing from a picture.
"""

# %%
import math
import statistics

import torch
from torch.utils.flop_counter import FlopCounterMode

import minigen
from minigen import check, ddim, ddpm, ode
from minigen.checks import yours
from minigen.data import ATTRIBUTES, ToyFaces, draw_faces, labels_of
from minigen.diffusion import Diffusion, ideal_eps
from minigen.files import load_weights
from minigen.guidance import Composed, drop_labels
from minigen.metrics import obedience, predict_attributes, results_table
from minigen.paper import reproduce
from minigen.plots import COLOURS, curves, image_grid, legend, panels, show
from minigen.unet import PRESETS, UNet
from minigen.widgets import explore

# %%
scale, device = minigen.setup()
steps = {"small": 20, "full": 100}[scale]
unet = load_weights(UNet, "unet").to(device)
diffusion = ddpm.diffusion_of(unet)                 # the noise schedule it was trained on
hair, smiles = ATTRIBUTES["hair"], ATTRIBUTES["smile"]


def noise(n, seed=0):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).to(device)


print(f"scale: {scale}; one network for everything below; it predicts {unet.prediction}, "
      f"schedule: {unet.schedule}")

# %% [markdown]
r"""
Here is where it goes: the same noise, sampled by `minigen` with more and more steps.
"""

# %% tags=["nbval-ignore-output"]
few = [2, 5, 10, 20, 50]
by_steps = [ddpm.last(ddim.ddim_sample(unet, diffusion, noise(8), steps=n, clip=(-1, 1)))
            for n in few]
show(image_grid(torch.cat(by_steps).cpu(), columns=8, row_titles=[f"{n} steps" for n in few]),
     """Eight noises, each drawn in 2, 5, 10, 20 and 50 steps. With 2 steps ghosts, with 5
     faces already, then only details change. Each column stays the same person throughout.""")

# %% [markdown]
r"""
## 1. The simplest wrong thing

*10 minutes.*

Whatever a network was trained to predict, chapter 5's `views` turns its answer into two things: a guess $\hat x_0$ of the picture and a guess $\hat\varepsilon$ of the noise in it. No sampler needs to know more. Here is that as a function, and the guess is kept in the range that pixels have:
"""

# %%
def guess_of(model, y=None):
    """guess(x, t) -> (x0, eps): what a network makes of x at time t, in both views."""
    @torch.no_grad()
    def guess(x, t):
        return ddpm.guess(model, diffusion, x, t, y, clip=(-1, 1))[:2]

    return guess

# %% [markdown]
r"""
Why not run chapter 5's sampler and leave out steps? The network accepts any $t$, so call it at $t = 999, 949, 899, \dots$, and each time take DDPM's step for that $t$.
"""

# %% tags=["nbval-ignore-output"]
dice, x, guess = torch.Generator().manual_seed(1), noise(8).cpu(), guess_of(unet)
for t in range(999, -1, -50):
    x0, at = guess(x.to(device), t)[0].cpu(), torch.tensor([t])
    mean, variance = diffusion.posterior(x0, x, at)
    x = mean + variance.sqrt() * torch.randn(x.shape, generator=dice)
show(image_grid(x.clamp(-1, 1), columns=8), """Eight results of DDPM's own steps with
     forty-nine of fifty left out: coloured noise, nothing like a face.""")
wanted = float(1 - diffusion.alpha_bar[49]) ** 0.5
found = float((x - x.mean((2, 3), keepdim=True)).std())
print(f"at the last of these steps the noise should have deviation {wanted:.2f}; "
      f"it has {found:.1f}")

# %% [markdown]
r"""
DDPM's step at 949 is made for the way to 948: it takes off next to nothing, as it should. Then the network is told that it is at 899. The picture is noisier than that, and the gap grows with every step. To jump, the *step* must know where it goes.

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

Two lines. Eq. 28 holds at both times with the same $\hat x_0$ and the same ε: solve it at $t$ for the one, then use it at $s$. `ab` is ᾱ at $t$, `ab_prev` at $s$.

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

You will write it in section 3, inside the loop. Is η = 1 with all steps really DDPM? Run both from the same noise, with the same draws. (An untrained function stands in for the network: an identity must hold for any.)
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

Let the data be numbers, $x_0 \sim \mathcal N(0.3, 0.5^2)$. The best noise prediction is then a formula, every step is a straight line in $x_t$, and the deviation of what comes out can be computed without drawing anything. Perfect would be 0.5. The step with η = 0 is yours:
"""

# %%
def best_eps(x, t, y=None):
    ab = diffusion.at(diffusion.alpha_bar, t, x)
    return (1 - ab).sqrt() * (x - ab.sqrt() * 0.3) / (ab * 0.25 + 1 - ab)


move = yours(ddim_move)


def deviation(n, eta):
    """Exact deviation of the samples for x_T ~ N(0, 1), from each step's slope and noise."""
    variance, times = 1.0, ddim.timesteps(1000, n)
    for t, s in zip(times, [*times[1:], -1], strict=True):
        x, at = torch.tensor([[0.0], [1.0]], dtype=torch.float64), torch.tensor([t])
        eps, now = best_eps(x, at), float(diffusion.alpha_bar[t])
        if eta == 0:
            moved = move(x, eps, now, float(diffusion.alpha_bar[s]) if s >= 0 else 1.0)
        else:
            x0 = diffusion.views(eps, x, at)[0]
            moved = ddim.ddim_step(diffusion, x0, eps, t, s, eta, 0 * x)
        low, high = moved.flatten().tolist()
        variance = (high - low) ** 2 * variance + ddim.sigma(diffusion, t, s, eta) ** 2
    return math.sqrt(variance)

# %%
counts = [5, 10, 20, 50, 100, 250, 500, 1000]
spread = {f"η = {eta}": [deviation(n, eta) for n in counts] for eta in (0.0, 0.5, 1.0)}
fig = curves(spread | {"the data": [0.5] * len(counts)}, x=counts, xlabel="steps",
             ylabel="deviation of the samples")
fig.axes[0].set_xscale("log")
show(fig, """Deviation of the samples over the number of steps, log scale: for all η it
     rises towards the data's 0.5; with few steps it is too small, and the more so the
     larger η is.""")
print("with 10 steps:", {name: round(v[1], 3) for name, v in spread.items()})

# %% [markdown]
r"""
Few steps make samples that are too alike, too near the mean: the network's guess is an average, and each long step trusts it. Noise makes it worse, since every draw must be repaired by a later, also too long step. So: few steps, η = 0. (With many steps a real network might gain from η = 1, because new noise washes out its errors; section 4 measures it.)

(A wrong index, an ᾱ taken from one step off, and this picture changes by far more than its thickness. `minigen`'s tests compare such numbers to four digits, for two spacings; that is how such errors are caught.)

## 3. Which steps, and the loop

*40 minutes.*

From $T = 1000$ times we take a sub-list. Three ways are common, and libraries differ. **Leading**: $0, 100, 200, \dots, 900$ for ten steps. **Trailing**: $99, 199, \dots, 999$; it starts at the top and jumps the last hundred in one. **Linspace**: both ends, strides in between that are not whole numbers. Whichever: the earlier time of a step is the *next entry of the list*, not $t - T / \text{steps}$ (some libraries compute the latter, which is wrong for linspace).

### Exercise 6.2 · `trailing` · ★ · 4 minutes

The list of trailing time steps, falling, for a number of steps that divides T.

<details><summary>Hint</summary>

`range` takes a start, an end that it does not reach, and a stride, which may be negative. How many times does a stride leap over?

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

# %% [markdown]
r"""
Now all of DDIM is there: a list of times, a guess at each, and Eq. 29, which leads to the next. The last step leads to the clean image, which is no entry of the list: there $\bar\alpha = 1$.

### Exercise 6.3 · `ddim_loop` · ★★★ · 20 minutes

Write Algorithm 3 of the paper. `guess(x, t)` gives $(\hat x_0, \hat\varepsilon)$, as above; `alpha_bar` is the table of ᾱ; `times` falls, and you start at its first entry with `xT`. `draw(x)` gives new noise in the shape of `x`. Return the list of all states, `xT` first and the picture last: one more than there are times.

<details><summary>Hint</summary>

Each step needs the pair (this time, next time); pairing the list with itself, moved on by one, gives them, and the last pair lacks its second half. For σ you have the formula in section 2; two cases to try by hand are η = 0 and the last step, where ᾱ is 1. Where σ is 0, nothing needs to be drawn. Make a new tensor every step, or all entries of your list will be one.

</details>
"""

# %%
def ddim_loop(guess, alpha_bar, xT, times, eta=0.0, draw=torch.randn_like):
    """Sampling, Eq. 29 a step. Shapes: xT (B, ...); result a list of len(times) + 1 such."""
    ### BEGIN SOLUTION
    states = [xT]
    for t, s in zip(times, [*times[1:], None], strict=True):
        ab, ab_prev = alpha_bar[t], 1.0 if s is None else alpha_bar[s]
        x0, eps = guess(states[-1], t)
        sigma = eta * ((1 - ab_prev) / (1 - ab) * (1 - ab / ab_prev)) ** 0.5
        x = ab_prev**0.5 * x0 + (1 - ab_prev - sigma**2) ** 0.5 * eps
        states.append(x + sigma * draw(x) if sigma > 0 else x)
    return states
    ### END SOLUTION

# %% points=4
check(ddim_loop)

# %% [markdown]
r"""
From here on the pictures of this chapter are drawn by this loop (a chapter can be read unsolved, so the course's stands in until yours passes, and the output says which). First: does it draw what `minigen` draws?
"""

# %% tags=["nbval-ignore-output"]
loop, visited = yours(ddim_loop), yours(trailing)


def faces_from(xT, y=None, model=unet, n=steps, guess=None, times=None):
    """The loop's pictures with η = 0, in n trailing steps."""
    times = visited(1000, n) if times is None else times
    guess = guess_of(model, y) if guess is None else guess
    return loop(guess, diffusion.alpha_bar, xT, times)[-1].clamp(-1, 1).cpu()


package = ddpm.last(ddim.ddim_sample(unet, diffusion, noise(8), steps=steps, clip=(-1, 1)))
gap = float((faces_from(noise(8)) - package.cpu()).abs().max())
show(image_grid(faces_from(noise(8)), columns=8),
     f"""Eight faces, drawn by the loop of exercise 6.3 in {steps} steps.""")
print(f"largest difference to minigen's: {gap:.0e}")
assert gap < 1e-3

# %% [markdown]
r"""
What do the two kinds of path look like, without chance and with it? Take the simplest data there are, three numbers, and their ideal denoiser from chapter 5. Time runs to the right, from noise to data.
"""

# %% tags=["nbval-ignore-output"]
three = torch.tensor([[-1.0], [0.1], [1.0]], dtype=torch.float64)


def ideal(x, t):
    eps = ideal_eps(diffusion, three, x, torch.tensor([t]))
    return diffusion.views(eps, x, torch.tensor([t]))[0], eps


starts = torch.tensor([[-1.4], [-0.35], [0.3], [1.2]], dtype=torch.float64)
times = visited(1000, 100)
fig, axes = panels(1, 2, height=2.8, sharey=True)
for ax, eta in zip(axes.flat, (0.0, 1.0), strict=True):
    dice = torch.Generator().manual_seed(5)
    path = torch.stack(loop(ideal, diffusion.alpha_bar, starts, times, eta,
                            lambda x, g=dice: torch.randn(x.shape, generator=g).to(x)))
    for k, line in enumerate(path[..., 0].T):
        ax.plot([*times, -1], line, color=COLOURS[k], lw=1.2)
    ax.hlines(three.flatten(), -1, 999, color=COLOURS[6], lw=1, ls=":", label="the data")
    ax.set_xlim(999, -1)
    ax.set_xlabel("time t", fontsize=9)
    ax.set_title(f"η = {eta:.0f}", fontsize=9)
axes[0, 0].set_ylabel("x", fontsize=9)
legend(fig)
show(fig, """Four paths from noise to three numbers, dotted, over time. Left, η = 0: four
     smooth curves, which do not cross. Right, η = 1, from the same four starts: four random
     walks, which cross often. All end on the dotted lines.""")

# %% [markdown]
r"""
With η = 0 a path is a smooth curve, which its start decides, and a smooth curve can be followed with long steps. A random walk cannot. Section 4 makes an equation of it.

### Why trailing

Look at what the leading list begins with, for six steps:
"""

# %% tags=["nbval-ignore-output"]
spacings = ("leading", "trailing", "linspace")
lists = {s: ddim.timesteps(1000, 6, s) for s in spacings}
by_spacing = torch.cat([faces_from(noise(8), times=lists[s]) for s in spacings])
show(image_grid(by_spacing, columns=8, row_titles=list(spacings)), """Eight noises sampled in
     six steps with three spacings. Trailing and linspace agree; with leading all backgrounds
     tend to one grey, and the hair of some faces changes its colour.""")
for s, times in lists.items():
    share = float(diffusion.alpha_bar[times[0]]) ** 0.5
    print(f"{s:<10}{times!s:<33} of the picture, x at the first time holds {share:.3f}")

# %% [markdown]
r"""
The noise that sampling starts from holds nothing of a picture. With **trailing** the network is told so. With **leading** it is told a time at which, in training, a good part of the picture was still there (that is the last column, $\sqrt{\bar\alpha}$): it takes the noise for a picture, one whose large areas are all of nearly the same middling colour, as an average over noise is, and that is what it draws. On the other hand trailing makes a long last jump, from a picture with some noise to a clean one, where leading and linspace end at $t = 0$ with nearly none. Linspace has both ends right, and pays with longer strides. Which weighs more, the table of section 4 measures for ten steps; `minigen` takes trailing unless told (Lin et al. 2024 argue the same way).

## 4. The equation behind it, and a better step

*40 minutes.*

Take DDIM's step, σ = 0, write $\hat\varepsilon = (x_t - \sqrt{\bar\alpha_t}\, \hat x_0) / \sqrt{1 - \bar\alpha_t}$, and divide by $\sqrt{1 - \bar\alpha_s}$. With the two abbreviations

$$z = \frac{x}{\sqrt{1 - \bar\alpha}}, \qquad \kappa = \frac{\sqrt{\bar\alpha}}{\sqrt{1 - \bar\alpha}} = \sqrt{\text{SNR}}$$

everything else drops out:

$$z_s = z_t + (\kappa_s - \kappa_t)\; \hat x_0(x_t, t), \qquad \text{and with ever shorter steps} \qquad \frac{dz}{d\kappa} = \hat x_0 .$$

So there is a differential equation, **the probability flow**, and DDIM is Euler's method for it: go straight on in the direction at the start of the step. It is exact wherever the guess does not change along the way.

**Why does the flow end at the data?** Eq. 28 says $z = \kappa\, x_0 + \varepsilon$: a noised picture moves along a straight line, and its velocity in κ is its own $x_0$. Many pictures pass through one place $z$, each with its own velocity. But a density does not see who passes; it changes as the *mean* velocity at each place says (the continuity equation), and the mean velocity is $\mathbb E[x_0 \mid x_t]$, the ideal denoiser. Points that all move with the mean velocity are therefore, at every κ, distributed as the noised pictures are: from noise at $\kappa = 0$ to the data. This is an argument of flow matching (Lipman et al. 2023), and it holds here as well. By Tweedie's formula of chapter 5, $\hat x_0$ is the score in other words, and the equation is the one that Song et al. (2021) found from stochastic processes, $dx = \left(f x - \tfrac12 g^2\, \nabla \log p_t(x)\right) dt$.

Divide by $\sqrt{\bar\alpha_s}$ instead, and you get the same line seen from its other end: $\mathrm d(x / \sqrt{\bar\alpha}) = \hat\varepsilon\; \mathrm d(1 / \kappa)$. Euler's step is the same in both. Better steps are not: at the top of the schedule $1 / \kappa$ changes by hundreds or more in one step, and multiplies every error of $\hat\varepsilon$. You know this from chapter 5: it is why the network predicts $v$, which is nearly $x_0$ there.

### A step of second order

Euler trusts the guess at the start for a whole step. Two remedies, both more than a century old:

- **Heun**: go there, ask again at the end, and make the step anew with the mean of both guesses. Two runs of the network a step.
- **Multistep**: the guess of the step *before* is still there. A straight line through it and the present one tells where the guess is heading; take its value in the middle of the step. One run a step. Along which axis is the guess nearly a straight line? Along $\lambda = \log \kappa$, say Lu et al. (2022), whose DPM-Solver++(2M) this is.

Both are of **second order**: halve the steps, and the error becomes a quarter, where Euler's becomes a half.

### Exercise 6.4 · `middle_guess` · ★★ · 8 minutes

The guess `x0` stands at `lam`, the guess `x0_before` at `lam_before`; the step goes on to `lam_next`. All steps may differ in length. Return the line's value in the middle of the step.

<details><summary>Hint</summary>

A line is a point and a slope. The point is `x0` at `lam`; what is the slope, per unit of λ? And how far is it from `lam` to the middle of the step?

</details>
"""

# %%
def middle_guess(x0, x0_before, lam_before, lam, lam_next):
    """Shapes: two guesses (B, ...), three rising numbers -> (B, ...)."""
    ### BEGIN SOLUTION
    slope = (x0 - x0_before) / (lam - lam_before)
    return x0 + slope * (lam_next - lam) / 2
    ### END SOLUTION

# %% points=2
check(middle_guess)

# %% [markdown]
r"""
With it, sampling of second order is ten lines. The first step has no guess before it, and the last goes to $\lambda = \infty$; both are Euler's.
"""

# %%
lam = 0.5 * diffusion.snr.log()                     # λ at every time
middle = yours(middle_guess)


def second_order(guess, xT, times):
    """Multistep sampling of second order; a state a step."""
    x, states, before = xT, [xT], None
    for t, s in zip(times, [*times[1:], -1], strict=True):
        x0, _ = guess(x, t)
        slope = x0
        if before is not None and s >= 0:
            slope = middle(x0, before[0], *(float(lam[k]) for k in (before[1], t, s)))
        x = ode.along(diffusion, x, slope, t, s)    # z_s = z_t + (κ_s − κ_t) · slope
        before = x0, t
        states.append(x)
    return states

# %% tags=["nbval-ignore-output"]
ours = second_order(guess_of(unet), noise(8), visited(1000, 10))[-1]
package = ddpm.last(ode.multistep_sample(unet, diffusion, noise(8), steps=10, clip=(-1, 1)))
gap = float((ours - package).abs().max())
print(f"largest difference to minigen.ode.multistep_sample: {gap:.0e}")
assert gap < 1e-3

# %% [markdown]
r"""
The Gaussian of section 2 says whether the orders are as claimed, because its flow is known: a point keeps its place, so many deviations from the mean, while mean and deviation change.
"""

# %%
def place(x, t):
    """How many deviations x lies from the mean at time t; -1 is the clean data."""
    ab = float(diffusion.alpha_bar[t]) if t >= 0 else 1.0
    return (x - ab**0.5 * 0.3) / (ab * 0.25 + 1 - ab) ** 0.5


def error_after(states, n, until):
    """Largest error of place, of a sampler with n steps: after half of them, or all."""
    kept = list(states)
    x, t = (kept[n // 2 - 1].x, 499) if until == "half way" else (kept[-1].x, -1)
    return float((place(x, t) - place(line, 999)).abs().max())


line = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
runs = [8, 20, 40, 100, 200]
samplers = {
    "DDIM": (ddim.ddim_sample, 1),
    "Heun": (ode.heun_sample, 2),                   # two runs a step, so half the steps
    "multistep": (ode.multistep_sample, 1),
}
fig, axes = panels(1, 2, height=2.8)
print(f"{'network runs':<21}" + "".join(f"{n:>9}" for n in runs))
for ax, until in zip(axes.flat, ("half way", "at the end"), strict=True):
    errors = {
        name: [error_after(sample(best_eps, diffusion, line, steps=n // cost), n // cost, until)
               for n in runs]
        for name, (sample, cost) in samplers.items()
    }
    curves(errors, x=runs, xlabel="network runs", ylabel="error", ax=ax, logy=True, title=until)
    ax.set_xscale("log")
    for name, e in errors.items():
        order = f"order {math.log2(e[-2] / e[-1]):.1f}" if until == "half way" else ""
        numbers = "".join(f"{error:9.5f}" for error in e)
        print(f"{until:<11}{name:<10}{numbers}   {order}".rstrip())
legend(fig)
show(fig, """Error of the place in the Gaussian over network runs, both log. Left, half way:
     DDIM falls with slope 1, multistep and Heun with slope 2, Heun lowest. Right, at the end:
     Heun begins above DDIM and crosses it at 20 runs; multistep is lowest throughout.""")

# %% [markdown]
r"""
Half way the orders are 1, 2, 2, and Heun is the most exact. To the end it is another matter: the last jump, to $\lambda = \infty$, is Euler's for all three, and for the same number of runs Heun's is twice as long. So with 8 runs Heun is worse than DDIM, with 20 as good, while the guess that was kept, and cost nothing, buys a factor of more than ten. And with a network, which is no formula? Eight noises at five runs each, and how far 16 pictures are from where the flow leads (fifty steps of second order):
"""

# %% tags=["nbval-ignore-output"]
def picture(name, xT, n):
    sample, cost = samplers[name]
    n = n if cost == 1 else (n + 1) // 2            # Heun: 3 steps for 5 runs, the last of one
    x = ddpm.last(sample(unet, diffusion, xT, steps=n, clip=(-1, 1)))
    return x.clamp(-1, 1).cpu()


limit = picture("multistep", noise(16), 50)
five = [picture(name, noise(16), 5) for name in samplers]
rows = torch.cat([x[:8] for x in (*five, limit)])
titles = [*(f"{name},\n5 runs" for name in samplers), "the limit"]
show(image_grid(rows, columns=8, row_titles=titles),
     """Eight noises with five network runs each, by DDIM, Heun and multistep, and the limit
     they tend to: the same people in every row, in the first three with less detail.""")
print("mean distance to the limit:")
for name in samplers:
    far = {n: float((picture(name, noise(16), n) - limit).abs().mean()) for n in (5, 9, 19)}
    print(f"  {name:<10}", {f"{n} runs": round(e, 3) for n, e in far.items()})

# %% [markdown]
r"""
### The paper's Table 3, in pixel space

Now measure. For every sampler 300 faces and three seeds; the cells were measured beforehand by `python -m minigen reproduce table3_pixels`. The number behind a sampler is its number of steps.
"""

# %%
print(reproduce.as_text("table3_pixels"))

# %% tags=["nbval-ignore-output"]
cells = reproduce.read("table3_pixels")


def over_seeds(cells, row, column):
    """Mean and standard deviation over the seeds."""
    values = [c[column] for c in cells if c["row"] == row]
    return statistics.mean(values), statistics.stdev(values)


drawn = {
    "DDIM": {n: f"DDIM {n}" for n in (5, 10, 20, 50)},
    "Heun": {2 * n - 1: f"Heun {n} ({2 * n - 1} runs)" for n in (3, 5, 10)},
    "multistep": {n: f"multistep {n}" for n in (5, 10, 20)},
}
fig, axes = panels(1, 2)
labels = {"frechet": "toy Fréchet distance", "ms": "processor's ms a face"}
for ax, (column, label) in zip(axes.flat, labels.items(), strict=True):
    for k, (name, rows) in enumerate(drawn.items()):
        of_runs = [over_seeds(cells, row, column) for row in rows.values()]
        mean, spread = zip(*of_runs, strict=True)
        ax.errorbar(list(rows), mean, spread, color=COLOURS[k], marker="o", ms=3, lw=1.2,
                    capsize=2, label=name)
    ax.set(xscale="log", yscale="log")
    ax.set_xlabel("network runs", fontsize=9)
    ax.set_ylabel(label, fontsize=9)
    ax.set_xticks([5, 10, 20, 50], [5, 10, 20, 50])
    ax.minorticks_off()
axes[0, 0].set_yticks([200, 400, 800, 1600], [200, 400, 800, 1600])
axes[0, 1].set_yticks([10, 20, 50, 100, 200], [10, 20, 50, 100, 200])
legend(fig)
show(fig, """Left: toy Fréchet distance over the number of network runs, both log, with the
     deviation over three seeds: it falls steeply to about 20 runs and then little; multistep
     lies lowest up to ten runs, and meets Heun below DDIM at 20. Right: time a face, which
     grows in proportion to the runs, whatever the sampler.""")
quality = {row: over_seeds(cells, row, "frechet")[0] for row in {c["row"] for c in cells}}
assert quality["multistep 10"] < quality["DDIM 10"] < quality["DDIM 5"]

# %% [markdown]
r"""
The shape is the paper's: quality rises quickly, then slowly; cost rises in proportion. What the second order buys is in the rows with equal runs: compare `multistep 10` with `DDIM 10` and `DDIM 20`. The row *leading* is what starting below the top costs at ten steps, and the row η = 1 what new noise does. (The paper's times are not in proportion: 851, 1140, 1431 and 4026 ms for 50, 100, 200 and 500 steps, that is 5.8, 2.9 and 8.7 ms for each further step. It does not say why.) Its DDPM row takes ten seconds an image, but that is the pixel U-Net of its Table 4, not the model of the other rows; chapter 8 comes back to this.
"""

# %% tags=["nbval-ignore-output"]
def verdict(a, b):
    """How two rows compare, in units of the seeds' spread."""
    (x, dx), (y, dy) = (over_seeds(cells, row, "frechet") for row in (a, b))
    clear = abs(x - y) > 2 * math.hypot(dx, dy) / 3**0.5
    words = ("below" if x < y else "above") if clear else "not to be told from"
    return f"{a:<17}{x:6.1f} is {words} {b:<13}{y:6.1f}"


for pair in (("multistep 5", "DDIM 10"), ("multistep 10", "DDIM 20"),
             ("multistep 20", "DDIM 50"), ("Heun 5 (9 runs)", "DDIM 10"),
             ("DDIM 10, leading", "DDIM 10"),
             ("DDIM 20, η = 1", "DDIM 20")):
    print(verdict(*pair))

# %% [markdown]
r"""
("Not to be told": the means differ by less than twice the standard error of their difference.)

One more thing is decided before any sampler runs: what the network predicts. Here is chapter 5's other network, trained to predict ε on the linear schedule, next to ours:
"""

# %% tags=["nbval-ignore-output"]
other = load_weights(UNet, "unet_eps").to(device)
by_eps = ddpm.last(ddim.ddim_sample(other, ddpm.diffusion_of(other), noise(8), steps=20,
                                    clip=(-1, 1)))
both = torch.cat([by_eps.cpu().clamp(-1, 1), faces_from(noise(8), n=20)])
show(image_grid(both, columns=8, row_titles=["ε", "v"]), """Eight noises in 20 deterministic
     steps. Above the network that predicts ε: some faces keep a grain, or a tint that no drawn
     face has. Below the one that predicts v: neither.""")

# %% [markdown]
r"""
The **grain** has the cause that chapter 5 showed: at the top of the schedule a small error of $\hat\varepsilon$ is a glaring error of the guess, and a long deterministic step carries it along, where ancestral sampling would have covered it with new noise. No sampler repairs it. The right prediction does.

## 5. What determinism is good for

*25 minutes.*

With η = 0 the picture is a **function of the noise**. You saw it at the top of the chapter: with 10 or 50 steps, the same person. So the noise is a code, like the latent of chapters 1 and 2, as large as the picture itself.

### Walking between faces

Take two noises and go from one to the other in a straight line. In the middle, $\tfrac12 (a + b)$ of two independent Gaussians has variance $\tfrac12$, not 1. In 3,072 dimensions all noise lies on a thin shell of radius $\sqrt{3072}$, and the middle of the line lies far inside, where no noise ever is. Go along the **arc** instead (Shoemake's *slerp*):

$$\operatorname{slerp}(a, b; w) = \frac{\sin((1 - w)\,\theta)\; a + \sin(w\,\theta)\; b}{\sin\theta}, \qquad \cos\theta = \frac{a \cdot b}{\lVert a \rVert\, \lVert b \rVert}.$$

### Exercise 6.5 · `on_the_arc` · ★★ · 6 minutes

Write it for two vectors.

<details><summary>Hint</summary>

The angle comes from the dot product and the two lengths, by `torch.arccos`. Then look at the ends: what must come out for `w` = 0, and for `w` = 1?

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
a, b = noise(8)[1], noise(8)[7]
arc_of = yours(on_the_arc)
w = torch.linspace(0, 1, 8).tolist()
line = torch.stack([(1 - k) * a + k * b for k in w])
arc = torch.stack([arc_of(a.flatten(), b.flatten(), k).view_as(a) for k in w])
walks = torch.cat([faces_from(line), faces_from(arc)])
show(image_grid(walks, columns=8, row_titles=["line", "arc"]), """From one face to another in
     eight steps, along the line above and along the arc below.""")
length = {name: round(float(x[4].norm() / a.norm()), 2)
          for name, x in (("line", line), ("arc", arc))}
print("length of the middle noise, relative:", length["line"], "on the line,",
      length["arc"], "on the arc")

# %% [markdown]
r"""
What is lost on the line? Count it: for 16 pairs of noises, how much neighbouring pixels differ in the picture half way, next to the pictures at both ends.
"""

# %% tags=["nbval-ignore-output"]
ends = noise(32, seed=6)
left, right = ends[:16], ends[16:]
halves = torch.stack([arc_of(p.flatten(), q.flatten(), 0.5).view_as(p)
                      for p, q in zip(left, right, strict=True)])
for name, codes in {"ends": ends, "line": (left + right) / 2, "arc": halves}.items():
    pictures = faces_from(codes)
    detail = float(pictures.diff(dim=-1).abs().mean())
    print(f"{name:<6}neighbouring pixels differ by {detail:.3f}")

# %% [markdown]
r"""
### Backwards

If the steps follow a smooth curve, they can follow it in the other direction: from a picture to *its* noise. A step up from $s$ to $t$ would need $\varepsilon_\theta(x_t, t)$ at its end, which we do not have yet. Plain **inversion** asks the network at the beginning instead, $\varepsilon_\theta(x_s, t)$; one can then ask again at the end found (`refine`), as often as one likes. How far from the start does one land after going up and down again?
"""

# %% tags=["nbval-ignore-output"]
two = [labels_of(hair="black", glasses="yes", smile="smile"),
       labels_of(hair="blond", skin="umber", hair_length="long")]
original = draw_faces(torch.cat(two)).to(device)
tries, back = (10, 40), {}
for name, refine in (("plain", 0), ("refined twice", 2)):
    for n in tries:
        inverted = ddim.ddim_invert(unet, diffusion, original, steps=n, refine=refine)
        again = ddim.ddim_sample(unet, diffusion, ddpm.last(inverted), steps=n)
        back[name, n] = ddpm.last(again).clamp(-1, 1).cpu()
columns = {
    "face": original.cpu(),
    "10 steps": back["plain", 10],
    "40 steps": back["plain", 40],
    "40, refined": back["refined twice", 40],
}
pairs = torch.stack(list(columns.values()), dim=1).flatten(0, 1)
show(image_grid(pairs, columns=4, titles=list(columns), width=4.5), """Two drawn faces, and what
     comes back after inversion and sampling: with 10 steps the backgrounds are
     pale, with 40 one is right and one is sand for pink, with refinement both can hardly be
     told from the originals.""")

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

Now the trick. Our network can be told the colour of the hair, or the smile. Invert a face **with its own colour** as the label: what the label already says need not be in the noise. Then sample from that noise with *another* label.
"""

# %% tags=["nbval-ignore-output"]
def code_of(faces, own):
    """The noise of faces that are told their own labels on the way there."""
    return ddpm.last(ddim.ddim_invert(unet, diffusion, faces, own, steps=20, refine=2))


def drawn_as(code, wanted):
    """What other labels make of that noise."""
    again = ddim.ddim_sample(unet, diffusion, code, wanted, steps=20)
    return ddpm.last(again).clamp(-1, 1).cpu()


own = torch.tensor([hair.index("black"), hair.index("blond")], device=device)
code = code_of(original, own)
edited = [drawn_as(code, torch.full_like(own, k)) for k in range(len(hair))]
strip = torch.stack([original.cpu(), *edited], dim=1).flatten(0, 1)
show(image_grid(strip, columns=6, titles=["face", *hair]),
     """Two faces and, from their own noise, the same with five hair colours asked for. The
     hair follows the label; whatever else changed, changed unasked.""")

# %% [markdown]
r"""
Two pictures show what one likes to see. Count instead: 40 faces, each asked for another hair colour, and then each for another smile; the classifier reads all nine attributes before and after. The first column is the control: there and back with the own label, where nothing at all was asked for.
"""

# %% tags=["nbval-ignore-output"]
forty = ToyFaces(40, seed=12)
images, before = forty.images().to(device), predict_attributes(forty.images())
begins = {"hair": 0, "smile": len(hair)}             # where the labels of each begin
codes = {k: code_of(images, start + forty[k].to(device)) for k, start in begins.items()}


def edit(attribute, by):
    """Per attribute the share of 40 faces that read otherwise after the edit; share obeyed."""
    wanted = (forty[attribute] + by) % len(ATTRIBUTES[attribute])
    faces = drawn_as(codes[attribute], begins[attribute] + wanted.to(device))
    after = predict_attributes(faces)
    changed = {k: float((after[k] != before[k]).float().mean()) for k in before}
    return changed, obedience(faces, attribute, wanted)


columns = {
    "nothing asked": edit("hair", 0),
    "other hair": edit("hair", 1),
    "other smile": edit("smile", 1),
}
print(f"{'changed in':<14}" + "".join(f"{name:>16}" for name in columns))
for attribute in ATTRIBUTES:
    print(f"{attribute:<14}" + "".join(f"{c[attribute]:>16.0%}" for c, _ in columns.values()))
print(f"{'obeyed':<14}" + "".join(f"{obeyed:>16.0%}" for _, obeyed in columns.values()))

# %% tags=["nbval-ignore-output"]
fig, axes = panels(1, 1, height=3.0)
for k, (name, (shares, _)) in enumerate(columns.items()):
    at = [row + 0.27 * (k - 1) for row in range(len(shares))]
    axes[0, 0].barh(at, list(shares.values()), height=0.25, color=COLOURS[k], label=name)
axes[0, 0].set_yticks(range(len(ATTRIBUTES)), list(ATTRIBUTES))
axes[0, 0].invert_yaxis()
axes[0, 0].set_xlim(0, 1)
axes[0, 0].set_xlabel("share of 40 faces in which it reads otherwise", fontsize=9)
legend(fig)
show(fig, """What changed in 40 faces, attribute by attribute, when nothing was asked, other
     hair and another smile. Hair changes in all faces where it was asked for, the smile in
     about half. The other bars changed unasked: most of all the backgrounds, in half of the
     faces, also where nothing was asked, on the way there and back.""")
for name, asked in (("other hair", "hair"), ("other smile", "smile")):
    beside = sum(share for k, share in columns[name][0].items() if k != asked)
    print(f"{name}: {beside:.2f} of the 8 attributes not asked for change in a face")
beside = sum(columns["nothing asked"][0].values())
print(f"nothing asked: {beside:.2f} of 9")

# %% [markdown]
r"""
So an edit by inversion is what it is. Hair, a large area, is obeyed in every face; the smile, a few pixels, in a third. And something else pays. Half of the backgrounds change where *nothing* was asked: that is the way there and back, twenty steps that do not quite meet, and a background lives where small errors grow (chapter 5); more steps and refinements help, as the two faces above show. The rest is the edit's: other hair comes with another length in a fifth of the faces more than the control. The noise was never asked to keep "everything but the hair" apart from the hair. (Editors of photographs that are built on inversion fight the same thing; Mokady et al. 2023, for one, also train the null label for each picture.)

## 6. Guidance

*40 minutes.*

How was the network told? With a label embedding added to the time's. There are eight labels: five hair colours and three smiles. In training every face was told *either* its hair, *or* its smile, *or* nothing, that is a ninth label, "null". So one network learned both $\varepsilon_\theta(x_t, y)$ and $\varepsilon_\theta(x_t)$. It was never told two things at once; remember that.

Leaving labels out is one line, `guidance.drop_labels`. It makes a *new* tensor: the labels it is given belong to the data set, and written over they would be gone in the next epoch. (That mistake is in a well-known library.)
"""

# %%
y = torch.arange(8).repeat(1250)
dropped = drop_labels(y, 8, 0.15, torch.Generator().manual_seed(0))
share = float((dropped == 8).float().mean())
print(f"{share:.0%} dropped; the original labels: {sorted(set(y.tolist()))}")

# %% [markdown]
r"""
### From Bayes' rule

At any noise level, $p(x_t \mid y) = p(x_t)\, p(y \mid x_t) / p(y)$. Take the logarithm and the gradient in $x_t$; $p(y)$ does not depend on it:

$$\nabla \log p(x_t \mid y) = \nabla \log p(x_t) + \nabla \log p(y \mid x_t).$$

The last term is what a **classifier** of noisy pictures would say: which way to go to look more like $y$. (Dhariwal and Nichol 2021 trained one.) We want pictures that the classifier is surer of, so sharpen it, $p_s(x_t) \propto p(x_t)\, p(y \mid x_t)^s$, and put the first equation in for the classifier, which then need not exist:

$$\nabla \log p_s(x_t) = \nabla \log p(x_t) + s\, \left(\nabla \log p(x_t \mid y) - \nabla \log p(x_t)\right).$$

By chapter 5, $\varepsilon = -\sqrt{1 - \bar\alpha_t}\; \nabla \log p$, of all three. This is **classifier-free guidance** (Ho and Salimans 2022):

$$\hat\varepsilon = \varepsilon_\theta(x_t) + s\,\left(\varepsilon_\theta(x_t, y) - \varepsilon_\theta(x_t)\right).$$

**Scale convention**: $s = 0$ ignores the label, $s = 1$ is the plain conditional model, $s > 1$ exaggerates. The paper of Ho and Salimans writes $w$ for $s - 1$; when someone reports a "scale", ask which. It costs a second run of the network, except at 0 and 1. A network that predicts $v$ is guided by the same line with $v$ in it, because at a given $x_t$ the one is a multiple of the other plus a constant, and the weights $1 - s$ and $s$ sum to one.

(One caution. The $p_s$ of different $t$ are not the noised versions of one distribution, unless $s$ is 0 or 1, so what a guided sampler draws is near $p_s(x_0)$, not exactly it.)

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

# %%
guide = yours(guided_eps)


@torch.no_grad()
def told(x, t, label):
    """The network's answer to x, told a label: one for all, or one for each."""
    at, y = torch.tensor([t], device=device), torch.as_tensor(label, device=device)
    return unet(x, at, y.expand(len(x)))


def steered(output_at):
    """A guess for the loop, from a function (x, t) -> the network's steered answer."""
    def guess(x, t):
        at = torch.tensor([t], device=device)
        x0 = diffusion.views(output_at(x, t), x, at, unet.prediction)[0].clamp(-1, 1)
        return x0, diffusion.views(x0, x, at, "x0")[1]

    return guess


nothing = unet.num_classes                           # the null label

# %% [markdown]
r"""
**Predict before you run:** eight noises, red hair asked for with scale 0, 1, 2 and 5. In which row does red first appear everywhere? What else will change at 5?
"""

# %% tags=["nbval-ignore-output"]
def redder(s):
    red = hair.index("red")
    return steered(lambda x, t: guide(told(x, t, red), told(x, t, nothing), s))


by_scale = {s: faces_from(noise(8), n=12, guess=redder(s)) for s in (0, 1, 2, 5)}
show(image_grid(torch.cat(list(by_scale.values())), columns=8,
                row_titles=[f"s = {s}" for s in by_scale]),
     """Eight noises, red hair asked for with scale 0, 1, 2 and 5. At 0 hair of all colours;
     from 1 on red; at 5 more of it.""")
reds = torch.full((8,), hair.index("red"))
obeyed = {s: f"{obedience(x, 'hair', reds):.0%}" for s, x in by_scale.items()}
print("red, says the classifier:", obeyed)

# %% [markdown]
r"""
### Two things at once

Hair colour alone is easy, a large area of one colour. Ask for red hair **and** a smile, which is a few pixels, of a network that was never told both. Bayes' rule again. If hair and smile, given the picture, say nothing of each other, $p(y_1, y_2 \mid x_t) = p(y_1 \mid x_t)\, p(y_2 \mid x_t)$, and each adds its own gradient (Liu et al. 2022):

$$\hat\varepsilon = \varepsilon_\theta(x_t) + \sum_k s_k\, \left(\varepsilon_\theta(x_t, y_k) - \varepsilon_\theta(x_t)\right).$$

In a clean picture that independence is plain, since both can be read off. In a noisy one it is only nearly true.

### Exercise 6.7 · `two_at_once` · ★★ · 6 minutes

Write the sum, for as many labels as there are.

<details><summary>Hint</summary>

With one label it must be `guided_eps`. With all scales 0 it must be `unconditional`, once.

</details>
"""

# %%
def two_at_once(unconditional, answers, scales):
    """Shapes: unconditional (B, C, H, W), answers a list of such, scales as many numbers."""
    ### BEGIN SOLUTION
    result = unconditional
    for answer, s in zip(answers, scales, strict=True):
        result = result + s * (answer - unconditional)
    return result
    ### END SOLUTION

# %% points=2
check(two_at_once)

# %% tags=["nbval-ignore-output"]
compose = yours(two_at_once)


def both(pairs, s):
    """A guess told a hair and a smile, each with scale s. Shapes: pairs (B, 2)."""
    labels = pairs[:, 0], len(hair) + pairs[:, 1]
    return steered(lambda x, t: compose(
        told(x, t, nothing), [told(x, t, y) for y in labels], [s, s]))


asked = torch.tensor([(h, m) for m in range(len(smiles)) for h in range(len(hair))])
one = noise(1, seed=3).expand(len(asked), -1, -1, -1)
faces = faces_from(one, n=12, guess=both(asked.to(device), 2.0))
fig = image_grid(faces, columns=len(hair), titles=list(hair), row_titles=list(smiles),
                 width=5.2)
show(fig,
     """One noise, drawn fifteen times: five hair colours asked for from left to right, and
     frown, neutral and smile from top to bottom, both at once with scale 2.""")
read = predict_attributes(faces)
right = (read["hair"] == asked[:, 0]) & (read["smile"] == asked[:, 1])
print(f"both read as asked for: {int(right.sum())} of {len(asked)}")

# %% [markdown]
r"""
### What it costs

Measured beforehand on 1,000 faces a cell, all fifteen pairs equally often, three seeds (`python -m minigen reproduce guidance`): how often the classifier reads the hair asked for, the smile, and both (**obedience**); how varied the faces asked for *one pair* are (**diversity**, the spread of the classifier's features, relative to real faces of one pair; at scale 0 all pairs are mixed, so compare from scale 1 on); and the Fréchet distance.
"""

# %%
print(reproduce.as_text("guidance"))

# %% tags=["nbval-ignore-output"]
cells, scales = reproduce.read("guidance"), [0, 1, 2, 5]
fig, axes = panels(1, 3, height=2.6)
shown = [("share obeyed", ("hair", "smile", "both")), ("diversity", ("diversity",)),
         ("toy Fréchet distance", ("frechet",))]
measured = {}
for ax, (label, columns) in zip(axes.flat, shown, strict=True):
    for k, column in enumerate(columns):
        of_scale = [over_seeds(cells, f"scale {s}", column) for s in scales]
        measured[column] = dict(zip(scales, of_scale, strict=True))
        mean, spread = zip(*of_scale, strict=True)
        ax.errorbar(scales, mean, spread, color=COLOURS[k], marker="o", ms=3, lw=1.2, capsize=2,
                    label=column if len(columns) > 1 else None)
    ax.set_xlabel("scale s", fontsize=9)
    ax.set_ylabel(label, fontsize=9)
legend(fig)
show(fig, """Three panels over the scale, with the deviation over three seeds. Left: the share
     of faces in which hair, smile and both are read as asked for; the smile is the harder one.
     Middle: diversity within a pair. Right: toy Fréchet distance.""")
best = min(scales[1:], key=lambda s: measured["frechet"][s][0])
for s in scales:
    mean, spread = measured["both"][s]
    print(f"scale {s:<4} both right in {mean:.3f} ± {spread:.3f}, "
          f"diversity {measured['diversity'][s][0]:.3f}")
print(f"least distance: scale {best}")
assert measured["both"][1][0] > 2 * measured["both"][0][0]

# %% [markdown]
r"""
Read the row of scale 1 first, the plain sum of what was learned: what it lacks in the column *both* is what guidance can win. Then go down that column, and down the two to its right, which say what it costs. Too much of it does not even help obedience: at scale 5 fewer mouths are read right than at 2, and the distance has doubled. Which scale is best depends on what one counts. Guidance samples from nothing anyone has trained: it trades variety for obedience, and for the looks of the typical.

**Play:** both labels, the scale, and the number of steps.
"""

# %% tags=["nbval-ignore-output"]
def play(colour, mouth, scale, n):
    pair = torch.tensor([[hair.index(colour), len(hair) + smiles.index(mouth)]], device=device)
    model = Composed(unet, unet.num_classes, pair, float(scale))
    y = torch.zeros(6, dtype=torch.long, device=device)
    return image_grid(faces_from(noise(6, seed=4), y, model, n), columns=6)


explore(play, play("blond", "smile", 2.0, 10), """Six faces with blond hair and a smile, both
        asked for with scale 2, in ten steps.""",
        colour=(list(hair), "blond"), mouth=(list(smiles), "smile"),
        scale=(0.0, 8.0, 2.0), n=(2, 40, 10));

# %% [markdown]
r"""
## 7. Filling in

*15 minutes.*

A mask says which pixels are known. The unconditional network was never trained for this, and need not be: sample as always, but after every step **overwrite the known part** with the known picture, noised to the level of that step. The rest has to fit, because the network sees both.

### Exercise 6.8 · `keep_known` · ★★ · 5 minutes

Do it: where the mask is 1, the known picture noised to ᾱ = `ab_prev`; elsewhere `x` as it is.

<details><summary>Hint</summary>

`torch.where` wants a mask of booleans, `mask.bool()`. What is left of the noise in the last step, where `ab_prev` is 1?

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

# %% [markdown]
r"""
Here is the whole sampler with it, η = 1, next to `minigen.ddim.inpaint`, which can also do each step several times:
"""

# %% tags=["nbval-ignore-output"]
known, mask = ToyFaces(4, seed=12).images().to(device), torch.ones(1, 1, 32, 32, device=device)
mask[..., 9:17, 6:26] = 0                            # the eyes
keep = yours(keep_known)


def filled(seed):
    """With your `keep_known`, every step done once."""
    x, times = noise(4, seed=seed), visited(1000, 20)
    dice = torch.Generator().manual_seed(seed)
    for t, s in zip(times, [*times[1:], -1], strict=True):
        x0, eps = guess_of(unet)(x, t)
        new = torch.randn(x.shape, generator=dice).to(device) if s >= 0 else None
        x = ddim.ddim_step(diffusion, x0, eps, t, s, 1.0, new)
        ab_prev = float(diffusion.alpha_bar[s]) if s >= 0 else 1.0
        x = keep(x, known, mask, ab_prev, torch.randn(x.shape, generator=dice).to(device))
    return x


def repeated(seed, repeats):
    states = ddim.inpaint(unet, diffusion, known, mask, noise(4, seed=seed), steps=20,
                          repeats=repeats, clip=(-1, 1),
                          generator=torch.Generator().manual_seed(seed))
    return ddpm.last(states)

# %% tags=["nbval-ignore-output"]
rows = {
    "real": known,
    "masked": known * mask,
    "once": filled(0),
    "3 times": repeated(0, 3),
    "3 times,\nother seed": repeated(1, 3),
}
fig = image_grid(torch.cat(list(rows.values())).clamp(-1, 1).cpu(), columns=4,
                 row_titles=list(rows), width=4.5)
fig.set_figheight(4.7)                  # the row titles leave the images less width
show(fig, """Four faces with glasses, the same with eyes and glasses cut out, and three
     fillings: glasses are put back where their ends were left, with other eyes.""")
fillings = list(rows.values())[2:]
print("known pixels unchanged:", all(torch.equal(x * mask, known * mask) for x in fillings))
gap = float((rows["once"] - repeated(0, 1)).abs().max())
print(f"largest difference to minigen's, once: {gap:.0e}")
for name, x in list(rows.items())[2:]:
    glasses = predict_attributes(x.clamp(-1, 1).cpu())["glasses"]
    print(f"{' '.join(name.split()):<22}glasses read in {int((glasses == 1).sum())} of 4")

# %% [markdown]
r"""
Done plainly, the known part never listens to the filled part: at each step it is overwritten, and the two can disagree at their border. Lugmayr et al. (2022) go up again by one step and repeat (`repeats`), so that both have time to agree. Glasses that were cut through are the test: is the rest drawn?

## 8. Why pixels are expensive

*5 minutes.*

Fewer steps are one way to a cheaper model. The other is a cheaper step. Count the multiplications of one run of the network, and the numbers it has to denoise:
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
        "U-Net, 32×32 (ours)": (billions(UNet(**unet.config)), 3 * 32**2),
        "U-Net, 256×256 (the paper's baseline)":
            (billions(UNet(**PRESETS["paper"])), 3 * 256**2),
    }
print("multiplications:")
for name, (giga, _) in work.items():
    print(f"{name:<38}{giga:8.2f} billion a step, {giga:6.1f} trillion for 1000 steps")
print("numbers to denoise:")
for name, (_, numbers) in work.items():
    print(f"{name:<38}{numbers:8,}")
print(f"{'4×4×4 latent of 256×256 (the paper)':<38}{4 * 4 * 4:8,}")

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
- Behind η = 0 stands an equation, $dz / d\kappa = \hat x_0$; DDIM is Euler's step for it. Remembering the last guess makes it second order for nothing; Heun's two runs a step do not pay at few runs.
- η = 0 makes the noise a code: slerp between codes, invert, edit; and count what an edit changed unasked.
- Guidance is Bayes' rule with a sharpened, implicit classifier: $\varepsilon_u + s(\varepsilon_c - \varepsilon_u)$. Labels that say nothing of each other add up. Obedience up, diversity down; say which scale you mean.
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
| probability flow | 概率流 | the equation whose paths carry noise to data |
| order of a method | 方法的阶 | how fast its error falls with shorter steps |
| spherical interpolation | 球面插值 | along the arc, not the line |
| inversion | 反演 | from a picture to its noise |
| classifier-free guidance | 无分类器引导 | exaggerate what the label adds |
| composition | 组合 | several labels, each with its own difference |
| inpainting | 图像修复 | filling in a masked region |

### References

- Liu, Chen, Gao 2026, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): §3.3, Eq. 29, Algorithm 3, Table 3.
- Song, Meng, Ermon 2021, *Denoising Diffusion Implicit Models*, [arXiv:2010.02502](https://arxiv.org/abs/2010.02502): Eqs. 7, 12, 14, 16; §4.3, §5.3; appendix D.
- Song et al. 2021, *Score-Based Generative Modeling through Stochastic Differential Equations*, [arXiv:2011.13456](https://arxiv.org/abs/2011.13456): Eq. 13.
- Lu et al. 2022, *DPM-Solver++*, [arXiv:2211.01095](https://arxiv.org/abs/2211.01095): Algorithm 2.
- Karras et al. 2022, *Elucidating the Design Space of Diffusion-Based Generative Models*, [arXiv:2206.00364](https://arxiv.org/abs/2206.00364): Algorithm 1, Heun's method.
- Lipman et al. 2023, *Flow Matching for Generative Modeling*, [arXiv:2210.02747](https://arxiv.org/abs/2210.02747): Theorem 1.
- Dhariwal, Nichol 2021, *Diffusion Models Beat GANs on Image Synthesis*, [arXiv:2105.05233](https://arxiv.org/abs/2105.05233): §4, a classifier's gradient.
- Ho, Salimans 2022, *Classifier-Free Diffusion Guidance*, [arXiv:2207.12598](https://arxiv.org/abs/2207.12598): Eq. 6, Algorithms 1 and 2.
- Liu et al. 2022, *Compositional Visual Generation with Composable Diffusion Models*, [arXiv:2206.01714](https://arxiv.org/abs/2206.01714): Eq. 11.
- Mokady et al. 2023, *Null-text Inversion for Editing Real Images using Guided Diffusion Models*, [arXiv:2211.09794](https://arxiv.org/abs/2211.09794).
- Lugmayr et al. 2022, *RePaint*, [arXiv:2201.09865](https://arxiv.org/abs/2201.09865): Algorithm 1.
- Shoemake 1985, *Animating Rotation with Quaternion Curves*, [doi:10.1145/325165.325242](https://doi.org/10.1145/325165.325242).
- Lin et al. 2024, *Common Diffusion Noise Schedules and Sample Steps are Flawed*, [arXiv:2305.08891](https://arxiv.org/abs/2305.08891): spacings.
"""
