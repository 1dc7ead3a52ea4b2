# %% [markdown]
r"""
# Chapter 2 · VAE objectives

A GAN draws, but it cannot say how probable an image is, and it has no way from an image back to its noise. A **variational
autoencoder** (VAE) has both: an encoder, and a loss that is a bound on the likelihood. It pays with blur, or with
indecision, and we will see what decides which. (A better score than chapter 1's comes in chapter 7. Its diffusion model is derived from this chapter's bound.)

In this chapter you will

1. derive a bound on $\log p(x)$, the ELBO;
2. let a gradient pass through a random draw;
3. write the step that trains a VAE, and ask the VAE how probable a picture is;
4. lay digits out on a map, and put glasses on people by adding a vector;
5. trade bits against sharpness, and watch latent dimensions go unused;
6. find out why VAEs are blurry, and draw better faces from *your* decoder with a better prior.
"""

# %%
import math

import torch
from matplotlib import colormaps
from torch import nn
from torch.distributions import Normal, kl_divergence
from tqdm.auto import tqdm

import minigen
from minigen import check, gan, vae
from minigen.checks import yours
from minigen.common import one_cycle
from minigen.data import ATTRIBUTES, Digits, ToyFaces, batches, draw_faces, labels_of
from minigen.files import load_weights
from minigen.gaussian import GaussianMixture
from minigen.metrics import (attribute_classifier, obedience, predict_attributes, results,
                             results_table, toy_frechet)
from minigen.paper import reproduce
from minigen.plots import COLOURS, curves, image_grid, legend, panels, show
from minigen.widgets import explore

scale, device = minigen.setup()
size = {"small": dict(faces=8192, steps=2000, digit_steps=1500),
        "full": dict(faces=20_000, steps=20_000, digit_steps=6000)}[scale]
faces, test = ToyFaces(size["faces"], seed=0), ToyFaces(2000, seed=2)
images, test_images = faces.images(), test.images()
print(f"scale: {scale}, {len(faces)} faces to learn from, {len(test)} the model never sees")

# %% [markdown]
r"""
Here is where the chapter leads: a face is squeezed into 32 numbers, and comes out again. And fresh numbers give new faces.
"""

# %%
model = load_weights(vae.VAE, "vae")
drawn = vae.sample(model, 2000, seed=7)
through = vae.reconstruct(model, test_images[:10])
show(image_grid(torch.cat([test_images[:10], through, drawn[:20]]), columns=10,
                row_titles=["real", "through\nthe VAE", "drawn", ""]),
     """Ten real faces; below them the same faces after encoding and decoding, hardly different
     but for a little grain; below those, twenty faces drawn from noise: all faces, but
     undecided ones, with half-glasses, hair of two colours or two lengths, and grainy
     backgrounds.""")

# %% [markdown]
r"""
## 1. A bound on the likelihood

*20 minutes.*

The model tells a story about how an image comes to be. First a **latent** $z$ is drawn from a standard normal, the **prior**
$p(z) = \mathcal N(0, I)$; it holds, we hope, hair, pose, glasses. Then a **decoder** turns it into an image with a little noise,
$p(x|z) = \mathcal N(x;\, \hat x(z), \sigma^2 I)$. The probability of an image is a sum over all stories that could have led to it:

$$p(x) = \int p(x|z)\, p(z)\, dz .$$

We would like to make $\log p(x)$ large. The simplest idea: draw many $z$ from the prior and average $p(x|z)$. Try it
where the answer is known: $x = z + $ noise of variance $0.01$, in $D$ dimensions, so $p(x) = \mathcal N(0, 1.01\, I)$.
"""

# %%
def by_brute_force(dimensions, draws=20_000, variance=0.01):
    """(true log p(x), its estimate with z drawn from the prior), for one typical x."""
    random = torch.Generator().manual_seed(dimensions)
    x = torch.randn(dimensions, generator=random, dtype=torch.float64) * (1 + variance) ** 0.5
    truth = Normal(0.0, (1 + variance) ** 0.5).log_prob(x).sum()
    z = torch.randn(draws, dimensions, generator=random, dtype=torch.float64)
    log_px_z = Normal(z, variance**0.5).log_prob(x).sum(1)
    return float(truth), float(torch.logsumexp(log_px_z, 0) - math.log(draws))


at = [1, 2, 3, 5, 8, 12, 16, 24, 32]
truth, estimate = zip(*(by_brute_force(d) for d in at), strict=True)
show(curves({"true log p(x)": truth, "20,000 draws from the prior": estimate},
            x=at, xlabel="dimensions of z", ylabel="nats", height=2.3),
     """The true log-likelihood and its estimate by brute force, against the number of
     dimensions. They agree up to about eight dimensions; at thirty-two the estimate is hundreds
     of nats too low.""")
assert abs(truth[0] - estimate[0]) < 0.1 and truth[-1] - estimate[-1] > 200

# %% [markdown]
r"""
In 32 dimensions twenty thousand guesses never come near the $z$ that made this $x$. (A **nat** is the unit of natural logarithms: a nat less, and the probability is smaller by a factor $e$. Divided by $\log 2$, nats are bits.) We need someone who looks at $x$ and says where to search:
an **encoder** $q(z|x)$. Multiply and divide by it, then use that the log of a mean is at least the mean of the log (Jensen):

$$\log p(x) = \log \mathbb E_{q(z|x)}\!\left[\frac{p(x|z)\,p(z)}{q(z|x)}\right]
\;\ge\; \underbrace{\mathbb E_{q(z|x)}\left[\log p(x|z)\right] - \mathrm{KL}\!\left(q(z|x) \,\Vert\, p(z)\right)}_{\text{ELBO}} .$$

This is the **evidence lower bound** (Kingma and Welling 2014, Eq. 3). How much is lost? Let the **posterior** $p(z|x)$ be the true answer to the question which $z$ could have made this $x$; then

$$\log p(x) = \text{ELBO} + \mathrm{KL}\!\left(q(z|x) \,\Vert\, p(z|x)\right).$$

<details><summary>Why</summary>

The probability of both together can be written in two ways, $p(x|z)\,p(z) = p(x)\,p(z|x)$. Put the second one into the ELBO, which is the mean of the log of that fraction:

$$\text{ELBO} = \mathbb E_{q(z|x)}\!\left[\log \frac{p(x|z)\,p(z)}{q(z|x)}\right] = \mathbb E_{q(z|x)}\!\left[\log p(x) + \log \frac{p(z|x)}{q(z|x)}\right] = \log p(x) - \mathrm{KL}\!\left(q(z|x) \,\Vert\, p(z|x)\right) .$$

In the last step $\log p(x)$ leaves the mean, because it does not depend on $z$; and the mean of $\log \frac{q}{p}$ under $q$ is what a KL divergence is.

</details>

Whatever raises the ELBO makes the data more likely, or the encoder more truthful, or
both. A check in one dimension: $x = 2z + $ noise of deviation $0.8$.
"""

# %%
w, noise, x_seen = 2.0, 0.8, 1.5
# prior times likelihood: a product of two Gaussians in z
posterior_var = 1 / (1 + w**2 / noise**2)
posterior_mean = posterior_var * w * x_seen / noise**2
posterior = Normal(posterior_mean, posterior_var**0.5)
log_p = Normal(0.0, math.sqrt(w**2 + noise**2)).log_prob(torch.tensor(x_seen)).item()


def elbo(m, s):
    """E_q log p(x|z) − KL(q ‖ prior) for q = N(m, s²), in closed form."""
    expected_error = (x_seen - w * m) ** 2 + (w * s) ** 2
    log_likelihood = -0.5 * expected_error / noise**2 - math.log(noise * math.sqrt(2 * math.pi))
    return log_likelihood - kl_divergence(Normal(m, s), Normal(0.0, 1.0)).item()


for m, s in ((0.0, 1.0), (0.7, 1.0), (posterior_mean, posterior_var**0.5)):
    lower, gap = elbo(m, s), kl_divergence(Normal(m, s), posterior).item()
    print(f"q = N({m:.2f}, {s:.2f}²):  "
          f"ELBO {lower:8.4f}  + gap {gap:7.4f}  = {lower + gap:.4f}   log p(x) = {log_p:.4f}")
    assert abs(lower + gap - log_p) < 1e-5

