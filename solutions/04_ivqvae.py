# %% [markdown]
r"""
# Chapter 4 · IVQ-VAE, the improved autoencoder

A prior can draw no better than the decoder it draws for. Chapter 3's VQ-VAE is soft: its decoder was asked for the least squared error, and got it. The paper of this course begins here, with an **improved** VQ-VAE (its first stage). It changes the
network in two places and the loss in three, and we will look at each change by itself before we put them together.

In this chapter you will

1. see what normalisation and a skip connection do to a gradient, and what an attention layer looks at;
2. find out which error draws the mean, which the median, and which looks at features;
3. let a discriminator judge patches, and see why it should come late;
4. train the whole, with every loss by its name;
5. repeat two of the paper's tables at small scale, and compare verdicts.
"""

# %%
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from torch import nn
from tqdm.auto import tqdm

import minigen
from minigen import DataError, check, ivqvae, vqvae
from minigen.data import ToyFaces, batches, draw_faces, labels_of
from minigen.files import load_weights
from minigen.metrics import predict_attributes, toy_frechet
from minigen.paper import reproduce
from minigen.perceptual import LPIPS, ToyPerceptual
from minigen.plots import COLOURS, curves, heat, image_grid, panels, show
from minigen.widgets import explore

scale, device = minigen.setup()
size = {"small": dict(faces=4096, steps=160, small_steps=150, cell_steps=20),
        "full": dict(faces=20_000, steps=20_000, small_steps=3000, cell_steps=500)}[scale]
faces, test = ToyFaces(size["faces"], seed=0), ToyFaces(2000, seed=2)
images, test_images = faces.images(), test.images()
print(f"scale: {scale}, {len(faces)} faces to learn from, {len(test)} the model never sees")

# %% [markdown]
r"""
Here is where the chapter ends: the same sixteen tokens a face, the same 512 codes, another network and another loss.
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

The plain network computes $h \leftarrow f(h)$, and going back the gradient is multiplied by the slope of $f$, layer by layer. With the sum, each layer's slope is $1 + f'$: whatever $f$ does, one path goes straight through. **Group normalisation** (Wu and He 2018) brings groups of channels of *one* image to mean 0
and deviation 1; unlike batch normalisation it works with a batch of one. Which of the two does what? Take forty untrained blocks in a row and ask two questions. How large is the gradient at each depth? And does it point anywhere: if the input moves a little, is the gradient still nearly the same?
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
    """Gradients of a fixed random readout of the output, at the input of every block."""
    h, inputs = x.clone().requires_grad_(), []
    for block in blocks:
        inputs.append(h)
        h = block(h)
    random = torch.Generator().manual_seed(1)
    readout = torch.randn(h.shape[1:], generator=random, dtype=h.dtype)
    return torch.autograd.grad((h * readout).sum(), inputs)

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
     the gradients before and after a move of the input: with normalisation alone it is gone at
     0.1; with both it stays near 1 even for a move of 0.3.""")

# %% [markdown]
r"""
Plain blocks lose the gradient's *size*. Normalising restores the size, but now the gradient is like white noise (Balduzzi et al. 2017 call it **shattered**): a step against it helps at one point and is useless a hair's breadth away. The sum alone keeps the size and most of the meaning; sum and normalisation together keep both best.
"""

