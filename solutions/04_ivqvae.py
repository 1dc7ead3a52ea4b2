# %% [markdown]
r"""
# Chapter 4 · IVQ-VAE, the improved autoencoder

A prior can draw no better than the decoder it draws for, and chapter 3's is soft: it was asked for the least squared error, and got it. The course's paper begins here, with an **improved** VQ-VAE (its first stage): the network changes in two places, the loss in three. You will

1. see what normalisation and a skip connection do to a gradient, and build a residual block with attention;
2. find out which error draws the mean, which the median, which looks at features, and break the last;
3. let a discriminator judge patches, and write the step that trains both networks;
4. train the whole with your block and your step, and see what each loss buys;
5. repeat two of the paper's tables at small scale;
6. watch sixteen tokens drop a monocle and open a closed eye.

It takes about three hours; section 5 can be left out.
"""

# %%
import time
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from torch import nn
from tqdm.auto import tqdm

import minigen
from minigen import DataError, check, gan, ivqvae, vqvae
from minigen.checks import yours
from minigen.common import Attention, one_cycle, start_codebook
from minigen.data import ATTRIBUTES, ToyFaces, batches, draw_faces, labels_of
from minigen.files import load_weights
from minigen.metrics import predict_attributes, toy_frechet
from minigen.paper import reproduce
from minigen.perceptual import LPIPS, ToyPerceptual
from minigen.plots import COLOURS, curves, heat, image_grid, panels, show
from minigen.widgets import explore

scale, device = minigen.setup()
size = {"small": dict(faces=4096, steps=1800), "full": dict(faces=20_000, steps=20_000)}[scale]
faces, test = ToyFaces(size["faces"], seed=0), ToyFaces(2000, seed=2)
images, test_images = faces.images(), test.images()
print(f"scale: {scale}, {len(faces)} faces to learn from, {len(test)} the model never sees")

# %% [markdown]
r"""
Here is where the chapter ends: as many tokens and codes, another network and another loss.
"""

# %%
old, model = load_weights(vqvae.VQVAE, "vqvae"), load_weights(ivqvae.IVQVAE, "ivqvae")
by_old, by_new = (m.decode_indices(m.encode_indices(test_images)) for m in (old, model))
rows = torch.cat([test_images[:6], by_old[:6], by_new[:6]])
show(image_grid(rows, columns=6, row_titles=["real", "VQ-VAE", "IVQ-VAE"]),
     """Six real faces; the same through chapter 3's VQ-VAE, a little grainy and soft; the same
     through the IVQ-VAE, hardly to be told from the real ones.""")

# %% [markdown]
r"""
## 1. A deeper network that still learns

*20 minutes.*

Chapter 3's encoder has four convolutions. The paper's has two **residual blocks** at every resolution, each (Eq. 2)

$$h \;\leftarrow\; h + \mathrm{Conv}_{3\times3}\left(\mathrm{Swish}\left(\mathrm{GroupNorm}(h)\right)\right), \qquad \mathrm{Swish}(u) = u\,\sigma(u).$$

In a plain network, $h \leftarrow f(h)$, the gradient is multiplied going back by the slope of $f$, layer by layer. With the sum each slope is $1 + f'$: whatever $f$ does, one path goes straight through. **Group normalisation** (Wu and He 2018) brings groups of channels of *one* image to mean 0 and deviation 1; unlike batch normalisation it works with a batch of one. Which of the two does what? In forty untrained blocks in a row, how large is the gradient at each depth? And if the input moves a little, is it still nearly the same?
"""

# %%
def forty_blocks(residual, norm, channels=16):
    torch.manual_seed(0)
    blocks = [ivqvae.ResidualBlock(channels, channels, residual).double()
              for _ in range(40)]                    # tiny gradients: 64 bits
    if not norm:
        for block in blocks:
            block.body[0] = nn.Identity()
    return blocks


def gradients(blocks, x):
    """Gradients of a fixed random weighted sum of the output, at the input of every block."""
    h, inputs = x.clone().requires_grad_(), []
    for block in blocks:
        inputs.append(h)
        h = block(h)
    random = torch.Generator().manual_seed(1)
    weights = torch.randn(h.shape[1:], generator=random, dtype=h.dtype)
    return torch.autograd.grad((h * weights).sum(), inputs)

# %%
random = torch.Generator().manual_seed(2)
x, step = (torch.randn(8, 16, 8, 8, generator=random).double() for _ in range(2))
moves = [0.01, 0.03, 0.1, 0.3, 1.0]


def unit(gradient):
    return F.normalize(gradient.flatten(1), dim=1, eps=0)


sizes, likeness = {}, {}
kinds = {"plain": dict(residual=False, norm=False),
         "normalised": dict(residual=False, norm=True),
         "sum": dict(residual=True, norm=False),
         "both": dict(residual=True, norm=True)}
for name, kind in kinds.items():
    blocks = forty_blocks(**kind)
    here = gradients(blocks, x)
    sizes[name] = [float(g.norm() / here[-1].norm()) for g in here]
    moved = [gradients(blocks, x + m * step)[0] for m in moves]
    likeness[name] = [float((unit(here[0]) * unit(g)).sum(1).mean()) for g in moved]

# %%
cosines = [f"{name} {values[2]:.2f}" for name, values in likeness.items()]
print(f"plain: gradient at the first block {sizes['plain'][0]:.0e} of the last one's")
print("cosine of the gradients after a move of 0.1:", ", ".join(cosines))
assert sizes["plain"][0] < 1e-6 < sizes["both"][0]
assert likeness["both"][2] > 0.9 > 0.5 > likeness["normalised"][2]

fig, axes = panels(1, 2, height=2.6)
fig.get_layout_engine().set(wspace=0.08)
left, right = axes[0]
curves(sizes, xlabel="block (1: the first)", ylabel="size of the gradient, relative",
       logy=True, ax=left)
curves(likeness, x=moves, xlabel="how far the input moves",
       ylabel="cosine of the two gradients", ax=right)
right.set_xscale("log")
show(fig, """Left: size of the gradient at each of forty blocks, log scale: plain blocks lose it
     by many orders of magnitude; the other three keep it within about one. Right: likeness of
     the gradients before and after a move of the input: with normalisation alone it is gone
     at 0.1; with the sum it falls to 0.8 at 0.3; with both, and for plain blocks, it is still
     near 1 there.""")

# %% [markdown]
r"""
Plain blocks lose the gradient's *size*. Normalising restores it, but the gradient is now **shattered** (Balduzzi et al. 2017), like white noise: a step against it helps at one point and is useless a hair's breadth away. The sum alone keeps the size and most of the meaning; both together keep both best.

The plain blocks' perfect likeness is the same disease: PyTorch's default weights make each block shrink what goes through it, so soon hardly anything of the input is left, and the gradient is the same wherever one stands. Draw the weights larger, from a Gaussian whose variance is some factor over the number of inputs (He et al. 2015 take 2, for ReLU):
"""

