# %% [markdown]
r"""
# Chapter 3 · VQ-VAE

A VAE's code is a cloud in a continuous space, and its prior, one round Gaussian, fits it badly. A **VQ-VAE** makes the code *discrete*: an image becomes sixteen entries of a codebook, sixteen words. Words can be counted, so their prior can be learned. Chapters 4 and 7 stand on this code. You will

1. put a codebook into a network, and get a gradient through a step that has none;
2. write the quantizer, and find a bug that well-known code has to this day;
3. keep its codes alive: running averages, perplexity, revival;
4. train a VQ-VAE with your quantizer, and move glasses from face to face by their tokens;
5. learn a prior over tokens, a PixelCNN, and draw faces with your own loop;
6. find out where the KL went, and count every bit.

Cells below an exercise work with *your* function once it has passed, and until then with the course's; a line says which.
"""

# %%
import math

import torch
import torch.nn.functional as F
from matplotlib.colors import ListedColormap
from torch import nn
from tqdm.auto import tqdm

import minigen
from minigen import check, pixelcnn, vae, vqvae
from minigen.checks import yours
from minigen.common import one_cycle
from minigen.data import ATTRIBUTES, Digits, ToyFaces, batches
from minigen.files import load_weights
from minigen.metrics import obedience, predict_attributes, results, results_table, toy_frechet
from minigen.plots import COLOURS, curves, image_grid, legend, panels, points, show
from minigen.widgets import explore

scale, device = minigen.setup()
size = {"small": dict(faces=8192, steps=2500, prior_steps=500),
        "full": dict(faces=20_000, steps=20_000, prior_steps=20_000)}[scale]
faces, test = ToyFaces(size["faces"], seed=0), ToyFaces(2000, seed=2)
images, test_images = faces.images(), test.images()
print(f"scale: {scale}, {len(faces)} faces to learn from, {len(test)} the model never sees")

# %% [markdown]
r"""
Here is where the chapter ends, with networks trained for longer than yours will be: a face in sixteen tokens, and what they and a prior's tokens draw.
"""

# %% tags=["nbval-ignore-output"]
model, prior = load_weights(vqvae.VQVAE, "vqvae"), load_weights(pixelcnn.PixelCNN, "pixelcnn")
K = model.config["num_codes"]
test_codes = model.encode_indices(test_images)
redrawn = model.decode_indices(test_codes)
print("the first face in sixteen tokens:")
for row in test_codes[0]:
    print("   ".join(f"{int(c):3d}" for c in row))
first_look = model.decode_indices(pixelcnn.sample_codes(prior, 20, seed=7))
show(image_grid(torch.cat([test_images[:10], redrawn[:10], first_look]), columns=10,
                row_titles=["real", "16 tokens", "drawn", ""]),
     """Ten real faces; the same ten redrawn from sixteen tokens each, a little soft but with
     glasses, smile and pose mostly right; twenty faces drawn from tokens of the prior, as clear
     as the redrawn ones, a few with pale glasses.""")

# %% [markdown]
r"""
## 1. From k-means to a codebook

*25 minutes.*

**Vector quantisation** replaces every vector by the nearest of $K$ fixed ones. A **code** $e_k$ is one of them, $k$ its index, and a **token** such an index at one place of a map. Images with few colours do it to pixels, three numbers each:
"""

# %%
face = test_images[4]
pixels = face.flatten(1).T
palettes = {k: vqvae.kmeans(pixels, k, steps=30, seed=1) for k in (2, 4, 8, 16)}
repainted = {k: palette[vqvae.nearest_code(pixels, palette)] for k, palette in palettes.items()}
for k, x in repainted.items():
    error = (x - pixels).square().mean()
    print(f"{k:>2} colours: {int(math.log2(k))} bits a pixel, mean squared error {error:.4f}")

few = [x.T.view(3, 32, 32) for x in repainted.values()]
show(image_grid(torch.stack([*few, face]), columns=5, width=6,
                titles=[*(f"{k} colours" for k in palettes), "original"]),
     """A face drawn with palettes of 2, 4, 8 and 16 colours, and the original: with eight
     colours one recognises it, but the mouth is missing, too few pixels to earn a colour; with
     sixteen it is there.""")

# %% [markdown]
r"""
The palettes come from **k-means** (Lloyd 1982), two steps in turn: give every point to its nearest centre; move each centre to the mean of its points. Neither raises the squared error, so it falls until nothing moves. In the plane:
"""

# %%
random = torch.Generator().manual_seed(3)
clumps = torch.tensor([(-1.5, 0.0), (1.0, 1.2), (1.2, -1.2), (-0.3, 1.8)])
cloud = torch.cat([0.35 * torch.randn(150, 2, generator=random) + c for c in clumps])
stages = [vqvae.kmeans(cloud, 6, steps=n, seed=0) for n in (0, 1, 3, 20)]


def with_codes(vectors, codebooks, titles):
    """Panels of the same vectors with a codebook each, drawn as crosses."""
    fig = points([vectors] * len(codebooks), titles=titles, size=6)
    for ax, codes in zip(fig.axes, codebooks, strict=True):
        ax.scatter(codes[:, 0], codes[:, 1], color="black", marker="x", s=25, linewidths=1.2)
    return fig


show(with_codes(cloud, stages, ["start", "1 step", "3 steps", "20 steps"]),
     """Four panels of a cloud of points in four clumps with six centres, crosses: at the start
     on random points, after twenty steps spread over the clumps.""")

# %% [markdown]
r"""
### Exercise 3.1 · `nearest_index` · ★★ · 6 minutes

The nearest code of every vector. Instead of the differences, `(N, K, C)` numbers, expand the square:
$\lVert z - e_k \rVert^2 = \lVert z \rVert^2 - 2\, z \cdot e_k + \lVert e_k \rVert^2$. One of the terms is the same for all $k$.

<details><summary>Hint</summary>

`z @ codebook.T` has shape `(N, K)`; `codebook.square().sum(1)` has shape `(K,)` and broadcasts.

</details>
"""

# %%
def nearest_index(z, codebook):
    """argmin_k ||z - codebook[k]||^2. Shapes: (N, C), (K, C) -> (N,) integers."""
    ### BEGIN SOLUTION
    return (codebook.square().sum(1) - 2 * z @ codebook.T).argmin(dim=1)
    ### END SOLUTION

# %% points=2
check(nearest_index)

# %% [markdown]
r"""
### A step without a gradient

Now put the codebook into an autoencoder (van den Oord et al. 2017). The encoder's output $z_e$ is a map of vectors; each is replaced by its nearest code, which gives $z_q$, and the decoder draws from $z_q$. That choice is a staircase, its derivative zero almost everywhere: no gradient reaches the encoder.

The **straight-through estimator** uses $z_q$ going forward and pretends, going back, that the step was not there. With $\mathrm{sg}[\cdot]$ ("stop gradient", `detach`):

$$z_q \leftarrow z_e + \mathrm{sg}[z_q - z_e] .$$

The *value* is $z_q$, since $z_e$ cancels; the *gradient* that of $z_e$, since the bracket counts as a constant.

### Exercise 3.2 · `straight_through` · ★ · 4 minutes

Write that line.

<details><summary>Hint</summary>

`.detach()` cuts the gradient of what it is called on.

</details>
"""

