# %% [markdown]
r"""
# Chapter 3 · VQ-VAE

A VAE's code is a cloud in a continuous space, and its prior, one round Gaussian, fits it badly. A **VQ-VAE** makes the code *discrete*: an image
becomes sixteen entries of a codebook, sixteen words. Words can be counted, so the prior need not be assumed; it can be learned, like a
language. The paper's autoencoder in chapter 4 and its diffusion model in chapter 7 stand on this code.

In this chapter you will

1. go from k-means to a codebook inside a network, and get a gradient through a step that has none;
2. find a bug that sits in well-known code to this day;
3. keep a codebook alive: running averages, perplexity, dead codes and their revival;
4. turn faces into sixteen tokens, and edit one token by hand;
5. learn a prior over tokens, a PixelCNN, and count every bit.
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
from minigen.data import ATTRIBUTES, ToyFaces, batches
from minigen.files import load_weights
from minigen.metrics import obedience, predict_attributes, results, results_table, toy_frechet
from minigen.plots import COLOURS, curves, heat, image_grid, legend, panels, points, show
from minigen.widgets import explore

scale, device = minigen.setup()
size = {"small": dict(faces=8192, steps=300, prior_steps=200),
        "full": dict(faces=20_000, steps=20_000, prior_steps=20_000)}[scale]
faces, test = ToyFaces(size["faces"], seed=0), ToyFaces(2000, seed=2)
images, test_images = faces.images(), test.images()
print(f"scale: {scale}, {len(faces)} faces to learn from, {len(test)} the model never sees")

# %% [markdown]
r"""
Here is where the chapter ends: a face, the sixteen tokens that stand for it, the face that they draw, and faces drawn from tokens that a prior made up.
"""

# %% tags=["nbval-ignore-output"]
model, prior = load_weights(vqvae.VQVAE, "vqvae"), load_weights(pixelcnn.PixelCNN, "pixelcnn")
K = model.config["num_codes"]
test_codes = model.encode_indices(test_images)
redrawn = model.decode_indices(test_codes)
print("the first face in sixteen tokens:")
for row in test_codes[0]:
    print("   ".join(f"{int(c):3d}" for c in row))
drawn = model.decode_indices(pixelcnn.sample_codes(prior, 2000, seed=7))
show(image_grid(torch.cat([test_images[:10], redrawn[:10], drawn[:20]]), columns=10,
                row_titles=["real", "16 tokens", "drawn", ""]),
     """Ten real faces; the same ten redrawn from sixteen tokens each, a little soft but with
     glasses, smile and pose mostly right; twenty faces drawn from tokens of the prior, as clear
     as the redrawn ones, here and there with a shirt of two colours.""")

# %% [markdown]
r"""
## 1. From k-means to a codebook

*25 minutes.*

**Vector quantisation** replaces every vector by the nearest of $K$ fixed ones. Words first: a **code** $e_k$ is one of the $K$ vectors, $k$ its index, and a **token** is such an index at one place of a map. You know it from images with few colours: here every pixel of a
face, three numbers, is replaced by the nearest entry of a palette.
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
The palettes come from **k-means** (Lloyd 1982), two steps in turn: give every point to its nearest centre; move each centre to the mean of its points. Neither step can
raise the squared error, so it falls until nothing moves. In the plane you can watch it:
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

The nearest code of every vector. Do not build the differences, `(N, K, C)` numbers. Expand the square instead:
$\lVert z - e_k \rVert^2 = \lVert z \rVert^2 - 2\, z \cdot e_k + \lVert e_k \rVert^2$. One of the three terms is the same for all $k$.

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
The tested version, `vqvae.nearest_code`, works through the rows in chunks: the paper's codebook has 16,384 codes, and all distances of 8,192 vectors to it would fill half a gigabyte.
It also computes in 32-bit floats even where the rest of the network runs in 16. Here is why:
"""

# %% tags=["nbval-ignore-output"]
z = 2 + 0.3 * torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
codebook = 2 + 0.3 * torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
exact = torch.cdist(z.double(), codebook.double()).argmin(1)
z16, codebook16 = z.bfloat16(), codebook.bfloat16()
half = (codebook16.square().sum(1) - 2 * z16 @ codebook16.T).argmin(1)
with torch.autocast("cpu", torch.bfloat16):
    ours = vqvae.nearest_code(z, codebook)
right_half, right_ours = ((k == exact).float().mean() for k in (half, ours))
print(f"right code in bfloat16: {right_half:.0%}   in minigen under autocast: {right_ours:.0%}")
assert right_half < 0.8 and right_ours > 0.999

# %% [markdown]
r"""
### A step without a gradient