# %% [markdown]
r"""
Where a stage changes the number of channels, $h$ and $f(h)$ cannot be added as they are. The paper does not say what it does then; we send $h$ through a 1×1 convolution, as others do.

### Up and down

Going down, a convolution with stride 2 halves the map (Eq. 3). Going up, the paper first repeats every pixel (**nearest-neighbour upsampling**), then convolves (Eq. 6; its text gives that convolution stride 2 as well, which would undo the doubling, a misprint).

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
Why not the transposed convolutions of chapters 1 to 3? Look at what they do to a constant map, before any training:
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
In a transposed convolution neighbouring output pixels are made by different weights of the kernel, and only training can make them agree. Some of the grain in chapter 2's faces is just that.

## 2. Attention

*15 minutes.*

A convolution sees a few pixels at a time. Two lenses of a pair of glasses belong together, though they are far apart for a 3×3 kernel. **Attention** lets every place look at every other. Each place sends out a **query** $q$, offers a **key** $k$ and holds a **value** $v$, each a 1×1 convolution of the map (which we normalise by groups first; the paper does not say); how much place $i$ takes from place $j$ is (Eqs. 8 to 10)

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
Attention costs as the square of the number of places, so the paper puts it at one resolution only, 16×16 of its 256; our small model has it at 8×8. What does the trained encoder look at? Catch the map that enters its attention layer and draw one row of $W$.
"""

# %%
def attention_of(x):
    """Weights of the encoder's attention layer for images x: (B, 64, 64), over an 8×8 map."""
    for layer in model.encoder.body:
        if isinstance(layer, ivqvae.Attention):
            return layer.weights(x)[:, 0]
        x = layer(x)


def look(face, row, column):
    with torch.no_grad():
        w = attention_of(test_images[face : face + 1])[0, 8 * row + column].view(8, 8)
    fig, axes = panels(1, 2, height=2.6, width=5.8)
    left, right = axes[0]
    left.imshow((test_images[face].movedim(0, -1) + 1) / 2)
    left.add_patch(Rectangle((4 * column - 0.5, 4 * row - 0.5), 4, 4, fill=False,
                             edgecolor="white", lw=2))
    left.set_axis_off()
    heat(right, w, low=0, colours="magma",
         title=f"largest weight {w.max():.2f}, even would be {1 / 64:.3f}")
    return fig

# %% [markdown]
r"""
**Play:** move the query, the white square, over the face. Does a lens look at the other lens? What does the background look at?

<details><summary>Answer</summary>

Here it does: from this lens the largest weight by far, 0.15 or ten times an even share, falls on the edge of the other one. It is no rule: from the place just below, still on the lens, it falls on the neck. The background, at the corner above left, looks nearly everywhere: no weight is above 0.03.

</details>
"""

# %% tags=["nbval-ignore-output"]
explore(look, look(1, 3, 2), """Left: a face with glasses and the query, a white square at one
        eye. Right: the 8×8 map of places that it looks at, a few of them bright.""",
        face=(0, 99, 1), row=(0, 7, 3), column=(0, 7, 2));

