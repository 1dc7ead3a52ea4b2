# %% [markdown]
r"""
# Chapter 7 · FFTD, a Transformer that denoises latents

All parts are on the table: an autoencoder that turns a face into sixteen tokens (chapter 4), a way to learn to undo noise (5), a way to sample in few steps (6). The paper's second stage puts them together: a **feature-fused Transformer** that denoises the 4×4×4 latent. It is the paper's own invention, and the last network of this course.

In this chapter you will

1. look at the latents: what they are, what a neighbour of one decodes to, why they are normalised;
2. cut a map into tokens, and assemble one block of the Transformer yourself, attention included;
3. let the blocks form a U over two resolutions, and ask what each level knows;
4. compute the paper's adaptive fusion by hand, then find out what a trained one does with it;
5. train, sample, watch a face condense, ask for hair colours;
6. repeat three of the paper's tables, and say of each claim whether it holds;
7. go beyond the paper: change what the network predicts, and the noise schedule.

Two trained networks come with the chapter. They have the same layers and the same training. **The paper's** predicts the noise $\varepsilon$ and has the linear schedule. **The course's** predicts $v$ and has the cosine schedule (section 8 says why). Where we take the paper's ideas apart, it is the paper's network that lies on the table; where we draw, the course's draws.
"""

# %%
import copy
import itertools
import statistics

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

import minigen
from minigen import check, ddim, ddpm, fftd, latents
from minigen.checks import yours
from minigen.data import ATTRIBUTES, ToyFaces, batches, draw_faces, labels_of
from minigen.fftd import FFTD, PRESETS, AdaptiveFusion
from minigen.files import load_weights
from minigen.guidance import Guided
from minigen.ivqvae import IVQVAE
from minigen.metrics import obedience, results_table, toy_frechet
from minigen.paper import reproduce
from minigen.plots import curves, heat, image_grid, legend, panels, show
from minigen.unet import UNet
from minigen.widgets import explore

# %%
scale, device = minigen.setup()
size = {
    "small": dict(faces=2048, steps=80, batch=64),
    "full": dict(faces=20_000, steps=20_000, batch=256),
}[scale]
faces, test = ToyFaces(size["faces"], seed=0), ToyFaces(1000, seed=2)
tokenizer = load_weights(IVQVAE, "ivqvae")
paper, model = load_weights(FFTD, "fftd_eps"), load_weights(FFTD, "fftd")
diffusion, hair = ddpm.diffusion_of(paper), ATTRIBUTES["hair"]


def noise(n, seed=0):
    return torch.randn(n, 4, 4, 4, generator=torch.Generator().manual_seed(seed))


def faces_from(xT, y=None, net=model, steps=50):
    z = ddpm.last(ddim.ddim_sample(net, ddpm.diffusion_of(net), xT, y, steps=steps))
    return latents.decode(tokenizer, z)


print("scale:", scale)
for name, net in {"the paper's": paper, "the course's": model}.items():
    parameters = sum(p.numel() for p in net.parameters())
    schedule = net.schedule or "linear"
    print(f"{name}: predicts {net.prediction}, {schedule} schedule, {parameters:,} parameters, "
          f"{net.card['steps']:,} steps")

# %% [markdown]
r"""
Here is where it goes: forty faces that nobody drew, fifty steps each, and all of them in a few seconds.
"""

# %% tags=["nbval-ignore-output"]
drawn = faces_from(noise(40))
show(image_grid(drawn, columns=10), """Forty faces drawn by the course's FFTD: whole,
     sharp and varied in hair, skin, glasses, shirts and backgrounds; a few have smudged corners
     or uneven eyes.""")

# %% [markdown]
r"""
## 1. The latent map

*20 minutes.*

Stage 1 is finished and frozen. For stage 2 a face is $z_0 = \mathrm{Quantize}(E(x))$: a 4×4 map, each place one of 512 codes, each code four numbers. Encode the training faces **once** and keep the result; the encoder is not needed again until the end.
"""

# %%
with torch.no_grad():
    raw = tokenizer.quantizer.embed(tokenizer.encode_indices(faces.images()))
print("a face is", 3 * 32 * 32, "numbers, its latent", raw[0].numel())
print("mean of each channel:     ", [round(float(v), 1) + 0.0 for v in raw.mean((0, 2, 3))])
print("deviation of each channel:", [round(float(v), 1) for v in raw.std((0, 2, 3))])

# %% [markdown]
r"""
The four channels have different means and scales: nobody asked the autoencoder for anything else. But chapter 5's process adds noise of deviation 1 to *every* channel. A channel with deviation 0.3 drowns at once, one with 1.3 stays visible long: each would have its own noise schedule.
"""

# %%
own_snr = {}
for c in range(4):
    deviation = float(raw[:, c].std())
    own_snr[f"channel {c + 1}, deviation {deviation:.1f}"] = diffusion.snr * deviation**2
own_snr["deviation 1"] = diffusion.snr
show(curves(own_snr, xlabel="t", ylabel="signal-to-noise ratio", logy=True), """Signal-to-noise
     ratio of the four raw channels over t, log scale: parallel curves, the strongest channel's
     over twenty times above the weakest's.""")

# %% [markdown]
r"""
The paper does not mention it. We **normalise** each channel by the training latents' mean and deviation, stored with the autoencoder, and undo it before decoding.

### Exercise 7.1 · `standardise` · ★ · 3 minutes

Normalise latents, channel by channel.

<details><summary>Hint</summary>

Shapes line up from the right: `(C,)` would meet the last axis of `(B, C, h, w)`. Which axes have to be added to it, and on which side?

</details>
"""

# %%
def standardise(z, mean, std):
    """Each channel to mean 0 and deviation 1. Shapes: z (B, C, h, w), mean and std (C,)."""
    ### BEGIN SOLUTION
    return (z - mean[:, None, None]) / std[:, None, None]
    ### END SOLUTION

# %% points=1
check(standardise)

# %%
standardise = yours(standardise)
encoded = latents.encode(tokenizer, faces.images())
z = standardise(raw, tokenizer.latent_mean, tokenizer.latent_std)
print("after normalising, deviations:", [round(float(v), 1) for v in z.std((0, 2, 3))])
print("as latents.encode has them:", bool(torch.allclose(z, encoded.z, atol=1e-5)))
try:
    latents.decode(IVQVAE(), z[:1], made_with=encoded.tokenizer)
except ValueError as e:
    why = str(e).split(": ")[1].split(". ")[0]
    print(f"another autoencoder is refused: {why}.")

# %% [markdown]
r"""
`Latents` carry the fingerprint of the autoencoder that made them. Another training of the same network has another latent space; mixing the two gives noise, and no error, unless someone checks.

### What is a neighbour?

In pixel space a small change is a small change. Here? Take one of a face's sixteen tokens and replace it by other codes: the nearest in the codebook, the 5th nearest, the 50th, the farthest.
"""

# %%
face = draw_faces(labels_of(hair="red", glasses="yes", smile="smile", background="mint"))
codes, place = tokenizer.encode_indices(face), (1, 1)
codebook = tokenizer.quantizer.codebook
order = (codebook - codebook[codes[0][place]]).square().sum(1).argsort()
ranks = {"its own code": 0, "nearest": 1, "5th": 5, "50th": 50, "farthest": 511}
swapped = codes.repeat(len(ranks), 1, 1)
swapped[:, 1, 1] = order[list(ranks.values())]
show(image_grid(tokenizer.decode_indices(swapped), columns=5, titles=list(ranks), width=6), """A
     face with the token at the left eye replaced: its own code; the nearest, the 5th and the
     50th nearest, where only shades around the eye change; and the farthest, which breaks eye
     and skin there.""")

# %% [markdown]
r"""
One token of one face is an anecdote. So take six faces, another place in each, and *all* 512 codes: how far is a code from the one it replaces, and how much does the picture change?
"""