# %%
def straight_through(z_e, z_q):
    """Value of z_q, gradient of z_e. Shapes: equal."""
    ### BEGIN SOLUTION
    return z_e + (z_q - z_e).detach()
    ### END SOLUTION

# %% points=2
check(straight_through)

# %%
at = torch.linspace(-2, 2, 401)
line_codes = torch.tensor([[-1.5], [-0.4], [0.5], [1.6]])
stairs = line_codes[vqvae.nearest_code(at[:, None], line_codes)].squeeze(1)
show(curves({"forward: the nearest code": stairs, "what the gradient believes": at},
            x=at, xlabel="encoder's output", height=2.2),
     """A staircase of four levels, the nearest code of each number, and the diagonal whose
     slope 1 the gradient uses instead.""")

# %% [markdown]
r"""
## 2. The losses, and a bug

*45 minutes.*

This trains encoder and decoder, but does not move the codes, nor hold $z_e$ near them. Two more terms do:

$$L_{vq} = \underbrace{\lVert \mathrm{sg}[z_e] - e \rVert^2}_{\text{codebook: codes move to the vectors}} + \; \beta\, \underbrace{\lVert z_e - \mathrm{sg}[e] \rVert^2}_{\text{commitment: vectors stay near their codes}}$$

where $e$ is the chosen code itself (van den Oord et al. 2017, Eq. 3; the $L_{vq}$ in Eq. 15 of the course's paper, which does not write it out). The whole loss is $\lVert x - \hat x \rVert^2 + L_{vq}$, each a mean; this β is not chapter 2's. The two terms have the *same value* and differ only in whom they move, so a mistake shows in no loss curve. This one stood in well-known code for years, and still is the default of some libraries:
"""

# %%
def well_known_vq_loss(z_e, e, beta=0.25):
    return ((e.detach() - z_e) ** 2).mean() + beta * ((e - z_e.detach()) ** 2).mean()


z_e, e = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)
loss = well_known_vq_loss(z_e, e)
to_encoder, to_codes = torch.autograd.grad(loss, (z_e, e))
ratio = to_encoder.norm() / to_codes.norm()
print(f"size of the gradient, encoder : codes  =  {ratio:.2f} : 1")

# %% [markdown]
r"""
### Exercise 3.3 · `vq_loss` · ★★ · 8 minutes

**Find the bug**, and write the loss as the formula says. What ratio should the printed line show for $\beta = \frac14$?

<details><summary>Hint</summary>

Cover each term in turn: which tensor can still move?

<details><summary>More</summary>

The term that holds `z_e` without `detach` moves the encoder: it is the commitment, and β belongs to it.

</details>
</details>
"""

# %%
def vq_loss(z_e, e, beta=0.25):
    """mean (sg[z_e] - e)^2 + beta * mean (z_e - sg[e])^2. Shapes: equal -> a scalar."""
    ### BEGIN SOLUTION
    return F.mse_loss(e, z_e.detach()) + beta * F.mse_loss(z_e, e.detach())
    ### END SOLUTION

# %% points=2
check(vq_loss)

# %%
nearest_index, vq_loss = yours(nearest_index), yours(vq_loss)
straight_through = yours(straight_through)

# %% [markdown]
r"""
It should say 0.25 : 1, and it said 4 : 1. The codes get a quarter of the intended gradient, and the encoder is pulled four times as hard.

### Exercise 3.4 · `quantize` · ★★★ · 20 minutes

Put the three together. In comes a *map* `z`, a vector at each place; out come $z_q$ in its shape, the index of the code at every place, and the loss. Section 4 trains with it.

Two things go wrong in practice: a place's vector runs along axis 1, so `reshape(-1, C)` alone mixes channels with places; and the loss wants the code itself, not what `straight_through` made of it.

<details><summary>Hint</summary>

`z.movedim(1, -1)` has the shape `(B, H, W, C)`, and `.flatten(0, 2)` makes a list of vectors. `codebook[indices]` looks up a code for each index, whatever the shape of `indices`.

<details><summary>More</summary>

`.view(B, H, W)` gives the indices their places back; `codebook[indices]` is then `(B, H, W, C)`, and `.movedim(-1, 1)` puts the channels where they were. Then one call of `straight_through`, one of `vq_loss`.

</details>
</details>
"""

# %%
def quantize(z, codebook, beta=0.25):
    """(z_q with the gradient of z, the indices, the loss).

    Shapes: z (B, C, H, W), codebook (K, C) -> (B, C, H, W), (B, H, W), a scalar.
    """
    ### BEGIN SOLUTION
    vectors = z.movedim(1, -1)                                   # (B, H, W, C)
    indices = nearest_index(vectors.flatten(0, 2), codebook)     # (B·H·W,)
    indices = indices.view(vectors.shape[:3])                    # (B, H, W)
    e = codebook[indices].movedim(-1, 1)                         # (B, C, H, W)
    return straight_through(z, e), indices, vq_loss(z, e, beta)
    ### END SOLUTION

# %% points=4
check(quantize)

# %% [markdown]
r"""
The package's `vqvae.VectorQuantizer` does the same for later chapters. At the paper's size it also works in chunks (all distances of 8,192 vectors to 16,384 codes fill half a gigabyte), and in 32-bit floats even where the network runs in 16.
"""

# %%
quantize = yours(quantize)
torch.manual_seed(0)
packaged = vqvae.VectorQuantizer(num_codes=64, dim=4, beta=0.25)
z_map = torch.randn(8, 4, 4, 4, requires_grad=True)
theirs, (z_q, indices, loss) = packaged(z_map), quantize(z_map, packaged.codebook)
slopes = [torch.autograd.grad(x, (z_map, packaged.codebook)) for x in (theirs.loss, loss)]
print("one z_q and one set of indices:",
      bool(torch.allclose(z_q, theirs.z_q)), bool(torch.equal(indices, theirs.indices)))
print("one loss and one gradient:     ", bool(torch.allclose(loss, theirs.loss)),
      all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*slopes, strict=True)))

# %% [markdown]
r"""
### The bug at work

What does the misplaced β do to a training? Digits of 8×8 pixels are small enough to try many: an encoder makes four vectors of four numbers, each takes one of 32 codes (20 bits a digit), a decoder draws.
"""

# %%
digits = Digits().images.flatten(1)                             # (1797, 64)