# %% [markdown]
r"""
## 3. Other errors

*30 minutes.*

### L1 instead of L2

Chapter 2 found that squared error draws the mean of what is left open. The paper measures the **absolute** error (Eq. 11), $\lVert \hat x - x \rVert_1$. What is its best guess? Per pixel, the derivative of $\sum_i p_i |x_i - g|$ counts how much probability lies above and below $g$, so it is zero at the **median**: a value that occurs.

### Exercise 4.3 · `best_guess_l1` · ★★ · 8 minutes

For each pixel, the weighted median: sort the images' values; add up the probabilities in that order; take the first value at which the sum reaches one half.

<details><summary>Hint</summary>

`values, order = images.sort(dim=0)`; `probabilities[order]` then has the shape of the images.

<details><summary>More</summary>

`reached = (probabilities[order].cumsum(0) >= 0.5)`; the first true along dim 0 is `reached.int().argmax(0)`; pick with `values.gather(0, index[None])[0]`.

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
The median takes a vote in every pixel and shows the majority. It is sharp, but it decides pixel by pixel, and a minority is simply outvoted: glasses that a third of the faces wear are gone. And L1 still counts pixels.

### Perceptual loss

Here is a face changed in two ways, with exactly the same squared error: once it got glasses, once a faint checkerboard of plus and minus the same amount. (The last column is the distance that this section explains.)
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
To squared error the two are the same, to absolute error the checkerboard is far worse. The third column asks a network, and the network says: glasses are a change, the checkerboard is nothing much.

To see like a viewer, compare not pixels but the **features** of a network that has learned to see. LPIPS (Zhang et al. 2018) takes several layers of such a network, scales the features of each place to length 1, and adds up the squared differences:

$$L_P(x, y) = \sum_{\text{layers}} \operatorname{mean}_{\text{places}} \sum_{c} w_c \left(\hat f_c(x) - \hat f_c(y)\right)^2 .$$

### Exercise 4.4 · `feature_distance` · ★★ · 8 minutes

One layer of it, with all weights $w_c = 1$: scale each place's features to length 1, take the squared difference, sum over the channels, average over the places.

<details><summary>Hint</summary>

`F.normalize(f, dim=1)` scales along the channels. The result has one number per image.

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
The paper's LPIPS looks through VGG, a network trained on the photographs of ImageNet; `minigen.perceptual.LPIPS` is that, from the `lpips` package. VGG's weights are half a gigabyte and come over the network at their first use. For 32×32 cartoons they would be the wrong eyes anyway, so
at small scale we use the same formula on the layers of the ToyFaces classifier. It is not LPIPS, and we do not call it so. (A perceptual loss sees what its network was trained to see. Ours reads attributes, and no attribute depends on a checkerboard; that is one reason why L1 stays in the sum.) Without a network the real one says in one sentence what it lacks; it never falls back on random weights in silence.
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
### A discriminator that judges patches

The third addition is chapter 1's: a discriminator, trained to tell reconstructions from real images, whose verdict the decoder learns to please (Eqs. 13 and 14; Eq. 14 as printed has lost the hinge's max and is unbounded below, see chapter 1). It should judge texture, not whether a face is a face; so it gives not one logit but a map of them, each for one
**patch** (Isola et al. 2017). The paper does not describe its discriminator. VQGAN's, from which the paper's other parts come, looks at patches of 70×70 pixels. Our images have 32×32; the small one below has patches of 34×34, so its middle logits see the whole face after all. That is a compromise of the small scale.
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

The paper starts the discriminator after 250,000 steps. Before, the decoder draws blobs; a discriminator would win at once, and its verdict, "blob", says nothing about texture.

### Exercise 4.5 · `total_loss` · ★★ · 5 minutes

Eq. 15 with its late start: before step `start`, $L_G$ does not count. The rest does.

<details><summary>Hint</summary>

`lambda_vq = 1 - lambda_d`, always, also before the start. If `step < start`, leave the adversarial term out. (Multiplying it by 0 is not enough: if it is NaN, 0 times NaN is NaN.)

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
What happens when it starts at once? Two small models on 16×16 faces, alike but for the start, with a heavy hand: $\lambda_d = 0.5$. (Either way the judge knows nothing in its first steps.)
"""

# %% tags=["nbval-ignore-output"]
small_images = ToyFaces(2048, size=16, seed=0).images()
steps = size["small_steps"]
late = steps * 2 // 3
runs = {}
for name, start in {"at once": 1, "after two thirds": late}.items():
    torch.manual_seed(0)
    m = ivqvae.IVQVAE(size=16, width=16, multipliers=(1, 2, 4), attention_at=8, num_codes=256)
    d = ivqvae.PatchDiscriminator(width=16, layers=2)
    training = ivqvae.train_ivqvae(m, batches(small_images, batch_size=32), steps=steps,
                                   discriminator=d, start=start, lambda_d=0.5, lambda_vq=0.5,
                                   lr=2e-3)
    runs[name] = [s.l1 for s in tqdm(training, total=steps, desc=name)]

fig = curves(runs, ylabel="L1 error", smooth=10, height=2.3)
fig.axes[0].axvline(late, color="grey", lw=0.8)
show(fig, """L1 error by step when the discriminator starts at once and when it starts after two
     thirds, at the grey line: until then the late one is lower; after its start it jumps up and
     recovers in part.""")
at_once, waited = (sum(l1[late - 21 : late - 1]) for l1 in runs.values())   # just before it
assert waited < at_once