Now put the codebook into the middle of an autoencoder. The encoder's output $z_e$ is a map of vectors; each is replaced by its nearest code, which gives $z_q$; the decoder draws from $z_q$
(van den Oord et al. 2017). The choice of the nearest code is a staircase, and its derivative is zero almost everywhere. No gradient reaches the encoder.

The **straight-through estimator** looks away: it uses $z_q$ going forward and pretends, going back, that the step was not there. With $\mathrm{sg}[\cdot]$ ("stop gradient", `detach`) it is one line:

$$z_q \leftarrow z_e + \mathrm{sg}[z_q - z_e] .$$

Read it twice: the *value* is $z_q$, since $z_e$ cancels; the *gradient* is that of $z_e$, since the bracket counts as a constant.

### Exercise 3.2 · `straight_through` · ★ · 4 minutes

Write that line: the value of `z_q`, the gradient of `z_e`.

<details><summary>Hint</summary>

`.detach()` cuts the gradient of what it is called on. Write the formula as it stands.

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

*20 minutes.*

The straight-through gradient trains the encoder and the decoder. It does not move the codes, and nothing holds $z_e$ near them. Two more terms do:

$$L_{vq} = \underbrace{\lVert \mathrm{sg}[z_e] - e \rVert^2}_{\text{codebook: codes move to the vectors}} + \; \beta\, \underbrace{\lVert z_e - \mathrm{sg}[e] \rVert^2}_{\text{commitment: vectors stay near their codes}}$$

where $e$ is the chosen code, before the straight-through line (van den Oord et al. 2017, Eq. 3; it is the $L_{vq}$ in Eq. 15 of the course's paper, which does not write it out). The two terms have the *same value*; they differ only in whom they move. So a mistake in them is invisible in any loss curve. (This β is not chapter 2's. The whole loss is $\lVert x - \hat x \rVert^2 + L_{vq}$, each a mean.) Here
is one that stood in the code of well-known image models for years, and still is the default of some libraries:
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
torch.manual_seed(0)
quantizer = vqvae.VectorQuantizer(num_codes=64, dim=4, beta=0.25)
z_map = torch.randn(8, 4, 4, 4, requires_grad=True)
out = quantizer(z_map)
to_encoder, to_codes = torch.autograd.grad(out.loss, (z_map, quantizer.codebook))
e = quantizer.embed(out.indices)
by_formula = 2 * 0.25 * (z_map - e) / z_map.numel()
same_gradient = bool(torch.allclose(to_encoder, by_formula, atol=1e-7))
same_value = bool(torch.isclose(out.codebook_loss, out.commitment_loss))
print("gradient to the encoder is 2β(z − e)/N:", same_gradient)
print("the two terms have one value:          ", same_value)

# %% [markdown]
r"""
It should say 0.25 : 1, and it said 4 : 1. With the misplaced β the codes get a quarter of the intended gradient (which Adam, blind to such factors, hides again), and the encoder is pulled four times as hard. The models trained with it work all the same, which is why nobody saw it. But whoever tunes β tunes the
wrong thing. (The historic threads are worth reading: *taming-transformers*, issue 57, and *diffusers*, issue 8226. Old weights were trained with it, so the default cannot simply be changed.)

## 3. Keeping a codebook alive

*25 minutes.*

### Running averages

The codebook loss asks each code to move to the mean of its vectors; its gradient gets there slowly. k-means would put it there at once, but a batch is only a sample. In between lies an **exponential moving average** (appendix A.1 of the VQ-VAE paper): keep for every code a running
count $N_k$ of its vectors and a running sum $m_k$,

$$N_k \leftarrow \gamma N_k + (1 - \gamma)\, n_k, \qquad m_k \leftarrow \gamma m_k + (1 - \gamma) \sum_{z \to k} z, \qquad e_k = \frac{m_k}{N_k},$$

with $\gamma = 0.99$, where $n_k$ vectors of this batch chose code $k$ and the sum runs over them. Then the codebook has no gradient, and the loss is the commitment alone.

### Exercise 3.4 · `ema_update` · ★★★ · 10 minutes

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

A codebook can have 512 codes and use 20. How many are used *in effect*? Let $p_k$ be the share of vectors that chose code $k$. Its entropy $H = -\sum_k p_k \log p_k$ is what one choice tells, in nats; the **perplexity** $e^H$ is the number of
equally used codes that would tell as much: $K$ if all are used alike, 1 if only one is.

### Exercise 3.5 · `code_perplexity` · ★★ · 5 minutes

Compute the perplexity of a batch of indices.

<details><summary>Hint</summary>

`torch.bincount(indices.flatten(), minlength=num_codes)` counts. An unused code gives $0 \log 0$, which is 0: `torch.xlogy(p, p)` knows that, `p * p.log()` gives NaN.

</details>
"""

