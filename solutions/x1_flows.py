# %% [markdown]
r"""
# Excursion x1 · Flows, from an exact likelihood to straight paths

The paper's Table 5 names a competitor of another kind: Glow, a **normalising flow**. A flow is one network that can be run both ways. Forwards it turns a picture into noise, backwards noise into a picture, and it tells the exact density of every picture, which of the other models only chapter 0's Gaussian can. The price is that every layer must be invertible.

In 2023 the field came back to the word. **Flow matching** also carries noise to pictures by a flow, but learns the flow's *velocity*, as a diffusion learns its noise. Nothing need be invertible, no likelihood is computed, and it is trained on straight lines (whether its paths are straight, section 7 asks). Today's large image models are trained so.

You need chapter 2 for the first three sections and chapter 6 for sections 5 to 7; section 4 looks back at chapters 3 and 5, section 8 at chapter 7. In this excursion you will

1. derive how a density changes when its space is stretched;
2. write a coupling layer and its inverse, and draw a swiss roll with a chain of yours;
3. take Glow apart, count its bits, and turn its temperature;
4. put the likelihoods of the course beside each other, and see which may be compared;
5. write flow matching's loss, Euler's and Heun's steps, and draw with them;
6. measure how straight the paths are, straighten them further, and see what a single step then gives;
7. compare flow matching with ε and v in the course's own FFTD, at equal cost, three seeds each.
"""

# %%
import math
import statistics

import torch
from torch import nn
from tqdm.auto import tqdm

import minigen
from minigen import check, ddim, ddpm, flow_matching, flows, glow, latents
from minigen.checks import yours
from minigen.common import one_cycle
from minigen.data import ToyFaces, batches, ring_of_gaussians, swiss_roll
from minigen.data.levels import dequantise, shrunk
from minigen.fftd import FFTD
from minigen.files import load_weights
from minigen.ivqvae import IVQVAE
from minigen.metrics import results_table, toy_frechet
from minigen.paper import reproduce
from minigen.plots import COLOURS, curves, image_grid, legend, panels, points, show
from minigen.unet import PointDenoiser
from minigen.widgets import explore

# %%
scale, _ = minigen.setup()
size = {
    "small": dict(couplings=8, roll_steps=1500, other_steps=800, point_steps=1500, again=1000),
    "full": dict(couplings=12, roll_steps=8000, other_steps=8000, point_steps=8000, again=8000),
}[scale]


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


print(f"scale: {scale}; everything here runs on the processor")

# %% [markdown]
r"""
Here is where it goes. Above, faces of 16×16 pixels, drawn by a Glow in one pass. Below, faces from chapter 7's tokens, carried there by flow matching: in one step, in two, and in ten.
"""

# %% tags=["nbval-ignore-output"]
tokenizer = load_weights(IVQVAE, "ivqvae")
matched, straight = load_weights(FFTD, "flow"), load_weights(FFTD, "flow_straight")
likely = load_weights(glow.Glow, "glow")
noise = torch.randn(8, 4, 4, 4, generator=dice(3))


def carried(net, steps, noise=noise):
    """Faces that a flow over latents makes of noise, in Euler's steps."""
    z = ddpm.last(flow_matching.euler_sample(net, noise, steps=steps))
    return latents.decode(tokenizer, z)


show(image_grid(flows.sample(likely, 8, temperature=0.7), columns=8),
     "Eight faces of 16×16 pixels from the course's Glow, at temperature 0.7.")
show(image_grid(torch.cat([carried(straight, n) for n in (1, 2, 10)]), columns=8,
                row_titles=["1 step", "2 steps", "10 steps"]),
     """Eight noises, carried to faces by flow matching after one round of reflow, in one,
     two and ten steps. One step gives faces already; with more steps eyes and mouths get
     clearer, and here and there a shirt or a background changes.""")

# %% [markdown]
r"""
## 1. A density on a stretched sheet

*20 minutes.*

Draw points evenly on a rubber sheet, then stretch the sheet. Where it is stretched, the points lie thinner. That is the whole of the theory: probability is only carried along, so what is spread over twice the area is half as dense.

Let $z = f(x)$ be one-to-one and smooth, and let $z$ have the density $p_z$. A small square at $x$ becomes a small parallelogram at $z$, and its area has grown by the factor $|\det J|$, where $J = \partial f / \partial x$ is the matrix of derivatives. The probability in both is the same, so

$$p_x(x) = p_z(f(x)) \; |\det J(x)|, \qquad \log p_x(x) = \log p_z(f(x)) + \log |\det J(x)| .$$

Look at it where it can be drawn: a map of the plane, and what it does to a square of area 0.04.
"""

# %%
def bend(x):
    """A map of the plane, one-to-one: (a, b) -> (1.4 a, 0.7 b + sin 2a / 2)."""
    a, b = x.unbind(-1)
    return torch.stack([1.4 * a, 0.7 * b + (2 * a).sin() / 2], -1)


edge = torch.linspace(0, 1, 30)
sides = torch.stack([torch.cat([edge, 0 * edge + 1, 1 - edge, 0 * edge]),
                     torch.cat([0 * edge, edge, 0 * edge + 1, 1 - edge])], 1)
corners = [torch.tensor([0.2, 0.2]), torch.tensor([-0.9, 0.6]), torch.tensor([0.9, -1.0])]
lines = torch.linspace(-1.5, 1.5, 13)
fine = torch.linspace(-1.5, 1.5, 90)
fig, axes = panels(1, 2, height=2.9)
for ax, mapped in zip(axes.flat, (lambda x: x, bend), strict=True):
    for k in lines:
        ax.plot(*mapped(torch.stack([0 * fine + k, fine], 1)).T, color=COLOURS[5], lw=0.5)
        ax.plot(*mapped(torch.stack([fine, 0 * fine + k], 1)).T, color=COLOURS[5], lw=0.5)
    for k, corner in enumerate(corners):
        ax.fill(*mapped(corner + 0.2 * sides).T, color=COLOURS[k], alpha=0.8)
    ax.set(aspect="equal", xlim=(-2.3, 2.3), ylim=(-1.8, 1.8))
axes[0, 0].set_title("x", fontsize=9)
axes[0, 1].set_title("z = f(x)", fontsize=9)
show(fig, """Left a grid with three coloured squares of side 0.2. Right what the map makes
     of it: the grid is stretched sideways and bent, and the squares have become slanted
     figures.""")

# %% [markdown]
r"""
**Before you run the next cell:** the first column of $J$ depends on $a$, through the cosine. Does the area of the squares depend on where they lie?

<details><summary>Answer</summary>

No. $J$ has the rows $(1.4,\ 0)$ and $(\cos 2a,\ 0.7)$. It is triangular, so its determinant is the product of the diagonal, 0.98, everywhere. A shear moves points past each other, as a pack of cards is pushed askew, and leaves areas alone. Remember this: it is why flows are affordable.

</details>
"""