# %%
def bound(mean, deviation):
    z = torch.linspace(-3, 3, 400)
    fig, axes = panels(1, 2, height=2.3, width_ratios=[3, 1])
    left, right = axes[0]
    densities = {"prior": Normal(0.0, 1.0), "true posterior": posterior,
                 "your q": Normal(mean, deviation)}
    lines = {name: d.log_prob(z).exp() for name, d in densities.items()}
    curves(lines, x=z, xlabel="z", ax=left)
    left.lines[-1].set(ls=(0, (2, 2)), lw=3)          # q may lie on another: both are seen
    legend(left)
    lower = elbo(mean, deviation)
    right.bar([0], [max(lower, -11.8) + 12], bottom=-12, color=COLOURS[2], width=0.6)
    right.axhline(log_p, color="black", lw=1)
    right.set_ylim(-12, 0)
    right.set_xticks([0], ["ELBO"])
    title = f"ELBO {lower:.2f}, log p(x) {log_p:.2f}"
    right.set_title(title.replace("-", "−"), fontsize=8)
    return fig

# %% [markdown]
r"""
**Play:** move and widen $q$ until the green bar reaches the black line. Which error costs more, a $q$ twice too wide or one
half as wide? (The right one has deviation 0.37.)

<details><summary>Answer</summary>

Twice too wide loses 0.81 nats, half as wide 0.32. The KL from $q$ to the posterior punishes a $q$ that puts weight where the posterior has none.

</details>
"""

# %% tags=["nbval-ignore-output"]
explore(bound, bound(0.3, 0.6), """Left: the prior, the narrower true posterior to its
        right, and q, thickly dashed, here between the two. Right: the ELBO as a bar that
        ends a little below the line log p(x).""",
        mean=(-2.0, 2.0, 0.3), deviation=(0.1, 1.5, 0.6));

# %% [markdown]
r"""
### The KL term

Encoder and prior are Gaussians, so their KL divergence needs no sampling. In one dimension, with mean $\mu$ (in code `mean`) and variance $\sigma^2 = e^{v}$:

$$\mathrm{KL}\!\left(\mathcal N(\mu, e^{v}) \,\Vert\, \mathcal N(0, 1)\right) = \tfrac12\left(\mu^2 + e^{v} - 1 - v\right),$$

and over independent dimensions it adds up. The network puts out $v = \log \sigma^2$, the **log-variance** (`logvar`), so that any real number is allowed.

### Exercise 2.1 · `gaussian_kl` · ★ · 5 minutes

The KL of each item of a batch: summed over its dimensions, *not* over the batch.

<details><summary>Hint</summary>

Four terms inside, one half outside; `.sum(dim=1)` keeps the batch.

</details>
"""

# %%
def gaussian_kl(mean, logvar):
    """KL(N(mean, exp(logvar)) || N(0, I)) in nats. Shapes: (B, D) twice -> (B,)."""
    ### BEGIN SOLUTION
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=1)
    ### END SOLUTION

# %% points=1
check(gaussian_kl)

# %% [markdown]
r"""
Three ways to the same number: the closed form, torch's own distributions, and plain sampling of $\log q(z) - \log p(z)$.
"""

# %%
gaussian_kl = yours(gaussian_kl)
mean, logvar = torch.tensor([[0.8, -0.3, 1.5]]), torch.tensor([[-1.0, 0.5, -3.0]])
exact = gaussian_kl(mean, logvar)
q, p = Normal(mean, (0.5 * logvar).exp()), Normal(torch.zeros(3), torch.ones(3))
by_torch = kl_divergence(q, p).sum()
print(f"closed form {exact.item():.4f}   torch.distributions {by_torch.item():.4f}")

# %%
n, random = 10_000, torch.Generator().manual_seed(0)
z = vae.reparameterise(mean.expand(n, 3), logvar.expand(n, 3), random)
ratio = (q.log_prob(z) - p.log_prob(z)).sum(1)
running = ratio.cumsum(0) / torch.arange(1, n + 1)
fig = curves({"mean of log q − log p so far": running, "closed form": exact.expand(n)},
             xlabel="draws", ylabel="nats", height=2.2)
fig.axes[0].set_xscale("log")
show(fig, """The running mean of log q − log p over ten thousand draws wavers and settles on the
     closed form, a horizontal line.""")
assert abs(float(running[-1] - exact)) < 0.05

# %% [markdown]
r"""
## 2. A gradient through a random draw

*15 minutes.*

The other term, $\mathbb E_{q(z|x)}[\log p(x|z)]$, must be sampled, and the encoder must learn from it. What is the derivative of a *random draw*
with respect to its mean?

**Score function.** Move the derivative onto the density, $\nabla_\theta\, \mathbb E_{q_\theta}[f(z)] = \mathbb E_{q_\theta}[f(z)\, \nabla_\theta \log q_\theta(z)]$, since $\nabla q = q\, \nabla \log q$. It
needs nothing of $f$ but its values.

**Reparameterisation.** Draw noise that does not depend on the parameters, and compute $z$ from it:

$$z = \mu + \sigma\, \varepsilon, \qquad \varepsilon \sim \mathcal N(0, I).$$

Now $z$ is a differentiable function of $\mu$ and $\sigma$, and backpropagation runs straight through.

### Exercise 2.2 · `reparameterised` · ★ · 4 minutes

Compute $z$ from `mean`, which is $\mu$, `logvar`, which is $v = \log \sigma^2$, and a given draw `eps`, which is $\varepsilon$.

<details><summary>Hint</summary>

The deviation is the root of the variance: $\sigma = e^{v/2}$.

</details>
"""

# %%
def reparameterised(mean, logvar, eps):
    """z = mean + sigma * eps from the log-variance. Shapes: any, equal."""
    ### BEGIN SOLUTION
    return mean + (0.5 * logvar).exp() * eps
    ### END SOLUTION

# %% points=1
check(reparameterised)

# %% [markdown]
r"""
Both are right on average. Compare their noise for $f(z) = z^2$ and $q = \mathcal N(\theta, 1)$, where the true gradient is $2\theta$. One draw
gives $2(\theta + \varepsilon)$ by reparameterisation, variance $4$; and $(\theta + \varepsilon)^2 \varepsilon$ by the score function, variance
$\theta^4 + 14\theta^2 + 15$.
"""

# %%
reparameterised = yours(reparameterised)
theta = torch.linspace(0, 4, 9)
eps = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
pathwise, score = 2 * (theta + eps), (theta + eps) ** 2 * eps
for k in (0, 2, 8):
    print(f"θ = {theta[k]:.0f}: true gradient {2 * theta[k]:.0f}, "
          f"means {pathwise.mean(0)[k]:5.1f} and {score.mean(0)[k]:5.1f}, "
          f"variances {pathwise.var(0)[k]:3.0f} and {score.var(0)[k]:4.0f}")

# %%
fig = curves({"reparameterisation": pathwise.var(0), "score function": score.var(0)}, x=theta,
             xlabel="θ", ylabel="variance of one draw", logy=True, height=2.2)
ax = fig.axes[0]
ax.plot(theta, theta**4 + 14 * theta**2 + 15, "k.", label="θ⁴ + 14θ² + 15")
legend(ax)
show(fig, """Variance of the two gradient estimators against θ on a log scale: 4 everywhere for
     reparameterisation; from 15 to about 500 for the score function, on the dots of its closed
     form.""")