def digit_tokens(loss_of, beta=0.25, through=straight_through, seed=0, steps=300):
    """A small VQ-VAE: (squared error, mean squared distance to the code, perplexity)."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 16))
    decoder = nn.Sequential(nn.Linear(16, 128), nn.SiLU(), nn.Linear(128, 64), nn.Tanh())
    start = vqvae.kmeans(encoder(digits).detach().view(-1, 4), 32)
    codebook, data = nn.Parameter(start), batches(digits, batch_size=128, seed=seed)
    parts = [*encoder.parameters(), *decoder.parameters(), codebook]
    optimiser = torch.optim.Adam(parts, lr=3e-3)
    for _ in range(steps):
        (x,) = next(data)
        z = encoder(x).view(-1, 4)                              # four vectors a digit
        e = codebook[nearest_index(z, codebook)]
        x_hat = decoder(through(z, e).view(-1, 16))
        loss = F.mse_loss(x_hat, x) + loss_of(z, e, beta)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    with torch.no_grad():
        z = encoder(digits).view(-1, 4)
        indices = nearest_index(z, codebook)
        error = F.mse_loss(decoder(codebook[indices].view(-1, 16)), digits)
        distance = F.mse_loss(z, codebook[indices])
    return float(error), float(distance), vqvae.perplexity(indices, 32)

# %% [markdown]
r"""
**Before you run it:** both losses, each with β = ¼, 1 and 4, and Adam moves everything, the codes too. Which numbers will change with β in its place, and which with the misplaced one?
"""

# %% tags=["nbval-ignore-output"]
print(f"{'loss':<10} {'β':>5}   {'squared error, three seeds':<27}  distance to the code")
runs = {}
for name, loss_of in (("right", vq_loss), ("misplaced", well_known_vq_loss)):
    for beta in (0.25, 1, 4):
        three = [digit_tokens(loss_of, beta, seed=seed) for seed in range(3)]
        errors, distances, _ = zip(*three, strict=True)
        runs[name, beta] = sum(errors) / 3, sum(distances) / 3
        print(f"{name:<10} {beta:>5}   " + "   ".join(f"{x:.4f}" for x in errors)
              + "         " + "   ".join(f"{x:.4f}" for x in distances))

misplaced = [runs["misplaced", beta][1] for beta in (0.25, 1, 4)]
assert runs["right", 0.25][1] > 10 * runs["right", 4][1]
assert max(misplaced) < 1.1 * min(misplaced)

# %% [markdown]
r"""
<details><summary>What happened</summary>

In its place, β does what it is for: from ¼ to 4 the mean squared distance to the codes falls to a fortieth, and the picture's error grows by more than half, since the encoder thinks of little else. Misplaced, it does *nothing*: all three rows are the right loss's at β = 1, up to rounding that grows. The encoder's pull has no β in it, and the factor on the codes' gradient is one that Adam divides out.

</details>

At the usual β = ¼ it is worse for all three seeds, by five per cent on average, which nobody notices who has not run both. (*taming-transformers*, issue 57, and *diffusers*, issue 8226, are worth reading. Old weights were trained with it, so the default cannot simply be changed.)

**Break it.** Leave the stop-gradient out of the straight-through line, and the decoder gets the codes themselves, with the same value. *Before you run it:* what does the encoder still learn?
"""

# %% tags=["nbval-ignore-output"]
ways = {"with the stop-gradient": straight_through, "without": lambda z, e: e}
for name, through in ways.items():
    three = [digit_tokens(vq_loss, through=through, seed=seed) for seed in range(3)]
    errors, distances, used = zip(*three, strict=True)
    print(f"{name:<23} error " + "  ".join(f"{x:.3f}" for x in errors)
          + f"   distance {sum(distances) / 3:.4f}"
          + "   perplexity " + "  ".join(f"{x:.0f}" for x in used))
guess = (digits - digits.mean(0)).square().mean()
print(f"the mean of all digits, for every digit: {guess:.3f}")

# %% [markdown]
r"""
<details><summary>What happened</summary>

The picture's error no longer reaches the encoder; the commitment does, and it is smallest when all vectors sit on a few codes, whatever the digit. So the perplexity (codes used in effect, section 3) ends at eight or nine instead of thirty, and the picture's error is three times as large, while the distance to the codes looks splendid. Few codes in use beside a tiny commitment: so one knows a lost gradient.

</details>

## 3. Keeping a codebook alive

*20 minutes.*

### Running averages

The codebook loss moves each code slowly to the mean of its vectors; k-means would put it there at once, but a batch is only a sample. In between lies an **exponential moving average** (appendix A.1 of the VQ-VAE paper): keep for every code a running count $N_k$ of its vectors and a running sum $m_k$,

$$N_k \leftarrow \gamma N_k + (1 - \gamma)\, n_k, \qquad m_k \leftarrow \gamma m_k + (1 - \gamma) \sum_{z \to k} z, \qquad e_k = \frac{m_k}{N_k},$$

with $\gamma = 0.99$, where $n_k$ vectors of this batch chose code $k$ and the sum runs over them. The codebook then has no gradient, and the loss is the commitment alone.

### Exercise 3.5 · `ema_update` · ★★ · 10 minutes

Return the new count, the new sum and the new codebook. (The tested version also guards against counts near zero; here all are positive.)

<details><summary>Hint</summary>

`F.one_hot(indices, K).float()` has a row a vector. Its sum over the rows counts; its transpose times `z` sums.

<details><summary>More</summary>

`n = one_hot.sum(0)` has shape `(K,)`, `one_hot.T @ z` has shape `(K, C)`. Divide sums by counts with `count[:, None]`.

</details>
</details>
"""

# %%
def ema_update(count, total, z, indices, decay=0.99):
    """(new count, new total, new codebook).

    Shapes: count (K,), total (K, C), z (N, C), indices (N,) -> (K,), (K, C), (K, C).
    """
    ### BEGIN SOLUTION
    chosen = F.one_hot(indices, len(count)).to(z.dtype)
    count = decay * count + (1 - decay) * chosen.sum(0)
    total = decay * total + (1 - decay) * chosen.T @ z
    return count, total, total / count[:, None]
    ### END SOLUTION

# %% points=3
check(ema_update)

# %% [markdown]
r"""
### Counting the codes in use

A codebook can have 512 codes and use 20. If a share $p_k$ of the vectors chose code $k$, the entropy $H = -\sum_k p_k \log p_k$ is what one choice tells, in nats; the **perplexity** $e^H$ is the number of equally used codes that would tell as much: $K$ if all are used alike, 1 if only one is (an unused code counts as $0 \log 0 = 0$).

### Dead codes

A code that is nearest to no vector gets no gradient and nothing to average, and stays (nearly) where it is: **dead**. A common start makes it worse: codes drawn from $\mathcal U(-\frac1K, \frac1K)$ lie in one heap, and the few on its outside get all the vectors.