# %%
def code_perplexity(indices, num_codes):
    """exp of the entropy of the codes' shares.

    Shapes: integers of any shape -> a number between 1 and num_codes.
    """
    ### BEGIN SOLUTION
    p = torch.bincount(indices.flatten(), minlength=num_codes).float() / indices.numel()
    return torch.exp(-torch.xlogy(p, p).sum())
    ### END SOLUTION

# %% points=2
check(code_perplexity)

# %% [markdown]
r"""
### Dead codes

A code that is nearest to no vector gets no gradient and nothing to average. It stays where it is, or nearly: **dead**. A common start makes it worse: codes drawn from $\mathcal U(-\frac1K, \frac1K)$ all lie in one heap; the few on its outside are nearest to all the vectors, and the others never get one. Watch four
codebooks learn the same points on a ring: the bad start; the same with **revival**, where a code that gets less than a few per cent of an average code's vectors is moved onto a random vector; a start from k-means; and both.
"""

# %%
turn = torch.rand(4000, generator=torch.Generator().manual_seed(0)) * 2 * math.pi
jitter = 0.15 * torch.randn(4000, 2, generator=torch.Generator().manual_seed(1))
ring = torch.stack([2 * turn.cos(), 2 * turn.sin()], 1) + jitter


def learn_ring(revive_below=0.0, from_kmeans=False, codes=64, steps=400):
    """A codebook learned on the ring by running averages: (its codes, perplexity by step)."""
    torch.manual_seed(0)
    quantizer = vqvae.VectorQuantizer(codes, 2, decay=0.99, revive_below=revive_below).train()
    quantizer._set(slice(None), (torch.rand(codes, 2) * 2 - 1) / codes, torch.ones(codes))
    if from_kmeans:
        quantizer.init_codebook(ring[:512].T.view(1, 2, 16, 32))
    history, data = [], batches(ring, batch_size=256)
    for _ in range(steps):
        (batch,) = next(data)
        indices = quantizer(batch.T.view(1, 2, 16, 16)).indices
        history.append(vqvae.perplexity(indices, codes))
    return quantizer.codebook.clone(), history

# %%
ways = {"all in one spot": {},
        "with revival": dict(revive_below=0.05),
        "from k-means": dict(from_kmeans=True),
        "both": dict(revive_below=0.05, from_kmeans=True)}
learned = {name: learn_ring(**options) for name, options in ways.items()}
show(with_codes(ring[:800], [codes for codes, _ in learned.values()], list(learned)),
     """Four panels of a ring of points and 64 codes, crosses: from the bad start five codes
     have moved onto the ring and share all points, the rest lie dead in a heap in the middle;
     with revival, from k-means and with both they lie all along the ring.""")

# %%
show(curves({name: history for name, (_, history) in learned.items()},
            xlabel="step", ylabel="perplexity, of 64", height=2.3),
     """Perplexity by step: the bad start stays near five; with revival it jumps to about fifty
     once the unused codes' counts have run out, at step 160; k-means starts there.""")
assert learned["all in one spot"][1][-1] < 0.5 * learned["with revival"][1][-1]