# %% [markdown]
r"""
At $\theta = 4$ the score function needs more than a hundred times as many draws for the same accuracy, in *one* dimension. Reparameterised, a VAE trains with a single draw per image. (But the score function also works where $z$ is discrete. Chapter 3 solves that case another way.)

## 3. The VAE on faces

*45 minutes.*

With a Gaussian decoder of variance $\sigma^2$, $-\log p(x|z)$ is a squared error, $\frac{1}{2\sigma^2} \lVert x - \hat x \rVert^2$, and a constant. Multiply the negative ELBO by $\sigma^2$ and write $\beta$ for $\sigma^2$; it reads

$$L = \underbrace{\tfrac12 \lVert x - \hat x \rVert^2}_{\text{distortion}} + \beta \cdot \underbrace{\mathrm{KL}\!\left(q(z|x) \,\Vert\, p(z)\right)}_{\text{rate}} .$$

The **rate** is what the latent code tells about the image, in nats; the **distortion** is what is lost all the same, in half the squared error. Choosing $\beta$ is
choosing how much pixel noise to believe in: $\beta = 1$ would mean a deviation of 1, the whole way from grey to white. We take $\beta = 0.03$ here, and look at others
in section 5. (β-VAE, Higgins et al. 2017, starts from $\sigma = 1$, so that only $\beta = 1$ is the plain ELBO. Here *every* $\beta$ is, of a decoder with $\sigma^2 = \beta$.)

Do not average the squared error over all pixels while summing the KL: that multiplies $\beta$ by 3072, and little more than the
background is left of a face. Sum over the image and over the latent dimensions; average over the batch only.

### Exercise 2.3 · `negative_elbo` · ★★ · 8 minutes

Write the loss $L$, averaged over the batch. In code `x_hat` is $\hat x$.

<details><summary>Hint</summary>

`(x - x_hat).square().flatten(1).sum(1)` is one number per image.

<details><summary>More</summary>

The KL of exercise 2.1 is `gaussian_kl(mean, logvar)`, shape `(B,)`. Add both per image, then take the mean.

</details>
</details>
"""

# %%
def negative_elbo(x, x_hat, mean, logvar, beta):
    """1/2 ||x - x_hat||^2 + beta * KL, averaged over the batch.

    Shapes: (B, C, H, W) twice, (B, D) twice -> a scalar.
    """
    ### BEGIN SOLUTION
    distortion = 0.5 * (x - x_hat).square().flatten(1).sum(1)
    rate = gaussian_kl(mean, logvar)
    return (distortion + beta * rate).mean()
    ### END SOLUTION

# %% points=2
check(negative_elbo)

# %% [markdown]
r"""
The network has to be quick. So an image is cut into 8×8 squares, and the 48 numbers of each become the channels of one place; two convolutions lead down to a 4×4 map, a linear layer to mean and log-variance, and the way back is alike (`minigen.squares`). On 8×8 places a convolution costs a sixteenth of what it does on 32×32. (The longer-trained model, like chapter 3's, begins with strided convolutions on all pixels.)
"""

# %%
negative_elbo = yours(negative_elbo)
torch.manual_seed(0)
beta, live = 0.03, vae.VAE(width=48, squares=True).to(device)
x = images[:2].to(device)
mean, logvar = live.encode(x)
print("image", tuple(x.shape), "→ squares", tuple(live.encoder[0](x).shape),
      "→ map", tuple(live.encoder(x).shape))
print("→ mean and log-variance", tuple(mean.shape), tuple(logvar.shape))
z = reparameterised(mean, logvar, torch.randn_like(mean))
print("z", tuple(z.shape), "→ image", tuple(live.decode(z).shape))
print("parameters:", sum(p.numel() for p in live.parameters()))
mine = negative_elbo(x, live.decode(z), mean, logvar, beta)
packaged = vae.vae_loss(x, live.decode(z), mean, logvar, beta).loss
print("your loss is the package's:", bool(torch.isclose(mine, packaged)))

# %% [markdown]
r"""
### Exercise 2.4 · `elbo_step` · ★★★ · 20 minutes

One step of training, on one batch:

1. **encode**: `model.encode(x)` gives mean and log-variance;
2. **sample** $z$ from $q(z|x)$, with the noise `eps` that is given;
3. **decode**: `model.decode(z)`;
4. **loss**: the negative ELBO at the price `beta`;
5. one step of the optimiser down its gradient.

Return the loss and the rate (the mean of the KL over the batch, without its price), both as numbers.

<details><summary>Hint</summary>

Five lines use what you have: `model.encode`, `reparameterised`, `model.decode`, `negative_elbo`, `gaussian_kl`. No `model(x)`: it draws noise of its own.

<details><summary>Second hint</summary>

The optimiser's part is always the same three lines: `optimiser.zero_grad()`, `loss.backward()`, `optimiser.step()`. Gradients *add up* in torch, so without the first line the step goes where all steps so far together point. `loss.item()` is the number without its graph.

</details>
</details>
"""

# %%
def elbo_step(model, optimiser, x, beta, eps):
    """Encode, sample, decode, and one step down the negative ELBO.

    Shapes: x (B, C, H, W), eps (B, latent_dim). Returns: (loss, rate), two numbers.
    """
    ### BEGIN SOLUTION
    mean, logvar = model.encode(x)
    z = reparameterised(mean, logvar, eps)
    x_hat = model.decode(z)
    loss = negative_elbo(x, x_hat, mean, logvar, beta)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item(), gaussian_kl(mean, logvar).mean().item()
    ### END SOLUTION

# %% points=4
check(elbo_step)

# %% [markdown]
r"""
The loop around it: a batch, fresh noise, your step, and a learning rate that rises for a tenth of the steps and then falls. (`vae.train_vae` is the same in one call.)
"""

# %% tags=["nbval-ignore-output"]
elbo_step = yours(elbo_step)


def train(model, data, steps, beta, lr=3e-3, seed=0):
    """`elbo_step` again and again. Returns: [(loss, rate)], one pair a step."""
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    schedule, history = one_cycle(optimiser, lr, steps), []
    noise = torch.Generator().manual_seed(seed)
    for _ in tqdm(range(steps), desc=f"VAE, β = {beta:g}"):
        x = next(data)[0]
        eps = torch.randn(len(x), model.latent_dim, generator=noise)
        history.append(elbo_step(model, optimiser, x.to(device), beta, eps.to(device)))
        schedule.step()
    return history


history = train(live, batches(images, batch_size=32), size["steps"], beta)

# %% tags=["nbval-ignore-output"]
distortion = [loss - beta * rate for loss, rate in history]
fig, axes = panels(1, 2, height=2.3)
curves({"distortion": distortion}, ylabel="½ squared error per image", smooth=20, logy=True,
       ax=axes[0, 0])
curves({"rate": [rate for _, rate in history]}, ylabel="nats per image", smooth=20,
       ax=axes[0, 1])
show(fig, """Left: the distortion falls over the training, on a log scale, the raw values pale,
     their mean over twenty steps drawn. Right: the rate starts near zero, overshoots, and
     settles: the code is being filled.""")
assert sum(distortion[-20:]) < 0.2 * sum(distortion[:20])

# %% [markdown]
r"""
Unlike the GAN's, these curves mean something. The rate starts near zero, since a code that the decoder cannot read yet is
not worth its price; it overshoots while the two look for a common language, and settles where another nat costs what it saves.

And drawing? Noise from the prior, through the decoder:
"""

# %% tags=["nbval-ignore-output"]
live, x = live.cpu().eval(), test_images[:10]
with torch.no_grad():
    yours_drew = live.decode(torch.randn(2000, 32, generator=torch.Generator().manual_seed(7)))
rows = {"real": x,
        "through\nyours": vae.reconstruct(live, x),
        "through\nthe longer": vae.reconstruct(model, x),
        "drawn by\nyours": yours_drew[:10],
        "drawn by\nthe longer": drawn[:10]}
show(image_grid(torch.cat(list(rows.values())), columns=10, row_titles=list(rows)),
     """Rows of ten: real test faces; the same through the model just trained, clear with a
     little grain; through the longer-trained one, hardly different from the real ones; drawn
     by the model just trained: noisy faces, about a third of them debris; drawn by the
     longer-trained: calmer, with hair of two colours and half-glasses.""")

gaussian = next(row["frechet"] for row in results() if row["model"] == "Gaussian")
print("toy Fréchet distance of 2000 samples (lower is better):")
print(f"  yours, {size['steps']} steps of 32 faces      {toy_frechet(yours_drew):6.0f}")
print(f"  the longer-trained, {model.card['steps']} of 64  {toy_frechet(drawn):6.0f}")
print(f"  chapter 0's Gaussian            {gaussian:6.0f}")