The cure is **revival**: a code with less than a few per cent of an average code's vectors takes the place of a random vector of the batch, with a new count and sum; otherwise the next average would pull it straight back. Your `ema_update` and the revival are how a codebook learns from one batch:
"""

# %%
ema_update = yours(ema_update)


def learn_codes(book, vectors, indices, decay=0.99, revive_below=0.05):
    """The codebook after one batch; a book is (count, total, codes)."""
    count, total, codes = ema_update(*book[:2], vectors, indices, decay)
    average = len(vectors) / len(codes)
    dead = count < revive_below * average
    picks = torch.randint(len(vectors), (len(codes),), device=vectors.device)
    count = torch.where(dead, average, count)
    codes = torch.where(dead[:, None], vectors[picks], codes)
    total = torch.where(dead[:, None], average * codes, total)
    return count, total, codes

# %% [markdown]
r"""
Four codebooks learn the same points on a ring: from the bad start; from there with revival; from k-means; and both. *Before you run it:* of 64 codes, how many are in use after 400 batches from the bad start, without revival?
"""

# %%
turn = torch.rand(4000, generator=torch.Generator().manual_seed(0)) * 2 * math.pi
jitter = 0.15 * torch.randn(4000, 2, generator=torch.Generator().manual_seed(1))
ring = torch.stack([2 * turn.cos(), 2 * turn.sin()], 1) + jitter


def learn_ring(codes, revive_below=0.0, steps=400):
    """A codebook learned on the ring: (its codes, perplexity by step)."""
    torch.manual_seed(0)
    book = torch.ones(len(codes)), codes, codes          # each count is 1 at first
    history, data = [], batches(ring, batch_size=256)
    for _ in range(steps):
        (vectors,) = next(data)
        indices = nearest_index(vectors, book[2])
        history.append(vqvae.perplexity(indices, len(codes)))
        book = learn_codes(book, vectors, indices, revive_below=revive_below)
    return book[2], history

# %% tags=["nbval-ignore-output"]
heap = (torch.rand(64, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1) / 64
centres = vqvae.kmeans(ring[:512], 64)
learned = {"all in one spot": learn_ring(heap),
           "with revival": learn_ring(heap, revive_below=0.05),
           "from k-means": learn_ring(centres),
           "both": learn_ring(centres, revive_below=0.05)}
show(with_codes(ring[:800], [codes for codes, _ in learned.values()], list(learned)),
     """Four panels of a ring of points and 64 codes, crosses: from the bad start six codes
     have moved onto the ring and share all points, the rest lie dead in a heap in the middle;
     with revival, from k-means and with both they lie all along the ring.""")

# %% tags=["nbval-ignore-output"]
show(curves({name: history for name, (_, history) in learned.items()},
            xlabel="step", ylabel="perplexity, of 64", height=2.3),
     """Perplexity by step: the bad start stays at six; with revival it jumps to about forty
     once the unused codes' counts have run out, at step 160, and climbs to fifty; k-means
     starts there.""")
for name, (_, history) in learned.items():
    print(f"{name:<15} codes in use, by perplexity: {history[-1]:.0f} of 64")
assert learned["all in one spot"][1][-1] < 0.5 * learned["with revival"][1][-1]

# %% [markdown]
r"""
The threshold must fit the batch. "Fewer than 2 vectors" is fine if a code gets 50 on average; with as many codes as vectors *every* code is below it, and all are thrown about at every step. So `revive_below=0.05` is a share of an average code's vectors.

(Why step 160? Every count starts at 1 and shrinks by a hundredth a step; an average code gets 4 vectors of a batch, so the limit is $0.05 \cdot 4 = 0.2 = 0.99^{160}$. From k-means nothing dies, so the last two curves are one.)

## 4. Faces in sixteen tokens

*20 minutes.*

Between chapter 2's encoder and decoder stand a 1×1 convolution to 16 channels and the quantizer; each of 4×4 places takes one of 512 codes.
"""

# %%
torch.manual_seed(0)
live = vqvae.VQVAE().to(device)                  # an encoder, a decoder, a place for a codebook
z_e = live.encode(images[:2].to(device))
z_q, indices, _ = quantize(z_e, live.quantizer.codebook)
for name, x in (("z_e", z_e), ("indices", indices), ("z_q", z_q), ("x̂", live.decode(z_q))):
    print(f"{name:<8}", tuple(x.shape))
print(f"an image: {32 * 32 * 3 * 8} bits; its tokens: {16 * int(math.log2(K))} bits")

# %% [markdown]
r"""
Quantizer, loss and running averages of this training are yours. Two things make it work within a minute. The batches are small, so that there can be many steps. And for the first quarter the quantizer is left out: no codebook can follow an encoder that still runs from place to place, and the decoder would learn from the wrong words. Then the codes **start from k-means over what it says by then**; with $\gamma = 0.97$ they remember about thirty batches.
"""

# %% tags=["nbval-ignore-output"]
def train_tokenizer(model, images, steps, lr=5e-3, batch_size=16):
    """Trains encoder, decoder and codes; yields (squared error, perplexity or None) a step."""
    data, book = batches(images, batch_size=batch_size), None
    optimiser = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.99))
    rate = one_cycle(optimiser, lr, steps)                       # up, then slowly down
    for step in tqdm(range(steps), desc="VQ-VAE"):
        x = next(data)[0].to(device)
        z, extra, used = model.encode(x), 0.0, None
        if step == steps // 4:
            z_all = model.encode(images[:128].to(device)).detach().movedim(1, -1)
            codes = vqvae.kmeans(z_all.flatten(0, 2), K)
            average = batch_size * 16 / K
            book = torch.full((K,), average, device=device), average * codes, codes
        if book:
            vectors = z.detach().movedim(1, -1).flatten(0, 2)
            z, indices, extra = quantize(z, book[2])
            book = learn_codes(book, vectors, indices.flatten(), decay=0.97)
            used = vqvae.perplexity(indices, K)
        error = F.mse_loss(model.decode(z), x)
        optimiser.zero_grad()
        (error + extra).backward()
        optimiser.step()
        rate.step()
        yield error.item(), used
    model.quantizer.codebook.copy_(book[2])


errors, used = zip(*train_tokenizer(live, images, size["steps"]), strict=True)
start = size["steps"] // 4

# %% tags=["nbval-ignore-output"]
fig, axes = panels(1, 2, height=2.3)
curves({"squared error": errors}, ylabel="mean", logy=True, smooth=20, ax=axes[0, 0])
axes[0, 0].axvline(start, color="black", lw=0.8, ls=":", label="here the codebook comes in")
legend(axes[0, 0])
curves({"perplexity of a batch": used[start:]}, xlabel="step with the codebook", smooth=10,
       ax=axes[0, 1])
show(fig, """Left: the squared error on a log scale falls, jumps where the codebook comes in,
     and falls below where it was. Right: the perplexity of a batch of 256 vectors, from then
     on: it falls at first and then rises to about 175.""")

# %% [markdown]
r"""
What does a minute give, and what longer training? And chapter 2's VAE, which spends 32 real numbers on a face?
"""

# %% tags=["nbval-ignore-output"]
live = live.cpu().eval()
earlier = load_weights(vae.VAE, "vae")
live_test_codes = live.encode_indices(test_images)
by = {"this\ntraining": live.decode_indices(live_test_codes), "longer": redrawn,
      "VAE,\nlonger": vae.reconstruct(earlier, test_images)}
show(image_grid(torch.cat([test_images[:10], *(x[:10] for x in by.values())]), columns=10,
                row_titles=["real", *by]),
     """Ten real faces and three rows of reconstructions: by the VQ-VAE just trained, soft, with
     the right hair, skin, shirt and background, most of the glasses, and mouths blurred; by the
     longer-trained one, clear; by the VAE of chapter 2, comparable in sharpness.""")
print("2000 reconstructions   squared error   toy Fréchet")
for name, x in by.items():
    error = F.mse_loss(x, test_images)
    print(f"{' '.join(name.split()):<22} {error:13.4f}   {toy_frechet(x):11.1f}")
recorded = {row["model"]: row["frechet"] for row in results()}
assert toy_frechet(by["this\ntraining"]) < recorded["Gaussian"]
print(f"{'(the Gaussian draws)':<22} {'':13}   {recorded['Gaussian']:11.1f}")
for name, tokens in (("this training", live_test_codes), ("longer", test_codes)):
    print(f"{name:<22} {len(tokens.unique())} of {K} codes in use, "
          f"perplexity {vqvae.perplexity(tokens, K):.0f}")

# %% [markdown]
r"""
The loaded weights took 12,000 steps of 64 faces (about twenty times as many faces as yours) by the package's `vqvae.train_vqvae`, the same loop without the first part.