# %%
def area(outline):
    """Of a closed outline (N, 2), by the shoelace formula."""
    a, b = outline.double().unbind(1)
    return 0.5 * float((a * b.roll(-1) - b * a.roll(-1)).sum().abs())


for corner in corners:
    J = torch.func.jacrev(bend)(corner + 0.1)
    outline = corner + 0.2 * sides
    grown = area(bend(outline)) / area(outline)
    print(f"at ({corner[0]:4.1f}, {corner[1]:4.1f})  area × {grown:.3f}   "
          f"|det J| = {float(torch.linalg.det(J).abs()):.3f}")

# %% [markdown]
r"""
### Exercise x1.1 · `log_of_density` · ★ · 5 minutes

A network has turned `x` into `z` and tells `logdet`, the logarithm of $|\det \partial z / \partial x|$, one for each row. With a standard normal for $p_z$: what is $\log p(x)$, in nats?

<details><summary>Hint</summary>

The standard normal density of D independent numbers is the product of D densities $e^{-z^2/2} / \sqrt{2 \pi}$. What does the logarithm make of the product, and of the root?

</details>
"""

# %%
def log_of_density(z, logdet):
    """log p(x) in nats. Shapes: z (N, D), logdet (N,) -> (N,)."""
    ### BEGIN SOLUTION
    return -0.5 * (z**2 + math.log(2 * math.pi)).sum(1) + logdet
    ### END SOLUTION

# %% points=1
check(log_of_density)

# %% [markdown]
r"""
So a model is: a network $f$ with a known inverse and a known determinant. Training is chapter 2's maximum likelihood without any bound: raise $\log p(x)$ of the data, which needs $f$ and its determinant. Sampling: draw $z \sim \mathcal N(0, I)$, return $f^{-1}(z)$.

And that is why not any network will do. An ordinary layer has no inverse, and the determinant of a matrix of 3,072 × 3,072 costs some $10^{10}$ operations: for each picture, at every step.

## 2. Coupling layers

*35 minutes.*

Dinh, Krueger and Bengio (2015) had the idea that most later flows live on; the factor came two years later. Split the numbers of $x$ in two. One half **stays as it is**. A network looks at that half and tells how to move the other:

$$z_1 = x_1, \qquad z_2 = x_2 \cdot e^{s(x_1)} + t(x_1) .$$

The inverse is as cheap as the layer: $x_1$ is still there, so ask the same network again, and take back what it did. The network itself is never inverted; it may be anything. And the Jacobian is triangular, as in section 1: $z_1$ does not depend on $x_2$, and each number of $z_2$ depends on one of $x_2$. Its log-determinant is the sum of the $s$.

In code a **mask** of ones and zeros splits the numbers: 1 stays, 0 moves.

### Exercise x1.2 · `couple` · ★★★ · 12 minutes

Write the layer. `network` takes what stays, in the shape of `x` (with zeros at the places that move), and returns `s` and `t` in the shape of `x`. They count only where the mask is 0. Return `z` and the log-determinant of each row.

<details><summary>Hint</summary>

`x * mask` is what the network may see. If s and t are set to zero wherever the mask is 1, then one formula, $x e^s + t$, is right at all places: what does it do where both are 0?

</details>
"""

# %%
def couple(x, mask, network):
    """An affine coupling layer: z and log|det|.

    Shapes: x (N, D), mask (D,) of 0 and 1 -> (N, D), (N,).
    """
    ### BEGIN SOLUTION
    s, t = network(x * mask)
    s, t = s * (1 - mask), t * (1 - mask)
    return x * s.exp() + t, s.sum(1)
    ### END SOLUTION

# %% points=3
check(couple)

# %% [markdown]
r"""
### Exercise x1.3 · `uncouple` · ★★ · 8 minutes

Write the way back: from `z` to `x`, with the same mask and network.

<details><summary>Hint</summary>

Which half of x do you know already? Ask the network about it, then undo the two operations in the opposite order.

</details>
"""

# %%
def uncouple(z, mask, network):
    """The inverse of `couple`. Shapes: z (N, D), mask (D,) -> x (N, D)."""
    ### BEGIN SOLUTION
    s, t = network(z * mask)
    s, t = s * (1 - mask), t * (1 - mask)
    return (z - t) * (-s).exp()
    ### END SOLUTION

# %% points=2
check(uncouple)

# %% [markdown]
r"""
One layer leaves half of the numbers untouched, so layers are chained, and **the masks alternate**: what stayed moves next. Inverses run in the opposite order; log-determinants add up, as determinants of a product multiply. Here is the whole model, out of your two functions. (The network's last layer starts at zero, so each layer starts as the identity; and `bounded` keeps $s$ between −2 and 2, since a scale of $e^{20}$ in one direction is one of $e^{-20}$ in the other: a few of them in a row overflow, and digits are lost long before.)
"""

# %%
couple, uncouple, log_of_density = yours(couple), yours(uncouple), yours(log_of_density)


class Moves(nn.Module):
    """A small network that answers with s and t."""

    def __init__(self, dim=2, width=64):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, width), nn.SiLU(), nn.Linear(width, width),
                                    nn.SiLU(), nn.Linear(width, 2 * dim))
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, kept):
        s, t = self.layers(kept).chunk(2, dim=1)
        return flows.bounded(s), t


def to_noise(x, masks, nets):
    """Data to noise: z, and the log-determinants added up."""
    logdet = 0
    for mask, net in zip(masks, nets, strict=True):
        x, change = couple(x, mask, net)
        logdet = logdet + change
    return x, logdet


def to_data(z, masks, nets):
    """Noise to data: the inverses, last layer first."""
    for mask, net in reversed(list(zip(masks, nets, strict=True))):
        z = uncouple(z, mask, net)
    return z

# %% [markdown]
r"""
And the training: maximum likelihood, nothing else.
"""

# %% tags=["nbval-ignore-output"]
def fitted(data, masks, steps):
    """The networks of a chain of coupling layers, trained on points; and the losses."""
    torch.manual_seed(0)
    nets = nn.ModuleList(Moves() for _ in masks)
    optimiser = torch.optim.Adam(nets.parameters(), lr=5e-3)
    rate, losses = one_cycle(optimiser, 5e-3, steps), []
    stream = batches(data, batch_size=256)
    for _ in tqdm(range(steps), desc="flow"):
        (x,) = next(stream)
        loss = -log_of_density(*to_noise(x, masks, nets)).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(nets.parameters(), 1.0)
        optimiser.step()
        rate.step()
        losses.append(loss.item())
    return nets, losses