# %% [markdown]
r"""
The threshold must fit the batch. A rule such as "fewer than 2 vectors" is fine if a code gets 50 on average; if there are as many codes as vectors, *every* code is below it, and all of them are thrown about at every step. So `VectorQuantizer` compares with the average:
`revive_below=0.05` means less than a twentieth of an average code's share.

Why step 160? Every count starts at 1 and shrinks by a hundredth a step; an average code gets 4 vectors of a batch, so the limit is $0.05 \cdot 4 = 0.2 = 0.99^{160}$. (From k-means nothing dies, so the last two curves are one.)

One more trap: a revived code must also get a new count and a new sum. Otherwise the next running average pulls it straight back to where it died.

## 4. Faces in sixteen tokens

*20 minutes.*

Encoder and decoder are those of chapter 2; in between, a 1×1 convolution to 16 channels and the quantizer. Each of the 4×4 places takes one of 512 codes.
"""

# %%
live = vqvae.VQVAE(revive_below=0.3).to(device)
x = images[:2].to(device)
z_e = live.encode(x)
out = live.quantizer(z_e)
x_hat = live.decode(out.z_q)
print("image", tuple(x.shape), "→ z_e", tuple(z_e.shape), "→ indices", tuple(out.indices.shape))
print("  → z_q", tuple(out.z_q.shape), "→ image", tuple(x_hat.shape))
parameters = sum(p.numel() for p in live.parameters())
num_codes, dim = live.quantizer.num_codes, live.quantizer.dim
print(f"parameters: {parameters}, codebook {num_codes} × {dim}")
print(f"an image: {32 * 32 * 3 * 8} bits; its tokens: {16 * int(math.log2(num_codes))} bits")

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
live = vqvae.VQVAE(revive_below=0.3).to(device)      # a short training: revive early
training = vqvae.train_vqvae(live, batches(images, batch_size=64), steps=size["steps"])
history = list(tqdm(training, total=size["steps"], desc="VQ-VAE"))

losses = {"squared error": [s.reconstruction for s in history],
          "commitment": [s.commitment for s in history]}
fig, axes = panels(1, 2, height=2.3)
curves(losses, ylabel="mean", logy=True, ax=axes[0, 0])
curves({"perplexity of a batch": [s.perplexity for s in history]}, smooth=10, ax=axes[0, 1])
show(fig, """Left: squared error and commitment loss fall on a log scale. Right: the perplexity
     of a batch's codes falls from 300 to about 30 while the encoder runs away from its first
     codebook, jumps to about 250 when the dead codes are revived, and climbs on to 300.""")
assert history[-1].reconstruction < 0.3 * history[0].reconstruction
assert history[-1].perplexity > 50

# %% tags=["nbval-ignore-output"]
live = live.cpu().eval()
x, earlier = test_images[:10], load_weights(vae.VAE, "vae")
rows = {"real": x,
        "this\ntraining": live.decode_indices(live.encode_indices(x)),
        "longer": redrawn[:10],
        "VAE,\nlonger": vae.reconstruct(earlier, x)}
show(image_grid(torch.cat(list(rows.values())), columns=10, row_titles=list(rows)),
     """Ten real faces and three rows of reconstructions: by the VQ-VAE just trained, blurred;
     by the longer-trained one, clear; by the VAE of chapter 2, comparable in sharpness.""")

# %% [markdown]
r"""
Is the codebook used? Count over two thousand faces the model has never seen.
"""

# %% tags=["nbval-ignore-output"]
share = torch.bincount(test_codes.flatten(), minlength=K).double() / test_codes.numel()
used = int((share > 0).sum())
print(f"codes used: {used} of {K}, perplexity {vqvae.perplexity(test_codes, K):.0f}")
assert used > 0.6 * K

fig, axes = panels(1, 1, height=2.0)
ax = axes[0, 0]
ax.bar(range(K), share.sort(descending=True).values * 100, width=1.0, color=COLOURS[0])
ax.axhline(100 / K, color="black", lw=0.8, ls="--", label=f"equal use: 1 of {K}")
ax.set_xlim(-5, K + 5)
ax.set_xlabel("codes, sorted by use", fontsize=9)
ax.set_ylabel("per cent", fontsize=9)
legend(ax)
show(fig, """Share of each of the 512 codes, sorted: a gentle slope around the dashed line of
     equal use, without a long tail of unused codes.""")