# %% [markdown]
r"""
Half a minute, and your own step has made a thing that redraws faces well and draws them badly: where the prior sends the decoder a code to which no face was ever encoded, debris comes out. Keep it in mind; section 8 gets whole faces out of this very decoder.

Both numbers stand above that of chapter 0's Gaussian, a model without a single layer. (Its draws are double exposures, but their mean and covariance are right by construction, and this yardstick compares means and covariances.)

### Break it

Put β on the wrong term, and it looks harmless. But

$$\beta \cdot \text{distortion} + \text{rate} = \beta \left( \text{distortion} + \tfrac{1}{\beta} \cdot \text{rate} \right),$$

and Adam does not care about a factor before the loss: it is the right loss at the price $1/0.03 = 33$ for a nat instead of $0.03$. To see it, hand your step the price $1/\beta$.
"""

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
broken = vae.VAE(width=48, squares=True).to(device)
(_, rate_right), (_, rate_wrong) = history[-1], train(
    broken, batches(images, batch_size=32), size["steps"] // 8, 1 / beta)[-1]
broken = broken.cpu().eval()
print(f"rate at the end: {rate_right:.0f} nats with β on the rate, "
      f"{rate_wrong:.2f} with β on the distortion")
rows = torch.cat([test_images[:8], vae.reconstruct(broken, test_images[:8]),
                  vae.sample(broken, 8, seed=3)])
show(image_grid(rows, columns=8, row_titles=["real", "redrawn", "drawn"]),
     """Eight real faces; below, redrawn by the broken model, eight times the same blurred
     brown-haired face with a grey bar for eyes on a grey ground; below that, eight drawn
     ones, as blurred and paler.""")

# %% [markdown]
r"""
The code is all but empty, so the decoder draws one mean face. Nothing crashed, and the loss fell. The number that gives the mistake away is the rate: near zero, where nearly ninety nats were to be had.

### How probable is an image?

A VAE can answer, from below. The ELBO is a bound with one draw; averaging $K$ draws *inside* the logarithm gives a tighter one (Burda et al. 2016):

$$\log p(x) \;\ge\; \mathbb E\, \log \frac1K \sum_{k=1}^{K} \frac{p(x|z_k)\,p(z_k)}{q(z_k|x)}, \qquad z_k \sim q(z|x).$$

**Predict:** put these six in order, from likely to unlikely: test faces; the same as the VAE redraws them; the same blurred; the same upside down; plain grey squares; pixel noise.
"""

# %% tags=["nbval-ignore-output"]
random, x = torch.Generator().manual_seed(0), test_images[:100]
small = nn.functional.avg_pool2d(x, 2)
grey = torch.linspace(-0.4, 0.4, 100)[:, None, None, None].expand(100, 3, 32, 32)
groups = {"training faces": images[:100],
          "test faces": x,
          "redrawn faces": vae.reconstruct(model, x),
          "blurred faces": nn.functional.interpolate(small, scale_factor=2, mode="bilinear"),
          "grey squares": grey.contiguous(),
          "upside down": x.flip(2),
          "pixel noise": torch.rand(100, 3, 32, 32, generator=random) * 2 - 1}
bounds = {name: float(vae.importance_bound(model, x, samples=8, variance=beta).mean())
          for name, x in groups.items()}
fig = image_grid(torch.cat([x[[10, 30, 50, 70, 90]] for x in groups.values()]), columns=5,
                 row_titles=[f"{name}\n{bounds[name]:.0f} nats" for name in groups], width=4.6)
fig.set_figheight(5.3)
show(fig, """Seven rows of five pictures, beside each the bound on log p(x) of its kind:
     faces from the training set, faces from the test set, the latter redrawn by the VAE,
     blurred, five plain greys, the faces upside down, coloured noise.""")
assert bounds["redrawn faces"] > bounds["test faces"] > bounds["blurred faces"]
assert bounds["blurred faces"] > bounds["grey squares"] > bounds["upside down"]
assert bounds["upside down"] > bounds["pixel noise"]

# %% [markdown]
r"""
<details><summary>Answer</summary>

Redrawn faces, test faces, blurred faces, grey squares, upside-down faces, noise. Two surprises: what the VAE has drawn itself is likelier than the real face, for it can say exactly what it can draw; and a grey square, which is no face at all, is thousands of nats likelier than a real face that stands on its head.

</details>

(Positive? $p(x)$ is a density in 3072 dimensions, not a probability, and may be far above 1; only differences mean something.)

The model finds fresh faces about as likely as those it learned from, so it has not memorised them, and no GAN could have said so. But "likely" is not "looks like a face": a squared error of 3072 pixels decides most of the number, and a smooth picture that is wrong costs less than a detailed one. Other deep generative models, too, have been found to give pictures from elsewhere a higher likelihood than their own training set (Nalisnick et al. 2019).
"""

# %% tags=["nbval-ignore-output"]
one, many = (float(vae.importance_bound(model, test_images[:100], samples=k,
                                        variance=beta).mean()) for k in (1, 64))
print(f"test faces, 1 draw: {one:.1f}   64 draws: {many:.1f}")
assert many > one

# %% [markdown]
r"""
With 64 draws instead of one the bound rises by some nats: that much of the gap was the encoder's fault.

## 4. Inside the latent space

*20 minutes.*

### A map that can be seen

With two latent numbers the whole space fits on a page. Take the handwritten digits, a network of a few layers, and *your* step again: it asks of a model only that it can `encode` and `decode`.
"""

# %% tags=["nbval-ignore-output"]
class DigitVAE(nn.Module):
    """Two latent numbers for an 8×8 digit."""

    latent_dim = 2

    def __init__(self, hidden=128):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.SiLU(),
                                     nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 4))
        self.decoder = nn.Sequential(nn.Linear(2, hidden), nn.SiLU(), nn.Linear(hidden, hidden),
                                     nn.SiLU(), nn.Linear(hidden, 64), nn.Tanh())

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=1)

    def decode(self, z):
        return self.decoder(z).view(-1, 1, 8, 8)


torch.manual_seed(0)
digits, flat = Digits(), DigitVAE().to(device)
train(flat, batches(digits.images, batch_size=64), size["digit_steps"], beta=0.1)
flat = flat.cpu()

# %% [markdown]
r"""
On the left, where the encoder puts five hundred digits. On the right, what the decoder draws at 11×11 places from −2 to 2, with the same share of the prior between any two neighbours.
"""

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    places, _ = flat.encode(digits.images[:500])
    at = Normal(0.0, 1.0).icdf(torch.linspace(0.02, 0.98, 11))
    across = torch.stack(torch.meshgrid(at, at.flip(0), indexing="xy"), 2).flatten(0, 1)
    tiles = nn.functional.pad(flat.decode(across), (0, 2, 0, 2), value=-1.0)
    tiles = tiles.view(11, 11, 10, 10).permute(0, 2, 1, 3).reshape(110, 110)
fig, axes = panels(1, 2, height=3.5)
left, right = axes[0]
for (a, b), label in zip(places.tolist(), digits.labels[:500].tolist(), strict=True):
    left.text(a, b, label, fontsize=6, color=colormaps["tab10"](label), ha="center",
              va="center", clip_on=True)