# %% [markdown]
r"""
The early discriminator costs reconstruction all along. The late one lets the autoencoder learn first; when it arrives, the error rises. Two things add up there: an untrained judge pulls in no sensible direction, and a trained one asks for sharp edges, which in a slightly wrong place cost *more* absolute error than soft ones. What is bought with it must be looked for elsewhere. (At the end both
fall because the learning rate does.)

How strong should it be? VQGAN (Eq. 7 and its code) does not choose $\lambda_d$ once but at every step, so that both losses pull equally hard at the decoder's last layer:

$$\lambda = \frac{\lVert \nabla_w L_{rec} \rVert}{\lVert \nabla_w L_G \rVert + 10^{-4}} .$$

The paper uses fixed weights, and so do we; but write it once.

### Exercise 4.6 · `balance` · ★★★ · 8 minutes

Compute this weight from the two losses and `weight`, the weights of the decoder's last layer. It is a number to multiply with, not something to train; limit it to $10^4$.

<details><summary>Hint</summary>

`torch.autograd.grad(loss, weight, retain_graph=True)[0].norm()` for each loss. The graph is needed again, for the training step.

<details><summary>More</summary>

The result is a weight, not something to train: `.detach()`. Clamp it to at most `1e4`.

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
## 4. The whole

*15 minutes.*

The tested module is `minigen.ivqvae`. Its compression $f$ follows from the number of stages: each but the last halves the map. The paper gives $f = 64$, 16,384 codes and four channels; the widths of the preset are our choice, after VQGAN.
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
Train the small one in front of you, every loss by its name. The discriminator starts after three quarters.
"""

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
live = ivqvae.IVQVAE(**ivqvae.PRESETS["small"]).to(device)
judge = ivqvae.PatchDiscriminator(width=32, layers=2).to(device)
steps, start = size["steps"], size["steps"] * 3 // 4
training = ivqvae.train_ivqvae(live, batches(images, batch_size=32), steps=steps, lr=2e-3,
                               perceptual=toy.to(device), discriminator=judge, start=start)
history, pictures = [], []
for s in tqdm(training, total=steps, desc="IVQ-VAE"):
    history.append(s)
    if s.step in (start - 1, steps):
        live.eval()
        codes = live.encode_indices(test_images[:8].to(device))
        pictures.append(live.decode_indices(codes).cpu())
        live.train()
toy = toy.cpu()
assert history[-1].l1 < 0.6 * history[0].l1

# %% tags=["nbval-ignore-output"]
losses = {"L1": [s.l1 for s in history],
          "perceptual": [s.perceptual for s in history],
          "vq": [s.vq for s in history]}
adversarial = {"generator's": [s.adversarial for s in history],
               "discriminator's": [s.discriminator for s in history]}
fig, axes = panels(1, 2, height=2.5)
left, right = axes[0]
curves(losses, logy=True, ax=left)
curves(adversarial, ax=right)
right.axvline(start, color="grey", lw=0.8)
show(fig, """Left: L1 and perceptual loss fall on a log scale; the vector-quantisation loss
     starts small, because k-means has just fitted the codes, rises as the encoder moves, and
     settles. Right: the two adversarial losses, zero up to the grey line where the
     discriminator starts.""")

# %% tags=["nbval-ignore-output"]
show(image_grid(torch.cat([test_images[:8], *pictures, by_new[:8]]), columns=8,
                row_titles=["real", "before D", "after D", "longer"]),
     """Eight real faces; their reconstructions by the model just trained, blurred, before the
     discriminator's start; after it, much the same; and by the longer-trained one, sharp.""")

# %% [markdown]
r"""
Much more time would be needed to see clear faces here; the longer-trained model's card says how much it had. How good is it, and where is it better than chapter 3's?
"""

# %% tags=["nbval-ignore-output"]
@torch.no_grad()
def perceptual_distance(x):
    pieces = zip(x.split(500), test_images.split(500), strict=True)
    return torch.cat([toy(a, b) for a, b in pieces]).mean().item()