# %% [markdown]
r"""
### What does each code draw?

Take one face's tokens and put other codes in the second row, second column, where an eye is. What appears? And where in real faces is each of these codes used? For eight codes, from the commonest there to rare ones:
"""

# %%
by_use = test_codes[:, 1, 1].bincount(minlength=K).argsort(descending=True)
picked = by_use[[0, 8, 16, 24, 32, 40, 50, 60]].tolist()
swapped = test_codes[:1].repeat(len(picked), 1, 1)
swapped[:, 1, 1] = torch.tensor(picked)
show(image_grid(model.decode_indices(swapped), columns=8, titles=[f"code {k}" for k in picked]),
     """The same face eight times with another code at the second row, second column: eyes, skin
     and hair change in colour, at both eyes though only one token changed; the shirt stays
     nearly as it was.""")

# %% tags=["nbval-ignore-output"]
fig, axes = panels(2, 4, height=1.6)
for ax, k in zip(axes.flat, picked, strict=True):
    where = 100 * (test_codes == k).float().mean(0)
    heat(ax, where, title=f"code {k}, up to {where.max():.1f} %", low=0)
show(fig, """For each of the eight codes a 4×4 map of the places where it is used, in per cent
     of two thousand faces; each map has its own scale, its maximum in the title. The first two
     codes are used at this one place only; the next three most often here, but elsewhere too;
     the last three most often in the top row.""")

# %% [markdown]
r"""
The commonest codes are specialists: this is the only place where they are used. A rarer one has several places, or is at home at another. But a code does not own a patch. The decoder reads all tokens together, and changing one changes the middle of the face, both eyes included. Nor does one
token from a face with glasses make glasses: its neighbours still say "none".

**Play:** the token editor. Choose a face, a place (row and column, from 0) and a code.
"""

# %% tags=["nbval-ignore-output"]
def edited(face, row, column, code):
    codes = test_codes[face : face + 1].clone()
    before = int(codes[0, row, column])
    codes[0, row, column] = code
    original = model.decode_indices(test_codes[face : face + 1])
    changed = model.decode_indices(codes)
    change = (changed - original).abs().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return image_grid(torch.cat([original, changed, change.clamp(0, 1) * 2 - 1]), width=5,
                      titles=[f"token {before}", f"token {code}", "change"])


glasses = int(test_codes[1, 1, 1])      # the code that face 1, who wears glasses, has there
explore(edited, edited(0, 1, 1, glasses), """A face drawn from its tokens, the same with one
        token taken from a face with glasses, and where the two differ: around both eyes and
        along the outline of the hair; no glasses appear.""",
        face=(0, 99, 0), row=(0, 3, 1), column=(0, 3, 1), code=(0, K - 1, glasses));