left.set(xlim=(-3, 3), ylim=(-3, 3), xticks=range(-3, 4), yticks=range(-3, 4), aspect="equal")
right.imshow(-tiles, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
right.set(xticks=[], yticks=[])
show(fig, """Left: five hundred digits, each written where its code lies, in clusters: 0 at
     the lower left, 6 below the middle, 4 at the right, 7 above it, 1 at the far right, 2
     above, and 3, 5 and 8 close together in between; the 9s lie in two or three places.
     Right: 11×11 decoded digits, each a little different from its neighbours: 0 turns into 6
     and 4 along the bottom, 3 into 5 and 7 in the middle.""")

# %% [markdown]
r"""
Nobody told the encoder a label, and yet nearly every kind of digit has its own land: pictures that look alike are cheap to describe by codes that are close. On the right one kind turns into another without a gap: each digit is decoded from a small cloud of places, the noise of $z$, and the KL leaves no room for empty land between the clouds. Where kinds overlap, two numbers were not enough.

### From one face to another

Back to 32 numbers and faces. Every face now has an address: the mean of $q(z|x)$. What lies on the way from one to another? Take pairs that look to opposite sides:
"""

# %%
@torch.no_grad()
def between_faces(a, b, steps=8):
    t = torch.linspace(0, 1, steps)[:, None]
    z0, z1 = model.encode(torch.stack([a, b]))[0]
    in_pixels = (1 - t[..., None, None]) * a + t[..., None, None] * b
    return torch.cat([in_pixels, model.decode((1 - t) * z0 + t * z1)])


aside = test.jitter[:, 0] + test["pose"] - 1             # how far a head stands to the right
ways = [between_faces(test_images[aside.argsort()[k]], test_images[aside.argsort()[-1 - k]])
        for k in (0, 3)]
show(image_grid(torch.cat(ways), columns=8, row_titles=["pixels", "latent"] * 2),
     """Two pairs of rows, each from a face that looks to the left to one that looks to the
     right, in eight steps. Mixing pixels shows two heads side by side in the middle; mixing
     latent codes shows one head, which moves over, a little blurred.""")

# %% [markdown]
r"""
In pixels there are two heads half of the way. In the code there is one, and it turns; but it is soft in the middle. Section 7 will say why.

### Which dimensions are used?

Each dimension costs rate, and nothing forces the encoder to use all 32. One is **active** if its mean changes from image to image; Burda et al. (2016) ask
for a variance above 0.01 over the data.

### Exercise 2.5 · `count_active` · ★ · 4 minutes

Given the means of all images, count the dimensions that are active.

<details><summary>Hint</summary>

`mean.var(dim=0)` is one variance per dimension, over the images.

</details>
"""

# %%
def count_active(mean, threshold=0.01):
    """Number of latent dimensions whose mean varies by more than threshold over the data.

    Shapes: (N, D) -> int.
    """
    ### BEGIN SOLUTION
    return int((mean.var(dim=0) > threshold).sum())
    ### END SOLUTION

# %% points=1
check(count_active)

# %% tags=["nbval-ignore-output"]
count_active = yours(count_active)
with torch.no_grad():
    codes, spread = model.encode(test_images)
per_dimension = 0.5 * (codes.square() + spread.exp() - 1 - spread).mean(0)
order, rate = per_dimension.argsort(descending=True), float(per_dimension.sum())
print("active:", count_active(codes), "of", codes.shape[1],
      f"  rate in all: {rate:.0f} nats = {rate / math.log(2):.0f} bits an image")

fig, axes = panels(1, 1, height=2.0)
ax = axes[0, 0]
ax.bar(range(len(order)), per_dimension[order], color=COLOURS[0])
ax.set_xlabel("latent dimension, sorted", fontsize=9)
ax.set_ylabel("rate, nats", fontsize=9)
show(fig, """The rate of each of the 32 latent dimensions, sorted: it falls from nearly four
     nats to just under two; every dimension is in use.""")

# %% [markdown]
r"""
At this price every dimension is in use. What does one mean? Take a face, change one number of its code, decode: a **latent traversal**.
"""

# %%
@torch.no_grad()
def traverse(unit, start, values):
    z = codes[start].repeat(len(values), 1)
    z[:, order[unit - 1]] = torch.tensor(values)
    return model.decode(z)


steps = [-2.0, -1.33, -0.67, 0.0, 0.67, 1.33, 2.0]
rows = {f"unit {unit}": traverse(unit, 5, steps) for unit in range(1, 7)}
fig = image_grid(torch.cat(list(rows.values())), columns=7, row_titles=list(rows),
                 titles=[f"{v:+.1f}" for v in steps], width=5.5)
fig.set_figheight(4.45)                                  # rows as close as columns
show(fig, """Six rows, one for each of the most informative latent units, each from −2 to
     +2: one changes mostly the background, others the shirt, the hair or the skin, several
     of them more than one thing at once.""")

# %% [markdown]
r"""
**Play:** can you find a unit for the pose? For the smile? (Units are numbered by their rate. The cell below the slider knows.)
"""

# %% tags=["nbval-ignore-output"]
def one_unit(unit, value, face):
    pair = torch.cat([test_images[face : face + 1], traverse(unit, face, [value])])
    return image_grid(pair, titles=["real", f"unit {unit} at {value:+.1f}"], width=4)


explore(one_unit, one_unit(3, 2.0, 5),
        """A real face and its decoding with one latent unit changed.""",
        unit=(1, 32, 3), value=(-3.0, 3.0, 2.0), face=(0, 99, 5));

# %% tags=["nbval-ignore-output"]
explained = {}
for name, values in ATTRIBUTES.items():       # share of each unit's variance between the values
    groups = [codes[test[name] == k] for k in range(len(values))]
    between = sum(len(g) * (g.mean(0) - codes.mean(0)).square() for g in groups) / len(codes)
    explained[name] = (between / codes.var(0))[order]
print("attribute     its best unit, and how much of that unit's variance it explains")
for name, share in explained.items():
    print(f"{name:<14}unit {int(share.argmax()) + 1:>2}: {share.max():>4.0%}")

# %% [markdown]
r"""
Glasses, smile and eyes are spread over many units: nothing in the loss asks one number to mean one thing. But *directions* can be found. Average the codes of faces
with glasses, and of those without; the difference is an arrow that points towards glasses.

### Exercise 2.6 · `attribute_direction` · ★ · 4 minutes

Compute that arrow from the codes `z` and `has`, which says who has the attribute.

<details><summary>Hint</summary>

`z[has]` picks the rows where the boolean tensor `has` is true, `z[~has]` the others.

</details>
"""

# %%
def attribute_direction(z, has):
    """Mean code of those that have the attribute minus that of those that do not.

    Shapes: (N, D), (N,) booleans -> (D,).
    """
    ### BEGIN SOLUTION
    return z[has].mean(0) - z[~has].mean(0)
    ### END SOLUTION

# %% points=1
check(attribute_direction)

# %%
attribute_direction = yours(attribute_direction)
with torch.no_grad():
    of_faces = torch.cat([model.encode(x)[0] for x in images.split(512)])
    arrow = attribute_direction(of_faces, faces["glasses"] == 1)
    bare = codes[test["glasses"] == 0]
    shown = torch.cat([model.decode(bare[:10] + step * arrow) for step in (0.0, 1.0, 1.5)])
show(image_grid(shown, columns=10, row_titles=["as they are", "+ glasses", "+ 1.5 glasses"]),
     """Ten faces without glasses as the VAE redraws them; the same with the glasses vector
     added: dark rims appear around the eyes and little else changes.""")

# %% [markdown]
r"""
Does it work on everyone, and does anything *else* change? The classifier counts.
"""

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    before, after = (predict_attributes(model.decode(bare[:500] + step * arrow))
                     for step in (0.0, 1.5))
seen_before, seen_after = (read["glasses"].float().mean() for read in (before, after))
print(f"glasses seen: before {seen_before:.0%}, after {seen_after:.0%}")
assert seen_after > 0.8 and seen_before < 0.2

kept = {name: float((before[name] == after[name]).float().mean())
        for name in ATTRIBUTES if name != "glasses"}
print("unchanged:")
for name, share in kept.items():
    print(f"  {name:<12}{share:>5.0%}")

# %% [markdown]
r"""
The arrow works on almost everyone and leaves hair, shirt and background alone. It is not clean: eye colour is read differently in about half of the faces, a smile or a skin tone in a few. Directions found by averaging carry along whatever shares
the pixels of the rims.

## 5. Rate and distortion

*15 minutes.*

What should one buy at each price? For a *linear* encoder and decoder it can be computed. The best axes are the eigenfaces of chapter 0, and an eigenface with variance
$\lambda$ is worth $\frac12 \log\frac{\lambda}{\beta}$ nats if $\lambda > \beta$, and nothing otherwise (Lucas et al. 2019; in information theory this is *reverse water-filling*):

$$\text{rate} = \sum_{\lambda_i > \beta} \tfrac12 \log \frac{\lambda_i}{\beta}, \qquad \text{distortion} = \tfrac12 \sum_i \min(\lambda_i, \beta) .$$

And three VAEs that are alike in everything but the price? They were trained beforehand just as yours was, with three seeds each: mean ± deviation (`python -m minigen reproduce prices`). The pictures below are of yours, at $\beta = 0.03$, and of the first seed of the others.
"""

# %%
print(reproduce.as_text("prices"))

# %% tags=["nbval-ignore-output"]
priced = {"β = 0.03": live, "β = 0.3": load_weights(vae.VAE, "vae_b03"),
          "β = 3": load_weights(vae.VAE, "vae_b3")}
pictures = [torch.cat([vae.reconstruct(m, test_images[:5]), vae.sample(m, 5, seed=7)])
            for m in priced.values()]
show(image_grid(torch.cat([test_images[:10], *pictures]), columns=10,
                row_titles=["real", *priced]),
     """Top row: ten real faces. Below, at each price, the first five of them redrawn and
     five faces drawn. At 0.03 the redrawn ones are clear, the drawn ones noisy and some of
     them damaged. At 0.3 the redrawn ones are a little softer, the drawn ones whole faces. At
     3 all are blurred, with one grey bar for eyes and glasses.""")

# %% [markdown]
r"""
Read the left half from top to bottom. What goes first as nats grow dear is what has few pixels: the rims of the glasses, then the mouth and the eyes; the background lasts longest. The model spends its nats where a nat saves most squared error, and at $\beta = 3$ leaves about half of its dimensions empty.

Now the right half. With nearly ninety nats in a code, a draw from the prior is seldom a code of anything, and some draws are debris. At 0.3 each is a face, at 3 a blurred one. (The yardstick hardly sees the first difference, as soft eyes offend its classifier, too: look at the pictures as well.) The last column, a prior that fits, is section 8's: with it the cheapest nats draw best.
"""

# %% tags=["nbval-ignore-output"]
eigenvalues = torch.linalg.eigvalsh(torch.cov(images[:4096].flatten(1).T))
eigenvalues = eigenvalues.flip(0).clamp_min(1e-6)
every = torch.logspace(-1.5, 2.1, 60)
linear_rate = [float((0.5 * (eigenvalues / b).log()).clamp_min(0).sum()) for b in every]
linear_distortion = [float(eigenvalues.clamp_max(b).sum() / 2) for b in every]
with torch.no_grad():
    z = vae.reparameterise(codes, spread, torch.Generator().manual_seed(0))
    longer = vae.vae_loss(test_images, model.decode(z), codes, spread)
dots = {"β = 0.03, trained longer": (longer.rate.item(), longer.distortion.item())}
for row in priced:                               # the mean of three seeds
    cells = [cell for cell in reproduce.read("prices") if cell["row"] == row]
    dots[row] = tuple(sum(cell[k] for cell in cells) / 3 for k in ("rate", "distortion"))

fig, axes = panels(1, 1, height=2.8)
ax = axes[0, 0]
ax.plot(linear_rate, linear_distortion, color="grey", label="best linear VAE, computed")
ax.plot(*zip(*dots.values(), strict=True), "o", color=COLOURS[1],
        label="convolutional VAE, trained")
for name, (r, d) in dots.items():
    away = (6, -3) if "longer" in name else (6, 5)
    ax.annotate(name, (r, d), away, textcoords="offset points", fontsize=8)
ax.set(xlim=(-3, 140), ylim=(0, 130))
ax.set_xlabel("rate, nats per image", fontsize=9)
ax.set_ylabel("distortion, ½ squared error", fontsize=9)
legend(ax)
show(fig, """Distortion against rate. A grey curve, computed for linear VAEs, comes steeply
     down and flattens. The dots of β = 3, at 10 nats, and of 0.3, at 36, lie below it; of two
     dots of β = 0.03 one, at 87, lies close above the curve and, longer trained, one below,
     at 81.""")
print(f"largest variance of an eigenface: {eigenvalues[0]:.0f}; "
      f"above a price of 33 lie {int((eigenvalues > 33).sum())}")
print(f"distortion at rate 0: {eigenvalues.sum() / 2:.0f}")

# %% [markdown]
r"""
A dot below the curve has beaten every linear model, which a network may. After thirteen minutes 81 nats leave a third of the error that your 87 do after half a minute.

At the left end of the curve *nothing* is worth buying: above the largest variance of any eigenface, which is 121 here, a linear model leaves $q(z|x) = p(z)$ for every image, and the decoder draws one mean face. This is **posterior collapse**. It need not be a failure of the optimiser: an honest bookkeeper does not buy what costs more than it saves. At the broken loss's price of 33 a nat only five eigenfaces are left on the list. (Training can *also* fail: sometimes a code stays empty though it would pay. `warm_up` in `vae.train_vae` helps, which raises β slowly, so that the decoder learns to read the code before it becomes dear.)

## 6. Telling the VAE what to draw

*5 minutes.*

A **conditional VAE** (Sohn et al. 2015) gives the label to both networks, $q(z|x, y)$ and $p(x|z, y)$. The code need not hold what the label already says. (This one was trained for five minutes at $\beta = 0.3$.)
"""

# %% tags=["nbval-ignore-output"]
conditional = load_weights(vae.VAE, "cvae")
colours = ATTRIBUTES["hair"]
rows = [vae.sample(conditional, 10, y=torch.full((10,), k), seed=2) for k in range(5)]
same_noise = torch.cat(rows)
show(image_grid(same_noise, columns=10, row_titles=list(colours)),
     """Five rows of ten soft faces; each column is one latent code, each row one hair colour:
     black, chestnut, blond, red, grey. Hair and brows change along a column, the rest
     hardly.""")

# %% tags=["nbval-ignore-output"]
asked = torch.arange(5).repeat_interleave(100)
share = obedience(vae.sample(conditional, 500, y=asked, seed=5), "hair", asked)
print(f"hair colour obeyed in {share:.0%} of 500 samples")
print(f"toy Fréchet distance, measured at its training: {conditional.card['toy_frechet']:.0f}")
assert share > 0.9

# %% [markdown]
r"""
It also spares us the search for a direction: encode with the true hair colour, decode with another.
"""

# %%
with torch.no_grad():
    own, _ = conditional.encode(test_images[:10], test["hair"][:10])
    dyed = torch.cat([conditional.decode(own, torch.full((10,), k)) for k in (2, 3)])
rows = torch.cat([test_images[:10], dyed])
show(image_grid(rows, columns=10, row_titles=["real", "blond", "red"]),
     """Ten real faces; the same ten redrawn with blond and with red hair, softer, pose and
     shirt kept.""")

# %% [markdown]
r"""
## 7. Why it is blurry

*20 minutes.*

Take two images, equally likely, the same face with and without glasses. Suppose the code does not say which. What should the
decoder draw, to lose least in squared error?

### Exercise 2.7 · `best_guess` · ★★ · 5 minutes

The one image $g$ that makes $\sum_i p_i \lVert x_i - g \rVert^2$ smallest. In code the $x_i$ are the rows of `images`, the $p_i$ the numbers in `probabilities`, and $g$ is what you return. Set the derivative to zero.

<details><summary>Hint</summary>

$\sum_i p_i (x_i - g) = 0$ and $\sum_i p_i = 1$. To multiply `(N,)` with `(N, C, H, W)`, give the probabilities three more axes.

</details>
"""

# %%
def best_guess(images, probabilities):
    """The single image with the least expected squared error.

    Shapes: (N, C, H, W), (N,) that sum to 1 -> (C, H, W).
    """
    ### BEGIN SOLUTION
    return (probabilities[:, None, None, None] * images).sum(0)
    ### END SOLUTION

# %% points=2
check(best_guess)

# %%
best_guess = yours(best_guess)
pair = draw_faces(torch.cat([labels_of(glasses=g) for g in ("no", "yes")]))
mixes = torch.linspace(0, 1, 101)
guesses = pair[0] + mixes[:, None, None, None] * (pair[1] - pair[0])
half = torch.tensor([0.5, 0.5])
guess = best_guess(pair, half)
squared = 0.5 * sum((x - guesses).square().flatten(1).sum(1) for x in pair) / 2
print(f"lowest at a share of {mixes[squared.argmin()]:.2f}")
show(curves({"expected distortion": squared}, x=mixes, ylabel="½ squared error", height=2.1,
            xlabel="share of the image with glasses in the guess"),
     """The expected distortion against the share of glasses in the guess: a parabola with
     its lowest point at one half.""")

# %%
show(image_grid(torch.stack([pair[0], guess, pair[1]]), width=4,
                titles=["without", "least squared error", "with"]),
     """A face without glasses, the mean of the two with ghostly half-glasses, the face with
     glasses.""")
# %% [markdown]
r"""
The mean costs half as much as betting on either, so the **squared error** blurs: wherever the code leaves something open, it asks for the
mean. And the KL decides *what is left open*. Drawing the mean costs a distortion of $\frac12 \lVert \frac12 (x_1 - x_2) \rVert^2 = \frac18 \lVert x_1 - x_2 \rVert^2$. A code that carries $R$ nats about which image it was can save at most a share $2R$ of that. So a nat saves
at most $\frac14 \lVert x_1 - x_2 \rVert^2$, and nothing is worth its price when

$$\beta > \beta^* = \tfrac14 \lVert x_1 - x_2 \rVert^2 .$$

<details><summary>Why a share of 2R</summary>

After reading the code, let the decoder believe in glasses with probability $p$. Its best guess is the mixture, and what remains of the distortion is the share $4p(1-p) = 1 - (2p-1)^2$; so the share saved is the mean of $(2p-1)^2$. The code has told
$\mathrm{KL}\left((p, 1-p) \Vert (\frac12, \frac12)\right)$ nats, which is at least $\frac12 (2p-1)^2$; that is Pinsker's inequality. Hence $R \ge \frac12 \times$ the share.

</details>

It is section 5's rule again: $\beta^*$ is the variance of these two images along their only eigenface. Test it with a VAE of one latent number and one hidden layer.
"""

# %%
class TinyVAE(nn.Module):
    """One latent number, one hidden layer in the decoder."""

    def __init__(self, hidden=32):
        super().__init__()
        self.encoder = nn.Linear(3072, 2)
        nn.init.normal_(self.encoder.weight, 0, 0.003)
        self.decoder = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(),
                                     nn.Linear(hidden, 3072), nn.Tanh(),
                                     nn.Unflatten(1, (3, 32, 32)))

    def encode(self, x, y=None):
        return self.encoder(x.flatten(1)).chunk(2, dim=1)

    def decode(self, z, y=None):
        return self.decoder(z)

    forward = vae.VAE.forward

