# %% [markdown]
r"""
# Chapter 7 · FFTD, a Transformer that denoises latents

All parts are on the table: an autoencoder that turns a face into sixteen tokens (chapter 4), a way to learn to undo noise (5), a way to sample in few steps (6). The paper's second stage puts them together: a **feature-fused Transformer** that denoises the 4×4×4 latent. It is the paper's own invention, and the last network of this course.

In this chapter you will

1. look at the latents: what they are, what a neighbour of one decodes to, why they are normalised;
2. cut a map into tokens, and put time and label into a Transformer block;
3. let the blocks form a U over two resolutions, and ask what each level knows;
4. compute the paper's adaptive fusion by hand, then see what a trained one does;
5. train, sample, watch a face condense, ask for hair colours;
6. repeat three of the paper's tables, and find out what can be compared.
"""

# %%
import statistics

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

import minigen
from minigen import check, ddim, ddpm, fftd, latents
from minigen.data import ATTRIBUTES, ToyFaces, batches, draw_faces, labels_of
from minigen.diffusion import Diffusion
from minigen.fftd import FFTD, PRESETS, AdaptiveFusion
from minigen.files import load_weights
from minigen.guidance import Guided
from minigen.ivqvae import IVQVAE
from minigen.metrics import obedience, results_table
from minigen.paper import reproduce
from minigen.plots import curves, heat, image_grid, legend, panels, show
from minigen.widgets import explore

# %%
scale, device = minigen.setup()
size = {
    "small": dict(faces=2048, steps=80, batch=64),
    "full": dict(faces=20_000, steps=20_000, batch=256),
}[scale]
faces, test = ToyFaces(size["faces"], seed=0), ToyFaces(1000, seed=2)
tokenizer, model = load_weights(IVQVAE, "ivqvae"), load_weights(FFTD, "fftd")
diffusion, hair = Diffusion(), ATTRIBUTES["hair"]


def noise(n, seed=0):
    return torch.randn(n, 4, 4, 4, generator=torch.Generator().manual_seed(seed))


def faces_from(xT, y=None, net=model, steps=50):
    z = ddpm.last(ddim.ddim_sample(net, diffusion, xT, y, steps=steps))
    return latents.decode(tokenizer, z)


parameters = sum(p.numel() for p in model.parameters())
print(f"scale: {scale}; FFTD with {parameters:,} parameters, decoder by chapter 4")

# %% [markdown]
r"""
Here is where it goes: forty faces that nobody drew, fifty steps each, and all of them in a few seconds.
"""