# %% tags=["nbval-ignore-output"]
places = [(1, 1), (0, 2), (2, 1), (3, 3), (1, 2), (2, 3)]
codes = tokenizer.encode_indices(test.images()[:len(places)])             # (6, 4, 4)
whole, far, change, where_changed = tokenizer.decode_indices(codes), [], [], []
for k, (row, column) in enumerate(places):
    every = codes[k].repeat(len(codebook), 1, 1)                          # (512, 4, 4)
    every[:, row, column] = torch.arange(len(codebook))
    moved = (tokenizer.decode_indices(every) - whole[k]).abs().mean(1)    # (512, 32, 32)
    far.append((codebook - codebook[codes[k, row, column]]).norm(dim=1))
    change.append(moved.mean((1, 2)))
    where_changed.append(moved.mean(0))
far, change = torch.stack(far), torch.stack(change)                       # (6, 512)


def rank_correlation(a, b):
    return float(torch.corrcoef(torch.stack([a, b]).argsort(1).argsort(1).float())[0, 1])


agree = [rank_correlation(a, b) for a, b in zip(far, change, strict=True)]
print("rank correlation of the two, place by place:", [round(r, 2) for r in agree])
assert min(agree) > 0.6

# %%
fig, axes = panels(1, 2, height=2.8)
left, bars = axes.flat
left.scatter(far, change, s=2, alpha=0.3)
edges = torch.linspace(0, float(far.max()), 11)
middles = [change[(far > a) & (far <= b)] for a, b in itertools.pairwise(edges)]
medians = [float(m.median()) if len(m) else None for m in middles]
left.plot((edges[1:] + edges[:-1]) / 2, medians, "k-", lw=1.5)
left.set_xlabel("distance in code space", fontsize=9)
left.set_ylabel("mean change of the picture", fontsize=9)
near, area = [], []
for (row, column), moved in zip(places, where_changed, strict=True):
    around = torch.zeros(32, 32)
    around[max(8 * row - 8, 0):8 * row + 16, max(8 * column - 8, 0):8 * column + 16] = 1
    near.append(float((moved * around).sum() / moved.sum()))
    area.append(float(around.mean()))
names = [f"row {r + 1}, column {c + 1}" for r, c in places]
bars.barh(names, near, height=0.6)
bars.plot(area, names, "k|", ms=12, mew=1.5)
bars.invert_yaxis()
bars.set_xlim(0, 1)
bars.set_xlabel("share of the change around the place", fontsize=9)
show(fig, """Left: distance of each of the 512 codes from the one it replaces, against the mean
     change of the picture, a dot a code, six places together; the black line, the median, rises
     all the way. Right: the share of the change inside the token's own 8×8 pixels and the
     patches around them, a bar a place, from one half to six sevenths; the black marks are the
     share of the picture's area that these patches have.""")

# %% [markdown]
r"""
The first answer is clear: over the whole codebook, **near codes mean near pictures**. The second is mixed. Most of a change lies around its token, more than the area explains; but a good part lies elsewhere, for the decoder's attention and its norms look at the whole map. A corner token also has its say about the background everywhere.

This is what diffusion needs: a prediction that is a little off is snapped by the quantizer to the right code or to one much like it. (Eq. 30: sampled latents are quantised, then decoded.)

## 2. From a map to tokens

*15 minutes.*

A Transformer takes a *sequence of vectors*. Cut the latent into patches of $p \times p$ places; each becomes one token. With $p = 1$ there are sixteen tokens of 4 numbers; with $p = 2$ four tokens of 16; with $p = 4$ a single one of 64. The paper tries all three (Table 2); $p = 1$ wins.

### Exercise 7.2 · `patchify` · ★★ · 8 minutes

Cut maps into tokens, patches in reading order. Inside a token the order is channel, row, column.

<details><summary>Hint</summary>

An axis of `h` rows is `h/p` patches of `p` rows each: give both axes this form first. Then bring the six axes into the order in which the result names them, and only then merge.

<details><summary>More</summary>

`view`, `permute`, `flatten`. `torch.nn.functional` has one function for it, up to a transposition.

</details>
</details>
"""