perceptual = {}
print(f"{'':<9} {'L1':>7} {'perceptual':>11} {'toy Fréchet':>12} {'eyes':>6} {'smile':>6}")
for name, x in (("VQ-VAE", by_old), ("IVQ-VAE", by_new)):
    l1, perceptual[name] = (x - test_images).abs().mean(), perceptual_distance(x)
    read = predict_attributes(x)
    eyes, smile = ((read[a] == test[a]).float().mean() for a in ("eyes", "smile"))
    print(f"{name:<9} {l1:>7.4f} {perceptual[name]:>11.4f} {toy_frechet(x):>12.1f}"
          f" {eyes:>6.0%} {smile:>6.0%}")
assert perceptual["IVQ-VAE"] < perceptual["VQ-VAE"]

codes = model.encode_indices(test_images)
used, in_effect = len(codes.unique()), vqvae.perplexity(codes, 512)
print(f"IVQ-VAE uses {used} of 512 codes, perplexity {in_effect:.0f}")

# %%
rows = torch.cat([test_images[40:44], by_old[40:44], by_new[40:44]])
show(image_grid(rows, columns=4, row_titles=["real", "VQ-VAE", "IVQ-VAE"], width=5.5),
     """Four faces at a larger size, real, through the VQ-VAE and through the IVQ-VAE: the last
     has crisp glasses, eyes and mouths, and only a trace of grain.""")

# %% [markdown]
r"""
With the same sixteen tokens of nine bits, the eyes' colour and the mouth now survive. (The toy Fréchet distance is below that of fresh real faces, 13.9. Do not be impressed: the model was trained to please layers of the very classifier that measures it here. The L1 error and your eyes are the safer witnesses.)

### For stage 2

The diffusion model of chapter 7 will live among the latents $z_q$. It wants numbers of about size 1, so the model keeps the mean and deviation of each channel, measured on the training faces.
"""

# %% tags=["nbval-ignore-output"]
print("mean     ", [round(v, 2) for v in model.latent_mean.tolist()])
print("deviation", [round(v, 2) for v in model.latent_std.tolist()])
z = model.normalise(model.quantizer.embed(codes))
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

*20 minutes.*

### Table 1: does more compression reconstruct better?

The paper says so: as $f$ grows from 8 to 64, L1, LPIPS and reconstruction FID all *fall*. That is a surprising claim. A map of 32×32 tokens holds 64 times as many bits as one of 4×4, and a network that may use more bits need not do worse. Let us measure it at small scale, with equal training for all:

```
python -m minigen reproduce table1
```

trains one model for each row and three seeds, and writes every cell down, so it can be stopped and go on. What it found comes with the course (`data/reproduce/`), so today the command only prints it; with `--seeds 3` it measures another seed, into `runs/reproduce/`. Here are the results, and below them one cell again, live, with only a few steps.
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

# %% tags=["nbval-ignore-output"]
with tempfile.TemporaryDirectory() as folder:
    for cell in reproduce.reproduce("table1", rows=["f = 16 (2×2 map)"], seeds=[0],
                                    steps=size["cell_steps"], out=Path(folder) / "t.json"):
        print(f"{cell['row']}, {cell['steps']} steps in {cell['seconds']} s")
        print(f"  L1 {cell['l1']:.3f}, perceptual distance {cell['perceptual']:.3f}, "
              f"toy Fréchet distance {cell['frechet']:.0f}, codes used {cell['codes_used']}")