# %%
for factor in (2, 2.8, 3.5):
    blocks = forty_blocks(residual=False, norm=False)
    for block in blocks:
        nn.init.normal_(block.body[2].weight, std=(factor / (9 * 16)) ** 0.5)
    here, there = gradients(blocks, x), gradients(blocks, x + 0.1 * step)
    cosine = (unit(here[0]) * unit(there[0])).sum(1).mean()
    print(f"plain, variance {factor} / inputs: first gradient "
          f"{here[0].norm() / here[-1].norm():.1e} of the last, cosine {cosine:.2f}")

# %% [markdown]
r"""
So plain blocks *can* be begun well: at 2.8, right for Swish, they keep size and meaning. But a little less and the gradient vanishes, a little more and it explodes and shatters, and training moves the weights. With sum *and* normalisation there is nothing to hit. (The sum alone is not enough: its gradient grows from block to block.)
"""

# %% [markdown]
r"""
Where a stage changes the number of channels, we send $h$ through a 1×1 convolution before the sum, as others do; the paper does not say.

### Up and down

Going down, a convolution with stride 2 halves the map (Eq. 3). Going up, the paper repeats every pixel (**nearest-neighbour upsampling**), then convolves (Eq. 6; its stride 2 there, which would undo the doubling, is a misprint).

### Exercise 4.1 · `upsample_nearest` · ★ · 4 minutes

Double height and width by repeating every pixel.

<details><summary>Hint</summary>

`x.repeat_interleave(2, dim=2)` repeats every row. Then the columns.

</details>
"""

# %%
def upsample_nearest(x):
    """Shapes: (B, C, H, W) -> (B, C, 2H, 2W)."""
    ### BEGIN SOLUTION
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    ### END SOLUTION

# %% points=1
check(upsample_nearest)

# %% [markdown]
r"""
Why not the transposed convolutions of chapters 1 to 3? See what they make of a constant map, untrained:
"""

# %%
torch.manual_seed(0)
flat = torch.ones(1, 8, 8, 8)
ways = {"transposed 3×3": nn.ConvTranspose2d(8, 1, 3, 2, 1, output_padding=1),
        "transposed 4×4": nn.ConvTranspose2d(8, 1, 4, 2, 1),
        "nearest, then 3×3": nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"),
                                           nn.Conv2d(8, 1, 3, 1, 1))}
maps = [layer(flat).detach()[:, :, 3:-3, 3:-3] for layer in ways.values()]
pictures = torch.cat([(x - x.mean()) / 0.5 for x in maps]).clamp(-1, 1)
show(image_grid(pictures, columns=3, titles=list(ways), width=5),
     """What three untrained ways of doubling make of a constant map: the two transposed
     convolutions make a checkerboard, nearest neighbour and a convolution a flat grey.""")
assert maps[0].std() > 0.01 and maps[2].std() < 1e-6

# %% [markdown]
r"""
In a transposed convolution neighbouring output pixels are made by different weights, and only training can make them agree.

## 2. Attention

*40 minutes.*

The two lenses of a pair of glasses belong together, and are far apart for a 3×3 kernel. **Attention** lets every place look at every other. Each place sends out a **query** $q$, offers a **key** $k$ and holds a **value** $v$, each a 1×1 convolution of the map (normalised by groups first; the paper does not say); how much place $i$ takes from place $j$ is (Eqs. 8 to 10)

$$W_{ij} = \frac{\exp\left(q_i \cdot k_j / \sqrt{C}\right)}{\sum_{j'} \exp\left(q_i \cdot k_{j'} / \sqrt{C}\right)}, \qquad h_i \leftarrow h_i + \mathrm{Conv}_{1\times1}\Big(\sum_j W_{ij}\, v_j\Big).$$

Without the $\sqrt C$ the products would grow with the number of channels, and the softmax would pick a single place.

### Exercise 4.2 · `attention_weights` · ★★ · 6 minutes

Compute $W$ from queries and keys.

<details><summary>Hint</summary>

`q @ k.transpose(1, 2)` has shape `(B, N, N)`, a row a query. Over which axis do the weights of one query sum to 1?

</details>
"""

# %%
def attention_weights(q, k):
    """softmax(q k^T / sqrt(C)) over the keys. Shapes: (B, N, C) twice -> (B, N, N)."""
    ### BEGIN SOLUTION
    return (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=-1)
    ### END SOLUTION

# %% points=2
check(attention_weights)

# %% [markdown]
r"""
### Exercise 4.3 · `attending_block` · ★★★ · 20 minutes

A residual block and, behind it, attention, as they stand in the encoder at one resolution. You get the layers and say how the map goes through them:

- `body` is group norm, Swish and 3×3 convolution; `shortcut` is what $h$ goes through before the first sum (nothing, or a 1×1 convolution where the width changes);
- `attention.norm` is the group norm before attention; `attention.qkv` a 1×1 convolution from $C$ to $3C$ channels, first the queries, then the keys, then the values; `attention.out` the 1×1 convolution of the last formula. The call `attention(h)` does not count: write its inside.

<details><summary>Hint</summary>

Two sums, one after the other; attention reads the *result* of the first. `attention_weights` wants places in rows: `(B, C, H, W)` → `.flatten(2)` → `.transpose(1, 2)` is `(B, H·W, C)`.

<details><summary>More</summary>

`.chunk(3, dim=-1)` cuts the last axis into three. The mixture is `w @ v`, `(B, H·W, C)`; `.transpose(1, 2)` brings the channels forward again, and only then may `.reshape(h.shape)` make a map of it.

</details>
</details>
"""

# %%
def attending_block(h, body, shortcut, attention):
    """Eq. 2, then Eqs. 8 to 10 on its result. Shapes: (B, C_in, H, W) -> (B, C, H, W)."""
    ### BEGIN SOLUTION
    h = shortcut(h) + body(h)
    places = attention.qkv(attention.norm(h)).flatten(2).transpose(1, 2)     # (B, H·W, 3C)
    q, k, v = places.chunk(3, dim=-1)
    mixed = attention_weights(q, k) @ v                                      # (B, H·W, C)
    return h + attention.out(mixed.transpose(1, 2).reshape(h.shape))
    ### END SOLUTION

# %% points=4
check(attending_block)

# %% [markdown]
r"""
The next cell puts *your* block into the network that section 4 trains, in place of its residual block and attention. Same weights, so the two must agree.
"""

# %%
attention_weights, attending_block = yours(attention_weights), yours(attending_block)


class Attending(nn.Module):
    """A residual block and the attention behind it, run by `attending_block`."""

    def __init__(self, block, attention):
        super().__init__()
        self.body, self.shortcut, self.attention = block.body, block.shortcut, attention

    def forward(self, h):
        return attending_block(h, self.body, self.shortcut, self.attention)


def put_in(network):
    """Replace every pair (residual block, attention) of an encoder or decoder."""
    layers = list(network.body)
    for i in reversed(range(1, len(layers))):
        if isinstance(layers[i], Attention):
            layers[i - 1 : i + 1] = [Attending(layers[i - 1], layers[i])]
    network.body = nn.Sequential(*layers)