# %% [markdown]
r"""
## 5. A prior over tokens: PixelCNN

*30 minutes.*

To *draw* a face we need sixteen tokens that belong together. Drawn one by one at random, each from how often it appears at its place, they do not:
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
The product rule needs no assumption at all. In reading order, left to right and top to bottom,

$$p(c_1, \dots, c_{16}) = \prod_{n=1}^{16} p(c_n \mid c_1, \dots, c_{n-1}) .$$

A model that predicts the next from all before is **autoregressive**, like a language model. **PixelCNN** (van den Oord et al. 2016) computes all sixteen predictions in one pass of a convolutional network, and sees to it that none can peek: the kernels are *masked*. The first layer must
not see the place itself (mask A); later layers may (mask B), since what they find there no longer contains it.

### Exercise 3.6 · `mask` · ★★ · 6 minutes

Make the mask of a square kernel of odd size: 1 where a tap may look, 0 where it may not.

<details><summary>Hint</summary>

Start with zeros. All rows above the middle are 1. In the middle row, the places left of the centre are 1; for kind B the centre too.

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
def receptive_field(first, layers, grid=16, at=(9, 8)):
    """What a stack of masked layers sees from one place, by its gradient: a map of 0, 1, 2."""
    row, column = at
    later_layers = [pixelcnn.MaskedConv2d(1, 1, 3, "B") for _ in range(layers)]
    stack = nn.Sequential(pixelcnn.MaskedConv2d(1, 1, first, "A"), *later_layers)
    for layer in stack:
        nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, grid, grid, requires_grad=True)
    stack(x)[0, 0, row, column].backward()

    n = torch.arange(grid * grid).view(grid, grid)
    picture = torch.where(n < row * grid + column, 1, 0)     # 1: earlier, 0: what comes later
    picture[x.grad[0, 0] > 0] = 2                            # 2: seen
    return picture


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
The orange wedge to the right is PixelCNN's **blind spot**: with masked 3×3 kernels no number of layers ever reaches it. (The authors later cured it with two stacks of layers.) Our map is only 4×4, and a first kernel of 7×7 reaches every earlier place at once: no blind spot. Prove both
claims, nothing later and everything earlier, by the **Jacobian**: the derivative of the logits at each place with respect to the embedded token at each other place.
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

# %%
fig, axes = panels(1, 1, height=2.6, width=2.7)
ax = axes[0, 0]
ax.imshow(depends.float(), cmap="Blues", vmin=0, vmax=1.4)
ax.set_xlabel("token", fontsize=9)
ax.set_ylabel("prediction", fontsize=9)
show(fig, """A 16×16 table of which prediction depends on which token: filled strictly below the
     diagonal, empty on it and above.""")

# %% [markdown]
r"""
Training is plain maximum likelihood: cross-entropy. The sum over the sixteen places, in base 2, is the number of **bits** that a perfect compressor built on this model would spend on the face's tokens.

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

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
codes, hair = model.encode_indices(images), faces["hair"]
live_prior, steps = pixelcnn.PixelCNN(K, num_classes=5).to(device), size["prior_steps"]
data = batches(codes, hair, batch_size=128)
training = pixelcnn.train_pixelcnn(live_prior, data, steps=steps, lr=4e-3)
spent = [s.bits for s in tqdm(training, total=steps, desc="PixelCNN")]

fig = curves({"bits an image": spent}, ylabel="bits", height=2.3)
fig.axes[0].axhline(16 * math.log2(K), color="black", lw=0.8, ls="--",
                    label="sixteen uniform codes: 144")
legend(fig.axes[0])
show(fig, """Bits per image by step, falling from the dashed line at 144, sixteen uniform codes,
     to about 112.""")
assert spent[-1] < 0.85 * spent[0] and abs(spent[0] - 16 * math.log2(K)) < 0.1

# %% [markdown]
r"""
The first value is no accident: the last layer starts at zero, so an untrained model calls every code equally likely, $16 \log_2 512 = 144$ bits. Now sample: predict the first token, draw it, put it in, predict the second, and so on. **Sixteen passes for one face**, one for each token, and they cannot run
side by side. For 16 tokens that is nothing; for the 65,536 pixels of a photograph it is the reason why hardly anybody draws photographs this way.
"""

# %% tags=["nbval-ignore-output"]
given = test_codes[:8].flatten(1)
completed = [pixelcnn.sample_codes(prior, 8, prefix=given[:, :n], seed=1)
             for n in (16, 12, 8, 4, 0)]
by_live_prior = pixelcnn.sample_codes(live_prior.cpu(), 8, seed=1)
rows = model.decode_indices(torch.cat([*completed, by_live_prior]))
titles = ["16 given", "12 given", "8 given", "4 given", "none", "this training"]
show(image_grid(rows, columns=8, row_titles=titles),
     """Eight faces of which 16, 12, 8, 4 and no tokens are given and the prior draws the rest:
     with eight given the upper half stays and shirt and chin are new; the last row, by the
     prior just trained, holds more broken faces.""")

# %% [markdown]
r"""
Read it from top to bottom: the first row is the face itself; then the shirt is redrawn, then everything below the eyes, and so on. The prior has learned what goes with what: hair continues with its colour, glasses get their second lens.

### On demand

The same network also takes a label: an embedding of the hair colour, added in every block. (In training the label is left out of a fifth of the batches, so that it can also draw without.)
"""