### Moving glasses

A code does not own a patch: the decoder reads all tokens together. How many does it take to *move* a pair of glasses? *Before you run it:* two hundred faces without glasses get, from faces with them, one token at the left eye; then the row of the eyes, four; then that row and the next, eight. In what share of them will the classifier see glasses?
"""

# %% tags=["nbval-ignore-output"]
bare, wearing = ((test["glasses"] == k).nonzero().flatten()[:200] for k in (0, 1))
transplants = {"one token": (slice(1, 2), slice(1, 2)), "row 1": (slice(1, 2), slice(0, 4)),
               "rows 1, 2": (slice(1, 3), slice(0, 4))}
before = float((predict_attributes(redrawn[bare])["glasses"] == 1).float().mean())
print(f"as it was: glasses in {before:.1%} of 200")
transplanted = {}
for name, (rows, columns) in transplants.items():
    tokens = test_codes[bare].clone()
    tokens[:, rows, columns] = test_codes[wearing][:, rows, columns]
    transplanted[name] = model.decode_indices(tokens)
    seen = float((predict_attributes(transplanted[name])["glasses"] == 1).float().mean())
    print(f"{name:<10} {tokens[0, rows, columns].numel()} tokens: glasses in {seen:.1%} of 200")
assert seen > 0.85
shown = [redrawn[bare], redrawn[wearing], *transplanted.values()]
show(image_grid(torch.cat([x[:8] for x in shown]), columns=8,
                row_titles=["without", "with", *transplanted]),
     """Eight faces without glasses, eight with them, and the first eight with tokens of the
     second: one token changes colours, and the hair of two, and brings no glasses; with the row
     of the eyes most wear some, often pale; with two rows all do, one of them pale ones, and
     skin and mouth have come along.""")

# %% [markdown]
r"""
<details><summary>What happened</summary>

One token of sixteen brings glasses to four faces in a hundred: its neighbours still say "none". The row of the eyes brings them to about half, with the row below nine in ten, and with them comes whatever else those rows say: the other face's skin and mouth.

</details>

**Play:** choose two faces and the rows (from 0) that the first takes from the second.
"""

# %% tags=["nbval-ignore-output"]
def with_rows(face, other, first_row, last_row):
    codes = test_codes[[face, other, face]]
    codes[2, first_row : last_row + 1] = codes[1, first_row : last_row + 1]
    return image_grid(model.decode_indices(codes), width=5,
                      titles=[f"face {face}", f"face {other}", "with its rows"])


a, b = int(bare[0]), int(wearing[0])
explore(with_rows, with_rows(a, b, 1, 2), """A face without glasses, one with them, and the
        first with the two middle rows of the second's tokens: it wears the glasses.""",
        face=(0, 99, a), other=(0, 99, b), first_row=(0, 3, 1), last_row=(0, 3, 2));

# %% [markdown]
r"""
## 5. A prior over tokens: PixelCNN

*40 minutes.*

A new face needs sixteen tokens that belong together. Drawn each by itself, from how often it appears at its place, they do not:
"""

# %%
random = torch.Generator().manual_seed(0)
tokens = test_codes.flatten(1)
shuffled = torch.stack([tokens[torch.randperm(2000, generator=random), n]
                        for n in range(16)], 1)
show(image_grid(model.decode_indices(shuffled.view(-1, 4, 4)[:10]), columns=10),
     """Ten faces from tokens that were shuffled between faces, each place by itself: whole
     heads, but with patches of different hair, skin and background.""")

# %% [markdown]
r"""
The product rule needs no assumption. In reading order, left to right and top to bottom,

$$p(c_1, \dots, c_{16}) = \prod_{n=1}^{16} p(c_n \mid c_1, \dots, c_{n-1}) .$$

A model that predicts the next from all before is **autoregressive**, like a language model. **PixelCNN** (van den Oord et al. 2016) computes all sixteen predictions in one pass of a convolutional network whose kernels are *masked*, so that none can peek. The first layer must not see the place itself (mask A); later layers may (mask B), since what they find there no longer contains it.

### Exercise 3.6 · `mask` · ★★ · 6 minutes

Make the mask of a square kernel of odd size: 1 where a tap may look, 0 where it may not.

<details><summary>Hint</summary>

Start with zeros. All rows above the middle are 1; in the middle row, the places left of the centre, and for kind B the centre too.

</details>
"""