torch.manual_seed(0)
small = ivqvae.PRESETS["small"] | dict(width=8, decay=0.97)
live = ivqvae.IVQVAE(**small)                          # the network that we will train
with torch.no_grad():
    wanted = live.encoder(test_images[:8])
    put_in(live.encoder)
    put_in(live.decoder)
    got = live.encoder(test_images[:8])
places = sum(isinstance(m, Attending) for m in live.modules())
print(f"replaced at {places} places; same output:", torch.allclose(wanted, got, atol=1e-5))

# %% [markdown]
r"""
Attention costs as the square of the number of places, so the paper has it at one resolution only, 16×16 of its 256; our small model at 8×8. What does the longer-trained encoder look at? One row of its $W$, over the face:
"""

# %%
@torch.no_grad()
def attention_of(x):
    """Weights of the encoder's attention layer for images x: (B, 64, 64), over an 8×8 map."""
    for layer in model.encoder.body:
        if isinstance(layer, Attention):
            return layer.weights(x)[:, 0]
        x = layer(x)


def look(face, row, column):
    w = attention_of(test_images[face : face + 1])[0, 8 * row + column].view(8, 8)
    fig, axes = panels(1, 3, height=2.4, width=7.4)
    pixels = (test_images[face].movedim(0, -1) + 1) / 2
    for ax in axes[0, :2]:
        ax.imshow(pixels)
        ax.set_axis_off()
    axes[0, 0].add_patch(Rectangle((4 * column - 0.5, 4 * row - 0.5), 4, 4, fill=False,
                                   edgecolor="magenta", lw=2))
    axes[0, 0].set_title("the query", fontsize=9)
    brightness = (w / w.max()).repeat_interleave(4, 0).repeat_interleave(4, 1)
    axes[0, 1].imshow(torch.ones(32, 32, 3) * 0.05, alpha=(0.85 * (1 - brightness)).numpy())
    axes[0, 1].set_title("lit: where it looks", fontsize=9)
    title = f"largest {w.max():.2f}, even {1 / 64:.3f}"
    heat(axes[0, 2], w, low=0, colours="magma", title=title)
    return fig

# %% [markdown]
r"""
**Play:** move the query, the square. Does an eye look at the other eye? One face proves nothing, so the cell below averages over two hundred: multiples of an even share, places as (row, column) of the 8×8 map.
"""

# %% tags=["nbval-ignore-output"]
explore(look, look(25, 4, 4), """Left: a face with glasses, and the query, a square on the
        right eye. Middle: the same face, lit where the query looks: background and hair at
        the left edge of the head, across the face. Right: the 8×8 map of its weights, 0.17
        there, 0.05 at the nose and at the eye itself.""",
        face=(0, 99, 25), row=(0, 7, 4), column=(0, 7, 4));

# %% tags=["nbval-ignore-output"]
ahead = (test["glasses"] == 1) & (test["pose"] == 1)     # glasses, and looking straight at us
alike = draw_faces(test.labels[ahead][:200])             # all in the same place, without jitter
rows = 64 * attention_of(alike)                          # times an even share
spots = {"left eye": (4, 3), "right eye": (4, 4), "right brow": (3, 4), "corner": (0, 0)}
heads = "".join(f"{'to ' + name:>14}" for name in spots)
print(f"{'from':<10}{heads}{'largest':>10}  at")
for name, (row, column) in spots.items():
    w = rows[:, 8 * row + column]
    to = [f"{w[:, 8 * r + c].mean():>14.1f}" for r, c in spots.values()]
    top = w.mean(0).argmax().item()
    print(f"{name:<10}" + "".join(to) + f"{w.mean(0).max():>10.1f}  {divmod(top, 8)}")

# %% [markdown]
r"""
The place above the right eye, where that side of the glasses is, looks at the *left* eye 28 times as hard as if it looked everywhere alike: nearly half of what it takes comes from across the nose. The right eye divides its attention between the left eye, itself and the edge of the picture, and even the corner of the background asks the left eye (left and right are the picture's). So one side of the glasses does look at the other, as we had hoped; but the left eye looks at the brows and not back. Attention looks at what training found useful, on paths no person would have drawn.
"""

# %% [markdown]
r"""
## 3. Other errors

*60 minutes.*

### L1 instead of L2

Squared error draws the mean of what is left open (chapter 2). The paper measures the **absolute** error, $\lVert \hat x - x \rVert_1$ (Eq. 11). Per pixel, the derivative of $\sum_i p_i |x_i - g|$ counts how much probability lies above and below $g$, so it is zero at the **median**: a value that occurs.

### Exercise 4.4 · `best_guess_l1` · ★★ · 8 minutes

For each pixel, the weighted median: sort the images' values; add up the probabilities in that order; take the first value at which the sum reaches one half (exactly one half is enough).

<details><summary>Hint</summary>

`sort(dim=0)` gives two things: the sorted values, and for each of them the number of the image it came from, in the same shape. Every pixel has its own order, so every pixel has its own row of probabilities.

<details><summary>More</summary>

An index of the images' shape picks from the probabilities: `probabilities[order]`. `cumsum` adds up along an axis; `argmax` of integers finds the first largest; `gather` picks one value a pixel.

</details>
</details>
"""

# %%
def best_guess_l1(images, probabilities):
    """Per pixel, the value with the least expected absolute error.

    Shapes: (N, C, H, W), (N,) -> (C, H, W).
    """
    ### BEGIN SOLUTION
    values, order = images.sort(dim=0)
    reached = probabilities[order].cumsum(0) >= 0.5
    return values.gather(0, reached.int().argmax(0, keepdim=True))[0]
    ### END SOLUTION

# %% points=3
check(best_guess_l1)

# %%
versions = [labels_of(smile="smile", glasses="no"),
            labels_of(smile="smile", glasses="yes"),
            labels_of(smile="frown", glasses="no")]
three = draw_faces(torch.cat(versions))
mean, median = three.mean(0), three.median(0).values
show(image_grid(torch.stack([*three, mean, median]), columns=5, width=6.5,
                titles=["1/3", "1/3", "1/3", "mean (L2)", "median (L1)"]),
     """Three equally likely versions of a face: smiling, smiling with glasses, frowning. Their
     mean has ghostly glasses and half a smile; their median smiles, without glasses, and is
     sharp.""")

# %% [markdown]
r"""
The median takes a vote in every pixel. It is sharp, but a minority is simply outvoted: glasses that a third of the faces wear are gone. And L1 still counts pixels.

### Perceptual loss

Here is a face changed in two ways, with exactly the same squared error: it got glasses, or a faint checkerboard. (The last column is the distance that this section explains.)
"""

# %%
pair = draw_faces(torch.cat([labels_of(glasses=g, smile="smile") for g in ("no", "yes")]))
face, glasses = 0.85 * pair[:1], 0.85 * pair[1:]
board = ((torch.arange(32)[:, None] + torch.arange(32)[None]) % 2 * 2 - 1).float()
checkered = face + F.mse_loss(glasses, face).sqrt() * board
toy = ToyPerceptual()
for name, x in (("glasses", glasses), ("checkered", checkered)):
    print(f"{name:<10} squared error {F.mse_loss(x, face):.4f}"
          f"   absolute error {F.l1_loss(x, face):.3f}"
          f"   perceptual distance {toy(x, face).item():.3f}")