# %%
def patchify(z, p):
    """Shapes: (B, C, h, w) -> (B, h/p * w/p, C * p * p)."""
    ### BEGIN SOLUTION
    b, c, h, w = z.shape
    return z.view(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    ### END SOLUTION

# %% points=2
check(patchify)

# %%
patchify = yours(patchify)
shapes = [tuple(patchify(z[:1], p).shape[1:]) for p in (1, 2, 4)]
print("tokens of a latent for p = 1, 2, 4:", shapes)
matrix = model.embed.weight.flatten(1)                                    # (128, 4)
by_hand = patchify(z[:8], 1) @ matrix.T + model.embed.bias
same = torch.allclose(by_hand, fftd.to_tokens(model.embed(z[:8])), atol=1e-5)
print("one matrix for all tokens is FFTD's first layer:", same)

# %% [markdown]
r"""
Attention does not know where a token stands: permute the tokens, and the outputs are permuted. So each token is given its **position**, as sines and cosines of its column and row, added to it. Which positions are alike?
"""

# %%
where = fftd.positions(128, 4)
similarity = F.cosine_similarity(where[:, None], where[None], dim=-1)
fig, axes = panels(1, 3, height=2.2)
for ax, k in zip(axes.flat, (0, 5, 15), strict=True):
    heat(ax, similarity[k].view(4, 4), f"like token {k}", low=0.4, high=1, colours="magma")
show(fig, """Similarity of the position features of all sixteen places to those of token 0, 5
     and 15: each is most like itself and its neighbours, and less like places farther away.""")

# %% [markdown]
r"""
**Break it.** Take the positions away from the trained network, set them to zero, and draw from the same noises. Before you run the cell: will the faces be whole, will parts of faces lie anywhere, or will there be nothing? (What in this network still knows where a token stands?)
"""

# %% tags=["nbval-ignore-output"]
lost = copy.deepcopy(model)
for k in range(2):
    lost.get_buffer(f"positions{k}").zero_()
both = torch.cat([faces_from(noise(10), net=net, steps=20) for net in (model, lost)])
show(image_grid(both, columns=10, row_titles=["with", "without"]), """Ten faces with positions,
     and from the same noises without: torn and smeared, and much alike, grey-haired with a
     frown; yet shirts stay below and hair above.""")

# %% [markdown]
r"""
Torn, but not shuffled: shirts are still at the bottom. The convolutions between the resolutions and in the fusions see the edge of the map, where they are fed zeros, and that is a weak sense of place.

## 3. A block that knows the time

*40 minutes.*

A Transformer block is two steps, each added to what was there: **attention**, where tokens look at each other, and a **feed-forward** network, the same for each token. How do time and class get in? The paper does not say. We take DiT's way (Peebles and Xie 2023), the **adaptive norm**: normalise each token, then scale and shift it by amounts that time and class decide, and weigh what comes out by a gate.

$$\begin{aligned} x_1 &= x + g_1 \odot \mathrm{MHSA}\left(\mathrm{LN}(x) \odot (1 + a_1) + b_1\right) \\ x_2 &= g_2 \odot \mathrm{FFN}\left(\mathrm{LN}(x_1) \odot (1 + a_2) + b_2\right) \\ x_{\text{out}} &= \mathrm{fuse}(x_1, x_2) \end{aligned}$$

The six vectors $a, b, g$ are a linear map of $\mathrm{Swish}(\text{time embedding} + \text{label embedding})$, one map for each resolution, shared by the blocks there, plus a small table for each block. With $\mathrm{fuse}(x_1, x_2) = x_1 + x_2$ it *is* a DiT block; `minigen`'s tests copy its weights into a public DiT and get the same numbers to 1e-5.

### Exercise 7.3 · `modulated` · ★★ · 5 minutes

The adaptive norm: layer norm over each token's features (no weights of its own, `eps=1e-6`), then scale and shift.

<details><summary>Hint</summary>

`F.layer_norm` takes the shape of what is normalised together: here the last axis alone. Shift and scale belong to the image, and every token of it: which axis does `(B, D)` miss?

</details>
"""

# %%
def modulated(x, shift, scale):
    """LN(x) * (1 + scale) + shift. Shapes: x (B, L, D), shift and scale (B, D)."""
    ### BEGIN SOLUTION
    normed = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return normed * (1 + scale[:, None]) + shift[:, None]
    ### END SOLUTION

# %% points=2
check(modulated)

# %% [markdown]
r"""
### Attention, written out once

Chapter 4 had attention between the places of a map, with one set of weights. A Transformer's has several **heads**. A linear map makes of each token three vectors of $D$ numbers: a query $q$, "what I look for", a key $k$, "what I have", and a value $v$, "what I give". Each head takes its own $d = D / \text{heads}$ of these numbers, head 1 the first $d$, head 2 the next, and so on, and looks with them alone:

$$A = \mathrm{softmax}\left(\frac{q\, k^\top}{\sqrt{d}}\right) \in \mathbb{R}^{L \times L}, \qquad \text{head} = A\, v \in \mathbb{R}^{L \times d}.$$

Row $i$ of $A$ says how much token $i$ takes from every token, itself included; it adds up to 1. The heads' answers are put side by side, and a last linear map mixes them.

### Exercise 7.4 · `multi_head` · ★★★ · 15 minutes

From queries, keys and values to the heads' answers, side by side.

<details><summary>Hint</summary>

Give the heads an axis of their own, before the tokens: `(B, heads, L, d)`. `@` then multiplies the last two axes, for every image and head at once.

<details><summary>More</summary>

Split the *last* axis into `(heads, d)` with `view`, then `transpose`. At the end the way back, in the opposite order. A transpose leaves numbers where they are in memory, so there `reshape` is needed instead of `view`.

</details>
</details>
"""

# %%
def multi_head(q, k, v, heads):
    """Attention in `heads` parts. Shapes: q, k, v (B, L, D) -> (B, L, D)."""
    ### BEGIN SOLUTION
    batch, length, dim = q.shape
    shape = batch, length, heads, dim // heads
    q, k, v = (part.view(shape).transpose(1, 2) for part in (q, k, v))   # (B, heads, L, d)
    weights = (q @ k.mT / (dim // heads) ** 0.5).softmax(-1)             # (B, heads, L, L)
    return (weights @ v).transpose(1, 2).reshape(batch, length, dim)
    ### END SOLUTION

# %% points=3
check(multi_head)

# %% [markdown]
r"""
### Exercise 7.5 · `fftd_block` · ★★★ · 20 minutes

Now the block: the three lines of formulas above, with your `modulated` and your `multi_head`. A block of `minigen` brings its layers: `block.qkv`, a linear map to $q$, $k$ and $v$ side by side, each $D$ wide; `block.out`, the map after attention; `block.feed_forward`; `block.fuse`, called with the two streams; `block.heads`. The first line, which cuts the modulation into its six vectors, is there.

<details><summary>Hint</summary>

`x1` first: normalise and modulate, make `q, k, v`, attend, `block.out`, gate, add to `x`. `chunk` cuts the last axis into equal parts. The gates are `(B, D)`, as shift and scale are.

<details><summary>More</summary>

`x2` reads `x1`, not `x`, and is *not* added to it: that is the fusion's business.

</details>
</details>
"""

# %%
def fftd_block(x, modulation, block):
    """One block. Shapes: x (B, L, D), modulation (B or 1, 6, D) -> (B, L, D)."""
    b1, a1, g1, b2, a2, g2 = (modulation + block.table).unbind(1)        # (B or 1, D) each
    ### BEGIN SOLUTION
    q, k, v = block.qkv(modulated(x, b1, a1)).chunk(3, -1)
    x1 = x + g1[:, None] * block.out(multi_head(q, k, v, block.heads))
    x2 = g2[:, None] * block.feed_forward(modulated(x1, b2, a2))
    return block.fuse(x1, x2)
    ### END SOLUTION

# %% points=4
check(fftd_block)

# %% [markdown]
r"""
Put it into the trained network, in the place of all five blocks, and draw: the same faces must come out.
"""

# %%
modulated, multi_head, fftd_block = yours(modulated), yours(multi_head), yours(fftd_block)
mine = copy.deepcopy(model)
for block in mine.blocks:
    block.forward = lambda x, modulation, block=block: fftd_block(x, modulation, block)
with torch.no_grad():
    zt, at = noise(64, seed=1), torch.tensor([300])
    difference = float((mine(zt, at) - model(zt, at)).abs().max())
print("your network and minigen's differ by less than 0.0001:", difference < 1e-4)
both = torch.cat([faces_from(noise(8, seed=5), net=net, steps=20) for net in (model, mine)])
assert difference < 1e-4

# %% tags=["nbval-ignore-output"]
show(image_grid(both, columns=8, row_titles=["minigen's", "yours"]), """Eight faces, drawn with
     minigen's blocks above and with the assembled ones below: the same.""")

# %% [markdown]
r"""
And what do tokens look at? Here are the weights of block 1's four heads for one query, the token at the left eye, averaged over two hundred faces. (Sixteen equal weights would be 0.06 each.)
"""

# %%
with torch.no_grad():
    block, at = paper.blocks[0], torch.tensor([200])
    zt = diffusion.add_noise(z[:200], at, noise(200))
    x = fftd.to_tokens(paper.embed(zt)) + paper.get_buffer("positions0")
    told = paper.norms[0](F.silu(paper.condition(at))).view(1, 6, -1) + block.table
    q, k, _ = block.qkv(modulated(x, told[:, 0], told[:, 1])).chunk(3, -1)
    q, k = (part.view(200, 16, 4, 32).transpose(1, 2) for part in (q, k))
    looks = (q @ k.mT / 32**0.5).softmax(-1).mean(0)                     # (4, 16, 16)
fig, axes = panels(1, 4, height=1.6)
for head, ax in enumerate(axes.flat):
    heat(ax, looks[head, 5].view(4, 4), f"head {head + 1}", low=0, high=0.13, colours="magma")
show(fig, """Attention of the token in row 2, column 2, in the four heads of block 1: head 1
     takes most from the left column, head 3 from single places, most of them on the right, head
     4 from the upper right corner, and head 2 from all places alike.""")

# %% [markdown]
r"""
The map to the six starts at **zero**. So all gates are shut, every block passes its input on, and with a last layer of zeros the untrained model answers exactly 0 at any $t$: the same calm start as chapter 5's U-Net, however deep the model.
"""

# %%
fresh = FFTD(**PRESETS["small"])
answer = fresh(noise(4), torch.tensor([500])).detach()
print("an untrained model's largest answer:", float(answer.abs().max()))

# %%
t_all = torch.arange(0, 1000, 10)
gates = []
with torch.no_grad():
    condition = F.silu(paper.condition(t_all))
    for i, block in enumerate(paper.blocks):
        modulation = paper.norms[paper.level_of[i]](condition).view(len(t_all), 6, -1)
        gate = (modulation + block.table)[:, [2, 5]]             # of attention and feed-forward
        gates.append(gate.abs().mean(-1))                        # (t, 2)
fig, axes = panels(1, 2)
for k, name in enumerate(("attention", "feed-forward")):
    curves({f"block {i + 1}": gate[:, k] for i, gate in enumerate(gates)}, x=t_all, xlabel="t",
           ylabel=f"mean gate of {name}", ax=axes[0, k])
legend(fig)
show(fig, """Mean size of the gates of the paper's network over t, for attention (left) and
     feed-forward (right), a line a block: all have opened, and those of the halved blocks 2 to
     4 are wider than those of blocks 1 and 5, but for the feed-forward gates at t near 0. Most
     are widest between t = 100 and 300; the feed-forward gates of blocks 1 and 5 near 0.""")

# %% [markdown]
r"""
A gate is only a factor, so this is a hint and no measurement: the middle of the U has the widest gates, and the outer blocks, at full resolution, open most where little noise is left and details are decided. One more thing to see in the code: `model(z, t)` takes one $t$ for a whole batch, and then everything that depends on $t$ alone is computed once, not once an image.

## 4. Two resolutions

*20 minutes.*

The five blocks form a **U**. Between the first and the second the map is halved by a convolution with stride 2 (Eq. 16), between the fourth and the fifth it is doubled (Eq. 17). Block 5 is also given what block 1 made, and block 4 what block 2 made. The paper does not state the resolution of block 3. With `levels=2` the blocks work at 4-2-2-2-4, with `levels=3` at 4-2-1-2-4; the first fits the paper's parameter counts.

### Exercise 7.6 · `levels_of` · ★★ · 5 minutes

Write the level of each block: 0 for the full map, 1 for the halved one, and so on. Down on the left, up on the right, never below `levels - 1`.

<details><summary>Hint</summary>

Write the lists for `(7, 3)` and `(6, 2)` on paper. Below each entry write how far its block is from the left end and from the right.

</details>
"""

# %%
def levels_of(depth, levels):
    """A list of `depth` integers: levels_of(5, 2) == [0, 1, 1, 1, 0]."""
    ### BEGIN SOLUTION
    return [min(i, depth - 1 - i, levels - 1) for i in range(depth)]
    ### END SOLUTION

# %% points=1
check(levels_of)

# %%
levels_of = yours(levels_of)
sides = [4 // 2**level for level in levels_of(5, 2)]
print("blocks 1 to 5 work on maps of side", sides)
assert levels_of(5, 2) == model.level_of

# %%
printed = {"add": 9.54, "concat": 11.49, "adaptive": 14.98}
for kind in fftd.FUSIONS:
    with torch.device("meta"):
        net = FFTD(**PRESETS["paper"] | dict(fusion=kind))
    millions = sum(p.numel() for p in net.parameters()) / 1e6
    print(f"{kind:<8} {millions:5.2f} million parameters; the paper says", printed[kind])

# %% [markdown]
r"""
The width 320 is nowhere in the paper: we *found* it, as the one whose three counts fit the paper's Table 9. When a paper is silent, its numbers sometimes speak.

What does each block know? A **probe** tells: noise the test faces' latents, run the model, and from each block's features (averaged over places) try to read attributes with a linear map, fitted on one half of the faces and tested on the other.
"""

# %%
def probe(features, labels, classes):
    """Share of right answers of a ridge regression, fitted on one half, tested on the other."""
    x = torch.cat([features, torch.ones(len(features), 1)], 1).double()
    half, goal = len(x) // 2, F.one_hot(labels, classes).double()
    fit, ridge = x[:half], 0.1 * torch.eye(x.shape[1]).double()
    w = torch.linalg.solve(fit.T @ fit + ridge, fit.T @ goal[:half])
    return float(((x[half:] @ w).argmax(1) == labels[half:]).float().mean())

# %%
z_test = latents.encode(tokenizer, test.images()).z
asked, levels = ("background", "hair", "shirt", "glasses", "smile", "pose"), [50, 400, 700]
right, at_first = {}, torch.Generator().manual_seed(0)
for t in levels:
    trace, at = [], torch.tensor([t])
    zt = diffusion.add_noise(z_test, at, torch.randn(z_test.shape, generator=at_first))
    with torch.no_grad():
        paper(zt, at, trace=trace)
    features = [f.mean((2, 3)) for f in trace]            # of each block, averaged over places
    right[t] = {name: torch.tensor([probe(f, test[name], len(ATTRIBUTES[name]))
                                    for f in features])
                for name in asked}
chance = {name: float(test[name].bincount().max() / len(test[name])) for name in asked}

# %% [markdown]
r"""
A share of right answers says little by itself: who always gives the same answer about glasses is right for half of the faces. So each attribute has its chance line, the share of its most frequent value.
"""

# %% tags=["nbval-ignore-output"]
fig, axes = panels(2, 3, height=1.9)
for ax, name in zip(axes.flat, asked, strict=True):
    curves({f"t = {t}": right[t][name] for t in levels} | {"chance": [chance[name]] * 5},
           xlabel="block", ylabel="share right", ax=ax, title=name)
    ax.set_ylim(0, 1.02)
    ax.set_xticks(range(1, 6), [f"{i + 1}\n{side}×{side}" for i, side in enumerate(sides)])
legend(fig)
show(fig, """How well a linear map reads six attributes, a panel each, from each block's
     features at t = 50, 400 and 700, and the chance line. At t = 50 the colours of background
     and shirt are read from every block; glasses, pose, smile and hair far better from block 2
     on. At t = 400 background and pose lie well above chance, the others a little; at 700 all
     lie at chance.""")
print("above chance in block 1, in block 3, in block 5:")
for name in asked:
    gained = {t: (right[t][name] - chance[name])[[0, 2, 4]].tolist() for t in levels}
    words = [f"t = {t}: " + " ".join(f"{g:+.2f}" for g in each) for t, each in gained.items()]
    print(f"  {name:<11}" + "  ".join(words))
block1, block3 = (torch.stack([right[50][name][i] for name in asked]).mean() for i in (0, 2))
assert block3 > block1

# %% [markdown]
r"""
The first block sees tokens one by one and in pairs; averaged over places, its features say little about shape. From the second block on, where four tokens cover the whole face, the features know *what* it is. The last block, back at 4×4, still knows it; at $t = 400$ it is even the best for background and pose. So "the middle knows what, the end only which noise" would be too neat: what the middle found comes up to block 5, and the links bring "where" past the middle. At $t = 700$ there is nothing to read, and the probe is at chance.

## 5. Fusion

*30 minutes.*

"Feature fusion" is the paper's name for what happens where two streams meet: $x_1$ and $x_2$ inside every block, left and right at the links of the U. Three ways, from its Table 9:

- **add**: $x_1 + x_2$;
- **concat**: $\mathrm{Linear}(x_1 \| x_2)$;
- **adaptive** (Eqs. 18 to 25): look at both streams first, and decide how much of each.

Adaptive fusion has three parts. From the streams side by side, $x_1 \| x_2$ with $2D$ features, it takes the mean and the maximum over all tokens. (Eq. 18 prints the mean twice; a maximum is meant, or the two would be one.)

### Exercise 7.7 · `pooled` · ★★ · 5 minutes

Compute $p = [\,\text{mean}, \text{max}\,]$, $4D$ numbers an image.

<details><summary>Hint</summary>

First put the streams side by side, then pool; pooling each stream by itself gives the same numbers in another order. Which axis are the tokens?

</details>
"""

# %%
def pooled(x1, x2):
    """Shapes: (B, L, D) twice -> (B, 4 D): the mean's 2 D, then the maximum's."""
    ### BEGIN SOLUTION
    both = torch.cat([x1, x2], dim=-1)
    return torch.cat([both.mean(1), both.amax(1)], dim=-1)
    ### END SOLUTION

# %% points=2
check(pooled)

# %% [markdown]
r"""
A small network turns $p$ into a weight for every **channel**, $w_{\text{channel}} \in (0, 1)^D$ (Eq. 20). Three convolutions turn the map of $x_1 \| x_2$ into a weight for every **place**, $w_{\text{spatial}} \in (0, 1)^L$ (Eq. 22). And

$$x_{\text{fused}} = w_{\text{channel}} \odot \mathrm{LN}(x_1) + w_{\text{spatial}} \odot \mathrm{LN}(x_2) + s \cdot \mathrm{Linear}(x_1 \| x_2).$$

### Exercise 7.8 · `fused` · ★★ · 6 minutes

Put the three together. The norms and the linear map are done for you.

<details><summary>Hint</summary>

Write the shapes of the parts below each other. Each of the two weights lacks one axis of `(B, L, D)`, and not the same one.

</details>
"""

# %%
def fused(n1, n2, w_channel, w_spatial, s, linear):
    """Eqs. 23 to 25.

    Shapes: n1, n2, linear (B, L, D), w_channel (B, D), w_spatial (B, L), s a number.
    """
    ### BEGIN SOLUTION
    return w_channel[:, None, :] * n1 + w_spatial[:, :, None] * n2 + s * linear
    ### END SOLUTION

# %% points=2
check(fused)

# %% [markdown]
r"""
### By hand, on a 2×2 map

Four tokens, sixteen features. Stream 1 is 1 in its first four features at every place; stream 2 has a single bright place. Give the weights' networks simple values, so that everything can be followed with a pencil: the channel weight answers to stream 1's mean, the spatial weight to stream 2's sum at the place itself.
"""

# %%
pooled, fused = yours(pooled), yours(fused)
x1, x2 = torch.zeros(1, 4, 16), torch.zeros(1, 4, 16)
x1[..., :4], x2[:, 2] = 1.0, torch.linspace(-1, 2, 16)
hand = AdaptiveFusion(16)
with torch.no_grad():
    for p in hand.parameters():
        p.zero_()
    for ones in (hand.norm1.weight, hand.norm2.weight, hand.s):
        ones.fill_(1)
    hand.linear.weight.copy_(torch.eye(16).repeat(1, 2))                  # x1 + x2
    hand.channel[0].weight[0, :4] = 1.0
    hand.channel[2].weight[:4, 0] = 1.0
    hand.spatial[0].weight[0, 16:, 1, 1] = 1.0
    hand.spatial[2].weight[0, 0, 1, 1] = 1.0
    hand.spatial[4].weight[0, 0, 1, 1] = 1.0
    out, seen = hand(x1, x2, return_weights=True)

# %%
def rounded(values):
    return [round(float(v), 2) for v in values]


by_formula = fused(hand.norm1(x1), hand.norm2(x2), seen["w_channel"][:, 0],
                   seen["w_spatial"][..., 0], 1.0, x1 + x2)
print("p, mean of stream 1:  ", rounded(pooled(x1, x2)[0, :6]), "…")
print("channel weights:      ", rounded(seen["w_channel"][0, 0, :6]), "…")
print("spatial weights:      ", rounded(seen["w_spatial"][0, :, 0]))
print("sigmoid of nothing is:", float(torch.sigmoid(torch.zeros(()))))
print("agrees with the formula:", bool(torch.allclose(out, by_formula)))

# %%
maps = {"x₁": x1, "x₂": x2, "w spatial · LN(x₂)": seen["x_spatial"], "fused": out}
fig, axes = panels(2, 2, height=1.5)
for ax, (name, value) in zip(axes.flat, maps.items(), strict=True):
    heat(ax, value[0], name, low=-3, high=3, colours="RdBu", aspect="auto")
    ax.set_yticks(range(4))
    ax.set_ylabel("token", fontsize=8)
    ax.set_xlabel("feature", fontsize=8)
show(fig, """Tokens by features, colours for values: stream 1 with its first four features lit
     at all places; stream 2 with place 2 only; its weighted norm; the fused result, which holds
     the pattern of both.""")

# %% [markdown]
r"""
Two decisions of ours. A sigmoid starts at one half, so plain Eqs. 23 and 24 would begin by mixing in half of two *normalised* streams; we start the norms' gains at 0 and the linear map at $x_1 + x_2$, so that a new fusion is a plain sum and learns to be more. (That start favours a sum. Section 7 tries another one, too.) And Eq. 20 as printed has two linear maps in a row, which are one; we put a Swish between them.

### What does a trained fusion do?

There are seven fusions in the network, one in each block and one for each link. Record what comes into them, at all noise levels, and compute their weights with your functions.
"""

# %%
t_test, eps_test = torch.arange(1000), noise(1000, seed=1)               # every t once


def fusions_of(net):
    blocks = {f"block {i + 1}": block.fuse for i, block in enumerate(net.blocks)}
    return blocks | {f"link {i + 1}–{5 - i}": link for i, link in enumerate(net.links)}


def parts_of(fusion, x1, x2):
    """What a fusion adds up: LN(x1), LN(x2), w_channel, w_spatial, s, Linear(x1 ‖ x2)."""
    both = torch.cat([x1, x2], -1)
    w_channel = fusion.channel(pooled(x1, x2)).sigmoid()                 # (B, D)
    w_spatial = fusion.spatial(fftd.to_map(both)).sigmoid().flatten(1)   # (B, L)
    n1, n2, linear = fusion.norm1(x1), fusion.norm2(x2), fusion.linear(both)
    return n1, n2, w_channel, w_spatial, fusion.s.item(), linear


def recorded(net):
    """{fusion: its parts} for a thousand test faces, noised to all t."""
    streams, hooks = {}, []
    for name, fusion in fusions_of(net).items():
        hooks.append(fusion.register_forward_pre_hook(
            lambda module, given, name=name: streams.update({name: given})))
    with torch.no_grad():
        net(ddpm.diffusion_of(net).add_noise(z_test, t_test, eps_test), t_test)
        for hook in hooks:
            hook.remove()
        return {name: parts_of(f, *streams[name]) for name, f in fusions_of(net).items()}


parts = {"the paper's": recorded(paper), "the course's": recorded(model)}

# %%
fig, axes = panels(2, 4, height=1.7)
for ax, (name, (_, _, w_channel, w_spatial, _, _)) in zip(
        axes.flat, parts["the paper's"].items(), strict=False):
    means = {"channel": w_channel.mean(1), "spatial": w_spatial.mean(1)}
    curves({k: v.view(20, 50).mean(1) for k, v in means.items()}, x=range(25, 1000, 50),
           xlabel="t", ax=ax, title=name)
    ax.set_ylim(0, 1)
axes[1, 3].axis("off")
legend(fig)
show(fig, """Mean channel weight and mean spatial weight over t, a panel for each of the seven
     fusions of the paper's network. Block 5's are flat. Others turn with the noise level: block
     1's spatial weight falls from 0.75 to 0, that of the link from block 1 to 5 rises from 0.25
     to nearly 1.""")

# %% [markdown]
r"""
Knobs that the noise level turns: it is tempting to stop here and write "the fusions use their freedom". But a weight is worth what it multiplies, and the norms' gains began at 0. So measure the size of the adaptive part, $w_{\text{channel}} \odot \mathrm{LN}(x_1) + w_{\text{spatial}} \odot \mathrm{LN}(x_2)$, against the linear part, $s \cdot \mathrm{Linear}(x_1 \| x_2)$. And then the test that decides: **replace every weight by its average**, over faces and noise levels, so that no fusion adapts to anything any more.

Before you run it, write down a guess: will the loss stay, rise by a few per cent, or double? And when the two adaptive terms are left out altogether?
"""

# %% tags=["nbval-ignore-output"]
def size_of(x):
    return float(x.square().mean().sqrt())


print("size of the adaptive part, as a share of the linear part:")
for name in fusions_of(paper):
    shares = []
    for of_net in parts.values():
        n1, n2, w_channel, w_spatial, s, linear = of_net[name]
        adaptive = fused(n1, n2, w_channel, w_spatial, 0.0, linear)
        shares.append(f"{size_of(adaptive) / size_of(s * linear):.2f}")
    print(f"  {name:<10} the paper's {shares[0]}, the course's {shares[1]}")

# %% tags=["nbval-ignore-output"]
def with_weights(net, weights):
    """A copy of a network whose fusions have these weights, whatever comes in."""
    net = copy.deepcopy(net)
    for name, fusion in fusions_of(net).items():
        def forward(x1, x2, fusion=fusion, weights=weights[name]):
            n1, n2, _, _, s, linear = parts_of(fusion, x1, x2)
            return fused(n1, n2, *weights, s, linear)
        fusion.forward = forward
    return net


def variants(net, of_net):
    average = {k: (p[2].mean(0, keepdim=True), p[3].mean(0, keepdim=True))
               for k, p in of_net.items()}
    zero = {k: (0 * c, 0 * w) for k, (c, w) in average.items()}
    return {"as trained": net, "every weight its average": with_weights(net, average),
            "adaptive terms left out": with_weights(net, zero)}


tried = {"the paper's": variants(paper, parts["the paper's"]),
         "the course's": variants(model, parts["the course's"])}
losses = {}
for whose, nets in tried.items():
    for name, net in nets.items():
        with torch.no_grad():
            loss = ddpm.simple_loss(net, ddpm.diffusion_of(net), z_test, t_test, eps_test)
        losses[whose, name] = float(loss)
        print(f"{whose:<13} {name:<26} loss {losses[whose, name]:.4f}  "
              f"{losses[whose, name] / losses[whose, 'as trained'] - 1:+.0%}")
as_trained, average, without = (losses["the paper's", name] for name in tried["the paper's"])
assert average < 1.1 * as_trained < 1.2 * as_trained < without

# %% tags=["nbval-ignore-output"]
grid, distances = [], {}
for name, net in tried["the paper's"].items():
    x = faces_from(noise(512, seed=3), net=net, steps=10)
    grid.append(x[:10])
    distances[name] = toy_frechet(x)
show(image_grid(torch.cat(grid), columns=10, row_titles=["trained", "average", "left out"]),
     """Ten faces of the paper's network, from the same noises: as trained; with every fusion
     weight replaced by its average, mostly the same faces, with another colour here and there;
     without the adaptive terms still faces, but all much alike, brown or red hair on mint or
     blue, with smeared mouths.""")
print("toy Fréchet distance of 512 faces, 10 steps:")
for name, value in distances.items():
    print(f"  {name:<26}{value:7.0f}")

# %% [markdown]
r"""
The norms and their gains matter: without the adaptive terms the network is another one, and a bad one. But that they *adapt* matters little. Weights that are the same for every face and every noise level, fixed numbers that could be multiplied into the norms' gains once and for all, raise the loss by a few per cent and the distance by about a fifth, and most of the pictures are the same faces as before. What the trained fusion is, by and large: two normalised streams with fixed gains, added to a linear map of both.

So the sentence that the curves suggested is wrong, and only the ablation could say so. It is one network, trained from one start. Section 7 asks the same question from outside: is a network *trained* with adaptive fusion better than one that adds?

## 6. Training, and drawing

*20 minutes.*

Nothing new: `ddpm.train_ddpm` with the latents in place of images. Because a latent is 64 numbers, the whole data set lies in memory and a step takes a fraction of a second. These are a few seconds' worth, eighty steps, of a network that predicts $v$ as the course's does; the longer-trained one took a hundred times as many, with twice the batch.
"""

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
young = FFTD(**PRESETS["small"], prediction="v", schedule="cosine").to(device)
average = ddpm.ema(young, 0.99)
training = ddpm.train_ddpm(
    young, batches(z, batch_size=size["batch"]), ddpm.diffusion_of(young), steps=size["steps"],
    lr=2e-3, average=average)
losses = [s.loss for s in tqdm(training, total=size["steps"], desc="FFTD")]
young = average.module.cpu()
show(curves({"loss": losses}, ylabel="mean squared error of v", smooth=10), """Training loss of
     FFTD: from 1, the error of predicting nothing, it falls quickly at first, then slowly, to
     0.8.""")
assert sum(losses[-10:]) / 10 < 0.9 * losses[0]

# %% tags=["nbval-ignore-output"]
both = torch.cat([faces_from(noise(8), net=net, steps=20) for net in (young, model)])
show(image_grid(both, columns=8, row_titles=["seconds", "longer"]), """From the same eight
     noises: after some seconds of training faces already, with smudges and torn hair; from the
     longer-trained model clean ones.""")

# %% [markdown]
r"""
### A face condenses

Sample one face in fifty steps, with the network of your blocks, and decode at every step: the noisy latent itself, and the model's guess of the clean one. (Decoding a noisy latent is allowed: the quantizer makes *some* code of everything.)
"""

# %% tags=["nbval-ignore-output"]
film = list(ddim.ddim_sample(mine, ddpm.diffusion_of(mine), noise(1, seed=8), steps=50))
frames = [film[i] for i in (0, 5, 10, 15, 20, 25, 30, 35, 40, 49)]
noisy = latents.decode(tokenizer, torch.cat([s.x for s in frames]))
guessed = latents.decode(tokenizer, torch.cat([s.x0 for s in frames]))
show(image_grid(torch.cat([noisy, guessed]), columns=10, row_titles=["latent", "guess"],
                titles=[f"t = {s.t}" for s in frames]),
     """One face over fifty steps. Above, the noisy latent decoded: a torn ghost of a face,
     which turns into a clear one by t = 400. Below, the guess of the clean latent: a face at
     once, but another one in every column until t = 600; then only the background changes
     once more, from blue to pink.""")

# %% [markdown]
r"""
Compare the upper row with chapter 5's. Pixel noise looks like noise; *latent* noise looks like a ghost, since the decoder has never learned to draw anything but pieces of faces. The lower row shows when what is decided: the glasses go and the hair turns red while there is still much noise, and the background's colour comes last.

### Asking for a colour

The model was trained with hair colours, and without in one case of seven, as in chapter 6. **Play:** the colour, the scale, the steps, the seed.
"""

# %% tags=["nbval-ignore-output"]
def play(colour, scale, steps, seed):
    y = torch.full((8,), hair.index(colour))
    faces = faces_from(noise(8, seed), y, Guided(model, model.num_classes, float(scale)), steps)
    return image_grid(faces, columns=8)


explore(play, play("blond", 1.5, 20, 3), """Eight faces with blond hair, asked for with scale
        1.5, in twenty steps.""",
        colour=(list(hair), "blond"), scale=(0.0, 6.0, 1.5),
        steps=(2, 100, 20), seed=(0, 99, 3));

# %% tags=["nbval-ignore-output"]
y = torch.arange(5).repeat_interleave(8)
by_scale = {s: faces_from(noise(40, seed=2), y, Guided(model, model.num_classes, s), steps=20)
            for s in (0.0, 1.0, 2.0)}
show(image_grid(by_scale[1.0], columns=8, row_titles=list(hair)), """Forty faces, a row for each
     hair colour asked for with scale 1: the hair is as asked, everything else varies.""")
obeyed = {s: obedience(x, "hair", y) for s, x in by_scale.items()}
print("obeyed:", {f"scale {s:g}": f"{v:.0%}" for s, v in obeyed.items()})
assert obeyed[1.0] > 0.7 > 0.5 > obeyed[0.0]

# %% [markdown]
r"""
### Has it learned by heart?

Chapter 5 warned: a perfect denoiser copies. For eight samples, here is the face whose latent is nearest, out of the training faces in this notebook.
"""

# %%
def nearest_to(x):
    """Distance to the nearest training latent in this notebook, and which that is."""
    distance = torch.cdist(latents.encode(tokenizer, x).z.flatten(1), z.flatten(1))
    return distance.min(1)


nearest = faces.images()[nearest_to(drawn[:8]).indices]
show(image_grid(torch.cat([drawn[:8], nearest]), columns=8, row_titles=["sample", "nearest"]),
     """Eight samples above, the nearest of the training faces shown here below: of like pose
     and tone, but other people: hair, background, shirt, glasses or mouth differ.""")

# %% [markdown]
r"""
The notebook holds 2,048 of the 50,000 faces that the network was trained on. That is enough for a test with teeth. A network that only copied, each training face alike, would copy one of *these* in four of a hundred samples. And we know where a copy would lie: decode a training latent and encode the picture again (not quite at 0, since encoding is not exact).
"""

# %% tags=["nbval-ignore-output"]
many = faces_from(noise(512, seed=3), steps=10)
far_from = {
    "copies": nearest_to(latents.decode(tokenizer, z[:512])).values,
    "samples": nearest_to(many).values,
    "fresh faces": nearest_to(test.images()[:512]).values,
}
fig, axes = panels(1, 1, height=2.2)
for name, values in far_from.items():
    axes[0, 0].hist(values, bins=40, range=(0, 8), histtype="step", lw=1.5, label=name)
axes[0, 0].set_xlabel("distance to the nearest training latent", fontsize=9)
legend(axes[0, 0])
show(fig, """Distances to the nearest of the training latents: copies lie below 2.5, samples and
     fresh faces beyond 2.5, most between 4 and 6, in two heaps that cover each other.""")
limit = float(far_from["copies"].quantile(0.95))
copied = int((far_from["samples"] <= limit).sum())
print("mean distance:", {k: round(float(v.mean()), 1) for k, v in far_from.items()})
print(f"samples as near as 95% of copies: {copied} of 512; a copier would have",
      round(512 * 0.95 * len(z) / 50_000))

# %% [markdown]
r"""
Samples lie as far from these training faces as fresh faces do, and where copies lie there are none, or almost none. A network that copied half of the time would have about ten there.

## 7. The paper's tables, at small scale

*20 minutes.*

Each cell: a network of width 64, 3,000 training steps of batch 128 with the paper's ε and linear schedule, 1,000 faces drawn with 50 steps, three seeds; measured beforehand by `python -m minigen reproduce table2`, `table8` and `table9`. The paper's FIDs stand beside them. They cannot be compared as numbers; the *order of the rows* can.

The rows "gains at 1" are our control. Our fusion starts as a plain sum, and perhaps it never gets far from there. So we also train one that starts the other way: norms' gains at 1, and $s = ½$, so that the adaptive half and the linear half are of one size from the first step.
"""

# %%
print(reproduce.as_text("table2"))

# %%
print(reproduce.as_text("table8"))
print()
print(reproduce.as_text("table9"))

# %% tags=["nbval-ignore-output"]
names = {
    "neither": "add, 1 level",
    "fusion": "adaptive, 1 level",
    "multi-resolution": "add, 2 levels",
    "concat": "concat, 2 levels",
    "both": "adaptive, 2 levels",
    "both, gains at 1": "adaptive, gains at 1, 2 levels",
}
tables = {k: reproduce.read(k) for k in ("table2", "table8", "table9", "beyond")}


def measured(table, row, column="frechet"):
    """The values of a row, one for each seed, in the seeds' order."""
    cells = sorted((c for c in tables[table] if c["row"] == row), key=lambda c: c["seed"])
    return [c[column] for c in cells]


labels = {"frechet": "toy Fréchet distance", "loss": "test loss"}
fig, axes = panels(1, 2, height=2.8)
for ax, (column, label) in zip(axes.flat, labels.items(), strict=True):
    for k, row in enumerate(names):
        values = measured("table9" if row == "concat" else "table8", row, column)
        ax.plot(values, [k] * len(values), "o", ms=5)
    ticks = list(names.values()) if column == "frechet" else [""] * len(names)
    ax.set_yticks(range(len(names)), ticks)
    ax.invert_yaxis()
    ax.set_xlabel(label, fontsize=9)
show(fig, """Toy Fréchet distance (left) and test loss (right) of six networks, a dot for
     each of three seeds: adding at one level lies farthest right in both; the networks with two
     levels lie on the left.""")

# %% [markdown]
r"""
### Which of the paper's claims hold?

A difference is evidence only beside its spread. Look at the dots again: the seeds differ by ten from each other, and all networks together. That is no wonder, as a seed fixes the order of the batches and the noise that the thousand faces are drawn from, alike for every network. So compare **within each seed**: three seeds give three differences of two rows, with a mean and a standard error $s / \sqrt 3$. By Student's $t$ with two degrees of freedom a mean is beyond chance, at the usual 95 %, if it is more than 4.3 standard errors from 0. So we say: a claim *holds* if the row that should be better is better by so much; it *does not hold* if it is worse by so much; otherwise it *cannot be told*. And we print how large the step is, for a true step may be far smaller than the paper's. (One more caution. Ten claims are tried, and each has one chance in twenty of being called beyond chance by luck.)
"""

# %%
def verdict(table, better, worse, column):
    """(mean of worse − better, its standard error, what may be said)"""
    pairs = zip(measured(table, worse, column), measured(table, better, column), strict=True)
    gains = [bad - good for bad, good in pairs]                          # one a seed
    gain, error = statistics.mean(gains), statistics.stdev(gains) / len(gains) ** 0.5
    said = "holds" if gain > 4.3 * error else "does not hold"
    return gain, error, said if abs(gain) > 4.3 * error else "cannot be told"


claims = {
    "16 tokens beat 4": ("table2", "1×1 (16 tokens)", "2×2 (4 tokens)", 9.64 / 14.38),
    "4 tokens beat 1": ("table2", "2×2 (4 tokens)", "4×4 (1 token)", 14.38 / 19.85),
    "fusion helps alone": ("table8", "fusion", "neither", 31.37 / 64.96),
    "multi-resolution helps alone": ("table8", "multi-resolution", "neither", 24.52 / 64.96),
    "multi-resolution beats fusion": ("table8", "multi-resolution", "fusion", 24.52 / 31.37),
    "both beat fusion": ("table8", "both", "fusion", 9.64 / 31.37),
    "both beat multi-resolution": ("table8", "both", "multi-resolution", 9.64 / 24.52),
    "concat beats add": ("table9", "concat", "add", 48.53 / 64.96),
    "adaptive beats concat": ("table9", "adaptive", "concat", 9.64 / 48.53),
    "so with gains at 1": ("table9", "adaptive, gains at 1", "concat", 9.64 / 48.53),
}
print(f"{'':<29}{'gain ± error':>16}  distance falls to:")
print(f"{'':<29}{'of the distance':>16}    ours   paper   by distance     by loss")
for claim, (table, better, worse, theirs) in claims.items():
    gain, error, by_distance = verdict(table, better, worse, "frechet")
    _, _, by_loss = verdict(table, better, worse, "loss")
    share = statistics.mean(measured(table, better)) / statistics.mean(measured(table, worse))
    print(f"{claim:<29}{gain:>8.1f} ± {error:<5.1f}  {share:>6.0%}{theirs:>8.0%}   "
          f"{by_distance:<15} {by_loss}")

# %% [markdown]
r"""
How to read it. "Holds" speaks of the *order* of two rows at this scale; how large the step is stands before it, ours beside the paper's. "Cannot be told" is not "no difference": the error beside the gain says how large a difference could hide.

- **By the distance** six of the ten claims cannot be told, although some gains are large and all three seeds agree in them: a distance of a thousand drawn faces shakes by five or ten, and three seeds are few. **By the test loss**, an average over two thousand faces that shakes by one per cent, nearly all of them hold. Two yardsticks, one truth: the sharper one decides, as far as it measures what you care about.
- More tokens, fusion alone, multi-resolution alone, both: the paper's order stands. The *sizes* do not: where the paper's distance falls to 39 % when fusion joins multi-resolution, ours falls to 98 %.
- **Adaptive against concat**, the paper's own invention against one linear map, cannot be told by either yardstick. The last claim is there for fairness: had adaptive fusion been held back because it starts as a sum, the other start would win. It does not.
- One token has nobody to attend to, and one vector must hold the whole face, so its row is no surprise.

The ablation of section 5 and this table ask the same question from two sides. On one level, adaptive fusion brings three convolutions into every block, and through them neighbouring tokens exchange what they know; with a U, others do that already. And what no small table can decide: whether a larger network, photographs or 400,000 steps would need what these faces do not.

What a careful reader asks of the paper's own columns:

- Its Table 9 has for "add" the value that its Table 8 has for *neither* fusion nor multi-resolution, 64.96. So the add row lacks multi-resolution as well, and the step to "adaptive", 9.64, is not the effect of fusion alone. In our table all rows have two levels.
- The models differ in size, 9.5 to 15 million. Would a larger "add" model do as well? The table does not say; neither does ours, whose rows differ in the same way.
- Its Table 3 compares FFTD's DDIM rows with a DDPM row that is another network in another space (the pixel U-Net of Table 4). Here is ours with one network throughout:
"""

# %%
print(reproduce.as_text("table3"))

# %% [markdown]
r"""
This is the paper's network of section 5, and 300 images a cell. From 20 steps on nothing changes that three seeds could show. (A thousand steps with noise come out lower for two of them, higher for one.) The paper's order, 500 steps before 100 before 50, is on photographs, with a larger network.

## 8. Beyond the paper

*10 minutes.*

So far the paper's parts. Now change none of them, and two words beside them. Chapter 5 asked a network for $v = \sqrt{\bar\alpha}\, \varepsilon - \sqrt{1 - \bar\alpha}\, x_0$ instead of ε, and chapter 5 also met a second schedule, the cosine. The network of the tables with adaptive fusion and two levels, 1,200 steps of batch 128 on the same latents, three seeds; then 2,000 faces in five ways:
"""

# %%
print(reproduce.as_text("beyond"))

# %% tags=["nbval-ignore-output"]
fig, axes = panels(1, 1, height=2.6)
counts = [5, 10, 20, 50]
for row in dict.fromkeys(c["row"] for c in tables["beyond"]):
    each = [measured("beyond", row, f"{n} steps") for n in counts]
    means = [statistics.mean(v) for v in each]
    axes[0, 0].errorbar(counts, means, [statistics.stdev(v) for v in each], fmt="o-", ms=4,
                        capsize=3, label=row)
axes[0, 0].set(xscale="log", yscale="log")
axes[0, 0].set_xticks(counts, map(str, counts))
axes[0, 0].minorticks_off()
axes[0, 0].set_xlabel("DDIM steps", fontsize=9)
axes[0, 0].set_ylabel("toy Fréchet distance", fontsize=9)
legend(fig)
show(fig, """Toy Fréchet distance against DDIM steps for the four networks, mean and deviation
     of three seeds, both axes logarithmic: ε with the cosine schedule lies far above the
     others, near 2,400 throughout; of the other three, which fall with the number of steps, v
     with the cosine lies lowest, v with the linear schedule second.""")
paper_row, course_row = "ε, linear (the paper's)", "v, cosine"
for way in ("5 steps", "10 steps", "20 steps", "50 steps", "50, η = 1"):
    pairs = zip(measured("beyond", course_row, way), measured("beyond", paper_row, way),
                strict=True)
    shares = ", ".join(f"{ours / theirs:.0%}" for ours, theirs in pairs)
    print(f"{way:<10} v, cosine, as a share of the paper's distance, seed by seed: {shares}")
for net in (paper, model):
    last = float(ddpm.diffusion_of(net).snr[-1]) ** -0.5
    print(f"noise over signal at the last step, {net.schedule}: {last:,.0f}")

# %% [markdown]
r"""
By itself $v$ gains little here, for two seeds of three; together with the cosine schedule it takes about a third off the distance, at every number of steps and for every seed.

Why would a question of *words* matter? The networks have the same information. But ε asks for little where it matters most. At high noise, where the sample's rough layout is decided, $\hat{x}_0 = (x_t - \sqrt{1 - \bar\alpha}\, \hat\varepsilon) / \sqrt{\bar\alpha}$ multiplies every error of $\hat\varepsilon$ by $\sqrt{(1 - \bar\alpha) / \bar\alpha}$, the noise over the signal, which at the end of the linear schedule is about 150. With $v$ the network is asked for nearly $-x_0$ there, and for nearly ε where there is little noise: it is always asked for what it does not see. And the linear schedule spends its last third where next to nothing is left to learn; the cosine one spreads the steps over the noise levels in between.

The row of ε *with* the cosine schedule shows the same from its worst side. The cosine ends at a noise twenty thousand times the signal, and so the first guess of $x_0$ is the network's error times twenty thousand; no later step brings the sample back. In pixels one would clip the guess to $[-1, 1]$ and hardly notice (chapter 5's samplers do); a latent has no range to clip to. So these two words should be changed together, or the prediction first.

The step from here to **flow matching** (Lipman et al. 2023), which the newest models use, is short. Take straight lines for the noising, $x_t = (1 - t)\, x_0 + t\, \varepsilon$ with $t$ from 0 to 1, and ask the network for the line's direction, $\varepsilon - x_0$: a $v$ with another schedule. The sampler is Euler's method down the line.

Here are the two longer-trained networks, from the same noises:
"""

# %% tags=["nbval-ignore-output"]
rows = {f"{name}, {n}": faces_from(noise(10, seed=6), net=net, steps=n)
        for n in (5, 20) for name, net in {"ε, linear": paper, "v, cosine": model}.items()}
show(image_grid(torch.cat(list(rows.values())), columns=10, row_titles=list(rows)), """Ten
     faces from the same noises by the paper's and the course's network, with 5 steps and with
     20: mostly the same people, some on another background; with 5 steps both are soft,
     mouths and eyes most; with 20 both are clear.""")

# %% [markdown]
r"""
## 9. The results table, complete

The first row is what is possible: fresh real faces. All the others were drawn by models of this course.
"""

# %%
print(results_table(through_chapter=7))

# %% tags=["nbval-ignore-output"]
for name, kind in {"unet": UNet, "ivqvae": IVQVAE, "fftd_eps": FFTD, "fftd": FFTD}.items():
    net = load_weights(kind, name)
    millions = sum(p.numel() for p in net.parameters()) / 1e6
    print(f"{name:<9}{net.card['minutes']:>4} minutes of training on one core, "
          f"{millions:.1f} million weights")

# %% [markdown]
r"""
The last three rows are the best by far, close to real faces. The paper's network needs a hundred steps for its row; the course's, the same layers after the same training, comes as far with ten steps of second order (chapter 6's `multistep_sample`), and farther with a hundred.

Read the cost beside it: FFTD needs the autoencoder before it, so their minutes and weights add up, and stand against chapter 5's U-Net alone. Working on sixteen tokens with a good decoder is not a compromise here: the decoder takes care of everything that a pixel model spends its effort on, sharp edges and flat colours, and the quantizer repairs small errors. The autoencoder was trained against the classifier whose features measure the distance (chapter 4), which flatters these rows a little; the pictures say the same.

What is missing is scale. Chapter 8 takes the same two stages to photographs of 256×256, on a GPU.

## Summary

- Stage 2 works on latents that were encoded once, normalised per channel, and marked with the autoencoder they belong to.
- Patches become tokens, positions are added, time and label enter through the adaptive norm, and all gates start shut.
- A block is attention in heads and a feed-forward network, under norms that time and class modulate. Five blocks form a U: the middle knows what, the links carry where.
- Adaptive fusion weighs channels and places before it sums. In the trained network the weights could as well be constants: an ablation says what curves of weights cannot.
- A claim of a table holds, does not hold, or cannot be told: the spread over seeds decides.
- What a network predicts, and on which schedule, can matter more than its architecture.
- Sampled latents are quantised, then decoded. Guidance, inversion and all of chapter 6 work here unchanged.
"""

# %% tags=["nbval-ignore-output"]
minigen.progress()

# %% [markdown]
r"""
### Words

| English | 中文 | meaning here |
|---|---|---|
| latent diffusion | 潜在扩散 | diffusion on an autoencoder's latents |
| token | 词元 | one patch of the latent, as a vector |
| multi-head attention | 多头注意力 | attention several times side by side, each with its part of the features |
| positional embedding | 位置编码 | where a token stands |
| adaptive layer norm | 自适应层归一化 | scale, shift and gate by time and class |
| multi-resolution | 多分辨率 | blocks at two sizes of the map, in a U |
| feature fusion | 特征融合 | joining two streams of features |
| channel, spatial weight | 通道权重, 空间权重 | how much of each channel, of each place |
| probe | 探针 | reading an attribute from features by a linear map |
| ablation | 消融实验 | taking a part away to see what it was worth |
| standard error | 标准误 | how far a mean is likely to be off |

### References

- Liu, Chen, Gao 2026, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): §3.2, Eqs. 16 to 25 and 30, Algorithms 2 and 3, Tables 2, 3, 8 and 9.
- Peebles, Xie 2023, *Scalable Diffusion Models with Transformers* (DiT), [arXiv:2212.09748](https://arxiv.org/abs/2212.09748): §3.2, adaptive norm.
- Chen et al. 2024, *PixArt-α*, [arXiv:2310.00426](https://arxiv.org/abs/2310.00426): one norm for all blocks.
- Rombach et al. 2022, *High-Resolution Image Synthesis with Latent Diffusion Models*, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752).
- Bao et al. 2023, *All are Worth Words* (U-ViT), [arXiv:2209.12152](https://arxiv.org/abs/2209.12152): long links in a Transformer.
- Woo et al. 2018, *CBAM*, [arXiv:1807.06521](https://arxiv.org/abs/1807.06521): channel and spatial weights.
- Vaswani et al. 2017, *Attention Is All You Need*, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762): §3.2, attention in heads.
- Salimans, Ho 2022, *Progressive Distillation for Fast Sampling of Diffusion Models*, [arXiv:2202.00512](https://arxiv.org/abs/2202.00512): §4, $v$.
- Nichol, Dhariwal 2021, *Improved Denoising Diffusion Probabilistic Models*, [arXiv:2102.09672](https://arxiv.org/abs/2102.09672): §3.2, the cosine schedule.
- Lipman et al. 2023, *Flow Matching for Generative Modeling*, [arXiv:2210.02747](https://arxiv.org/abs/2210.02747).
- Alain, Bengio 2017, *Understanding intermediate layers using linear classifier probes*, [arXiv:1610.01644](https://arxiv.org/abs/1610.01644).
"""