# %% tags=["nbval-ignore-output"]
price_limit = float((pair[0] - pair[1]).square().sum() / 4)
two_images = pair.repeat(8, 1, 1, 1)
ratios, rates_at, ghosts = [0.1, 0.4, 0.7, 0.9, 1.3], [], []
for ratio in tqdm(ratios, desc="two images"):
    torch.manual_seed(0)
    tiny, data = TinyVAE(), batches(two_images, batch_size=16)
    *_, last = vae.train_vae(tiny, data, steps=600, beta=ratio * price_limit, lr=1e-2,
                             warm_up=0.5)
    rates_at.append(last.rate)
    ghosts.append(vae.reconstruct(tiny, pair))

titles = [f"{ratio:g} β*: {nats / math.log(2):.2f} bits"
          for ratio, nats in zip(ratios, rates_at, strict=True)]
fig = image_grid(torch.stack(ghosts, 1).flatten(0, 1), columns=5, titles=titles, width=6.5)
fig.set_figheight(2.75)
show(fig, """Reconstructions of the face without (top) and with glasses (bottom) at five prices:
     cheap, the two are told apart; dearer, both grow towards the same ghostly glasses; above β*
     they are the same picture and the code carries 0 bits.""")
assert rates_at[0] > math.log(2) and rates_at[-1] < 0.02
assert 0.05 < rates_at[2] < rates_at[1]