show(image_grid(torch.cat([face, glasses, checkered]), columns=3, width=4.5,
                titles=["original", "glasses", "checkered"]),
     "A smiling face; the same with glasses; the same under a faint checkerboard.")
assert toy(glasses, face) > 2 * toy(checkered, face)

# %% [markdown]
r"""
To squared error the two are the same, to absolute error the checkerboard is far worse. To the third column, as to a viewer, glasses are a change and the checkerboard is little: it compares not pixels but the **features** of a network that has learned to see. LPIPS (Zhang et al. 2018) takes several of its layers, scales the features of each place to length 1, and adds up the squared differences:

$$L_P(x, y) = \sum_{\text{layers}} \operatorname{mean}_{\text{places}} \sum_{c} w_c \left(\hat f_c(x) - \hat f_c(y)\right)^2 .$$

### Exercise 4.5 · `feature_distance` · ★★ · 8 minutes

One layer of it, with all weights $w_c = 1$: scale each place's features to length 1, take the squared difference, sum over the channels, average over the places.

<details><summary>Hint</summary>

`F.normalize(f, dim=1)` scales along the channels, and leaves a place alone whose features are all 0, as they can be behind a ReLU. The result has one number per image.

</details>
"""

# %%
def feature_distance(f, g):
    """Shapes: two feature maps (B, C, H, W) -> (B,)."""
    ### BEGIN SOLUTION
    return (F.normalize(f, dim=1) - F.normalize(g, dim=1)).square().sum(1).mean((1, 2))
    ### END SOLUTION

# %% points=2
check(feature_distance)

# %% [markdown]
r"""
The paper's LPIPS looks through VGG, trained on the photographs of ImageNet; `minigen.perceptual.LPIPS` is that, from the `lpips` package. VGG's weights are half a gigabyte, fetched at their first use (or one sentence says why not; random weights never stand in), and the wrong eyes for 32×32 cartoons anyway. So at small scale we use the same formula on the layers of the ToyFaces classifier, and do not call it LPIPS.
"""

# %% tags=["nbval-ignore-output"]
if scale == "full":
    try:
        photographs = LPIPS()
        x, y = torch.rand(2, 1, 3, 64, 64) * 2 - 1
        print("LPIPS of two random images:", photographs(x, y).item())
    except DataError as e:
        print(e)
else:
    print("At small scale LPIPS is not loaded; "
          "at full scale this cell loads it, or says what it lacks.")

# %% [markdown]
r"""
### Break it: the perceptual loss alone

Why keep L1 in the sum? Leave it out, in the smallest experiment there is: no autoencoder, only four pictures, which start as noise and whose *pixels* go down the gradient of their distance to four faces.

*Before you run it:* the distance goes to almost nothing. What do the pictures look like?
"""