# %% [markdown]
r"""
The verdict is the opposite of the paper's: **more tokens reconstruct better**, in every measure and for every seed. It agrees with rate and distortion: the best code with more bits is at least as good. But rate–distortion speaks of the best code, not of what a given training finds, so it does not make the paper's table impossible.

How can the paper see the reverse? We can only guess. Its rows differ in more than the bits. At small $f$ there are fewer stages and so fewer layers; and at $f = 8$ no stage has the resolution 16×16, so that row has no attention at all. Our rows differ in depth too, the other way round: our best has the *fewest* layers. A table that varies depth, attention and
bits at once cannot say which of them it measures.

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
What holds, and what does not, after this short training:

- The **mixed loss** on top of the rest lowers the feature distance for every seed, and does *not* lower the L1 error: it trades pixels for features. (Some of its advantage is built in, since it trains on the very distance it is measured with; and the toy Fréchet distance reads a later layer of the same classifier, so it is no independent witness.)
- The **residual sums** are the largest single gain in L1. **Attention** alone makes no difference that three seeds could show.
- The paper's "none" gives *no valid samples*; ours gives reconstructions, only worse ones. And the paper's column is the FID of *generated* images, which also pass through stage 2: differences in it need not come from the autoencoder.

## 6. What it cannot do

*5 minutes.*

The paper shows failures of its own (Fig. 8): torn backgrounds. Sixteen tokens of 9 bits are 144 bits for everything. What is common, large or costly in the loss gets them; the rest is invented or dropped.
"""

# %%
error = (by_new - test_images).abs().flatten(1).mean(1)
worst = error.argsort(descending=True)[:8]
rows = torch.cat([test_images[worst], by_new[worst]])
show(image_grid(rows, columns=8, row_titles=["real", "16 tokens"]),
     """The eight test faces with the largest error, above their reconstructions: all have
     glasses, most have dark hair, and they come back a little softer around the eyes.""")

# %%
fig, axes = panels(1, 1, height=2.2, width=2.8)
heat(axes[0, 0], (by_new - test_images).abs().mean((0, 1)), title="mean error", low=0)
show(fig, """The mean absolute error of each pixel, bright where large: eyes, mouth and the
     outlines of head and hair.""")

# %% [markdown]
r"""
The hardest pixels are glasses around eyes, where the most is at stake in the fewest pixels. Look at the difference to chapter 2: a VAE that is unsure draws the mean, and one sees it. A decoder trained with the last two losses is asked to *decide*; where it errs, and here it seldom does, the result looks real and is wrong. For generating images that is what we want. For a medical
scan it would be dangerous.

The tokens are good now. To draw new ones, chapter 3 used an autoregressive prior, one token at a time. The paper uses diffusion, and for that we first need chapters 5 and 6.

## Summary

- Residual sums keep the size and the meaning of a gradient through many layers; group normalisation works with a batch of one; nearest-neighbour upsampling has no checkerboard.
- Attention lets every place look at every other, at quadratic cost, so it stands at one resolution.
- L2 draws the mean, L1 the median; a perceptual loss compares features; a patch discriminator judges texture, and starts late.
- λ_d + λ_vq = 1. Each loss has its own effect, and no single number shows them all.
- At small scale more compression reconstructs worse, not better; on top of the rest, the mixed loss wins in features, not in pixels.
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
- He, Zhang, Ren, Sun 2016, *Deep Residual Learning*, [arXiv:1512.03385](https://arxiv.org/abs/1512.03385).
- Wu, He 2018, *Group Normalization*, [arXiv:1803.08494](https://arxiv.org/abs/1803.08494).
- Balduzzi et al. 2017, *The Shattered Gradients Problem*, [arXiv:1702.08591](https://arxiv.org/abs/1702.08591).
- Zhang, Isola, Efros, Shechtman, Wang 2018, *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric*, [arXiv:1801.03924](https://arxiv.org/abs/1801.03924): Eq. 1.
- Isola, Zhu, Zhou, Efros 2017, *Image-to-Image Translation with Conditional Adversarial Networks*, [arXiv:1611.07004](https://arxiv.org/abs/1611.07004): §3.2.2, patches.
- Odena, Dumoulin, Olah 2016, *Deconvolution and Checkerboard Artifacts*, [doi:10.23915/distill.00003](https://doi.org/10.23915/distill.00003).
"""