# %% [markdown]
r"""
A cheap code says which face it was. (It pays 1.8 bits and not one, because two narrow bumps do not fill the Gaussian prior well.) As the price rises, it says it less clearly, and above $\beta^*$ not at all. The
two terms are accomplices: **the KL leaves open what is too dear to say, and the squared error fills the gap with the mean.**

### Then why are ours sharp?

Because we made nats cheap: at $\beta = 0.03$ a face gets more than a hundred bits, and the decoder is left little to average. But then the code says more than the **prior** knows: $\mathcal N(0, I)$ claims that all 32 numbers are independent, while real
codes hang together. In what share of 500 pictures does the classifier give less than 95 % to every value?
"""

# %% tags=["nbval-ignore-output"]
rival = gan.sample(load_weights(gan.Generator, "gan"), 500, seed=7)
redrawn = vae.reconstruct(model, test_images)
sets = {"real": test_images, "VAE, redrawn": redrawn, "VAE, drawn": drawn, "GAN, drawn": rival}
columns = ("background", "hair", "hair_length", "glasses")


@torch.no_grad()
def undecided(x):
    """Of each attribute, the share of pictures in which no value gets 95 %."""
    read = attribute_classifier()(x[:500])
    return [float((read[a].softmax(1).amax(1) < 0.95).float().mean()) for a in columns]


unsure = {name: undecided(x) for name, x in sets.items()}
print(f"{'undecided:':<14}{'background':>12}{'hair':>8}{'length':>8}{'glasses':>9}")
for name, (a, b, c, d) in unsure.items():
    print(f"{name:<14}{a:>12.0%}{b:>8.0%}{c:>8.0%}{d:>9.0%}")
assert unsure["VAE, drawn"][1] > 2 * unsure["GAN, drawn"][1]
assert max(unsure["VAE, redrawn"]) < 0.05

# %% tags=["nbval-ignore-output"]
rows = torch.cat([test_images[100:110], rival[:10], drawn[40:50]])
show(image_grid(rows, columns=10, row_titles=["real", "GAN", "VAE"]),
     """Ten real faces, ten of the GAN and ten of the VAE: the GAN's are crisp with an
     occasional broken feature; the VAE's are grainy, with hair of two colours, patchy
     backgrounds and half-glasses.""")

# %% [markdown]
r"""
Redrawn faces are as decided as real ones; drawn ones are not. So a dear nat gives blur, a cheap one codes that the prior cannot invent. The course takes every way out: a prior that is *learned* (now, and, over a discrete code, in chapter 3); another error than the squared one (chapter 4); and making the decision in many small steps (chapters 5 to 7).

## 8. A prior that fits

*10 minutes.*

If the decoder is good and the prior is not, replace the prior: encode the faces, fit *some* distribution to their codes, and draw from that. A **mixture of Gaussians**, $p(z) = \sum_k w_k\, \mathcal N(z;\, m_k, C_k)$, is fitted by **expectation–maximisation** (Dempster et al. 1977), two steps in turn. *E:* which share of each code belongs to which Gaussian, by Bayes' rule? *M:* give each Gaussian the weight, the mean and the covariance of its share. `GaussianMixture` of the package does that.

<details><summary>The two steps in code</summary>

`z` are the codes, `(N, d)`; `share`, `(N, k)`, has a row for each code, which says what part of it belongs to which Gaussian.

```python
size = share.sum(0)[:, None]                                  # M: how much each has, (k, 1)
mean = share.T @ z / size
square = torch.einsum("nk,ni,nj->kij", share, z, z) / size[..., None]
covariance = square - mean[:, :, None] * mean[:, None] + 0.01 * torch.eye(d)

root = torch.linalg.cholesky(covariance)
normal = torch.distributions.MultivariateNormal(mean, scale_tril=root)
log_joint = size[:, 0].log() + normal.log_prob(z[:, None])    # E: Bayes' rule, (N, k)
share = log_joint.softmax(1)
```

The 0.01 keeps a covariance from becoming singular. To begin with, each code belongs to the nearest of $k$ codes; twenty rounds are enough. The package computes the same with fewer large tensors.

</details>
"""

# %% tags=["nbval-ignore-output"]
for k in (10, 40, 100):
    m = GaussianMixture(of_faces, k)
    print(f"{k:>3} Gaussians, mean log-density: {m.log_prob(of_faces).mean():.1f} of the codes "
          f"they were fitted to, {m.log_prob(codes).mean():.1f} of test faces'")