# %%
def mask(size, kind):
    """Which taps of a size x size kernel may be used; kind "A" or "B".

    Shapes: -> (size, size) of 0 and 1, floats.
    """
    ### BEGIN SOLUTION
    out = torch.zeros(size, size)
    out[: size // 2] = 1
    out[size // 2, : size // 2] = 1
    if kind == "B":
        out[size // 2, size // 2] = 1
    return out
    ### END SOLUTION

# %% points=2
check(mask)

# %%
mask = yours(mask)


def receptive_field(first, layers, grid=16, at=(9, 8)):
    """What a stack of masked layers sees from one place, by its gradient: a map of 0, 1, 2."""
    row, column = at
    x = torch.zeros(1, 1, grid, grid, requires_grad=True)
    h = x
    for kernel in [mask(first, "A"), *[mask(3, "B")] * layers]:      # every tap is open or shut
        h = F.conv2d(h, kernel[None, None], padding=len(kernel) // 2)
    h[0, 0, row, column].backward()

    n = torch.arange(grid * grid).view(grid, grid)
    picture = torch.where(n < row * grid + column, 1, 0)     # 1: earlier, 0: what comes later
    picture[x.grad[0, 0] > 0] = 2                            # 2: seen
    return picture

# %%
fields = {"3×3, A": receptive_field(3, 0), "+ 2 layers B": receptive_field(3, 2),
          "+ 8 layers B": receptive_field(3, 8), "7×7 first": receptive_field(7, 8)}
kinds = {"later: may not be seen": "#e4e4e4", "earlier, but not seen": COLOURS[1],
         "seen": "#003355"}
fig, axes = panels(1, 4, height=2.2)
for ax, (name, field) in zip(axes.flat, fields.items(), strict=True):
    ax.imshow(field, cmap=ListedColormap(kinds.values()), vmin=0, vmax=2)
    ax.plot(8, 9, "x", color="black", ms=5, label="the place to predict")
    ax.set_title(name, fontsize=9)
    ax.set_axis_off()
for name, colour in kinds.items():
    ax.plot([], [], "s", color=colour, ms=9, label=name)
legend(fig)
show(fig, """What the place with the cross sees on a 16×16 grid: dark blue. Light grey comes
     later and may not be seen; orange is what it should see and does not. After one layer it
     sees the four neighbours before it, after more layers a cone above, but a wedge to the
     right stays orange, the blind spot; a 7×7 first layer makes it smaller.""")

# %% [markdown]
r"""
The orange wedge is PixelCNN's **blind spot**: no number of masked 3×3 layers ever reaches it. (The authors later cured it with two stacks of layers.) Our map is only 4×4, and a first kernel of 7×7 reaches every earlier place at once. Check both, nothing later and everything earlier, by the **Jacobian**: the derivative of the logits at each place by the embedded token at each other.
"""

# %%
fresh = pixelcnn.PixelCNN(K, dim=8, blocks=2).eval()
nn.init.normal_(fresh.head.weight)      # it starts at zero, where every derivative is zero too
embedded = torch.randn(1, 8, 4, 4, requires_grad=True)
logits = fresh.logits_of(embedded)[0].flatten(1)
jacobian = torch.zeros(16, 16)
for n in range(16):
    of_n = torch.autograd.grad(logits[:, n].square().sum(), embedded, retain_graph=True)[0]
    jacobian[n] = of_n.abs().sum((0, 1)).flatten()
depends = jacobian > 0
print("sees itself or later places:", bool(depends.triu().any()),
      "  sees every earlier place:", bool(depends.tril(-1).sum() == 16 * 15 // 2))

# %% [markdown]
r"""
Training is maximum likelihood: cross-entropy. Summed over the places, in base 2, it is the number of **bits** that a perfect compressor built on this model would spend on the face.

### Exercise 3.7 · `bits` · ★★ · 6 minutes

Compute the bits an image costs, averaged over a batch.

<details><summary>Hint</summary>

`F.cross_entropy` takes logits `(B, K, H, W)` and codes `(B, H, W)`. In which unit is it, and over what does it average by default?

<details><summary>More</summary>

`reduction="sum"` gives nats, summed over everything. Divide by the batch size and by $\log 2$.

</details>
</details>
"""

# %%
def bits(logits, codes):
    """-log2 p(codes), summed over the map, averaged over the batch.

    Shapes: (B, K, H, W), (B, H, W) -> a scalar.
    """
    ### BEGIN SOLUTION
    return F.cross_entropy(logits, codes, reduction="sum") / len(codes) / math.log(2)
    ### END SOLUTION

# %% points=2
check(bits)

# %% [markdown]
r"""
### Training the prior

Your VQ-VAE turns every training face into tokens; a PixelCNN learns which belong together, with your `bits` as the loss (times $\log 2$ it is in nats):
"""

# %% tags=["nbval-ignore-output"]
bits = yours(bits)


def train_prior(prior, codes, steps, lr=4e-3):
    """Trains a PixelCNN on the codes by maximum likelihood; yields bits an image."""
    data = batches(codes, batch_size=64)
    optimiser = torch.optim.AdamW(prior.parameters(), lr=lr, weight_decay=0.01)
    rate = one_cycle(optimiser, lr, steps)
    for _ in tqdm(range(steps), desc="PixelCNN"):
        tokens = next(data)[0].to(device)
        cost = bits(prior(tokens), tokens)
        optimiser.zero_grad()
        (cost * math.log(2)).backward()
        optimiser.step()
        rate.step()
        yield cost.item()


torch.manual_seed(0)
codes = live.encode_indices(images)
live_prior = pixelcnn.PixelCNN(K).to(device)
spent = list(train_prior(live_prior, codes, size["prior_steps"]))
live_prior = live_prior.cpu().eval()

fig = curves({"bits an image": spent}, ylabel="bits", height=2.3)
fig.axes[0].axhline(16 * math.log2(K), color="black", lw=0.8, ls="--",
                    label="sixteen uniform codes: 144")
legend(fig.axes[0])
show(fig, """Bits per image by step, falling from the dashed line at 144, sixteen uniform codes,
     to about 40.""")
assert spent[-1] < 0.85 * spent[0] and abs(spent[0] - 16 * math.log2(K)) < 0.1

# %% [markdown]
r"""
The last layer starts at zero, so an untrained model calls every code equally likely: $16 \log_2 512 = 144$ bits. Section 6 meets this number again.

### Exercise 3.8 · `draw_codes` · ★★★ · 20 minutes

Now draw, one place after the other in reading order: ask the model with the tokens there are, take its prediction *for this place*, draw a token from it, put it in. **As many passes as there are places to fill**, and not side by side. For 16 tokens that is nothing; for the 65,536 pixels of a photograph it is why hardly anybody does it.

The first `P` tokens of each map may be given and stay as they are; `P` is 0 if the model is to draw all. The model is in eval mode, and takes `model(codes, y)` with codes `(n, grid, grid)`; what stands at places not drawn yet does not matter: it cannot see them.

<details><summary>Hint</summary>

Begin with `codes = torch.zeros(n, grid * grid, dtype=torch.long)`, put the given ones into its first columns, and loop over the remaining columns. `codes.view(n, grid, grid)` is the map that the model wants.

<details><summary>More</summary>

`model(…).flatten(2)` has the shape `(n, K, grid * grid)`: take `[:, :, place]`, a softmax over the codes, `torch.multinomial(p, 1, generator=generator)`, which is `(n, 1)`. All of it inside `torch.no_grad()`.

</details>
</details>
"""

# %%
def draw_codes(model, given, grid=4, y=None, generator=None):
    """Maps of codes whose first P tokens, in reading order, are given, the others drawn.

    Shapes: given (n, P) integers, y None or (n,) -> (n, grid, grid) integers.
    """
    ### BEGIN SOLUTION
    n, known = given.shape
    codes = torch.zeros(n, grid * grid, dtype=torch.long)
    codes[:, :known] = given
    for place in range(known, grid * grid):
        with torch.no_grad():
            logits = model(codes.view(n, grid, grid), y).flatten(2)      # (n, K, places)
        p = logits[:, :, place].softmax(dim=1)
        codes[:, place] = torch.multinomial(p, 1, generator=generator).squeeze(1)
    return codes.view(n, grid, grid)
    ### END SOLUTION

# %% points=4
check(draw_codes)

# %% [markdown]
r"""
Two thousand faces each from your prior and VQ-VAE and from the longer-trained ones, by your loop:
"""

# %% tags=["nbval-ignore-output"]
draw_codes = yours(draw_codes)
nothing = torch.zeros(2000, 0, dtype=torch.long)
live_drawn, drawn = (
    decoder.decode_indices(draw_codes(p, nothing, generator=torch.Generator().manual_seed(7)))
    for p, decoder in ((live_prior, live), (prior, model)))
show(image_grid(torch.cat([live_drawn[:20], drawn[:20]]), columns=10,
                row_titles=["this\ntraining", "", "longer", ""]),
     """Two rows of faces from this chapter's own training: whole faces, a little soft, some
     with pale half-glasses or a shirt of two colours; two rows from the longer-trained
     networks, clearer.""")
print(f"toy Fréchet distance: this training {toy_frechet(live_drawn):.0f}, longer "
      f"{toy_frechet(drawn):.0f}, the Gaussian of chapter 0 {recorded['Gaussian']:.0f}")

# %% [markdown]
r"""
By this yardstick a minute of your own training draws better than chapter 0's Gaussian. Nine tenths of your distance is the tokenizer's: its reconstructions of real faces have it already (section 4).

Now let the longer-trained prior continue faces that were begun. *Before you run it:* with six tokens given, it knows the hair and the left half of the eyes. Where the left lens is there, will it draw the right one?
"""

# %% tags=["nbval-ignore-output"]
given = torch.cat([test_codes[wearing[:4]], test_codes[bare[:4]]]).flatten(1)
dice, counts = torch.Generator().manual_seed(1), (16, 12, 8, 6, 4, 0)
completed = torch.cat([draw_codes(prior, given[:, :n], generator=dice) for n in counts])
show(image_grid(model.decode_indices(completed), columns=8,
                row_titles=[*(f"{n} given" for n in counts[:-1]), "none"]),
     """Eight faces, four with and four without glasses, of which 16, 12, 8, 6, 4 and no tokens
     are given and the prior draws the rest: with eight given the upper half stays and shirt and
     chin are new; with six, half of the eyes is given, and most faces keep their glasses, or
     their lack of them; with four only hair and background stay.""")
pool = torch.cat([bare, wearing])
both = test_codes[pool].flatten(1)
for n in (8, 6, 4):
    finished = model.decode_indices(draw_codes(prior, both[:, :n], generator=dice))
    kept = predict_attributes(finished)["glasses"] == test["glasses"][pool]
    print(f"{n} tokens given: as before, with or without glasses, in {kept.float().mean():.0%}")

# %% [markdown]
r"""
<details><summary>What happened</summary>

Mostly: its tokens say so in three faces of four, since a left lens is followed by a right one. With four tokens it must guess, and is not much better than a coin.

</details>

### On demand

The longer-trained prior also takes a label: an embedding of the hair colour, added in every block (and left out of a fifth of its training batches, so that it can also draw without). Your loop passes it on.
"""

# %% tags=["nbval-ignore-output"]
colours = ATTRIBUTES["hair"]
asked = torch.arange(5).repeat_interleave(200)
on_demand = draw_codes(prior, nothing[:1000], y=asked, generator=dice)
on_demand = model.decode_indices(on_demand)
rows = torch.cat([on_demand[asked == k][:10] for k in range(5)])
show(image_grid(rows, columns=10, row_titles=list(colours)),
     """Five rows of ten faces drawn for the hair colours black, chestnut, blond, red and grey:
     nearly all have the colour asked for.""")
share = obedience(on_demand, "hair", asked)
print(f"hair colour obeyed in {share:.0%} of 1000 samples")
assert share > 0.8

# %% [markdown]
r"""
## 6. Where the KL went, and what a face costs

*15 minutes.*

Chapter 2's loss was distortion plus rate, a KL divergence. Section 2's loss has none. **Where did it go?** The bound holds for any $q(c \mid x)$, and here $q(c_n \mid x) = 1$ for the nearest code of each place. Against a prior that calls all 512 codes equally likely, the KL divergence of a face is

$$\mathrm{KL}\left(q(c \mid x) \,\|\, p(c)\right) = \sum_{n=1}^{16} \sum_k q(c_n = k \mid x) \log_2 \frac{q(c_n = k \mid x)}{1/512} = \sum_{n=1}^{16} \log_2 \frac{1}{1/512} = 144 \text{ bits}.$$

It is a *constant*: no gradient comes from it, so nobody writes it into the loss. The rate, which a VAE must hold down by force, is fixed by the number of tokens and of codes.

With a prior that is learned *afterwards* the KL is $-\log_2 p(c)$, the very number that your `bits` computes and the PixelCNN's training lowers. **Training the prior is what is left of the KL term**: it cuts the rate and, since encoder and decoder stand still, leaves the distortion as it is. How much does a face cost then?
"""

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    learned_bits = float(bits(prior(test_codes), test_codes))
    with_label = float(bits(prior(test_codes, test["hair"]), test_codes))
    live_bits = float(bits(live_prior(live_test_codes), live_test_codes))
    mean, logvar = earlier.encode(test_images)
    vae_bits = float(vae.kl_standard_normal(mean, logvar).mean() / math.log(2))
places = model.encode_indices(images).flatten(1).T       # of the training faces
counts = torch.stack([torch.bincount(tokens, minlength=K) for tokens in places])
p = (counts + 0.1) / (counts + 0.1).sum(1, keepdim=True)     # no code is impossible
by_place = float(-p.gather(1, test_codes.flatten(1).T).log2().sum() / len(test_codes))
attributes = sum(math.log2(len(values)) for values in ATTRIBUTES.values())
costs = {"all codes equally likely": 16 * math.log2(K),
         "each place its own frequencies": by_place,
         "PixelCNN": learned_bits,
         "PixelCNN, hair colour known": with_label,
         "the nine attributes alone": attributes,
         "for comparison: the VAE's KL": vae_bits}
for name, cost in costs.items():
    print(f"{name:<31} {cost:6.1f} bits")
print(f"{'(your PixelCNN, your tokens)':<31} {live_bits:6.1f} bits")
assert learned_bits < by_place < 144 and with_label < learned_bits < vae_bits

# %% [markdown]
r"""
Between a face's attributes, about 17 bits, and what the PixelCNN pays lie eight variations without a name (place and width of the head, the eyes, brows, mouth, light), to the accuracy that the decoder can draw.

Knowing the hair colour saves about three bits. Look twice: a choice among five is worth $\log_2 5 = 2.3$ bits, so a perfect model could not save three. *Ours* has trained without a label in a fifth of its batches only, and is worse there: numbers with a known limit are good tests.

Rate alone says little: one bit is cheap, and draws nothing. Where does the VQ-VAE lie in chapter 2's plane of rate and distortion?
"""

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    drawn_z = vae.reparameterise(mean, logvar, torch.Generator().manual_seed(0))
    vae_error = float(F.mse_loss(earlier.decode(drawn_z), test_images))
error, live_error = (float(F.mse_loss(x, test_images)) for x in list(by.values())[1::-1])
plane = {"VAE, β = 0.03": [(vae_bits, vae_error)],
         "VQ-VAE: uniform prior → PixelCNN": [(144, error), (learned_bits, error)],
         "yours: uniform prior → PixelCNN": [(144, live_error), (live_bits, live_error)]}
fig, axes = panels(1, 1, height=2.6)
ax = axes[0, 0]
for (name, at), colour in zip(plane.items(), COLOURS, strict=False):
    ax.plot(*zip(*at, strict=True), "o-", color=colour, label=name)
    print(f"{name:<33}", "  ".join(f"{rate:5.1f} bits at {e:.4f}" for rate, e in at))
ax.set(xlim=(0, 150), ylim=(0, None))
ax.set_xlabel("rate, bits per face", fontsize=9)
ax.set_ylabel("squared error", fontsize=9)
legend(ax)
show(fig, """Squared error over rate. The VQ-VAE's line runs level from 144 bits to 73: the
     learned prior makes the same pictures cheaper. The VAE lies at 116 bits, well
     below that line. Yours lies well above both, and its prior reaches fewer bits: its tokens
     say less.""")

# %% [markdown]
r"""
The learned prior makes the same pictures for half the bits. The VAE pays more bits for a smaller error, so neither code is simply better; but drawing asks whether the *prior* is right, and there the VAE's round Gaussian loses (the table below). Your own tokens are cheapest because they tell least: a low rate is no merit by itself.

What survives in sixteen tokens? Attribute by attribute, does the classifier read off the redrawn face what the truth says?
"""

# %% tags=["nbval-ignore-output"]
by_tokens = predict_attributes(redrawn)
by_vae = predict_attributes(vae.reconstruct(earlier, test_images))
print(f"{'':<12} {'16 tokens':>10} {'VAE, 32 numbers':>16} {'guessing':>9}")
for name, values in ATTRIBUTES.items():
    right, right_vae = ((read[name] == test[name]).float().mean()
                        for read in (by_tokens, by_vae))
    print(f"{name:<12} {right:>10.0%} {right_vae:>16.0%} {1 / len(values):>9.0%}")

# %% tags=["nbval-ignore-output"]
error = (redrawn - test_images).square().flatten(1).mean(1)
worst = error.argsort(descending=True)[:8]
rows = torch.cat([test_images[worst], redrawn[worst]])
show(image_grid(rows, columns=8, row_titles=["real", "16 tokens"]),
     """The eight test faces that lose most in sixteen tokens, above their reconstructions: eye
     colour, mouths and fine outlines are softened or changed; glasses and colours stay.""")

# %% tags=["nbval-ignore-output"]
now, limit = toy_frechet(drawn), toy_frechet(redrawn)
print(results_table(through_chapter=3, **{"VQ-VAE + PixelCNN": now}))
print(f"\nreal faces through the sixteen tokens: {limit:.1f}")
assert now < recorded["VAE"], "the VQ-VAE with its prior should beat the VAE"

# %% [markdown]
r"""
The learned prior pays: the distance lies far below the VAE's, whose prior was assumed. Of what remains, real faces through the same tokens show the decoder's part, the score of a prior that matched the codes exactly; the rest is the prior's fault. The GAN is still ahead: it is as sharp as its discriminator demands, and the squared error demands nothing of the kind.

So the decoder must become sharper: chapter 4. And the prior can be another: chapters 5 to 7 put diffusion in its place, which draws all tokens at once, in as many steps as you choose.

## Summary

- The straight-through estimator carries the gradient past the step; without it the encoder learns nothing of the picture. β belongs to the commitment; misplaced, and with Adam, it does nothing.
- Running averages move the codes without a gradient. Perplexity counts the codes in use; dead codes are revived, by a threshold relative to an average code.
- A masked convolution predicts every token from those before it in one pass; drawing takes one pass a token.
- The KL to a uniform prior is a constant, 144 bits; training the prior is what is left of it, and halves the rate.
"""

# %% tags=["nbval-ignore-output"]
minigen.progress()

# %% [markdown]
r"""
### Words

| English | 中文 | meaning here |
|---|---|---|
| vector quantisation | 向量量化 | replace a vector by the nearest of K codes |
| codebook | 码本 | the K codes |
| straight-through estimator | 直通估计 | forward the code, backward as if it were not there |
| commitment loss | 承诺损失 | keeps the encoder's vectors near their codes |
| exponential moving average | 指数滑动平均 | a running mean that forgets |
| perplexity | 困惑度 | how many codes are used, in effect |
| autoregressive | 自回归 | each token from those before it |
| token | 词元 | one index into the codebook, at one place of the map |
| receptive field | 感受野 | the places an output can see |

### References

- van den Oord, Vinyals, Kavukcuoglu 2017, *Neural Discrete Representation Learning*, [arXiv:1711.00937](https://arxiv.org/abs/1711.00937): Eqs. 1 to 3, appendix A.1.
- Razavi, van den Oord, Vinyals 2019, *Generating Diverse High-Fidelity Images with VQ-VAE-2*, [arXiv:1906.00446](https://arxiv.org/abs/1906.00446).
- Dhariwal et al. 2020, *Jukebox*, [arXiv:2005.00341](https://arxiv.org/abs/2005.00341): restarting dead codes, §3.
- van den Oord, Kalchbrenner, Kavukcuoglu 2016, *Pixel Recurrent Neural Networks*, [arXiv:1601.06759](https://arxiv.org/abs/1601.06759): masks, §3.4.
- van den Oord et al. 2016, *Conditional Image Generation with PixelCNN Decoders*, [arXiv:1606.05328](https://arxiv.org/abs/1606.05328): blind spot, labels.
- Lloyd 1982, *Least Squares Quantization in PCM*, [doi:10.1109/TIT.1982.1056489](https://doi.org/10.1109/TIT.1982.1056489).
- Liu, Chen, Gao 2026, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): $L_{vq}$ in Eq. 15, quantisation in Eq. 30 (chapters 4 and 7).
"""