# %% tags=["nbval-ignore-output"]
def painted(with_l1, steps=150):
    """Pixels that start as noise and minimise the perceptual distance, with L1 or without."""
    random = torch.Generator().manual_seed(0)
    x = (0.3 * torch.randn(4, 3, 32, 32, generator=random)).requires_grad_()
    optimiser = torch.optim.Adam([x], lr=0.03)
    for _ in range(steps):
        loss = toy(x, test_images[:4]).sum()
        if with_l1:
            loss = loss + (x - test_images[:4]).abs().mean((1, 2, 3)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return x.detach().clamp(-1, 1)


alone, both_losses = painted(False), painted(True)
for name, x in (("perceptual alone", alone), ("with L1", both_losses)):
    distance, l1 = toy(x, test_images[:4]).mean(), (x - test_images[:4]).abs().mean()
    print(f"{name:<17} perceptual distance {distance:.3f}, L1 error {l1:.3f}")
show(image_grid(torch.cat([test_images[:4], alone, both_losses]), columns=4, width=5.5,
                row_titles=["wanted", "alone", "with L1"]),
     """Four faces; the pictures made by the perceptual loss alone: every feature in place, but
     the colours garish and the background full of coloured stripes and dots; and those made
     with L1 as well, hardly to be told from the faces.""")

# %% [markdown]
r"""
<details><summary>Answer</summary>

The distance is 0.01, as small as that of the reconstructions at the top of this chapter, and the pictures are plainly wrong: **what the network does not look at costs nothing**. Ours reads nine attributes, and none depends on a checkerboard or on how saturated a colour is. A network trained on a million photographs has fewer such blind spots; L1 has none, and that is why it stays.

</details>
"""

# %% [markdown]
r"""
### A discriminator that judges patches

The third addition is chapter 1's: a discriminator (the **judge**, for short), trained to tell reconstructions from real images, whose verdict the decoder learns to please (Eqs. 13 and 14; Eq. 14 as printed has lost the hinge's max and is unbounded below, see chapter 1). It should judge texture, so it gives not one logit but a map of them, each for one **patch** (Isola et al. 2017). The paper does not describe its own. VQGAN's, from which its other parts come, looks at patches of 70×70 pixels; the small one below at 34×34, more than our whole face, a compromise of the small scale.
"""

# %%
def describe(judge, side):
    size_of, logits = f"{side}×{side}:", judge(torch.zeros(1, 3, side, side))
    parameters = sum(p.numel() for p in judge.parameters())
    print(f"at {size_of:<8} logits {tuple(logits.shape)}  parameters {parameters}")


describe(ivqvae.PatchDiscriminator(width=64, layers=3), 256)
describe(ivqvae.PatchDiscriminator(width=32, layers=2), 32)

# %% [markdown]
r"""
Put together, Eq. 15:

$$L = L_{rec} + L_P + \lambda_d\, L_G + \lambda_{vq}\, L_{vq}, \qquad \lambda_d + \lambda_{vq} = 1 .$$

The paper names no values. It starts the discriminator after 250,000 steps: before, the decoder draws blobs, and the verdict "blob" says nothing about texture.

### Exercise 4.6 · `total_loss` · ★★ · 5 minutes

Eq. 15 with its late start: before step `start`, $L_G$ does not count. The rest does.

<details><summary>Hint</summary>

`lambda_vq = 1 - lambda_d`, always, also before the start. If `step < start`, leave the adversarial term out. (Multiplying it by 0 is not enough: 0 times NaN is NaN.) It is a loss to train with: no `.item()`, and nothing added to what came in.

</details>
"""

# %%
def total_loss(l1, perceptual, adversarial, vq, lambda_d, step, start):
    """L1 + L_P + lambda_d L_G + (1 - lambda_d) L_vq, with L_G from step `start` on.

    Numbers or scalars -> the same.
    """
    ### BEGIN SOLUTION
    total = l1 + perceptual + (1 - lambda_d) * vq
    if step >= start:
        total = total + lambda_d * adversarial
    return total
    ### END SOLUTION

# %% points=2
check(total_loss)

# %% [markdown]
r"""
How strong should it be? A fixed $\lambda_d$ has to be found by trying. VQGAN (Eq. 7) weighs anew at every step, so that both losses pull equally hard at the decoder's last layer:

$$\lambda = \frac{\lVert \nabla_w L_{rec} \rVert}{\lVert \nabla_w L_G \rVert + 10^{-4}}, \qquad \lVert \cdot \rVert \text{ the length of all of } w\text{'s gradient as one vector.}$$

Then $\lambda_d \lambda L_G$ takes the place of $\lambda_d L_G$, and $\lambda_d$ says how hard the judge pulls *compared with the reconstruction*. Both rules occur below:

| trained | weight of $L_G$ | $\lambda_d$ |
|---|---|---|
| the model loaded above, Tables 1 and 7, chapter 8 | $\lambda_d$, fixed, as in the paper | 0.05 |
| yours, in section 4 | $\lambda_d \lambda$, VQGAN's balance | 0.1 |
| the judged one of the three short trainings there | $\lambda_d \lambda$ | 0.5 |

### Exercise 4.7 · `balance` · ★★ · 8 minutes

Compute this $\lambda$ from the two losses and `weight`, the weights of the decoder's last layer. It is a number to multiply with, not something to train; limit it to $10^4$.

<details><summary>Hint</summary>

`torch.autograd.grad(loss, weight)` returns a tuple with the gradient, and leaves `weight.grad` alone, unlike `backward`. It throws the graph away, unless you ask it to keep it; and the training step will need it.

<details><summary>More</summary>

`retain_graph=True` keeps it. A length is `.norm()`. What is left of the graph in the result is cut off by `.detach()`.

</details>
</details>
"""

# %%
def balance(reconstruction, adversarial, weight):
    """||d reconstruction / d weight|| / (||d adversarial / d weight|| + 1e-4), at most 1e4.

    A scalar, without a graph.
    """
    ### BEGIN SOLUTION
    a = torch.autograd.grad(reconstruction, weight, retain_graph=True)[0].norm()
    b = torch.autograd.grad(adversarial, weight, retain_graph=True)[0].norm()
    return (a / (b + 1e-4)).clamp(max=1e4).detach()
    ### END SOLUTION

# %% points=3
check(balance)

# %% [markdown]
r"""
### Exercise 4.8 · `both_steps` · ★★★ · 20 minutes

One step of the whole training (the paper's Algorithm 1, with VQGAN's balance). First the **autoencoder**:

1. `x_hat, quantized = model(x)`; the losses are L1 (a mean), `distance(x_hat, x).mean()`, and `quantized.loss`.
2. From step `start` on the judge counts: $L_G$ is minus the mean of its logits for `x_hat`, and `balance` of (L1 + perceptual) and $L_G$ weighs it. Before `start` nobody asks the judge.
3. `total_loss` puts them together (it is given the product, balance times $L_G$; you return $L_G$ itself); the first optimiser steps.

Then, from `start` on, the **judge**: chapter 1's hinge loss between its logits for `x` and for the *same* `x_hat`, through which no gradient may go back; the second optimiser steps.

<details><summary>Hint</summary>

The autoencoder's `backward` runs through the judge and leaves gradients in it that are none of the judge's business. When must they be cleared?

<details><summary>More</summary>

`gan.discriminator_loss(real_logits, fake_logits, "hinge")` is the loss, `x_hat.detach()` what the judge sees. Before `start` give `total_loss` any number as adversarial loss: it leaves it out.

</details>
</details>
"""

# %%
def both_steps(model, judge, optimisers, x, distance, weight, lambda_d, step, start):
    """Train the autoencoder on x, then, from step `start` on, the judge.

    optimisers: the autoencoder's and the judge's. weight: of the decoder's last layer.
    Returns three numbers: L1, L_G and the judge's loss; the last two are 0 before `start`.
    """
    ### BEGIN SOLUTION
    x_hat, quantized = model(x)
    l1, perceptual = (x_hat - x).abs().mean(), distance(x_hat, x).mean()
    g = pull = d_loss = torch.zeros(())
    if step >= start:
        g = -judge(x_hat).mean()
        pull = balance(l1 + perceptual, g, weight) * g
    loss = total_loss(l1, perceptual, pull, quantized.loss, lambda_d, step, start)
    optimisers[0].zero_grad()
    loss.backward()
    optimisers[0].step()
    if step >= start:
        d_loss = gan.discriminator_loss(judge(x), judge(x_hat.detach()), "hinge")
        optimisers[1].zero_grad()
        d_loss.backward()
        optimisers[1].step()
    return l1.item(), g.item(), d_loss.item()
    ### END SOLUTION

# %% points=4
check(both_steps)

# %% [markdown]
r"""
Around it stands the loop, and this is all of it. As in chapter 3 the quantizer is left out for the first quarter, and then begins with the k-means centres of a few batches; the rate rises and falls once.
"""

# %% tags=["nbval-ignore-output"]
total_loss, balance, both_steps = yours(total_loss), yours(balance), yours(both_steps)


class LetThrough(nn.Module):
    """Stands in for the quantizer: z as it is, at no cost."""

    def forward(self, z):
        return SimpleNamespace(z_q=z, loss=z.new_zeros(()))


def train(model, images, distance, steps, start, lambda_d=0.1, batch_size=8, seed=0):
    """Train an autoencoder and its judge by `both_steps`; what it returned, a row a step."""
    torch.manual_seed(seed)
    judge = ivqvae.PatchDiscriminator(width=32, layers=2).to(images.device)
    optimiser = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99), fused=True)  # one pass
    optimisers = optimiser, torch.optim.Adam(judge.parameters(), lr=1e-3, betas=(0.5, 0.9))
    rate, data = one_cycle(optimiser, 4e-3, steps), batches(images, batch_size=batch_size)
    weight, history = model.decoder.body[-2].weight, []
    quantizer, model.quantizer = model.quantizer, LetThrough()
    for step in tqdm(range(1, steps + 1), desc="both"):
        if step == steps // 4:
            model.quantizer = quantizer
            start_codebook(model, data, 512 // batch_size)
        (x,) = next(data)
        history.append(both_steps(model, judge, optimisers, x, distance, weight, lambda_d,
                                  step, start))
        rate.step()
    return torch.tensor(history)

# %% [markdown]
r"""
## 4. The whole

*30 minutes.*

The tested module is `minigen.ivqvae`; its `train_ivqvae` is your loop with fixed weights and more checks. The compression $f$, the image's side over the map's, follows from the number of stages: each but the last halves the map. The paper gives $f = 64$, 16,384 codes and four channels; the widths are our choice, after VQGAN, in two **presets**, sizes under a name:
"""

# %%
def millions(net):
    return sum(p.numel() for p in net.parameters()) / 1e6


for name, options in ivqvae.PRESETS.items():
    with torch.device("meta"):                             # shapes and counts without memory
        m = ivqvae.IVQVAE(**options)
    side, num_codes = options["size"], options["num_codes"]
    print(f"{name:<6} {side}×{side} → {m.grid}×{m.grid}×4, f = {m.f}, {num_codes} codes:"
          f" encoder {millions(m.encoder):.1f} M,"
          f" decoder {millions(m.decoder):.1f} M parameters")

# %% [markdown]
r"""
Now train: the network with your block in it (half as wide as the preset, to be quick), by your step; the judge is there for the last tenth.
"""

# %% tags=["nbval-ignore-output"]
live, steps, began = live.to(device), size["steps"], time.process_time()
start = steps * 9 // 10
history = train(live, images.to(device), toy.to(device), steps, start)
seconds = time.process_time() - began
live, toy = live.cpu().eval(), toy.cpu()
by_live = live.decode_indices(live.encode_indices(test_images))

fig, axes = panels(1, 2, height=2.5)
left, right = axes[0]
curves({"L1": history[:, 0]}, logy=True, smooth=5, ax=left)
curves({"L_G": history[:, 1], "the judge's loss": history[:, 2]}, smooth=5, ax=right)
right.axvline(start, color="grey", lw=0.8)
show(fig, """Left: L1 falls on a log scale to about a fifth of where it began, with a bump after
     a quarter of the steps, where the codebook comes in. Right: L_G and the judge's loss, zero
     up to the grey line where the judge starts; then the judge's loss falls from 1 towards 0
     within fifty steps or so, and L_G climbs to nearly 4.""")
assert history[-20:, 0].mean() < 0.6 * history[:5, 0].mean()

# %% [markdown]
r"""
The judge wins soon: its hinge loss goes to 0 (nearly all real faces score above 1, nearly all reconstructions below −1), and $L_G$, minus the mean score of the reconstructions, rises. No fault of your code: telling these pictures from real ones is far easier than making sharp ones. The balance keeps it harmless: however sure the judge is, at the last layer it pulls a tenth as hard as the reconstruction.

### What a minute gives, and what an hour gives
"""

# %% tags=["nbval-ignore-output"]
@torch.no_grad()
def measured(x_hat):
    """L1, perceptual and toy Fréchet distance to the test faces, eyes and smiles read right."""
    pairs = zip(x_hat.split(500), test_images.split(500), strict=True)
    perceptual = torch.cat([toy(a, b) for a, b in pairs]).mean()
    read = predict_attributes(x_hat)
    right = [float((read[a] == test[a]).float().mean()) for a in ("eyes", "smile")]
    l1 = (x_hat - test_images).abs().mean()
    return float(l1), float(perceptual), toy_frechet(x_hat), *right


def row(name, l1, perceptual, frechet, eyes, smile):
    print(f"{name:<26}{l1:>7.4f}{perceptual:>12.4f}{frechet:>13.1f}{eyes:>6.0%}{smile:>7.0%}")


print(f"{'':<26}{'L1':>7}{'perceptual':>12}{'toy Fréchet':>13}{'eyes':>6}{'smile':>7}")
mine, long = measured(by_live), measured(by_new)
row(f"yours, {seconds:.0f} seconds", *mine)
row(f"an hour's, {model.card['minutes']} minutes", *long)
print("Samples of chapter 0's Gaussian, for comparison: toy Fréchet 228; fresh real faces: 14.")
used = model.encode_indices(test_images)
print(f"The hour: {model.card['steps']} steps of {model.card['batch_size']}; "
      f"{len(used.unique())} of 512 codes in use, "
      f"perplexity {vqvae.perplexity(used, 512):.0f}.")

# %% tags=["nbval-ignore-output"]
show(image_grid(torch.cat([test_images[:8], by_live[:8], by_new[:8]]), columns=8,
                row_titles=["real", "yours", "an hour"]),
     """Eight real faces; their reconstructions by the network just trained, soft: hair, skin,
     shirts, backgrounds and mouths, but the eyes one bluish or greenish bar; and by the
     longer-trained one, sharp and right.""")

# %% [markdown]
r"""
A little more than a minute gives hair, skin, shirts and mouths, and one bar for the eyes; by the yardstick, reconstructions as far from real faces as the samples of chapter 0's Gaussian (232; with two other seeds 246 and 214). An hour, with as many tokens, brings back the eyes and their colour. (Its distance is even below that of fresh real faces. Do not be impressed: it was trained to please layers of the very classifier that measures it. The L1 error and your eyes are the safer witnesses.)

### What each loss buys

Three trainings of the same network: 1,600 steps of 16 images, the same images in the same order. One has L1 alone; one the perceptual loss as well; and the third, which *is* the second up to step 960, has the judge from there on, weighed by the balance. All three with three seeds each. (`python -m minigen reproduce losses` trains them; the pictures are those of seed 0.)

*Before you run it:* which of the three has the lowest L1 error? Which the lowest perceptual distance? And whose pictures are the sharpest?
"""

# %%
print(reproduce.as_text("losses"))

# %% tags=["nbval-ignore-output"]
names = {"L1": "ivqvae_l1", "+ perceptual": "ivqvae_features", "+ judge": "ivqvae_judged"}
parts = {name: load_weights(ivqvae.IVQVAE, file) for name, file in names.items()}
few = test_images[:6]
by_part = {name: m.decode_indices(m.encode_indices(few)) for name, m in parts.items()}
minutes = ", ".join(f"{name} {m.card['cpu_minutes']}" for name, m in parts.items())
print("minutes of a processor:", minutes)
rows = torch.cat([few, *by_part.values()])
show(image_grid(rows, columns=6, row_titles=["real", *parts]), """Six real faces and three
     reconstructions of each. L1: blurred, with no eyes and hardly a mouth. With the perceptual
     loss: eyes as one bluish bar, mouths, the right shirts. With the judge: crisp eyes and
     strands of hair, but often three eyes, and coloured specks.""")

# %% [markdown]
r"""
<details><summary>Answer</summary>

The lowest perceptual distance has, for every seed, the model that was trained on it undisturbed, about half of what L1 alone has or less. The sharpest is each time the judged one: neighbouring pixels differ by 1.1 to 1.2 times as much as in real faces, against less than 0.9 for the other two. And it pays for that each time, with 0.010 to 0.014 in L1 error and 0.015 to 0.019 in perceptual distance.

The lowest L1 error? L1 alone, which was asked for nothing else, has it for two seeds, by 0.003 and 0.006; for the third it fell behind by 0.017. From one seed we would have concluded that it wins at its own game; three do not say so.

Now look. L1 leaves out what is small: eyes. The perceptual loss knows that eyes matter, but where the decoder is not sure of their place it draws a bluish bar, for brown eyes too: a blur is the safest answer to *any* distance. The judge has seen real faces, and none has a bar; so the decoder must commit itself, and where it does not know, it commits itself to something: three eyes, of which one may be in the right place. **That is what a discriminator buys, and what it costs**: detail, true or not. The toy Fréchet distance, which compares sets of pictures, likes it for every seed; L1 and the perceptual distance, which compare each picture with its original, do not. With an hour of training the decoder does know.

</details>

### Against chapter 3, minute for minute

Everything so far compared steps. But a step of the IVQ-VAE costs more than one of chapter 3's VQ-VAE: more layers, the perceptual network, the judge. Here is the old one, trained by its own recipe for as many *minutes* as the judged one above. (And, on unequal terms, the two longest. Minutes and steps are those of the files' **cards**, what a file of weights says of itself.)

*Before you run it:* who is ahead after two minutes, in L1, and in features?
"""

# %% tags=["nbval-ignore-output"]
brief = load_weights(vqvae.VQVAE, "vqvae_brief")
judged = parts["+ judge"]
print(f"{'':<22}{'minutes':>9}{'steps':>8}{'L1':>9}{'perceptual':>12}{'toy Fréchet':>13}")
for name, m in (("VQ-VAE", brief), ("IVQ-VAE, half width", judged)):
    c = m.card
    print(f"{name:<22}{c['cpu_minutes']:>9}{c['steps']:>8}{c['test_l1']:>9.4f}"
          f"{c['test_perceptual']:>12.4f}{c['toy_frechet_of_reconstructions']:>13.1f}")
for name, m, (l1, perceptual, frechet, *_) in (
        ("VQ-VAE, longer", old, measured(by_old)), ("IVQ-VAE, an hour", model, long)):
    c = m.card
    print(f"{name:<22}{c['minutes']:>9}{c['steps']:>8}{l1:>9.4f}"
          f"{perceptual:>12.4f}{frechet:>13.1f}")

# %% tags=["nbval-ignore-output"]
few = test_images[40:46]
rows = [m.decode_indices(m.encode_indices(few)) for m in (brief, judged, old, model)]
show(image_grid(torch.cat([few, *rows]), columns=6,
                row_titles=["real", "VQ", "IVQ", "VQ, longer", "IVQ, an hour"]),
     """Six real faces; through the VQ-VAE of two minutes, grainy, eyes and glasses in place,
     mouths vague; through the judged IVQ-VAE of two minutes, soft, with too many eyes; through
     the VQ-VAE of 16 minutes, grainy, most features right; through the IVQ-VAE of an hour,
     right and nearly clean.""")

# %% [markdown]
r"""
<details><summary>Answer</summary>

The old one, in everything: L1 0.059 against 0.103, and even the perceptual distance, which it never trained on, 0.052 against 0.111.

</details>

**At equal minutes, and with two of them, the improved autoencoder is the worse one.** The plain network sees 2,700 batches of 64 where the other sees 1,600 of 16; and the judge costs before it pays. With an hour the IVQ-VAE is better than the VQ-VAE with a quarter of one in every column; but we have not given the old one an hour, so those rows prove nothing about the design. What would? Both, at equal minutes, at several lengths, with several seeds; a paper that calls one network better owes its reader that, and few pay. (Table 7 below has equal *steps*.)

### For stage 2

The diffusion model of chapter 7 will live among the latents $z_q$ and wants numbers of about size 1, so the model keeps the mean and deviation of each channel, measured on the training faces.
"""

# %% tags=["nbval-ignore-output"]
print("mean     ", [round(v, 2) for v in model.latent_mean.tolist()])
print("deviation", [round(v, 2) for v in model.latent_std.tolist()])
z = model.normalise(model.quantizer.embed(used))
assert (z.std((0, 2, 3)) - 1).abs().max() < 0.1

heights = {}
for channel in range(4):
    values = z[:, channel].flatten()
    heights[f"channel {channel + 1}"], edges = values.histogram(32, range=(-4, 4), density=True)
middles = (edges[:-1] + edges[1:]) / 2
show(curves(heights, x=middles, xlabel="normalised latent value", height=2.1),
     """Histograms of the four channels of the normalised latents: all centred at 0 with a
     spread of about 1, none of them quite a bell.""")

# %% [markdown]
r"""
## 5. Two tables of the paper

*15 minutes.*

### Table 1: does more compression reconstruct better?

The paper says so: as $f$ grows from 8 to 64, L1, LPIPS and the FID of reconstructions (rFID) all *fall*. That is surprising: a map of 32×32 tokens holds 64 times as many bits as one of 4×4, and need not do worse. At small scale, with equal training for all,

```
python -m minigen reproduce table1
```

trains one model for each row and three seeds, and can be stopped and go on. What it found comes with the course (`data/reproduce/`), so today it only prints it; `--seeds 3` measures another seed.
"""

# %%
print(reproduce.as_text("table1"))
by_seed = {}
for c in reproduce.read("table1"):
    by_seed.setdefault(c["seed"], {})[c["row"]] = c
for k in ("l1", "perceptual", "frechet"):
    for cells in by_seed.values():
        values = [cells[row][k] for row in reproduce.TABLES["table1"].rows]
        assert values == sorted(values), f"{k} should rise with the compression for every seed"

# %% [markdown]
r"""
The opposite: **more tokens reconstruct better**, in every measure and for every seed. So say rate and distortion of the *best* code; not of what a given training finds, so the paper's table is not impossible.

How it came about we can only guess. Its rows differ in more than the bits: at small $f$ there are fewer stages and so fewer layers, and at $f = 8$ no stage has the resolution 16×16, so no attention. (In ours the row of least compression has the fewest layers too, and is the best.) A table that varies depth, attention and bits at once cannot say which of them it measures.

### Table 7: what is each part worth?
"""

# %%
print(reproduce.as_text("table7"))

# %%
cells = {row: [c for c in reproduce.read("table7") if c["row"] == row]
         for row in reproduce.TABLES["table7"].rows}


def average(k):
    return [sum(c[k] for c in group) / len(group) for group in cells.values()]


fig, axes = panels(1, 2, height=2.6, sharey=True)
left, right = axes[0]
left.barh(list(cells), average("l1"), color=COLOURS[0])
left.set_xlabel("L1 error", fontsize=9)
left.tick_params(axis="y", labelsize=7)
left.invert_yaxis()
right.barh(list(cells), average("perceptual"), color=COLOURS[1])
right.set_xlabel("perceptual distance", fontsize=9)
show(fig, """Bars of L1 error and perceptual distance for the six variants: 'all' has by far the
     lowest perceptual distance; the two with residual sums and without the mixed loss have the
     lowest L1 error; 'none' and 'attention only' are the worst in features.""")

# %%
def seeds_below(a, b, k):
    """In how many seeds row a has a lower k than row b."""
    return sum(x[k] < y[k] for x, y in zip(cells[a], cells[b], strict=True))


for a, b in (("all", "all but mixed loss"), ("mixed loss only", "none"),
             ("residual only", "none"), ("attention only", "none")):
    perceptual, l1 = seeds_below(a, b, "perceptual"), seeds_below(a, b, "l1")
    print(f"{a!r} below {b!r}: "
          f"perceptual distance in {perceptual} of {len(cells[a])} seeds, L1 in {l1}")
assert seeds_below("all", "all but mixed loss", "perceptual") == len(cells["all"])

# %% [markdown]
r"""
After this short training,

- the **mixed loss** (perceptual and judge) on top of the rest lowers the feature distance for every seed, and does *not* lower the L1 error: it trades pixels for features. (In part by construction: it trains on that distance, and the toy Fréchet distance reads a later layer of the same classifier.)
- the **residual sums** are the largest single gain in L1. **Attention** alone makes no difference that three seeds could show.
- the paper's "none" gives *no valid samples*, ours only worse reconstructions. But the paper's column is the FID of *generated* images, which also pass through stage 2.

## 6. What it cannot do

*10 minutes.*

The paper shows failures of its own (Fig. 8): torn backgrounds. Sixteen tokens of 9 bits are 144 bits for everything. What is common, large or costly in the loss gets them; the rest is dropped, or something likelier is invented. How often? Where the classifier reads another attribute off the reconstruction than was drawn, something was lost.
"""

# %% tags=["nbval-ignore-output"]
read = predict_attributes(by_new)
wrong = {name: (read[name] != test[name]).nonzero().flatten() for name in ATTRIBUTES}
counts = [f"{name} {len(which)}" for name, which in wrong.items() if len(which)]
print("read otherwise, of 2000:", ", ".join(counts))
chosen = torch.cat([wrong["smile"][:5], wrong["eyes"][:3]])
show(image_grid(torch.cat([test_images[chosen], by_new[chosen]]), columns=len(chosen),
                row_titles=["real", "16 tokens"]), """Eight test faces, and below
     them reconstructions in which the classifier reads something else: in the first five a
     straight mouth, for four frowns and a smile; in the last three green eyes, for brown or
     blue ones. To our eyes the frowns have half faded, and the irises turned greenish. All
     wear glasses.""")

# %% [markdown]
r"""
Those are rare, and faces of the kind it was trained on. Now five that no training set had, beside the plain one: a monocle, a mole on the cheek, one eye closed, a white headband, a face on its head.
"""

# %% tags=["nbval-ignore-output"]
usual = dict(skin="peach", hair="chestnut", background="sky", eyes="blue", smile="smile")
labels = torch.cat([labels_of(glasses=g, **usual) for g in ("no", "yes")])
plain, spectacles = draw_faces(labels)
monocle, mole, wink, headband = (plain.clone() for _ in range(4))
monocle[:, :, 16:] = spectacles[:, :, 16:]
mole[:, 19:21, 11:13] = -0.8
wink[:, 14:18, 10:15] = plain[:, 19:20, 11:12]
headband[:, 6:8, 8:24] = 0.95
odd = {"plain": plain, "monocle": monocle, "mole": mole, "wink": wink, "headband": headband,
       "upside down": plain.flip(1)}
x = torch.stack(list(odd.values()))
tokens = model.encode_indices(x)
x_hat = model.decode_indices(tokens)
for name, a, b, t in zip(odd, x, x_hat, tokens, strict=True):
    other = int((t != tokens[0]).sum())
    print(f"{name:<12} L1 {(a - b).abs().mean():.3f}, {other:>2} of 16 tokens differ from the "
          "plain face's")
show(image_grid(torch.cat([x, x_hat]), columns=6, titles=list(odd),
                row_titles=["asked", "given"]),
     """Asked: a smiling face, and the same with a monocle, a mole, one eye closed, a white
     headband, and on its head. Given: the plain face; no monocle; no mole; two open eyes, now
     green; grey hair instead of the headband; and someone else, the right way up.""")
assert predict_attributes(x_hat)["glasses"][1] == 0

# %% [markdown]
r"""
Only the last comes back torn. They come back as *other faces*, though the encoder did see something: in every case its tokens differ from the plain face's, eight of them for the monocle. It has no tokens for a monocle, so it sends the nearest ones it has, and the decoder draws what those mean.

A VAE that is unsure draws the mean, and one sees it (chapter 2). A decoder trained with the last two losses must *decide*; where it errs the result looks real and is wrong. For generating that is what we want; in a medical scan it would be dangerous: the mole is gone, and nothing hints at it.

The tokens are good now. To draw new ones the paper uses diffusion: chapters 5 and 6.

## Summary

- Residual sums and normalisation together keep the size and the meaning of a gradient; nearest-neighbour upsampling has no checkerboard.
- Attention lets every place look at every other, at quadratic cost, so it stands at one resolution.
- L2 draws the mean, L1 the median; a perceptual loss compares features; a patch discriminator judges texture, and starts late.
- Two networks, two optimisers, one step: the decoder's loss goes through the judge, the judge's not back into the decoder, and each clears its own gradients.
- Each loss has its own effect, and no single number shows them all.
- Equal steps are not equal minutes: with two of them the plain VQ-VAE is ahead, with an hour the IVQ-VAE is good.
- At small scale more compression reconstructs worse, not better; on top of the rest, the mixed loss wins in features, not in pixels.
- Sixteen tokens can only say what training faces had; what else there is gets dropped or replaced, and looks real.
"""

# %% tags=["nbval-ignore-output"]
minigen.progress()

# %% [markdown]
r"""
### Words

| English | 中文 | meaning here |
|---|---|---|
| residual block | 残差块 | h + f(h) |
| group normalisation | 组归一化 | groups of channels of one image to mean 0, deviation 1 |
| attention, query, key, value | 注意力, 查询, 键, 值 | every place takes from every other, weighted by query · key |
| upsampling, downsampling | 上采样, 下采样 | doubling and halving the map |
| perceptual loss | 感知损失 | distance in the features of a network |
| patch discriminator | 块判别器 | one logit for every patch |
| compression factor f | 压缩倍率 | side of the image over side of the map |
| ablation | 消融实验 | leave a part out and measure |

### References

- Liu, Chen, Gao 2026, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): §3.1, Eqs. 1 to 15, Algorithm 1, Tables 1 and 7, Fig. 8.
- Esser, Rombach, Ommer 2021, *Taming Transformers for High-Resolution Image Synthesis* (VQGAN), [arXiv:2012.09841](https://arxiv.org/abs/2012.09841): Eq. 7, the adaptive weight.
- He, Zhang, Ren, Sun 2015, *Delving Deep into Rectifiers*, [arXiv:1502.01852](https://arxiv.org/abs/1502.01852): weights that keep the size.
- He, Zhang, Ren, Sun 2016, *Deep Residual Learning*, [arXiv:1512.03385](https://arxiv.org/abs/1512.03385).
- Wu, He 2018, *Group Normalization*, [arXiv:1803.08494](https://arxiv.org/abs/1803.08494).
- Balduzzi et al. 2017, *The Shattered Gradients Problem*, [arXiv:1702.08591](https://arxiv.org/abs/1702.08591).
- Zhang, Isola, Efros, Shechtman, Wang 2018, *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric*, [arXiv:1801.03924](https://arxiv.org/abs/1801.03924): Eq. 1.
- Isola, Zhu, Zhou, Efros 2017, *Image-to-Image Translation with Conditional Adversarial Networks*, [arXiv:1611.07004](https://arxiv.org/abs/1611.07004): §3.2.2, patches.
- Odena, Dumoulin, Olah 2016, *Deconvolution and Checkerboard Artifacts*, [doi:10.23915/distill.00003](https://doi.org/10.23915/distill.00003).
"""