# %% [markdown]
r"""
The codes of test faces say how many: with ten the fit is coarse, and a hundred begin to learn their own codes by heart. We take forty.

What is it that $\mathcal N(0, I)$ lacks? Shuffle each dimension of real codes between faces: now every dimension is right by itself and only their togetherness is lost. Or draw from one Gaussian with the codes' mean and covariance. All go through one decoder, and so do the codes of real faces, the best that any prior can send.
"""

# %% tags=["nbval-ignore-output"]
random = torch.Generator().manual_seed(0)
one_root = torch.linalg.cholesky(torch.cov(of_faces.T))
sources = {
    "codes of test faces": codes,
    "each dimension shuffled": torch.stack(
        [column[torch.randperm(len(codes), generator=random)] for column in codes.T], 1),
    "one Gaussian": of_faces.mean(0) + torch.randn(2000, 32, generator=random) @ one_root.T,
    "mixture of 40 Gaussians": GaussianMixture(of_faces, 40).sample(2000)}
with torch.no_grad():
    decoded = {name: model.decode(z) for name, z in sources.items()}
decoded["the prior N(0, I)"] = drawn
distances = {name: toy_frechet(x) for name, x in decoded.items()}
for name, distance in distances.items():
    print(f"{name:<28} toy Fréchet {distance:6.0f}")
print(f"{'chapter 0: Gaussian on pixels':<28} toy Fréchet {gaussian:5.0f}")
of_codes, *others, mixed, prior = distances.values()
assert of_codes < mixed < gaussian < min(*others, prior)

# %% tags=["nbval-ignore-output"]
show(image_grid(torch.cat([x[:10] for x in decoded.values()]), columns=10,
                row_titles=["test faces'\ncodes", "shuffled", "Gaussian", "mixture", "prior"]),
     """Five rows of ten decoded codes. Those of test faces give clear faces. Shuffled ones,
     those from one Gaussian and those from the prior give undecided ones: half-glasses, hair of
     two colours, grain. Those from the mixture are calmer, and most backgrounds are plain.""")

# %% [markdown]
r"""
Shuffled codes do worse than the prior, and one Gaussian, which knows all pairwise correlations, is no better. So what the prior lacks is how the numbers hang together *beyond* anything that one Gaussian can say. Forty of them know some of it: the same decoder falls from 291 to 208, under the 228 of chapter 0's Gaussian. The codes of real faces, at 64, are still far away.

And the decoder that *you* trained? Encode, fit, draw:
"""

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    of_yours = torch.cat([live.encode(x)[0] for x in images.split(512)])
    calm = live.decode(GaussianMixture(of_yours, 40).sample(2000, seed=7))
show(image_grid(torch.cat([yours_drew[:10], calm[:20]]), columns=10,
                row_titles=["yours,\nprior", "yours,\nmixture", ""]),
     """Thirty pictures by the decoder that was trained in this notebook. Ten from the prior:
     noisy, about a third of them debris. Twenty from the mixture: every one a face with eyes
     and a hair colour, on a nearly plain background, a little grainy.""")
yours_score = {name: toy_frechet(x) for name, x in {
    "prior": yours_drew, "mixture": calm,
    "codes of test faces": vae.reconstruct(live, test_images)}.items()}
for name, distance in yours_score.items():
    print(f"yours, {name:<20} toy Fréchet {distance:6.0f}")
assert yours_score["mixture"] < 0.8 * yours_score["prior"]

# %% [markdown]
r"""
The debris is gone, and every draw is a face. Half a minute of training and a few seconds of fitting have beaten chapter 0's Gaussian, for every seed of section 5's table, and are as near to real faces as the decoder of thirteen minutes with forty Gaussians: here the prior is the limit, and no longer the decoder.

A mixture of Gaussians is the simplest learned prior. In chapter 3 a network learns one, over codes that are not numbers but words, and in chapter 7 a diffusion model does. Here is the table so far. (Its mixture has 120 Gaussians, fitted to the codes of 20,000 faces, of which 120 do not learn by heart.)
"""

# %% tags=["nbval-ignore-output"]
print(results_table(through_chapter=2))

# %% [markdown]
r"""
GAN and VAE side by side:

| | GAN | VAE |
|---|---|---|
| what it minimises | a game's value, which moves | a bound on −log p(x) |
| training curves | say little | say how far you are |
| samples | sharp and decided | blurred or undecided, as β chooses |
| covers the data | may forget modes | must put probability on every image |
| likelihood of an image | no | bounded |
| from image to code | search | the encoder, one pass |

## Summary

- $\log p(x) = \text{ELBO} + \mathrm{KL}(q(z|x) \Vert p(z|x))$: raising the ELBO makes the data likelier, or the encoder more truthful, or both.
- The KL of Gaussians has a closed form; the other term is sampled with $z = \mu + \sigma\varepsilon$, whose gradient has far less variance than the score function's.
- Loss = distortion + β · rate, summed over dimensions, averaged over the batch. β is the decoder's noise variance, and the price of a nat.
- A step of training is encode, sample, decode, loss. A new face is noise from the prior, decoded.
- A high likelihood does not make a picture a face.
- Codes of faces can be walked along and added to, within limits. A unit that costs more than it saves stays empty.
- Blur is the mean of what the code leaves open. The KL decides what that is, the squared error draws the mean. A cheap rate gives sharp
  reconstructions, and codes that a Gaussian prior cannot invent; a mixture of Gaussians, fitted to the codes, does better.
"""

# %% tags=["nbval-ignore-output"]
minigen.progress()

# %% [markdown]
r"""
### Words

| English | 中文 | meaning here |
|---|---|---|
| latent variable | 潜变量 | the hidden z from which an image is drawn |
| prior, posterior | 先验, 后验 | what is known of z before and after seeing x |
| evidence lower bound (ELBO) | 证据下界 | a bound of log p(x) that can be computed |
| reparameterisation | 重参数化 | writing a random draw as a function of noise that has no parameters |
| rate, distortion | 码率, 失真 | nats the code carries; error that remains |
| posterior collapse | 后验坍塌 | the code is not used: q(z\|x) equals the prior |
| active unit | 活跃单元 | a latent dimension that changes with the image |
| latent traversal | 潜变量遍历 | change one number of the code, decode, look |
| mixture of Gaussians | 高斯混合 | a weighted sum of Gaussian densities |
| expectation–maximisation | 期望最大化 | share the data out, fit each share, again |

### References

- Dempster, Laird, Rubin 1977, *Maximum Likelihood from Incomplete Data via the EM Algorithm*, [JRSS B 39](https://doi.org/10.1111/j.2517-6161.1977.tb01600.x).
- Kingma, Welling 2014, *Auto-Encoding Variational Bayes*, [arXiv:1312.6114](https://arxiv.org/abs/1312.6114): Eq. 3, appendix B.
- Rezende, Mohamed, Wierstra 2014, *Stochastic Backpropagation and Approximate Inference in Deep Generative Models*, [arXiv:1401.4082](https://arxiv.org/abs/1401.4082).
- Sohn, Lee, Yan 2015, *Learning Structured Output Representation using Deep Conditional Generative Models*, [NeurIPS 2015](https://proceedings.neurips.cc/paper/2015/hash/8d55a249e6baa5c06772297520da2051-Abstract.html).
- Burda, Grosse, Salakhutdinov 2016, *Importance Weighted Autoencoders*, [arXiv:1509.00519](https://arxiv.org/abs/1509.00519): Eq. 8, active units in §5.
- Higgins et al. 2017, *beta-VAE*, [OpenReview](https://openreview.net/forum?id=Sy2fzU9gl).
- Alemi et al. 2018, *Fixing a Broken ELBO*, [arXiv:1711.00464](https://arxiv.org/abs/1711.00464): rate and distortion.
- Nalisnick et al. 2019, *Do Deep Generative Models Know What They Don't Know?*, [arXiv:1810.09136](https://arxiv.org/abs/1810.09136).
- Lucas, Tucker, Grosse, Norouzi 2019, *Don't Blame the ELBO! A Linear VAE Perspective on Posterior Collapse*, [arXiv:1911.02469](https://arxiv.org/abs/1911.02469).
"""