# %% tags=["nbval-ignore-output"]
colours = ATTRIBUTES["hair"]
asked = torch.arange(5).repeat_interleave(200)
on_demand = model.decode_indices(pixelcnn.sample_codes(prior, 1000, y=asked, seed=5))
rows = torch.cat([on_demand[asked == k][:10] for k in range(5)])
show(image_grid(rows, columns=10, row_titles=list(colours)),
     """Five rows of ten faces drawn for the hair colours black, chestnut, blond, red and grey:
     nearly all have the colour asked for.""")
share = obedience(on_demand, "hair", asked)
print(f"hair colour obeyed in {share:.0%} of 1000 samples")
assert share > 0.8

# %% [markdown]
r"""
## 6. Counting bits

*10 minutes.*

How much does a face cost, and what does it buy? Four ways to write down the tokens of a test face, and its attributes for comparison:
"""

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    learned_bits = float(pixelcnn.bits_per_image(prior(test_codes), test_codes))
    with_label = float(pixelcnn.bits_per_image(prior(test_codes, test["hair"]), test_codes))
places = codes.flatten(1).T                              # of the training faces
counts = torch.stack([torch.bincount(tokens, minlength=K) for tokens in places])
p = (counts + 0.1) / (counts + 0.1).sum(1, keepdim=True)     # no code is impossible
by_place = float(-p.gather(1, test_codes.flatten(1).T).log2().sum() / len(test_codes))
attributes = sum(math.log2(len(values)) for values in ATTRIBUTES.values())
costs = {"all codes equally likely": 16 * math.log2(K),
         "each place its own frequencies": by_place,
         "PixelCNN": learned_bits,
         "PixelCNN, hair colour known": with_label,
         "the nine attributes alone": attributes}
for name, cost in costs.items():
    print(f"{name:<31} {cost:6.1f} bits")
assert learned_bits < by_place < 144 and with_label < learned_bits

# %%
fig, axes = panels(1, 1, height=2.0)
ax = axes[0, 0]
ax.barh(list(costs), list(costs.values()), color=COLOURS[0])
ax.invert_yaxis()
ax.set_xlabel("bits per face", fontsize=9)
show(fig, """Bars of the bits per face: 144 for uniform codes, fewer with each place's
     frequencies, far fewer with the PixelCNN, a little fewer with the hair colour known, and 17
     for the nine attributes.""")

# %% [markdown]
r"""
What lies between a face's attributes, about 17 bits, and what the PixelCNN pays? Every face also has eight variations without a name (place and width of the head, the eyes, brows, mouth, light), and the tokens describe them to the accuracy that the decoder can draw.

Knowing the hair colour saves about three bits. Look twice at that number: a choice among five is worth $\log_2 5 = 2.3$ bits and no more, so a perfect model could not save three. It tells on *our* model: it has trained without a label in a fifth of its batches only, and is worse there.
Numbers with a known limit are good tests.

What survives in sixteen tokens? Ask the classifier, attribute by attribute, whether it reads the same on the redrawn face as the truth says.
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
now = toy_frechet(drawn)
print(results_table(through_chapter=3, **{"VQ-VAE + PixelCNN": now}))
print(f"\nreal faces through the sixteen tokens: {toy_frechet(redrawn):.1f}")
recorded = {row["model"]: row["frechet"] for row in results()}
assert now < recorded["VAE"], "the VQ-VAE with its prior should beat the VAE"

# %% [markdown]
r"""
The learned prior pays: less than half the VAE's distance. What remains has two parts. Real faces that went through the same sixteen tokens are the decoder's own limit; a prior that matched the codes exactly would score just this. From there to the samples it is the prior's fault. The GAN is still ahead on
this yardstick: it is as sharp as its discriminator demands, and the squared error demands nothing of the kind.

So the decoder must become sharper. That is chapter 4. And the prior can be another model than an autoregressive one: chapters 5 to 7 put a diffusion model in its place, which draws all tokens at once, in a number of steps you choose.

## Summary

- Vector quantisation replaces a vector by its nearest code; k-means finds codes; distances want 32-bit floats.
- The straight-through estimator carries the gradient past the step. β belongs to the commitment, and misplacing it shows in no loss curve.
- Running averages move the codes without a gradient. Perplexity counts the codes in use; dead codes are revived, by a threshold relative to an average code.
- A masked convolution predicts every token from those before it in one pass; drawing takes one pass a token.
- The bits of a face can be counted, and a better prior is a better compressor.
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