roll = swiss_roll(20_000)
one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
masks = [one, other] * (size["couplings"] // 2)
nets, losses = fitted(roll, masks, size["roll_steps"])
print(f"−log p(x), nats: {losses[0]:.2f} at first, {statistics.mean(losses[-50:]):.2f} at the "
      "end")

# %% tags=["nbval-ignore-output"]
z = torch.randn(2000, 2, generator=dice(1))
with torch.no_grad():
    drawn = to_data(z, masks, nets)
    back = to_noise(drawn, masks, nets)[0]
    side = torch.linspace(-2.6, 2.6, 120)
    plane = torch.cartesian_prod(side, side)
    density = log_of_density(*to_noise(plane, masks, nets)).exp()
    whitened = to_noise(roll[:2000], masks, nets)[0]
fig, axes = panels(1, 4, height=2.0)
for ax, cloud in zip(axes.flat, (roll[:2000], drawn, None, whitened), strict=True):
    if cloud is None:
        ax.imshow(density.view(120, 120).T.flip(0).clamp(max=0.6), extent=(-2.6, 2.6) * 2)
    else:
        ax.scatter(*cloud.T, s=1, linewidths=0)
    ax.set(xticks=[], yticks=[], xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")
for ax, name in zip(axes.flat, ("the data", "drawn", "p(x)", "the data as z"), strict=True):
    ax.set_title(name, fontsize=9)
show(fig, """A swiss roll; points that the chain of coupling layers draws, on such a spiral
     with a smudged inner end; its density, a bright spiral; and the data carried to z, a
     round cloud.""")
print(f"there and back: largest error {float((back - z).abs().max()):.1e}")
share = float(density.sum()) * float(side[1] - side[0]) ** 2
print(f"share of probability in this square: {share:.3f}")

# %% [markdown]
r"""
The last line is a luxury. Sum the density over the plane, and it is 1: not by training, but by construction. A GAN has no density, a VAE only a bound of one.

**Break it.** What if the masks do not alternate, and all layers keep the first number? Say what the samples will look like before you run it.

<details><summary>Answer</summary>

The first number of every sample is the first number of $z$, untouched: a standard normal, whatever the data. The second one is moved up and down as a function of the first. So along the horizontal axis the cloud stays a Gaussian, and in each column it has one bump, where the spiral has up to four.

</details>
"""

# %% tags=["nbval-ignore-output"]
same = [one] * size["couplings"]
stuck, _ = fitted(roll, same, size["other_steps"])
four = ring_of_gaussians(20_000, modes=4, std=0.15)
around, _ = fitted(four, masks, size["other_steps"])
with torch.no_grad():
    clouds = [to_data(z, same, stuck), four[:2000], to_data(z, masks, around)]
show(points(clouds, columns=3, limit=2.8, titles=["one mask only", "four Gaussians",
                                                  "what the flow draws of them"]),
     """Left the roll's flow with one mask: a smear with no spiral in it. Middle four
     separate heaps; right what a flow with alternating masks draws of them: four heaps,
     joined by bands of stray points.""")

# %% [markdown]
r"""
The right picture shows what is hard for every flow. It is continuous and so is its inverse: it stretches and folds the round Gaussian, but it can never *tear* it. Four separate heaps are four pieces, the Gaussian is one; so bands stay between them. Training makes them thinner, at the price of an enormous stretch, and a small network does not get far. Keep it in mind when faces with glasses and faces without must be one piece.

## 3. Pictures: Glow

*35 minutes.*

Glow (Kingma and Dhariwal, 2018) is coupling layers for pictures and four more kinds of layer, of which actnorm and the 1×1 convolution are its own. Each has its inverse and its log-determinant, and you can read each in `minigen.flows` and `minigen.glow`:

| layer | what it does | inverse | log-determinant |
|---|---|---|---|
| **squeeze** | a 2×2 block of pixels becomes one pixel with four times the channels | put them back | 0, numbers only change places |
| **actnorm** | each channel minus a mean, divided by a deviation, both learned; the first batch sets them | times, plus | $-H W \sum_c \log \sigma_c$ |
| **1×1 convolution** | each pixel's channels times a matrix $M$: the learned form of "let the masks alternate" | times $M^{-1}$ | $H W \log \lvert\det M\rvert$ |
| **affine coupling** | as yours, with half the channels for a mask and a convolutional network | as yours | $\sum s$ |
| **split** | half of the channels leave, at every scale, less a mean and divided by a σ that the other half tells | they are drawn, times σ, plus the mean | $-\sum \log \sigma$ |

$\det M$ costs $c^3$, which for a few dozen channels is nothing; Glow keeps $M = P L U$ anyway, a permutation and two triangular matrices, so that the log-determinant is a sum over a diagonal.
"""

# %%
torch.manual_seed(0)
layers = {
    "squeeze": (glow.Squeeze(), torch.randn(2, 3, 4, 4)),
    "actnorm": (flows.ActNorm(12).train(), torch.randn(2, 12, 2, 2)),
    "1×1 convolution": (glow.Invertible1x1(12, torch.randn(12, 12)), torch.randn(2, 12, 2, 2)),
    "affine coupling": (glow.Coupling(12), torch.randn(2, 12, 2, 2)),
}
nn.init.normal_(layers["affine coupling"][0].network[-1].weight, std=0.1)    # no longer zero
for name, (layer, x) in layers.items():
    with torch.no_grad():
        layer(x)                                    # the first batch, which actnorm starts from
        z, told = layer(x)
        back = float((layer.inverse(z) - x).abs().max())
    J = torch.func.jacrev(lambda v, f=layer: f(v[None])[0].flatten())(x[0]).detach().flatten(1)
    autograd = float(torch.linalg.slogdet(J.double())[1])
    print(f"{name:<16} there and back {back:.0e};  log|det| {float(told[0]):8.4f}, "
          f"autograd's {autograd:8.4f}")

# %% [markdown]
r"""
### Levels are not numbers

A pixel is one of 256 levels, and a density over levels has a hole in it. Put a needle on each level: a narrow Gaussian on each has there a density of some $10^6$ if its width is $10^{-9}$, of some $10^9$ if it is $10^{-12}$, and the likelihood grows for ever, while nothing at all is learned. So the levels get **dequantised**: add to the level $k$ noise that is uniform in $[0, 1)$, and divide by 256. The needle is gone, since the data now fill the gaps, and averaged over the noise $\log p$, counted in levels, is at most the logarithm of the probability that the model gives to the whole step (Jensen's inequality). So the cost of the dequantised picture, which is exact, is a bound from above for that of the picture on its levels, and usually a close one.

How good is a likelihood? Per picture it depends on the number of pixels, and a number in nats tells nobody much. So it is told in **bits per dimension**: what a file that a perfect compressor makes with this model needs, for each number of the picture. Density is per volume, and a step of a level has the volume $1/256$ in each of $D$ dimensions:

$$\text{bits} = \frac{-\log p(x)}{D \log 2} + \log_2 256 .$$

### Exercise x1.4 · `bits_of` · ★★ · 6 minutes

Bits per dimension of log-densities in nats, for pictures of `dims` numbers, each of `levels` levels, scaled to $[0, 1)$.

<details><summary>Hint</summary>

Try it on a model that knows nothing: uniform over the cube $[0, 1)^D$, it has the density 1, and must come out at 8 bits for 256 levels.

</details>
"""

# %%
def bits_of(log_p, dims, levels):
    """Bits per dimension. Shapes: log_p (N,) in nats -> (N,)."""
    ### BEGIN SOLUTION
    return -log_p / (dims * math.log(2)) + math.log2(levels)
    ### END SOLUTION

# %% points=2
check(bits_of)

# %% [markdown]
r"""
Now the course's Glow: three scales, trained on 20,000 ToyFaces of 16×16 pixels. What does a face cost, and does the way there and back lose anything?
"""

# %%
bits_of = yours(bits_of)
small_faces = shrunk(ToyFaces(256, seed=2).images(), 16)
with torch.no_grad():
    log_p = likely.log_prob(dequantise(small_faces, dice(0)))
costs = bits_of(log_p, likely.dims, 256)
z = flows.encode(likely, small_faces)
again = flows.decode(likely, z)
print(f"{likely.dims} numbers a face; {float(costs.mean()):.2f} ± "
      f"{float(costs.std()) / len(costs) ** 0.5:.2f} bits each, 8 if nothing is known")
print("faces that come back with every level as it was: "
      f"{float((again == small_faces).flatten(1).all(1).float().mean()):.0%}")
with torch.no_grad():
    noisy = likely(dequantise(small_faces, dice(0)))[0]
print(f"deviation of z: {float(noisy.std()):.2f} with the noise within the levels, "
      f"{float(z.std()):.2f} without it")

# %% [markdown]
r"""
With its noise a face's $z$ is as spread as $\mathcal N(0, I)$ says. A fifth of that spread is nothing but the noise within the levels, which `encode` leaves out: it takes the middle of each.
"""

# %% [markdown]
r"""
### Temperature

A flow's single samples often look better if $z$ is drawn with less spread, $z = T \varepsilon$: nearer to the middle, where the density of $z$ is larger. (Hardly any face's $z$ lies there: in 768 dimensions they lie on a shell around it. But rare combinations are left out.) At $T = 0$ there is one picture, that of $z = 0$.
"""

# %% tags=["nbval-ignore-output"]
heats = [0.0, 0.3, 0.5, 0.7, 0.85, 1.0]
rows = torch.cat([flows.sample(likely, 8, temperature=T, seed=4) for T in heats])
show(image_grid(rows, columns=8, row_titles=[f"T = {T:g}" for T in heats]),
     """Eight draws of z at six temperatures. At 0 all are one average face. At 0.3 hair and
     backgrounds begin to differ, at 0.7 there are eight different people in clear colours,
     and at 1 some have blotched backgrounds or smeared chins.""")
card = likely.card["frechet_at_16"]
print("toy Fréchet distance to faces of 16×16 pixels, by temperature:")
print({f"T = {T}": round(v) for T, v in card.items()},
      f"real ones {likely.card['real_faces'][1]:.0f}")

# %% [markdown]
r"""
The eye likes 0.7, the yardstick 1: a distance of distributions counts variety, and every bit of cooling takes some away. Both are right about what they look at.
"""

# %% tags=["nbval-ignore-output"]
def at_temperature(temperature, seed):
    return image_grid(flows.sample(likely, 8, temperature=temperature, seed=seed), columns=8)


explore(at_temperature, at_temperature(0.7, 4), "Eight faces of 16×16 pixels from Glow.",
        temperature=(0.0, 1.2, 0.7), seed=(0, 99, 4));

# %% [markdown]
r"""
### What z knows

Since every picture has its own $z$, chapter 2's games need no encoder: walk between two faces, or take the mean $z$ of faces with glasses, subtract that of faces without, and add the difference to a face. (Chapter 2's encoder forgets what its 32 numbers cannot hold. Here there are as many numbers as in the picture, and nothing is forgotten.)
"""

# %% tags=["nbval-ignore-output"]
many = ToyFaces(4000, seed=5)
zs = flows.encode(likely, shrunk(many.images(), 16))
step = torch.linspace(0, 1, 8)[:, None]
walk = torch.cat([flows.decode(likely, (1 - step) * zs[i] + step * zs[j])
                  for i, j in ((0, 1), (2, 3))])
glasses = zs[many["glasses"] > 0].mean(0) - zs[many["glasses"] == 0].mean(0)
bare = zs[many["glasses"] == 0][:8]
put_on = torch.cat([flows.decode(likely, bare + k * glasses) for k in (0.0, 1.0, 2.0)])
show(image_grid(walk, columns=8), """Two walks, each between the z of two real faces at its
     ends. Above, background, glasses and shirt change one after the other, below hair and
     skin as well; in the middle the faces are blurred.""")
show(image_grid(put_on, columns=8, row_titles=["as they are", "+ glasses", "+ 2 ×"]),
     """Eight real faces without glasses; with the mean difference of glasses added once:
     faint rims; and twice: dark ones. The people stay who they were.""")

# %% [markdown]
r"""
## 4. Whose likelihood?

*15 minutes.*

The course has five models by now that say what a face costs. On one axis, in one unit, over unseen faces (`python -m minigen reproduce likelihoods`; the three seeds are three draws of faces, each model was trained once):
"""

# %%
print(reproduce.as_text("likelihoods"))

# %% tags=["nbval-ignore-output"]
cells = reproduce.read("likelihoods")
rows = ("Gaussian, 16×16, exact", "Glow, 16×16, exact", "Gaussian, 32×32, exact",
        "VAE, 32×32, bound", "U-Net, 32×32, bound", "PixelCNN, 32×32, tokens only")
spent = {row: [c["bits"] for c in cells if c["row"] == row] for row in rows}
fig, axes = panels(1, 1, height=2.3)
hue = {"16×16": COLOURS[0], "32×32": COLOURS[1]}
names = list(spent)[::-1]
for k, name in enumerate(names):
    mean = statistics.mean(spent[name])
    colour = COLOURS[5] if "tokens" in name else hue["16×16" if "16×16" in name else "32×32"]
    axes[0, 0].barh(k, mean, color=colour, alpha=0.45 if "bound" in name else 1.0)
    axes[0, 0].text(mean + 0.05, k, f"{mean:.2f}", va="center", fontsize=8)
axes[0, 0].set_yticks(range(len(names)), names, fontsize=8)
axes[0, 0].set_xlabel("bits per dimension, fewer is better", fontsize=9)
show(fig, """Bits per dimension as bars: two for faces of 16×16, exact; a Gaussian's exact
     one and two pale bounds for 32×32; and one hardly visible for the tokens alone.""")

# %% [markdown]
r"""
Which of these may be compared?

- **The two of 16×16**, with each other: same data, same levels, both exact. Not with those of 32×32: larger pictures have neighbours that are more alike, so each number costs less. That is a property of the data, not a merit of a model.
- **A bound with an exact value**, in one direction only. The U-Net's bound says that it costs *at most* so much. It might cost less; so it cannot be said from these numbers that the Gaussian's density is better, however it looks.
- **The VAE's bound** is the largest, because of one number in it: a deviation σ, one for all pixels, that must cover its worst errors, so even flat backgrounds pay for it.
- **The tokens' row with none of them.** The PixelCNN pays for sixteen tokens, and nothing for what the decoder gets wrong after that. To compare it, one would have to add the bits that correct its picture, pixel by pixel.

And now the sobering part. Glow, which draws faces, costs not quite a tenth fewer bits than the Gaussian of chapter 0, which draws fog. Most bits of a picture are spent on its finest levels, the last digits of smooth areas; a mouth is a rounding error in that account. A model may be excellent at digits that nobody sees and blind to mouths. Theis, van den Oord and Bethge (2016) show that likelihood and the look of samples can be made to differ in either direction, and this is why none of the course's models is *chosen* by its bits.

## 5. From a diffusion to a velocity

*20 minutes.*

Chapter 6 ended with an equation. There, $dz / d\kappa = \hat x_0$ carried noise to data, and it worked because of an argument that never used where the noise schedule came from: **points that all move with the mean velocity of the paths through their place are distributed as the paths are**. So choose the paths first. The simplest choice is a straight line at constant speed, from a picture at $t = 0$ to a noise at $t = 1$:

$$x_t = (1 - t)\, x_0 + t\, \varepsilon, \qquad \frac{dx_t}{dt} = \varepsilon - x_0 .$$

Many lines cross at one place. Their mean velocity there is $u(x, t) = \mathbb E[\varepsilon - x_0 \mid x_t = x]$, and a network learns a mean by squared error:

$$L = \mathbb E\, \lVert u_\theta(x_t, t) - (\varepsilon - x_0) \rVert^2 .$$

That is **flow matching** (Lipman et al. 2023; with straight lines, rectified flow, Liu et al. 2023). Why may one train on the lines of single pairs, when $u$ is wanted? Write $\varepsilon - x_0 = u + r$. The rest $r$ has the mean 0 at each place, so the cross term vanishes, $L = \mathbb E \lVert u_\theta - u \rVert^2 + \mathbb E \lVert r \rVert^2$, and the second term does not depend on the network. It is chapter 5's argument for predicting ε, word for word.

### How new is it?

Divide by $c = \sqrt{(1 - t)^2 + t^2}$: then $x_t / c = \sqrt{\bar\alpha}\, x_0 + \sqrt{1 - \bar\alpha}\, \varepsilon$ with $\bar\alpha = (1 - t)^2 / c^2$. It is Eq. 28. **Flow matching is a diffusion with a schedule of its own**, up to a factor. And its velocity is chapter 5's $v = \sqrt{\bar\alpha}\, \varepsilon - \sqrt{1 - \bar\alpha}\, x_0$ in disguise: solve the two equations for ε and $x_0$, and

$$\varepsilon - x_0 = \frac{c\, v + (2t - 1)\, x_t}{c^2} .$$

The network is given $x_t$, so only $v$ is to be learned; an error $e$ of $v$ becomes an error $e / c$ of the velocity. So both losses have one and the same optimum, and differ in **how much they care** about each noise level: by $1 / c^2$, and by how often it is drawn.
"""

# %%
x0, eps = torch.randn(2, 5, 3, dtype=torch.float64, generator=dice(0))
t = torch.rand(5, dtype=torch.float64, generator=dice(1))
x = flow_matching.between(x0, eps, t)
c = ((1 - t) ** 2 + t**2).sqrt()[:, None]
v = ((1 - t)[:, None] * eps - t[:, None] * x0) / c
error = (flow_matching.from_v(v, x, t) - (eps - x0)).abs().max()
print("velocity from v, error below 1e-14:", bool(error < 1e-14))

# %% [markdown]
r"""
The figure shows the practice that each training gives to each noise level: how often it is drawn, times the weight of an error of $v$ there. **Before you run it:** chapter 5's cosine schedule has $\sqrt{\bar\alpha} = \cos(\pi t / 2)$ (its small offset aside). Is its practice narrower than that of flow matching with uniform times, or broader?
"""

# %%
def practice(law, log_snr):
    """Weight of an error of v at each log SNR, per unit of it; the sum is set to 1."""
    if law == "diffusion: v, cosine":             # t uniform; log SNR = −2 log tan(π t / 2)
        weight = 1 / (2 * math.pi * (log_snr / 2).cosh())
    else:                                              # log SNR = −2 log(t / (1 − t))
        t = torch.sigmoid(-log_snr / 2)
        weight = t * (1 - t) / 2 / ((1 - t) ** 2 + t**2)
        if law == "flow, logit-normal times":          # its density; uniform times have 1
            weight = weight * (-(t.logit() ** 2) / 2).exp() / (t * (1 - t))
    return weight / weight.sum() / float(log_snr[1] - log_snr[0])


levels = torch.linspace(-10, 10, 400, dtype=torch.float64)
laws = ("diffusion: v, cosine", "flow, uniform times", "flow, logit-normal times")
spread = {law: practice(law, levels) for law in laws}
fig = curves(spread, x=levels, ylabel="practice", height=2.5,
             xlabel="log signal-to-noise ratio: left noise, right picture")
show(fig, """Practice over the logarithm of the signal-to-noise ratio: bumps around 0. The
     curves of the diffusion and of the flow with uniform times lie on each other; the
     logit-normal flow's is higher and narrower.""")
print("the first two alike to 1e-12:",
      bool((spread[laws[0]] - spread[laws[1]]).abs().max() < 1e-12))

# %% [markdown]
r"""
Neither: it is *the same curve*. With $\lambda = \log \mathrm{SNR}$ both are proportional to $1 / \cosh(\lambda / 2)$.

<details><summary>The four lines of algebra</summary>

The cosine: $e^{-\lambda / 2} = \tan(\pi t / 2)$, so $\lvert dt / d\lambda \rvert = \frac{1}{\pi} \cdot \frac{e^{-\lambda/2}}{1 + e^{-\lambda}} = \frac{1}{2 \pi \cosh(\lambda / 2)}$, and the weight of an error of $v$ is 1.

The flow: $e^{-\lambda / 2} = t / (1 - t)$, so $t$ is the logistic function of $-\lambda / 2$, and $\lvert dt / d\lambda \rvert = \frac12 t (1 - t) = \frac{1}{8 \cosh^2(\lambda / 4)}$. The weight is $1 / c^2$ with $c^2 = 1 - 2 t (1 - t) = 1 - \frac{1}{2 \cosh^2(\lambda / 4)} = \frac{\cosh(\lambda / 2)}{2 \cosh^2(\lambda / 4)}$, since $2 \cosh^2 a - 1 = \cosh 2a$. The product is $\frac{1}{4 \cosh(\lambda / 2)}$.

</details>

So flow matching with uniform times *is* the training of $v$ on the cosine schedule, less its offset, up to a constant that Adam does not see. What is left of the difference: the network is given $x_t$ itself and not $x_t / c$, it must answer with the part that $x_t$ already tells, and the sampler walks on another line. Do not expect wonders of section 8; expect to understand why two literatures came to the same networks.

**Logit-normal** times, $t = 1 / (1 + e^{-z})$ with $z \sim \mathcal N(0, 1)$, are what the flow-matching paper behind Stable Diffusion 3 found best among many (Esser et al. 2024): less practice at both ends, where the answer is easy (almost noise: the mean; almost a picture: the picture), more in the middle. Section 8 tries both.

## 6. Ten lines each

*35 minutes.*

### Exercise x1.5 · `flow_loss` · ★★ · 8 minutes

Write the loss. `model(x, t)` wants times that reach from 0 to 999, as the networks of chapter 5 do; `t` is in $[0, 1]$, one for each row.

<details><summary>Hint</summary>

Three lines: the place on the path, what the velocity should be, the mean of the squared errors. `t` has the shape (B,), and must multiply (B, D): which index helps?

</details>
"""

# %%
def flow_loss(model, x0, eps, t):
    """The mean squared error of a velocity. Shapes: x0, eps (B, D), t (B,) -> a scalar."""
    ### BEGIN SOLUTION
    share = t[:, None]
    x = (1 - share) * x0 + share * eps
    return (model(x, 999 * t) - (eps - x0)).square().mean()
    ### END SOLUTION

# %% points=2
check(flow_loss)

# %% [markdown]
r"""
### Exercise x1.6 · `euler` · ★★ · 8 minutes

And the sampler: from noise at $t = 1$ to data at $t = 0$, in `steps` equal steps. `velocity(x, t)` takes a number `t` in $[0, 1]$. Return all states in a list, `x1` first: one more than there are steps.

<details><summary>Hint</summary>

The velocity says how x changes when t *grows*, and you walk from 1 to 0. At which times do you ask?

</details>
"""

# %%
def euler(velocity, x1, steps):
    """Euler's method from t = 1 to 0. Shapes: x1 (N, ...); result a list of steps + 1 such."""
    ### BEGIN SOLUTION
    states = [x1]
    for i in range(steps):
        v = velocity(states[-1], 1 - i / steps)
        states.append(states[-1] - v / steps)
    return states
    ### END SOLUTION

# %% points=2
check(euler)

# %% [markdown]
r"""
### Exercise x1.7 · `heun` · ★★ · 8 minutes

The second-order step of chapter 6, which here is shorter: go to the end of the step, ask there too, go again with the mean of the two velocities. The last step asks at $t = 0$ as well (in chapter 6 it could not). Return all states.

<details><summary>Hint</summary>

Two questions a step: one where you stand, one where Euler would take you, at the time of the step's end.

</details>
"""

# %%
def heun(velocity, x1, steps):
    """Heun's method from t = 1 to 0. Shapes: x1 (N, ...); result a list of steps + 1 such."""
    ### BEGIN SOLUTION
    states = [x1]
    for i in range(steps):
        here, t, s = states[-1], 1 - i / steps, 1 - (i + 1) / steps
        v = velocity(here, t)
        there = velocity(here - v / steps, s)
        states.append(here - (v + there) / 2 / steps)
    return states
    ### END SOLUTION

# %% points=2
check(heun)

# %% [markdown]
r"""
All of flow matching is there. A small network, told the time, and your loss:
"""

# %% tags=["nbval-ignore-output"]
flow_loss, euler, heun = yours(flow_loss), yours(euler), yours(heun)


def trained(stream, steps=size["point_steps"], begin=None):
    """A velocity for points, trained on pairs (x0, ε), or on x0 with new noise each time."""
    torch.manual_seed(0)
    net = PointDenoiser(2, prediction="velocity")
    if begin is not None:
        net.load_state_dict(begin.state_dict())
    optimiser, own = torch.optim.Adam(net.parameters(), lr=3e-3), dice(0)
    rate = one_cycle(optimiser, 3e-3, steps)
    for _ in tqdm(range(steps), desc="velocity"):
        x0, *given = next(stream)
        eps = given[0] if given else torch.randn(x0.shape, generator=own)
        loss = flow_loss(net, x0, eps, torch.rand(len(x0), generator=own))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
    return net


def velocity_of(net):
    """velocity(x, t) of a network, for a number t."""
    @torch.no_grad()
    def velocity(x, t):
        return net(x, torch.tensor([999.0 * t]))

    return velocity


point_net = trained(batches(roll, batch_size=256))
z = torch.randn(2000, 2, generator=dice(1))
counts = (1, 2, 5, 50)
clouds = [euler(velocity_of(point_net), z, n)[-1] for n in counts]
titles = [f"{n} Euler step{'s' * (n > 1)}" for n in counts]
show(points(clouds, columns=4, limit=2.6, titles=titles),
     """What your sampler draws of the swiss roll. In one step a small heap in the middle;
     in two a disc; in five a spiral with its middle filled; in fifty a spiral.""")

# %% [markdown]
r"""
One step gives the heap in the middle, and must: at $t = 1$ the noise says nothing of the picture, so the mean velocity is towards the mean of all data. It is the U-Net's grey first guess again.

**Before you run it:** Heun asks twice a step. With as few as four questions, that is two steps of Heun or four of Euler, which one ends nearer to where a very fine path ends? And with sixty-four?
"""

# %% tags=["nbval-ignore-output"]
fine = heun(velocity_of(point_net), z, 200)[-1]
asked = [4, 8, 16, 32, 64]
miss = {"Euler": [euler(velocity_of(point_net), z, n)[-1] for n in asked],
        "Heun": [heun(velocity_of(point_net), z, n // 2)[-1] for n in asked]}
far = {name: [float((x - fine).norm(dim=1).mean()) for x in ends]
       for name, ends in miss.items()}
fig = curves(far, x=asked, xlabel="questions to the network", ylabel="distance to the end",
             logy=True, height=2.3)
fig.axes[0].set_xscale("log")
fig.axes[0].set_xticks(asked, asked)
show(fig, """Mean distance to the end of a very fine path, over the number of questions,
     both axes logarithmic. At 4 questions Heun's is above Euler's, from 8 on it is below.""")

# %% [markdown]
r"""
Two long steps of Heun go further astray than four of Euler: the second question is asked at a place that the first one got wrong. Where steps are short the second order wins.

## 7. Straighter still

*20 minutes.*

The *lines* of training are straight. Are the *paths* of sampling? Where two lines cross at one time, a point can only go one way, so it takes the mean, and turns off when the lines have parted. Two paths of one flow are never at one place at the same time. On three points in one dimension everything is visible, and the velocity is a formula (`flow_matching.ideal_velocity`):
"""

# %% tags=["nbval-ignore-output"]
three = torch.tensor([[-1.0], [0.2], [1.0]]).double()
ends, starts = three[torch.arange(24) % 3], torch.randn(24, 1, generator=dice(2)).double()


def best(x, t):
    return flow_matching.ideal_velocity(three, x, torch.tensor([t]).double())


paths = torch.stack(euler(best, starts, 200))[..., 0]                    # (201, 24)
fig, axes = panels(1, 2, height=2.6, sharey=True)
for k in range(24):
    axes[0, 0].plot([1, 0], [float(starts[k]), float(ends[k])], lw=0.8, color=COLOURS[k % 3])
    nearest = int((paths[-1, k] - three[:, 0]).abs().argmin())
    axes[0, 1].plot(torch.linspace(1, 0, 201), paths[:, k], lw=0.8, color=COLOURS[nearest])
for ax, name in zip(axes.flat, ("what training sees", "how sampling moves"), strict=True):
    ax.set_title(name, fontsize=9)
    ax.set_xlabel("t", fontsize=9)
    ax.set_xlim(1, 0)
show(fig, """Noise at the left of each panel, three data points at its right. Left: straight
     lines between random pairs, which cross everywhere. Right: the paths of the ideal
     velocity, which never cross: first towards the middle, then bent to one of the three.""")

# %% [markdown]
r"""
Liu, Gong and Liu have a charming remedy. Sampling *pairs* each noise with one picture, and those pairs' paths do not cross. So draw many noises, carry each to its picture, and train a second flow on **these pairs** instead of random ones. The lines between them cross far less, so the new paths are straighter, and a few steps are enough. It is called **reflow**. How straight? Liu and his colleagues measure how far the velocity is, on the way, from the one that would lead there evenly; we divide by the square of the way:

$$S = \frac{\mathbb E \int_0^1 \lVert (x_1 - x_0) - v(x_t, t) \rVert^2 dt}{\mathbb E \lVert x_1 - x_0 \rVert^2}, \qquad S = 0: \text{ one step is as good as a thousand.}$$

(It may exceed 1: along the way the mean square of the velocity is $1 + S$ times that of the even motion.)
"""

# %% tags=["nbval-ignore-output"]
many_noises = torch.randn(20_000, 2, generator=dice(7))
their_ends = euler(velocity_of(point_net), many_noises, 50)[-1]
again = trained(batches(their_ends, many_noises, batch_size=256), size["again"], point_net)
fig, axes = panels(2, 3, height=2.2)
for row, (name, net) in enumerate({"first flow": point_net, "after reflow": again}.items()):
    states = torch.stack(euler(velocity_of(net), z[:60], 50))           # (51, 60, 2)
    for k in range(60):
        axes[row, 0].plot(*states[:, k].T, lw=0.6, color=COLOURS[0])
    axes[row, 0].scatter(*states[-1].T, s=6, color=COLOURS[1])
    for ax, n in zip(axes[row, 1:], (1, 3), strict=True):
        ax.scatter(*euler(velocity_of(net), z, n)[-1].T, s=1, linewidths=0)
        ax.set_title(f"{name}, {n} step{'s' * (n > 1)}", fontsize=9)
    axes[row, 0].set_title(f"{name}, paths", fontsize=9)
    s = flow_matching.straightness(net, z, steps=50)
    print(f"{name:<13} straightness {s:.3f}")
for ax in axes.flat:
    ax.set(xticks=[], yticks=[], xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")
show(fig, """Above, the first flow: paths that run to the middle and turn, a heap in one
     step, a filled spiral in three. Below, after reflow: straight paths, and in one step a
     spiral with some stray points in its middle.""")

# %% [markdown]
r"""
What is paid? The second flow learns from the first one's samples, not from data: whatever the first draws wrong is now the truth. And its pairs had to be drawn, fifty network runs each.

## 8. Faces

*20 minutes.*

Back to chapter 7: the same tokens, the same FFTD, and in place of ε or $v$ it predicts the velocity; `minigen.flow_matching` is your functions with checks around them. The course's flow is narrow (width 64, 0.6 million parameters, where chapter 7's network has 2.4 million and is told labels). Its straightness is 0.31, and 0.0085 after reflow on 50,000 pairs of 20 steps each.
"""

# %% tags=["nbval-ignore-output"]
counts = (1, 2, 5, 10)
diffused = load_weights(FFTD, "fftd")
diffusion = ddpm.diffusion_of(diffused)
rows, names = [], []
for n in counts:
    drawn = ddpm.last(ddim.ddim_sample(diffused, diffusion, noise, steps=n))
    rows += [latents.decode(tokenizer, drawn), carried(matched, n), carried(straight, n)]
    names += [f"v, DDIM {n}", f"flow, {n}", f"reflow, {n}"]
show(image_grid(torch.cat(rows), columns=8, row_titles=names),
     """The same eight noises through three networks, in 1, 2, 5 and 10 steps. In one step
     the diffusion and the flow give eight times nearly the same mixed face, the reflowed
     network eight different people. With two steps the first two give people with blotched
     backgrounds. From five steps on all three give nearly the same people; in the last
     column the hair differs, elsewhere eyes and mouths.""")

# %% [markdown]
r"""
Look down any column. Three networks, of two widths, trained apart with other noise and other losses, and from one noise they draw nearly one person. They have not copied each other: the mean velocity is a property of the *data and the paths*, every network that learns it well learns the same one, and a flow has no dice of its own. (Reflow was trained on the flow's pairs and so had a reason; the diffusion never saw the flow.)

A network that predicts $v$ can be *read* as a velocity, by section 5's formula (`flow_matching.as_flow`). So the two samplers, DDIM's steps and Euler's on the straight line, can be compared on one and the same network, chapter 7's:
"""

# %% tags=["nbval-ignore-output"]
as_velocity = flow_matching.as_flow(diffused, diffusion)
z0 = torch.randn(500, 4, 4, 4, generator=dice(9))
for n in (5, 10, 20):
    by_ddim = ddpm.last(ddim.ddim_sample(diffused, diffusion, z0, steps=n))
    by_euler = ddpm.last(flow_matching.euler_sample(as_velocity, z0, steps=n))
    scores = [toy_frechet(latents.decode(tokenizer, x)) for x in (by_ddim, by_euler)]
    print(f"{n:>2} steps, 500 faces: DDIM {scores[0]:6.1f}, Euler on the line {scores[1]:6.1f}")

# %% [markdown]
r"""
On one network the line makes no difference to speak of. And now the comparison that chapter 7 left open: networks of width 64, trained from the same start for 1,200 steps of 128 latents, three seeds each. Chapter 7 has the diffusions (`beyond`), here are the flows:
"""

# %%
print(reproduce.as_text("flow"))

# %% tags=["nbval-ignore-output"]
flow_cells, beyond = reproduce.read("flow"), reproduce.read("beyond")


def measured(cells, row, column):
    """The values of three seeds."""
    return [c[column] for seed in range(3) for c in cells
            if c["row"] == row and c["seed"] == seed]


ways = {"diffusion: ε, linear": (beyond, "ε, linear (the paper's)", (5, 10, 50)),
        "diffusion: v, cosine": (beyond, "v, cosine", (5, 10, 50)),
        "flow": (flow_cells, "uniform times", (1, 2, 3, 5, 10, 50)),
        "flow, logit-normal": (flow_cells, "logit-normal times", (1, 2, 3, 5, 10, 50)),
        "flow, twice as long": (flow_cells, "uniform, twice as long", (1, 2, 3, 5, 10, 50)),
        "flow, then reflow": (flow_cells, "uniform, then reflow", (1, 2, 3, 5, 10, 50))}


def column(n):
    return f"{n} step{'s' * (n > 1)}"


fig, axes = panels(1, 1, height=3.2)
for k, (name, (cells, row, counts)) in enumerate(ways.items()):
    values = torch.tensor([measured(cells, row, column(n)) for n in counts])      # (counts, 3)
    axes[0, 0].plot(counts, values.mean(1), color=COLOURS[k], marker="o", ms=3, label=name)
    axes[0, 0].fill_between(counts, values.amin(1), values.amax(1), color=COLOURS[k], alpha=0.2)
axes[0, 0].set(xscale="log", yscale="log", ylabel="toy Fréchet distance", xlabel="steps")
axes[0, 0].set_xticks([1, 2, 3, 5, 10, 50], [1, 2, 3, 5, 10, 50])
legend(axes[0, 0], ncols=3)
show(fig, """Toy Fréchet distance over the number of steps, both axes logarithmic, with the
     range of three seeds. After reflow the line is nearly level, at 45 to 80. All others
     fall: the flows from thousands at one step to 30 to 50 at fifty, the logit-normal's
     lowest of them up to ten steps; the diffusion with v lies on the uniform flow's, the
     one with ε above.""")

# %% [markdown]
r"""
As in chapter 7, compare within each seed: three differences, their mean, and its standard error. Beyond 4.3 standard errors (a star) it is hardly chance, at the usual 95 %; of sixteen comparisons about one may have its star by luck.
"""

# %%
def less(name, other, counts):
    """By how much a line's distance is below another's: mean ± standard error."""
    print(f"{name}, less than {other}:")
    (a, row, _), (b, second, _) = ways[name], ways[other]
    for n in counts:
        pairs = zip(measured(b, second, column(n)), measured(a, row, column(n)), strict=True)
        d = [y - x for y, x in pairs]
        mean, error = statistics.mean(d), statistics.stdev(d) / 3**0.5
        star = " *" if abs(mean) > 4.3 * error else ""
        print(f"    {column(n):<9} {mean:7.1f} ± {error:5.1f}{star}")


less("flow", "diffusion: ε, linear", (5, 10, 50))
less("flow", "diffusion: v, cosine", (5, 10, 50))
less("flow, logit-normal", "flow", (2, 5, 10, 50))
less("flow, then reflow", "flow, twice as long", (1, 2, 3, 5, 10, 50))

# %% [markdown]
r"""
What do the stars say?

- **Flow matching beats the paper's ε** beyond chance at 5 and 10 steps, and at 50 in each seed. So did $v$ on the cosine schedule, in chapter 7.
- **Flow matching and $v$ with the cosine cannot be told apart**, at 5, 10 or 50 steps. Section 5 said so: it is the same training. Whoever calls flow matching a leap should say over what.
- **Which times are drawn** does matter. The logit-normal flow is the better one at 2, 5 and 10 steps; at 50 it is ahead in each seed too, by less than three seeds can prove.
- **Reflow is made for very few steps.** At one step it takes the distance from thousands to less than a hundred, and up to five it is far ahead. At ten the two cannot be told apart. At fifty it is *behind* the flow that was given the same time on data: it has learned the first flow's pictures of 20 steps, faults and all, and can hardly be better than they.

The course's longer-trained pair is in the table at the end: the flow in 10 steps at 37.0, the reflowed network in a **single** step at 35.4. (`python -m minigen sample --weights flow_straight --steps 1` draws sixteen of them.) One step and no adversary, nearly as fast as chapter 1's generator and at half its distance (and with the help of an autoencoder, which the GAN has not). Distillation (Salimans and Ho 2022), consistency models (Song et al. 2023) and the one- to four-step modes of today's image models are other ways to the same end.

## Summary

- A one-to-one map carries a density along: $\log p(x) = \log p(f(x)) + \log \lvert\det J\rvert$.
- Coupling layers have a free inverse and a free determinant, since half of the numbers stay and say how the others move. Masks must alternate, and no flow can tear.
- Glow is coupling for pictures. Its bits are exact, after dequantising; its single samples look best a little cooled.
- Likelihoods are compared with like: same data, same levels, exact with exact. They say little about how samples look.
- Flow matching is a diffusion on a straight schedule, and its velocity is $v$ in disguise. What differs is which noise levels are practised, and the line that the sampler walks along.
- On the course's latents flow matching does as well as $v$ with the cosine, the same training in other words; logit-normal times help at few steps.
- Straight lines do not make straight paths; reflow does, and one step then draws faces. It pays with a second training, on samples instead of data.
"""

# %%
print(results_table(excursion="x1"))

# %%
minigen.progress()

# %% [markdown]
r"""
### Words

| English | 中文 | meaning here |
|---|---|---|
| normalising flow | 标准化流 | an invertible network from data to N(0, I) |
| change of variables | 变量替换 | how a density is carried along |
| coupling layer | 耦合层 | half stays and says how the other half moves |
| dequantisation | 反量化 | noise that fills the steps between levels |
| bits per dimension | 每维比特数 | cost of one number of a picture |
| temperature | 温度 | how widely z is drawn |
| flow matching | 流匹配 | learning the velocity of straight paths |
| rectified flow | 整流流 | a flow trained on straight lines |
| reflow | 再流化 | training again on pairs of its own |

### References

- Dinh, Krueger, Bengio 2015, *NICE: Non-linear Independent Components Estimation*, [arXiv:1410.8516](https://arxiv.org/abs/1410.8516): the first coupling layers.
- Dinh, Sohl-Dickstein, Bengio 2017, *Density Estimation Using Real NVP*, [arXiv:1605.08803](https://arxiv.org/abs/1605.08803): coupling layers.
- Kingma, Dhariwal 2018, *Glow*, [arXiv:1807.03039](https://arxiv.org/abs/1807.03039): actnorm, 1×1 convolutions, temperature.
- Theis, van den Oord, Bethge 2016, *A Note on the Evaluation of Generative Models*, [arXiv:1511.01844](https://arxiv.org/abs/1511.01844): dequantisation, likelihood against samples.
- Lipman, Chen, Ben-Hamu, Nickel, Le 2023, *Flow Matching for Generative Modeling*, [arXiv:2210.02747](https://arxiv.org/abs/2210.02747).
- Liu, Gong, Liu 2023, *Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow*, [arXiv:2209.03003](https://arxiv.org/abs/2209.03003): straight lines, reflow.
- Esser et al. 2024, *Scaling Rectified Flow Transformers for High-Resolution Image Synthesis*, [arXiv:2403.03206](https://arxiv.org/abs/2403.03206): logit-normal times.
- Song, Dhariwal, Chen, Sutskever 2023, *Consistency Models*, [arXiv:2303.01469](https://arxiv.org/abs/2303.01469).
- Salimans, Ho 2022, *Progressive Distillation for Fast Sampling of Diffusion Models*, [arXiv:2202.00512](https://arxiv.org/abs/2202.00512): $v$.
- Liu, Chen, Gao 2026, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): Table 5.
"""