# %% tags=["nbval-ignore-output"]
drawn = faces_from(noise(40))
show(image_grid(drawn, columns=10), """Forty faces drawn by the longer-trained FFTD: whole,
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

`mean` and `std` have shape `(C,)`; the maps have the channels in the second place: `mean[:, None, None]`.

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
encoded = latents.encode(tokenizer, faces.images())
z = encoded.z
print("after normalising, deviations:", [round(float(v), 1) for v in z.std((0, 2, 3))])
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
swapped = []
for rank in ranks.values():
    other = codes.clone()
    other[0][place] = order[rank]
    swapped.append(tokenizer.decode_indices(other))
show(image_grid(torch.cat(swapped), columns=5, titles=list(ranks), width=6), """A face with the
     token at the left eye replaced: its own code; the nearest, the 5th and the 50th nearest,
     where only shades around the eye change; and the farthest, which breaks eye and skin
     there.""")

# %% [markdown]
r"""
Near codes mean near pictures, and a change stays near its place. This is what diffusion needs: a prediction that is a little off is snapped by the quantizer to the right code or to one much like it. (Eq. 30: sampled latents are quantised, then decoded.)

## 2. From a map to tokens

*15 minutes.*

A Transformer takes a *sequence of vectors*. Cut the latent into patches of $p \times p$ places; each becomes one token. With $p = 1$ there are sixteen tokens of 4 numbers; with $p = 2$ four tokens of 16; with $p = 4$ a single one of 64. The paper tries all three (Table 2); $p = 1$ wins.

### Exercise 7.2 · `patchify` · ★★ · 8 minutes

Cut maps into tokens, patches in reading order. Inside a token the order is channel, row, column.

<details><summary>Hint</summary>

View the map as `(B, C, h/p, p, w/p, p)`, permute to `(B, h/p, w/p, C, p, p)`, flatten twice.

<details><summary>More</summary>

`F.unfold(z, p, stride=p)` does it too, up to a transposition.

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
## 3. A block that knows the time

*25 minutes.*

A Transformer block is two steps, each added to what was there: **attention**, where tokens look at each other, and a **feed-forward** network, the same for each token. How do time and class get in? The paper does not say. We take DiT's way (Peebles and Xie 2023), the **adaptive norm**: normalise each token, then scale and shift it by amounts that time and class decide, and weigh what comes out by a gate.

$$\begin{aligned} x_1 &= x + g_1 \odot \mathrm{MHSA}\left(\mathrm{LN}(x) \odot (1 + a_1) + b_1\right) \\ x_2 &= g_2 \odot \mathrm{FFN}\left(\mathrm{LN}(x_1) \odot (1 + a_2) + b_2\right) \\ x_{\text{out}} &= \mathrm{fuse}(x_1, x_2) \end{aligned}$$

The six vectors $a, b, g$ are one linear map of $\mathrm{Swish}(\text{time embedding} + \text{label embedding})$, plus a small table for each block. With $\mathrm{fuse}(x_1, x_2) = x_1 + x_2$ it *is* a DiT block; `minigen`'s tests copy its weights into a public DiT and get the same numbers to 1e-5.

### Exercise 7.3 · `modulated` · ★★ · 5 minutes

The adaptive norm: layer norm over each token's features (no weights of its own), then scale and shift.

<details><summary>Hint</summary>

`F.layer_norm(x, x.shape[-1:])`. Shift and scale belong to the image: `(B, D)` must meet `(B, L, D)`.

</details>
"""

# %%
def modulated(x, shift, scale):
    """LN(x) * (1 + scale) + shift. Shapes: x (B, L, D), shift and scale (B, D)."""
    ### BEGIN SOLUTION
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale[:, None]) + shift[:, None]
    ### END SOLUTION

# %% points=2
check(modulated)

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
    condition = F.silu(model.condition(t_all))
    for i, block in enumerate(model.blocks):
        modulation = model.norms[model.level_of[i]](condition).view(len(t_all), 6, -1)
        gate = (modulation + block.table)[:, [2, 5]]             # of attention and feed-forward
        gates.append(gate.abs().mean(-1))                        # (t, 2)
fig, axes = panels(1, 2)
for k, name in enumerate(("attention", "feed-forward")):
    curves({f"block {i + 1}": gate[:, k] for i, gate in enumerate(gates)}, x=t_all, xlabel="t",
           ylabel=f"mean gate of {name}", ax=axes[0, k])
legend(fig)
show(fig, """Mean size of the trained model's gates over t, for attention (left) and
     feed-forward (right), a line a block: all have opened; those of the halved blocks 2 to 4
     are two to five times as wide as those of blocks 1 and 5, and all are widest at little
     noise, t around 200.""")

# %% [markdown]
r"""
The gates tell at which noise levels a block works hardest, and that the middle of the U does most of the work. One more thing to see in the code: `model(z, t)` takes one $t$ for a whole batch, and then everything that depends on $t$ alone is computed once, not once an image.

## 4. Two resolutions

*20 minutes.*

The five blocks form a **U**. Between the first and the second the map is halved by a convolution with stride 2 (Eq. 16), between the fourth and the fifth it is doubled (Eq. 17). Block 5 is also given what block 1 made, and block 4 what block 2 made. The paper does not state the resolution of block 3. With `levels=2` the blocks work at 4-2-2-2-4, with `levels=3` at 4-2-1-2-4; the first fits the paper's parameter counts.

### Exercise 7.4 · `levels_of` · ★★ · 5 minutes

Write the level of each block: 0 for the full map, 1 for the halved one, and so on. Down on the left, up on the right, never below `levels - 1`.

<details><summary>Hint</summary>

A block's distance to the nearer end of the U, but at most `levels - 1`.

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
        model(zt, at, trace=trace)
    features = [f.mean((2, 3)) for f in trace]            # of each block, averaged over places
    right[t] = {name: torch.tensor([probe(f, test[name], len(ATTRIBUTES[name]))
                                    for f in features])
                for name in asked}

# %% tags=["nbval-ignore-output"]
fig, axes = panels(1, 3, height=2.6)
for ax, t in zip(axes.flat, levels, strict=True):
    curves(right[t], xlabel="block", ylabel="share right", ax=ax, title=f"t = {t}")
    ax.set_ylim(0, 1.02)
    ax.set_xticks(range(1, 6), ["1\n4×4", "2\n2×2", "3\n2×2", "4\n2×2", "5\n4×4"])
legend(fig)
show(fig, """How well a linear map reads six attributes from each block's features, at t = 50,
     400 and 700. With little noise the colours of background and shirt can be read everywhere,
     but glasses, pose and hair only from the second block on; at t = 400 pose and glasses
     still, at 700 next to nothing.""")
block1, block3 = (torch.stack([right[50][name][i] for name in asked]).mean() for i in (0, 2))
assert block3 > block1

# %% [markdown]
r"""
The first block sees tokens. In the middle, where four tokens cover the whole face, the features know *what* it is; the last block needs to know only which noise to take off at each place. That is what the long links are for: they carry "where" past the middle.

## 5. Fusion

*30 minutes.*

"Feature fusion" is the paper's name for what happens where two streams meet: $x_1$ and $x_2$ inside every block, left and right at the links of the U. Three ways, from its Table 9:

- **add**: $x_1 + x_2$;
- **concat**: $\mathrm{Linear}(x_1 \| x_2)$;
- **adaptive** (Eqs. 18 to 25): look at both streams first, and decide how much of each.

Adaptive fusion has three parts. From the streams side by side, $x_1 \| x_2$ with $2D$ features, it takes the mean and the maximum over all tokens. (Eq. 18 prints the mean twice; a maximum is meant, or the two would be one.)

### Exercise 7.5 · `pooled` · ★★ · 5 minutes

Compute $p = [\,\text{mean}, \text{max}\,]$, $4D$ numbers an image.

<details><summary>Hint</summary>

`torch.cat` along the features, then `mean` and `amax` along the tokens, then `torch.cat` once more.

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

### Exercise 7.6 · `fused` · ★★ · 6 minutes

Put the three together. The norms and the linear map are done for you.

<details><summary>Hint</summary>

One weight misses the token axis, the other the feature axis: `w_channel[:, None, :]`, `w_spatial[:, :, None]`.

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


by_formula = seen["w_channel"] * hand.norm1(x1) + seen["w_spatial"] * hand.norm2(x2) + x1 + x2
print("p, mean of stream 1:  ", rounded(seen["p"][0, :6]), "…")
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
Two decisions of ours. A sigmoid starts at one half, so plain Eqs. 23 and 24 would begin by mixing in half of two *normalised* streams; we start the norms' gains at 0 and the linear map at $x_1 + x_2$, so that a new fusion is a plain sum and learns to be more. And Eq. 20 as printed has two linear maps in a row, which are one; we put a Swish between them.

What has the trained model made of it? Draw the weights of three of its seven fusions over the noise level.
"""

# %%
fusions = {
    "block 1, attention | feed-forward": model.blocks[0].fuse,
    "block 3": model.blocks[2].fuse,
    "link 1–5": model.links[0],
}
inputs, hooks = {name: [] for name in fusions}, []
for name, fusion in fusions.items():
    hooks.append(fusion.register_forward_pre_hook(
        lambda module, streams, name=name: inputs[name].append(streams)))
ts = list(range(0, 1000, 100))
with torch.no_grad():
    for t in ts:
        at = torch.tensor([t])
        model(diffusion.add_noise(z_test[:200], at, noise(200)), at)
    for hook in hooks:
        hook.remove()
    weights = {name: [fusion(*streams, return_weights=True)[1] for streams in inputs[name]]
               for name, fusion in fusions.items()}

# %%
fig, axes = panels(1, 2)
for ax, kind in zip(axes.flat, ("channel", "spatial"), strict=True):
    lines = {name: [float(w[f"w_{kind}"].mean()) for w in each]
             for name, each in weights.items()}
    curves(lines, x=ts, xlabel="t", ylabel=f"mean {kind} weight", ax=ax)
legend(fig)
show(fig, """Mean channel weight (left) and mean spatial weight (right) of three fusions of the
     trained model over t. In block 1 the spatial weight falls from 1 to 0 with the noise; on
     the link from 1 to 5 it rises; in block 3 the channel weight rises from 0.4 to 0.85.""")

# %%
link = [w["w_spatial"].mean(0).view(4, 4) for w in weights["link 1–5"]]
fig, axes = panels(1, 4, height=1.6)
for ax, i in zip(axes.flat, (0, 3, 6, 9), strict=True):
    heat(ax, link[i], f"t = {ts[i]}", low=0, high=1)
show(fig, """The spatial weights of the link from block 1 to block 5 as 4×4 maps at t = 0, 300,
     600 and 900, bright for 1: dark but for a few places at first, bright everywhere at the
     end.""")

# %% [markdown]
r"""
So the fusions do use their freedom: beside the third term, which carries both streams always, the weights are knobs that the noise level turns. On the link, the spatial weight belongs to the stream that comes up through the U: with little noise it is let in at a few places, with much noise everywhere. A plain sum could not do that.

## 6. Training, and drawing

*20 minutes.*

Nothing new: `ddpm.train_ddpm` with the latents in place of images. Because a latent is 64 numbers, the whole data set lies in memory and a step takes a fraction of a second. These are a few seconds' worth, eighty steps; the longer-trained model took 8,000, with twice the batch.
"""

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
young = FFTD(**PRESETS["small"]).to(device)
average = ddpm.ema(young, 0.99)
training = ddpm.train_ddpm(young, batches(z, batch_size=size["batch"]), diffusion,
                           steps=size["steps"], lr=2e-3, average=average)
losses = [s.loss for s in tqdm(training, total=size["steps"], desc="FFTD")]
young = average.module.cpu()
show(curves({"loss": losses}, ylabel="mean squared error of ε", smooth=10), """Training loss of
     FFTD: from 1, the error of predicting nothing, it falls quickly at first, then slowly.""")
assert sum(losses[-10:]) / 10 < 0.8 * losses[0]

# %% tags=["nbval-ignore-output"]
both = torch.cat([faces_from(noise(8), net=net, steps=20) for net in (young, model)])
show(image_grid(both, columns=8, row_titles=["seconds", "longer"]), """From the same eight
     noises: after some seconds of training faces already, with smudges and torn hair; from the
     longer-trained model clean ones.""")

# %% [markdown]
r"""
### A face condenses

Sample one face in fifty steps, and decode at every step: the noisy latent itself, and the model's guess of the clean one. (Decoding a noisy latent is allowed: the quantizer makes *some* code of everything.)
"""

# %% tags=["nbval-ignore-output"]
film = list(ddim.ddim_sample(model, diffusion, noise(1, seed=8), steps=50))
frames = [film[i] for i in (0, 5, 10, 15, 20, 25, 30, 35, 40, 49)]
noisy = latents.decode(tokenizer, torch.cat([s.x for s in frames]))
guessed = latents.decode(tokenizer, torch.cat([s.x0 for s in frames]))
show(image_grid(torch.cat([noisy, guessed]), columns=10, row_titles=["latent", "guess"],
                titles=[f"t = {s.t}" for s in frames]),
     """One face over fifty steps. Above, the noisy latent decoded: a ghost of a face, which
     turns into a clear one after t = 400. Below, the guess of the clean latent: a clear face at
     once, but another one every few steps, until t = 300.""")

# %% [markdown]
r"""
Compare the upper row with chapter 5's. Pixel noise looks like noise; *latent* noise looks like a ghost, since the decoder has never learned to draw anything but pieces of faces. The lower row shows when what is decided: glasses come and go, the background's colour settles, and at last the hair.

### Asking for a colour

The model was trained with hair colours, and without in one case of seven, as in chapter 6. **Play:** the colour, the scale, the steps, the seed.
"""

# %% tags=["nbval-ignore-output"]
def play(colour, scale, steps, seed):
    y = torch.full((8,), hair.index(colour))
    faces = faces_from(noise(8, seed), y, Guided(model, 5, float(scale)), steps)
    return image_grid(faces, columns=8)


explore(play, play("blond", 1.5, 20, 3), """Eight faces with blond hair, asked for with scale
        1.5, in twenty steps.""",
        colour=(list(hair), "blond"), scale=(0.0, 6.0, 1.5),
        steps=(2, 100, 20), seed=(0, 99, 3));

# %% tags=["nbval-ignore-output"]
y = torch.arange(5).repeat_interleave(8)
by_scale = {s: faces_from(noise(40, seed=2), y, Guided(model, 5, s), steps=20)
            for s in (0.0, 1.0, 2.0)}
show(image_grid(by_scale[1.0], columns=8, row_titles=list(hair)), """Forty faces, a row for each
     hair colour asked for with scale 1: the hair is as asked, everything else varies.""")
obeyed = {s: obedience(x, "hair", y) for s, x in by_scale.items()}
print("obeyed:", {f"scale {s:g}": f"{v:.0%}" for s, v in obeyed.items()})
assert obeyed[1.0] > 0.7 > 0.5 > obeyed[0.0]

# %% [markdown]
r"""
### Has it learned by heart?

Chapter 5 warned: a perfect denoiser copies. For eight samples, here is the training face whose latent is nearest.
"""

# %%
mine = latents.encode(tokenizer, drawn[:8]).z
far = torch.cdist(mine.flatten(1), z.flatten(1))
nearest = faces.images()[far.argmin(1)]
show(image_grid(torch.cat([drawn[:8], nearest]), columns=8, row_titles=["sample", "nearest"]),
     """Eight samples above, the nearest of the training faces shown here below: of like pose
     and tone, but other people: hair, background, glasses or mouth differ.""")

# %% tags=["nbval-ignore-output"]
fresh_far = torch.cdist(z_test.flatten(1), z.flatten(1))
of_samples, of_fresh = (float(d.min(1).values.mean()) for d in (far, fresh_far))
print(f"distance to the nearest training latent: samples {of_samples:.1f}, "
      f"fresh faces {of_fresh:.1f}")

# %% [markdown]
r"""
Samples lie about as far from these training faces as fresh faces do. It is a weak test, and you should know why: the notebook holds 2,048 of the 50,000 faces that the model was trained on, so a copy of one of the others would go unnoticed. A real check compares with all of them.

## 7. The paper's tables, at small scale

*15 minutes.*

Each cell: a model of width 64, 600 training steps, 1,000 faces drawn with 50 steps, three seeds; measured beforehand by `python -m minigen reproduce table2`, `table8` and `table9`. The paper's FIDs stand beside them. They cannot be compared as numbers; the *order of the rows* can.
"""

# %%
print(reproduce.as_text("table2"))

# %%
print(reproduce.as_text("table8"))
print()
print(reproduce.as_text("table9"))

# %% tags=["nbval-ignore-output"]
cells = reproduce.read("table8") + reproduce.read("table9")
names = {
    "neither": "add, 1 level",
    "fusion": "adaptive, 1 level",
    "multi-resolution": "add, 2 levels",
    "concat": "concat, 2 levels",
    "both": "adaptive, 2 levels",
}
labels = {"frechet": "toy Fréchet distance", "loss": "test loss"}
fig, axes = panels(1, 2, height=2.4)
for ax, (column, label) in zip(axes.flat, labels.items(), strict=True):
    for k, row in enumerate(names):
        values = [c[column] for c in cells if c["row"] == row]
        ax.plot(values, [k] * len(values), "o", ms=5)
    ax.set_yticks(range(5), names.values() if column == "frechet" else [""] * 5)
    ax.invert_yaxis()
    ax.set_xlabel(label, fontsize=9)
show(fig, """Toy Fréchet distance (left) and test loss (right) of five models, a dot for each of
     three seeds: adding at one level is far off on the right, adaptive fusion at one level in
     between, and the three models with two levels lie together on the left.""")

mean = {name: statistics.mean(c["frechet"] for c in cells if c["row"] == row)
        for row, name in names.items()}
print("mean Fréchet distance:")
for name, value in mean.items():
    print(f"  {name:<20}{value:6.1f}")

# %% [markdown]
r"""
What we see:

- **Table 2** has the paper's order: sixteen tokens are best, four a little worse, one hopeless. (One token has nobody to attend to, and one vector must hold the whole face.)
- **Table 8**: each idea *alone* is a large gain, as in the paper: fusion takes the distance from 469 to 165, multi-resolution to 98. But **both together are no better than multi-resolution alone**, for our three seeds: 107 against 98, with the same test loss.
- **Table 9** says the same: where the blocks form a U with links, adding, concatenating and adaptive fusion cannot be told apart. The paper's 64.96 to 9.64 we do not find.

Why? Perhaps fusion needs a longer training, or a larger model, or photographs. Perhaps, on one level, adaptive fusion does what the U does elsewhere: its three convolutions let neighbouring tokens exchange what they know. With a U, others do that already. A small table cannot decide; it can say which sentence now needs evidence.

What a careful reader asks of the paper's own columns:

- Its Table 9 has for "add" the value that its Table 8 has for *neither* fusion nor multi-resolution, 64.96. So the add row lacks multi-resolution as well, and the step to "adaptive", 9.64, is not the effect of fusion alone. In our table all rows have two levels.
- The models differ in size, 9.5 to 15 million. Would a larger "add" model do as well? The table does not say; neither does ours, whose rows differ in the same way.
- Its Table 3 compares FFTD's DDIM rows with a DDPM row that is another network in another space (the pixel U-Net of Table 4). Here is ours with one network throughout:
"""

# %%
print(reproduce.as_text("table3"))

# %% [markdown]
r"""
From 20 steps on nothing changes that three seeds could show. (A thousand steps with noise come out lower for two of them, higher for one.) (300 images a cell; and the paper's order, 500 steps before 100 before 50, is on photographs with a larger model.)

## 8. The results table, complete

The first row is what is possible: fresh real faces. All the others were drawn by models of this course.
"""

# %%
print(results_table(through_chapter=7))

# %% [markdown]
r"""
The last row is the best by far, close to real faces. Read the cost beside it: 38 minutes of training on one core for FFTD and 66 before that for the autoencoder, against 74 for chapter 5's U-Net that predicts $v$; 2.4 million weights and 1.0 million, against 2.1. So half as much effort again, and an eighth of the distance. Working on sixteen tokens with a good decoder is not a compromise here: the decoder takes care of everything that a pixel model spends its effort on, sharp edges and flat colours, and the quantizer repairs small errors. The autoencoder was trained against the classifier whose features measure the distance (chapter 4), which flatters this row a little; the pictures say the same.

What is missing is scale. Chapter 8 takes the same two stages to photographs of 256×256, on a GPU.

## Summary

- Stage 2 works on latents that were encoded once, normalised per channel, and marked with the autoencoder they belong to.
- Patches become tokens, positions are added, time and label enter through the adaptive norm, and all gates start shut.
- Five blocks in a U: the middle knows what, the links carry where.
- Adaptive fusion weighs channels and places before it sums; started as a plain sum, it can only learn to differ.
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
| positional embedding | 位置编码 | where a token stands |
| adaptive layer norm | 自适应层归一化 | scale, shift and gate by time and class |
| multi-resolution | 多分辨率 | blocks at two sizes of the map, in a U |
| feature fusion | 特征融合 | joining two streams of features |
| channel, spatial weight | 通道权重, 空间权重 | how much of each channel, of each place |
| probe | 探针 | reading an attribute from features by a linear map |

### References

- Liu, Chen, Gao 2026, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): §3.2, Eqs. 16 to 25 and 30, Algorithms 2 and 3, Tables 2, 3, 8 and 9.
- Peebles, Xie 2023, *Scalable Diffusion Models with Transformers* (DiT), [arXiv:2212.09748](https://arxiv.org/abs/2212.09748): §3.2, adaptive norm.
- Chen et al. 2024, *PixArt-α*, [arXiv:2310.00426](https://arxiv.org/abs/2310.00426): one norm for all blocks.
- Rombach et al. 2022, *High-Resolution Image Synthesis with Latent Diffusion Models*, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752).
- Bao et al. 2023, *All are Worth Words* (U-ViT), [arXiv:2209.12152](https://arxiv.org/abs/2209.12152): long links in a Transformer.
- Woo et al. 2018, *CBAM*, [arXiv:1807.06521](https://arxiv.org/abs/1807.06521): channel and spatial weights.
- Alain, Bengio 2017, *Understanding intermediate layers using linear classifier probes*, [arXiv:1610.01644](https://arxiv.org/abs/1610.01644).
"""
