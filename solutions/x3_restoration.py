# %% [markdown]
r"""
# Excursion x3 · Repairing, enlarging, repainting

Most pictures that a model makes do not begin with nothing. A photograph is noisy, small, torn, grey or too bright; a drawing wants colour; a sketch wants to be a face. Each of these tasks has an old way, a way by regression, a GAN's way and a diffusion model's way, and on ToyFaces each can be held against the truth, since we damage the pictures ourselves.

One question runs through all of it. What was lost is lost: many faces fit the damaged picture. Should the answer be **the mean** of them, or **one** of them? The first is right in numbers and looks like nobody; the second looks right and is partly made up.

You need chapter 6, and chapter 4 for its losses. In this excursion you will

1. write the best linear filter, and see a draw and a mean pull apart;
2. enlarge faces from 8×8 by four methods, and a sentence's face from 32 to 64 in a cascade;
3. repair holes, greyness and overexposure with a network that was never told of them, by a step you write yourself;
4. count what such a network makes up;
5. carry a style over: crayon, stained glass, print;
6. turn line drawings and brush strokes into faces.
"""

# %%
import functools
import itertools

import torch
import torch.nn.functional as F

import minigen
from minigen import check, ddpm, gan, style, translation, upscaling
from minigen import measurements as m
from minigen import restoration as r
from minigen.checks import yours
from minigen.common import evaluating
from minigen.data import ATTRIBUTES, ToyFaces, batches
from minigen.data.toyfaces import colour_of
from minigen.ddim import ddim_sample, ddim_step, visited_pairs
from minigen.diffusion import ideal_eps
from minigen.files import load_weights
from minigen.ivqvae import IVQVAE, PatchDiscriminator
from minigen.metrics import attribute_classifier, gaussian_statistics, toy_frechet
from minigen.paper import reproduce, restored
from minigen.perceptual import ToyPerceptual
from minigen.plots import COLOURS, curves, image_grid, panels, show
from minigen.style_decoder import StyleDecoder
from minigen.styles import STYLES, draw_style
from minigen.text_to_image import TextFFTD, draw
from minigen.unet import UNet
from minigen.widgets import explore

# %%
scale, _ = minigen.setup()
size = {
    "small": dict(known=5000, pix_steps=40, answers=6),
    "full": dict(known=20_000, pix_steps=1000, answers=32),
}[scale]
print(f"scale: {scale}; everything here runs on the processor")

# %% [markdown]
r"""
Here is where it goes. Every second row is what the row above it was turned into; nothing of the true faces was known to the networks but what you see there.
"""

# %% tags=["nbval-ignore-output"]
unet = load_weights(UNet, "unet")                     # chapter 5's, trained on whole faces
diffusion = ddpm.diffusion_of(unet)
reads = attribute_classifier().predict                # what a face's nine attributes are
eight = ToyFaces(8, seed=5).images()
small = F.interpolate(F.avg_pool2d(eight, 4), scale_factor=4)
given = [small, restored.noisy(eight, 1), eight * restored.HOLE, restored.overexposed(eight),
         translation.outlines(eight)]
ways = ["8 → 32, SR3", "noise, draw", "hole, RePaint", "too bright, DPS", "outline, pix2pix"]
rows = [x for before, way in zip(given, ways, strict=True)
        for x in (before.clamp(-1, 1), restored.METHODS[way](eight, 1).clamp(-1, 1))]
titles = [t for way in ("small", "noisy", "torn", "too bright", "a drawing")
          for t in (way, "")]
show(image_grid(torch.cat([eight, *rows]), columns=8, row_titles=["true", *titles]),
     """First row: eight true faces. Then, in pairs of rows, the same faces damaged and
     restored: 8×8 pixels, noise, a hole in the middle, too bright, only outlines. All that
     comes back are faces. From 8×8 and from noise they are the true ones, nearly; in the holes
     are other people; what was too bright, and the drawings, came back in other colours.""")

# %% [markdown]
r"""
## 1. Noise: a mean and a draw

*35 minutes.*

The oldest damage: $y = x + \sigma \varepsilon$. With $\sigma = 1$, half the range from black to white, little seems left.

### Exercise x3.1 · `psnr` · ★ · 5 minutes

How far is a picture from the truth? Engineers say it in decibels, the **peak signal-to-noise ratio**:

$$\mathrm{PSNR} = 10 \log_{10} \frac{2^2}{\tfrac1D \sum_i (x_i - y_i)^2}$$

The 2 is the range of our pixels, −1 to 1. Write it for a batch, one value for each image.

<details><summary>Hint</summary>

`flatten(1)` makes a row of each image; the mean goes over the row. Three decibels are a factor of two in the squared error, ten a factor of ten.

</details>
"""

# %%
def psnr(x, y):
    """Peak signal-to-noise ratio. Shapes: (B, C, H, W) in [-1, 1] twice -> (B,) decibels."""
    ### BEGIN SOLUTION
    return 10 * torch.log10(4 / (x - y).flatten(1).square().mean(1))
    ### END SOLUTION

# %% points=1
check(psnr)

# %%
psnr = yours(psnr)
sigma = restored.SIGMA
faces = ToyFaces(256, seed=2).images()                # no network here was trained on these
noisy, perceptual = restored.noisy(faces, 3), ToyPerceptual()
others = ToyFaces(256, seed=3).images()


def tell(name, x):
    """How near to the truth, in decibels and to the eye, and how like a face."""
    x = x.clamp(-1, 1)
    print(f"{name:<34}{float(psnr(faces, x).mean()):5.1f} dB   toy LPIPS "
          f"{float(perceptual(faces, x).mean()):.3f}   toy Fréchet {toy_frechet(x):6.0f}")


tell("the noisy pictures", noisy)
tell("other people's faces, clean", others)

# %% [markdown]
r"""
(What is measured is what a screen would show: values beyond −1 and 1 are cut off first. Without that the noise has 6 dB, as the formula says for σ = 1.)

Look at the second line: somebody else's face is nearer, in decibels, than one's own under noise. And the toy Fréchet distance (of only 256 faces, for which fresh real ones have 86 to 97) does not ask at all whose face it is. The two measures want different things. Keep both in view.

### Exercise x3.2 · `wiener` · ★★ · 10 minutes

Chapter 0 described all faces by one Gaussian, $x \sim N(\mu, \Sigma)$. Then $y$ is Gaussian too, and Bayes' rule gives the mean of all faces that fit it:

$$\hat x = \mu + \Sigma\,(\Sigma + \sigma^2 I)^{-1} (y - \mu)$$

This is the **Wiener filter** (1949). Along an axis where faces vary more than the noise it keeps what it sees; where they vary less it goes back to the average face. No linear filter has a smaller squared error, whatever the distribution.

<details><summary>Hint</summary>

`torch.linalg.solve(A, B)` gives $A^{-1} B$ without an inverse. The rows of `y` are pictures, so all stands transposed: `solve(Σ + σ² I, (y − μ).T)` is a matrix (D, N), which Σ still has to multiply, before it is turned back. `variance` is $\sigma^2$; `torch.eye(D)` is $I$.

</details>
"""

# %%
def wiener(y, mean, cov, variance):
    """The best linear guess behind noise. Shapes: y (N, D), mean (D,), cov (D, D) -> (N, D)."""
    ### BEGIN SOLUTION
    noisy_cov = cov + variance * torch.eye(len(cov), dtype=cov.dtype)
    return mean + (cov @ torch.linalg.solve(noisy_cov, (y - mean).T)).T
    ### END SOLUTION

# %% points=2
check(wiener)

# %%
wiener = yours(wiener)
known = ToyFaces(size["known"], seed=0).images()
mean, cov = (v.float() for v in gaussian_statistics(known.flatten(1)))
linear = wiener(noisy.flatten(1), mean, cov, sigma**2).view_as(noisy)
tell("Wiener filter", linear)

# %% [markdown]
r"""
A network is not bound to lines, and you have one already. A diffusion model predicts noise, or velocity, and all are views of the same thing: $\hat x_0(x_t)$, the mean of the clean pictures behind a noisy one, trained by squared error. A thousand time steps are a thousand denoisers. Which one fits our noise? $y = x + \sigma\varepsilon$ times $\sqrt{\bar\alpha_t}$ is $x_t$ where $\sqrt{1 - \bar\alpha_t} / \sqrt{\bar\alpha_t} = \sigma$.
"""

# %% tags=["nbval-ignore-output"]
t = r.time_of(diffusion, sigma)
best = r.denoised(unet, diffusion, noisy, sigma)
print(f"noise of deviation {sigma:g} is time step {t} of {diffusion.T}\n")
tell("chapter 5's U-Net, one run", best)

# %% [markdown]
r"""
And the **ideal** denoiser? Chapter 5 wrote it down for data that are a list of pictures: a weighted mean of all of them. Let the list be the training set.

**Before you run the next cell:** how good is it for a face of the training set? And for a face that is not in it: better or worse than the U-Net?

<details><summary>Answer</summary>

For a face on the list it is perfect: there is one such face, and at this noise no other is as near. For a new face it answers with the nearest known one, cleanly drawn, and wrong. The ideal denoiser of the *training set* is not that of *faces*. The U-Net could not learn the list by heart, and so had to learn what faces have in common: its shortfall is what makes it useful.

</details>
"""

# %% tags=["nbval-ignore-output"]
def by_list(y):
    """The mean of the known faces, weighted by how well they fit."""
    at = torch.tensor([t])
    xt = float(diffusion.alpha_bar[t].sqrt()) * y
    return diffusion.views(ideal_eps(diffusion, known, xt, at), xt, at, "eps")[0]


on_it = restored.noisy(known[:256], 4)
print(f"faces on the list: {float(psnr(known[:256], by_list(on_it)).median()):.1f} dB (median)")
tell("faces that are not on it", by_list(noisy))

# %% [markdown]
r"""
### The draw

Everything so far answers with a mean. But $x_t$ is a place that sampling passes through: so **go on from there**, with noise at every step as in chapter 5, and you get *one* of the faces that can lie behind $y$, drawn from the posterior $p(x \mid y)$.

**Before you run the next cell:** which has the smaller squared error, the mean or the draw? By how much?

<details><summary>Answer</summary>

The mean, by definition. The draw's error is *twice* as large, 3 dB: the truth $x$ and the draw $\tilde x$ are two independent draws from the same posterior, so $E\|x - \tilde x\|^2 = E\|x - \hat x\|^2 + E\|\hat x - \tilde x\|^2$, and both are the posterior's variance (Blau & Michaeli 2018).

</details>
"""

# %% tags=["nbval-ignore-output"]
def drawn(y, seed):
    return ddpm.last(r.denoised_sample(unet, diffusion, y, sigma, steps=20,
                                       generator=torch.Generator().manual_seed(seed)))


one = drawn(noisy[:128], 5)
print(f"mean {float(psnr(faces, best)[:128].mean()):.1f} dB, "
      f"draw {float(psnr(faces[:128], one).mean()):.1f} dB")
rows = [noisy[:8], linear[:8], best[:8], *(drawn(noisy[:8], k) for k in range(3)), faces[:8]]
names = ["noisy", "Wiener", "mean", "draw 1", "draw 2", "draw 3", "true"]
show(image_grid(torch.cat(rows).clamp(-1, 1), columns=8, row_titles=names),
     """Eight noisy faces and what was made of them. Wiener: soft faces, with a shine around the
     heads. The network's mean: clear faces, with soft eyes and mouths. Three draws: sharper,
     with mouths and eyes that differ from draw to draw. Last the true ones.""")

# %% [markdown]
r"""
Three decibels are the theory's, for a perfect network; ours loses less than one. What is wrong there: the draw, or the mean? One can have anything between the two: average several draws. With more of them the average tends to the mean, nearer to the truth and less like a face; the theory says that n draws have $(1 + 1/n)$ times the posterior's variance for an error. 500 faces, three seeds (`ssim`, the structural similarity, compares windows in mean, contrast and pattern; 1 is equal):
"""

# %%
print(reproduce.as_text("distortion"))

# %% tags=["nbval-ignore-output"]
cells = reproduce.read("distortion")
order = ["1 draw", "2 draws", "4 draws", "8 draws", "16 draws"]


def over_seeds(cells, row, column):
    """Mean of three seeds."""
    values = [c[column] for c in cells if c["row"] == row]
    return sum(values) / len(values)


fig, axes = panels(1, 1, height=2.9, width=5.5)
ax = axes[0, 0]
ax.plot(*([over_seeds(cells, row, k) for row in order] for k in ("psnr", "frechet")),
        color=COLOURS[0], marker="o", ms=4)
for row in order:
    at = over_seeds(cells, row, "psnr"), over_seeds(cells, row, "frechet")
    ax.annotate(row, at, (4, -11), textcoords="offset points", fontsize=8)
at = [over_seeds(cells, "mean by network", k) for k in ("psnr", "frechet")]
ax.plot(*at, color=COLOURS[1], marker="s", ms=5)
ax.annotate("the network's mean", at, (-8, 8), textcoords="offset points", ha="right",
            fontsize=8)
ax.set(xlabel="PSNR in dB (right: nearer to the truth)",
       ylabel="toy Fréchet (down: more like faces)", ylim=(0, None))
show(fig, """Toy Fréchet distance over PSNR, from one draw to the average of sixteen: each
     step to the right, nearer to the truth, is a step up, less like a face. The network's own
     mean, a square, lies beside the average of two draws.""")
print("better than one draw, in dB:")
for row, n in zip(order[1:], (2, 4, 8, 16), strict=True):
    gain = over_seeds(cells, row, "psnr") - over_seeds(cells, "1 draw", "psnr")
    theory = 10 * torch.log10(torch.tensor(2 / (1 + 1 / n)))
    print(f"    {row:<9} {gain:.1f}   (a perfect network: {float(theory):.1f})")

# %% [markdown]
r"""
So it is both. Averages of draws rise past the network's one answer, which is worth two draws: that mean is not the best one. (Twenty steps ask the network twenty times, one run has one chance; that may be why.) And they rise by less than they should: the draws are too alike, too.

And the curve? Blau and Michaeli prove that near to the truth and like a picture pull apart for *every* method: there is a **perception–distortion** curve that none can pass, and ours lies on it or above. Its left end costs less than one may fear: an answer that looks perfectly real need not have more than twice the least squared error, which is what a draw has; Freirich et al. (2021) say how to do better. So "better PSNR" alone is no praise, and neither is "sharper". Say which you want, and why: a tracker of tumours wants the mean *and its uncertainty*; a wallpaper wants a draw.

## 2. Small pictures made large

*35 minutes.*

A face of 8×8 pixels, each the mean of a block of 16. How many faces fit? Let us ask our list of known faces for those that look most alike when they are small.
"""

# %% tags=["nbval-ignore-output"]
tiny, tiny_known = (F.avg_pool2d(x, 4).flatten(1) for x in (faces[:3], known))
near = torch.cdist(tiny, tiny_known).topk(7, largest=False).indices           # (3, 7)
rows = [torch.cat([F.interpolate(F.avg_pool2d(faces[k : k + 1], 4), scale_factor=4),
                   known[near[k]]]) for k in range(3)]
show(image_grid(torch.cat(rows), columns=8),
     """Three small faces, left, and beside each the seven of the known faces that are most like
     it when they are small: same shirts and backgrounds, hair and skin of like brightness; but
     with and without glasses, with other mouths, eyes and lengths of hair.""")

# %% [markdown]
r"""
Shirts and walls survive, hair nearly. And mouths and eyes? (The list holds only so many faces: the nearest need not be *near*.) Four methods:

- **Bicubic** interpolation, the old way: smooth, and nothing is added.
- **Squared error**: a network, shown the bicubic picture, answers what to add. It learns the mean.
- **A GAN**: the same network, with chapter 4's losses: a perceptual distance and a judge of patches, as in SRGAN (Ledig et al. 2017). It is pushed to look sharp, and answers one picture.
- **Diffusion**: SR3 (Saharia et al. 2021) is DDPM with the small picture, enlarged, laid *beside* the noisy one in three more channels. That is nearly all (SR3 is told the noise itself in place of the time step; ours has a fourth channel, which the cascade below needs). Ours draws the detail that bicubic interpolation lacks (as SRDiff does) and not the whole picture, which a laptop's training likes better.
"""

# %% tags=["nbval-ignore-output"]
sr3 = load_weights(upscaling.PictureUNet, "upscaler_sr3")
eight_small = F.avg_pool2d(faces[:8], 4)
rows = {"8×8": F.interpolate(eight_small, scale_factor=4),
        **{name: restored.METHODS[f"8 → 32, {name}"](faces[:8], 1)
           for name in ("bicubic", "L2 loss", "GAN")},
        **{f"SR3, draw {k}": upscaling.enlarge(sr3, eight_small, seed=k) for k in (1, 2, 3)},
        "true": faces[:8]}
show(image_grid(torch.cat(list(rows.values())).clamp(-1, 1), columns=8, row_titles=list(rows)),
     """Eight faces from 8×8 pixels. Bicubic: blurred. L2, squared error: faces, a little soft
     at eyes and mouths. GAN: sharper, some eyes of other shapes. SR3: three draws, sharp, all
     three nearly alike. Last the true ones.""")

# %% [markdown]
r"""
They are nearly right, mouths included! A ToyFace is simple: nine attributes and eight small variations draw it, and 192 numbers were measured. Where so little is open, the mean *is* nearly one face, and all draws agree. Section 6 has the numbers, and one that puzzles: SR3's draws are nearer to the truth than the mean of the network beside it. It was trained four times as long; against its *own* mean it loses, as it must.

With people it is not like that. PULSE (Menon et al. 2020) searched a GAN's faces for one that looks like a small picture; from a small picture of Barack Obama it famously made a white man. The picture *fitted*. What had filled the gap was the training set.

### A cascade

Imagen, DALL-E 2 and others make a small picture first, and enlarge it by one diffusion model after the other. The second model meets pictures that the first one *made*, with flaws that no photograph has. So in its training what it is shown is **noised**, by a level that it is told, and it learns to trust it only so far (Ho et al. 2022). Here is the end of excursion x2's road: a sentence, its face at 32×32, and at 64×64.
"""

# %% tags=["nbval-ignore-output"]
tokenizer, reader = load_weights(IVQVAE, "ivqvae"), load_weights(TextFFTD, "text_fftd")
cascade = load_weights(upscaling.PictureUNet, "cascade")
prompts = ["a smiling person with long red hair and glasses", "a sad person with grey hair",
           "a person with blond hair on a mint background", "a smiling face, purple shirt"]
at32 = draw(reader, tokenizer, prompts, seed=1)
levels = (0.0, 0.2, 0.4)
at64 = [upscaling.enlarge(cascade, at32, level=s, seed=2) for s in levels]
rows = [F.interpolate(at32, scale_factor=2), upscaling.larger(at32, 64), *at64]
names = ["32×32", "bicubic", *(f"level {s:g}" for s in levels)]
show(image_grid(torch.cat(rows), columns=4, row_titles=names, width=5),
     """Four faces drawn for sentences, at 32×32, enlarged by interpolation, and by the second
     model with three levels of noise on what it is shown: sharp edges, round glasses and clear
     eyes at every level, and the same face.""")
true64 = ToyFaces(16, seed=2, size=64).images()
half = F.avg_pool2d(true64, 2)
print(f"true faces: bicubic {float(psnr(true64, upscaling.larger(half, 64)).mean()):.1f} dB")
for s, x in zip(levels, at64, strict=True):
    near = psnr(true64, upscaling.enlarge(cascade, half, level=s, steps=10)).mean()
    same = (reads(F.avg_pool2d(x, 2)) == reads(at32)).float().mean()
    print(f"level {s:g}: true faces {float(near):.1f} dB; of the faces that were made "
          f"{float(same):4.0%} of the attributes stay")

# %% [markdown]
r"""
On true faces the noise costs one decibel, then three: it hides what the model could have used. That is the price. What it buys, forgiveness for the first model's flaws, does not show here, since these small faces have few; Ho et al. measured it where small pictures had many.

(A trap we fell into, and you can too: the noise on what is shown and the noise to be predicted must come from two generators. From one seed they were the *same* noise, the network learned to read the answer off the picture, the loss was splendid, and the drawn faces were covered with grain.)

## 3. A network that was never told

*45 minutes.*

SR3 knows one kind of damage. For another you train another. But a model of faces knows what faces look like; and what was measured is known too. **Bayes' rule puts the two together**, at the time of sampling, without any training.

Many damages are linear, $y = A x$: a hole, a smaller picture, greyness. Each has a **pseudo-inverse** $A^+$, the smallest picture that would have been measured so: zeros in the hole, blocks of one colour. Take any picture $x$ and replace what $A$ sees of it by what was measured:

$$x + A^+ (y - A x)$$

### Exercise x3.3 · `consistent` · ★ · 6 minutes

Write it. `forward` is $A$ and `back` is $A^+$.

<details><summary>Hint</summary>

One line. To test it in your head: measure the result, $A x + A A^+ (y - A x)$. For a $y$ that was really measured $A A^+ y = y$, so that is $y$.

</details>
"""

# %%
def consistent(x, y, forward, back):
    """The picture nearest to x that is measured as y."""
    ### BEGIN SOLUTION
    return x + back(y - forward(x))
    ### END SOLUTION

# %% points=1
check(consistent)

# %% [markdown]
r"""
Do that after every step of sampling, with $y$ noised to the level of the step, and the known part is right all the way while the network fills in the rest. With holes this is **RePaint**, which chapter 6 had; with small pictures it is **ILVR** (Choi et al. 2021). One loop for all:
"""

# %% tags=["nbval-ignore-output"]
consistent = yours(consistent)


def never_told(damage, y, steps=50, seed=0):
    """Sample with the U-Net; after each step what A sees is what was measured."""
    noise = torch.Generator().manual_seed(seed)
    shape = (len(y), 3, 32, 32)
    x = torch.randn(shape, generator=noise)
    for t, t_prev in visited_pairs(diffusion.T, steps, "trailing"):          # down to −1
        with evaluating(unet):
            x0, eps, _ = ddpm.guess(unet, diffusion, x, t, clip=(-1, 1))
        fresh = torch.randn(shape, generator=noise) if t_prev >= 0 else None
        x = ddim_step(diffusion, x0, eps, t, t_prev, 1.0, fresh)
        left = float(diffusion.alpha_bar[t_prev]) if t_prev >= 0 else 1.0
        y_t = left**0.5 * y + (1 - left) ** 0.5 * damage.forward(
            torch.randn(shape, generator=noise))
        x = consistent(x, y_t, damage.forward, damage.back)
    return x.clamp(-1, 1)


damages = {"a hole": m.holes(restored.HOLE), "8×8": m.shrink(4), "grey": m.grey()}
rows, names = [], []
for name, damage in damages.items():
    y = damage.forward(faces[:8])
    shown = F.interpolate(y, 32).expand(-1, 3, -1, -1)
    x = never_told(damage, y)
    print(f"{name:<7} off what was measured by {float(m.off(damage.forward, x, y).max()):.4f}")
    rows += [shown, x]
    names += [name, ""]
show(image_grid(torch.cat([*rows, faces[:8]]).clamp(-1, 1), columns=8,
                row_titles=[*names, "true"]),
     """Eight faces with a hole, of 8×8 pixels, and in grey, each with what the same
     network made of it. All fit what was measured. Some seams show: glasses that end at
     the hole's edge, a face that does not quite match its hair, colours that no face has.""")

# %% [markdown]
r"""
It fits what was measured (but for values that were cut off at black and white), and it was free. But look closely: sometimes the two parts **do not know of each other**. The network's step looks at the whole picture, yet what it would like to change in the known part is overwritten at once. How wrong is that? Where the answer is known exactly we can see it: let pictures be four numbers, Gaussian, neighbours alike. The posterior is a formula, and the perfect network is one too (`restoration.GaussianDenoiser`). One of the four numbers is measured:
"""

# %%
four = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)
world = r.GaussianDenoiser(diffusion, torch.zeros(4, dtype=torch.float64),
                           0.3 * torch.exp(-torch.cdist(four, four) / 2))
first = m.holes(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
measured_as = torch.tensor([[0.9, 0], [0, 0]], dtype=torch.float64).view(1, 1, 2, 2)


def spread_of_answers(sampler, n=1500, **how):
    """Mean and deviation of the second number over n answers."""
    g = torch.Generator().manual_seed(0)
    xT = torch.randn(n, 1, 2, 2, generator=g, dtype=torch.float64)
    x = ddpm.last(sampler(world, diffusion, y=measured_as.expand(n, -1, -1, -1), xT=xT,
                          steps=50, clip=None, generator=g, **how))[:, 0, 0, 1]
    return f"mean {float(x.mean()):5.2f}   deviation {float(x.std()):.2f}"


share = world.cov[0, 1] / world.cov[0, 0]
left = (world.cov[0, 0] * (1 - share**2)).sqrt()
print(f"{'by Bayes rule':<30}mean {0.9 * float(share):5.2f}   deviation {float(left):.2f}")
for repeats in (1, 5, 20):
    told = spread_of_answers(r.ilvr_sample, measurement=first, repeats=repeats)
    print(f"{f'overwritten, {repeats} times a step':<30}{told}")

# %% [markdown]
r"""
Overwriting draws too little from what was measured: the neighbour of a 0.9 should be 0.55 on the average, and is half of that. RePaint's remedy is to take every step several times (noise back up, down again), so that the two parts can agree; with twenty the mean is right, at twenty times the price, and the spread too narrow. Is there a better way?

### The better way: through the network

The score of the posterior is a sum (Bayes' rule, differentiated):

$$\nabla \log p(x_t \mid y) = \nabla \log p(x_t) + \nabla \log p(y \mid x_t)$$

The first term is the network. The second asks: which way must $x_t$ move so that the *clean* picture behind it is measured as $y$? The network knows the clean picture, $\hat x_0(x_t)$, and a network can be differentiated. This is **diffusion posterior sampling**, DPS (Chung et al. 2023): after each step down, go a little along

$$-\zeta\, \nabla_{x_t} \lVert y - A(\hat x_0(x_t)) \rVert$$

Why the norm, and not its square? The square's slope dies out as $A \hat x_0$ comes near to $y$; the norm's keeps its length, so one $\zeta$ serves all the way. And $A$ need not be linear: whatever can be differentiated will do.

### Exercise x3.4 · `dps_step` · ★★★ · 20 minutes

Assemble one step. `guess(x)` gives $(\hat x_0, \hat\varepsilon)$; `down(x0, eps)` is DDIM's step from them, finished; `forward` is $A$; `scale` is $\zeta$. Each image has a norm of its own.

<details><summary>Hint</summary>

`torch.autograd.grad(value, x)` needs an `x` that asks for gradients: `x = x.detach().requires_grad_()`, *before* the network is asked. It returns a tuple.

</details>

<details><summary>A second hint</summary>

The norms of all images can be added: image k's gradient comes from its own norm only. The result must carry no graph, or the graphs of fifty steps hang together: `.detach()`.

</details>
"""

# %%
def dps_step(guess, x, y, forward, down, scale):
    """x_t -> x_prev, pulled towards what was measured. Shapes: x (B, C, H, W) -> as x."""
    ### BEGIN SOLUTION
    x = x.detach().requires_grad_()
    x0, eps = guess(x)
    far = (y - forward(x0)).flatten(1).norm(dim=1).sum()
    (slope,) = torch.autograd.grad(far, x)
    return down(x0, eps).detach() - scale * slope
    ### END SOLUTION

# %% points=3
check(dps_step)

# %% tags=["nbval-ignore-output"]
dps_step = yours(dps_step)


def guess_at(t, x):
    """The U-Net's two views of x at time t."""
    # no pull where it is cut off; r.dps_sample pulls there, too
    x0, eps, _ = ddpm.guess(unet, diffusion, x, t, clip=(-1, 1))
    return x0, eps


def pulled(forward, y, steps=50, scale=3.0, seed=0):
    """Sample with your step."""
    noise = torch.Generator().manual_seed(seed)
    x = torch.randn(len(y), 3, 32, 32, generator=noise)
    for t, t_prev in visited_pairs(diffusion.T, steps, "trailing"):
        fresh = torch.randn(x.shape, generator=noise) if t_prev >= 0 else None
        guess = functools.partial(guess_at, t)
        down = functools.partial(ddim_step, diffusion, t=t, t_prev=t_prev, eta=1.0, noise=fresh)
        x = dps_step(guess, x, y, forward, down, scale)
    return x.clamp(-1, 1)


unet.requires_grad_(False)                            # only x needs gradients
y = {"8×8": m.shrink(4).forward(faces[:8]), "too bright": restored.overexposed(faces[:8])}
by_pull = {"8×8": pulled(m.shrink(4).forward, y["8×8"]),
           "too bright": pulled(restored.overexposed, y["too bright"])}
rows = [F.interpolate(y["8×8"], scale_factor=4), by_pull["8×8"], y["too bright"],
        by_pull["too bright"], faces[:8]]
names = ["8×8", "DPS", "too bright", "DPS", "true"]
show(image_grid(torch.cat(rows), columns=8, row_titles=names),
     """Eight faces of 8×8 pixels and what DPS makes of them: clean faces, all with the right
     glasses. Below, faces that are overexposed, where light colours are all white, and what
     DPS makes of those: clean faces, too; some backgrounds and hair in other colours.""")
for (name, x), A in zip(by_pull.items(), (m.shrink(4).forward, restored.overexposed),
                        strict=True):
    print(f"{name:<11} {float(psnr(faces[:8], x).mean()):.1f} dB, off what was measured by "
          f"{float(m.off(A, x, y[name]).max()):.4f}")

# %% [markdown]
r"""
It fits what was measured nearly, not to the last digit as overwriting does: a pull is no constraint. But that network has never seen a small or an overexposed picture, and "too bright and cut off at white" has no inverse at all. What became white could have been anything light: it is *filled in*.

And is DPS right, in the world of four numbers? It takes the clean guess for certain, which it is not. Where one knows how uncertain it is, $p(y \mid x_t)$ is a Gaussian with a known variance $v_t$, and the strength of the pull follows: $-\nabla \lVert y - A \hat x_0 \rVert^2 / (2 v_t)$, added to the score (`variance_of` in `restoration.dps_sample`). Then the answers are right without any repeats, but for what fifty steps cost:
"""

# %%
def variance_of(t):
    """Of the measured number, given x_t."""
    return float(world.spread(t)[0, 0]) + 1e-6


told = spread_of_answers(r.dps_sample, forward=first.forward, variance_of=variance_of)
print(f"{'pulled, as it should be':<30}{told}")
for zeta in (0.1, 0.3, 1.0):
    told = spread_of_answers(r.dps_sample, forward=first.forward, scale=zeta)
    print(f"{f'pulled, ζ = {zeta:g}':<30}{told}")

# %% [markdown]
r"""
With a fixed ζ the mean is about right for a ζ that was tried out, and the spread is what it happens to be. For pictures nobody knows the true spread, so ζ is chosen by looking; that is the price of the free lunch. (Here one number was measured, there hundreds, whose slopes add up; so the two ζ cannot be compared.) **Break it:** with `scale=0.1` in `pulled` you get any faces at all; with `100` they bleach and crack. Between 3 and 30 there is room.

### What the model makes up

Every method that answers with a sharp face has answered every question about that face. Which answers were in the measurement, and which were not? Ask several times, and let the classifier read. Where the answers differ, the question was open, or the sampler did not use all that was measured. Three ways: SR3 from 8×8 pixels, DPS from the same, and DPS from 4×4.

**Before you run the next cell:** from 4×4 pixels, which of the nine attributes will the answers agree on?

<details><summary>Answer</summary>

Those of large areas: background and shirt have pixels of their own, and hair nearly. Skin shares its pixels with everything in the face, and small things have none.

</details>
"""

# %% tags=["nbval-ignore-output"]
few, n = 12, size["answers"]
truth = reads(faces[:few])[:, None]                                       # (12, 1, 9)
ways = {"SR3, 8×8": (4, lambda y: upscaling.enlarge(sr3, y, seed=1)),
        "DPS, 8×8": (4, lambda y: pulled(m.shrink(4).forward, y, seed=1)),
        "DPS, 4×4": (8, lambda y: pulled(m.shrink(8).forward, y, seed=1))}
answers, table = {}, {}
for way, (factor, restore) in ways.items():
    answers[way] = restore(m.shrink(factor).forward(faces[:few]).repeat_interleave(n, 0))
    read = reads(answers[way]).view(few, n, -1)                           # (12, answers, 9)
    same = (read[:, :, None] == read[:, None]).float().sum((1, 2)) - n    # pairs of answers
    table[way] = [same.mean(0) / (n * n - n), (read == truth).float().mean((0, 1))]
print("agree: share of the pairs of answers that do")
print(f"{'':<12}" + "".join(f"{f'{way}: agree':>17}{'right':>7}" for way in ways)
      + f"{'chance':>8}")
for k, name in enumerate(ATTRIBUTES):
    told = "".join(f"{float(agree[k]):17.0%}{float(right[k]):7.0%}"
                   for agree, right in table.values())
    print(f"{name:<12}{told}{1 / len(ATTRIBUTES[name]):8.0%}")
rows = [torch.cat([F.interpolate(m.shrink(f).forward(faces[k : k + 1]), 32),
                   answers[way][k * n : k * n + 4], faces[k : k + 1]])
        for k in range(2) for way, (f, _) in ways.items()]
show(image_grid(torch.cat(rows), columns=6, row_titles=list(ways) * 2),
     """Two faces as 8×8 and as 4×4 pixels, left; four answers by SR3, by DPS, and by DPS from
     4×4; the true face, right. SR3's answers are all one person; DPS's nearly, with mouths and
     eyes that differ, and once the skin. From 4×4 haircuts, skin, poses, eyes and mouths
     differ; backgrounds and shirts do not.""")

# %% [markdown]
r"""
(Twelve faces, six answers each: read it as a tendency.) From 8×8 pixels only the mouth is open, and even that mostly not: SR3 gets nearly nine of ten mouths, DPS hardly more than half, so most *were* measured. **Disagreement** mixes what was erased with what a sampler does not use. And **agreement** is no knowledge either: a model can be wrong six times in the same way. From 4×4 walls, shirts and mostly the colour of the hair are left; eyes, mouths and poses are little better than guessed. Yet no row *looks* less certain than another. **A restored picture is no evidence for what the damage had erased.** In a portrait that is a matter of taste. In an X-ray a healthy patient's prior paints over a fracture, or adds one; Cohen et al. (2018) showed translation networks putting tumours in and taking them out. A face that was enlarged from a security camera is the face of nobody. Whoever uses such methods where it matters has to show several answers, or the spread between them, and say what was measured.
"""

# %% [markdown]
r"""
## 4. Repainting: what is style?

*45 minutes.*

The same face in crayon, as a stained glass window, as a print in two inks. What is the same in these pictures, and what is not? The face's parts stay **where** they are. What changes is what the picture is made of, *everywhere*: strokes, dark lines, dots, and the colours that go with them. That is close to a definition: **content** is which features are where; **style** is which features there are, and which of them go together, no matter where.

A network that has learned to see gives the features, as in chapter 4. For photographs that is VGG19, trained on ImageNet (`minigen.perceptual.VGGMaps` fetches it, 548 MB). Here it is the classifier of ToyFaces: five maps, from fine to coarse. It has seen cartoon faces and nothing else, and these layers have two hundred times fewer weights than those of VGG19. Remember that when you look at what it calls style.

Three styles are drawn by code, a new picture for every seed.
"""

# %%
three = ToyFaces(3, size=64, seed=5).images()
pictures = torch.cat([draw_style(name, 64, seed=100) for name in STYLES])
show(image_grid(torch.cat([three, pictures]), columns=3, width=4.2,
                row_titles=["content", "style"]),
     """Above: three faces. Below: three pictures that are nothing but style. Crayon strokes in
     several colours on paper; panes of stained glass between dark leads; dots in two inks.""")

# %% [markdown]
r"""
How does one say "which features go together, no matter where"? Take a map of C channels over H × W places, and for each two channels the mean, over all places, of their product:

$$G_{ij} = \frac{1}{HW} \sum_{p} F_{ip}\, F_{jp}$$

If *dark* and *edge to the right* are often active at the same place, their entry is large. Where that was is summed away. Gatys, Ecker and Bethge (2016) called this **Gram matrix** the style, and it is one matrix for each layer. (They leave out the division by H W and have it in the loss. With it, pictures of two sizes can be compared.)

### Exercise x3.5 · `gram` · ★ · 5 minutes

Write it, one matrix for each picture of the batch.

<details><summary>Hint</summary>

`features.flatten(2)` puts all places in one row, (B, C, H W). Then it is one matrix product for each picture; `.mT` exchanges the last two axes.

</details>
"""

# %%
def gram(features):
    """Mean over the places of the product of each two channels.

    Shapes: features (B, C, H, W) -> (B, C, C).
    """
    ### BEGIN SOLUTION
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[2]
    ### END SOLUTION

# %% points=1
check(gram)

# %% [markdown]
r"""
**Before you run the next cell:** it cuts a picture's second map into its 32 × 32 places and shuffles them. How much do the Gram matrix and the map itself change?

<details><summary>Answer</summary>

The matrix not at all: a sum does not know the order of its terms. The map becomes another one. This is all that is meant by "no matter where". (In the *picture* one cannot shuffle pixels like that: its strokes would be gone, and with them the features that answer to strokes.)

</details>
"""

# %%
gram = yours(gram)
h = style.toy_maps(pictures[1:2])[1]
order = torch.randperm(h[0, 0].numel(), generator=torch.Generator().manual_seed(0))
shuffled = h.flatten(2)[:, :, order].view_as(h)
print(f"the map changes by    {float((shuffled - h).norm() / h.norm()):6.1%} of its length")
print(f"its Gram matrix by    {float((gram(shuffled) - gram(h)).norm() / gram(h).norm()):6.1%}")

# %% [markdown]
r"""
Now search a picture that has the content of one and the style of another. No network is trained. The **pixels** are what is moved, from the face on, so that

$$\frac{\lVert F - P \rVert^2}{\lVert P \rVert^2} \; + \; 50 \cdot \operatorname*{mean}_{\text{layers}} \frac{\lVert G - A \rVert^2}{\lVert A \rVert^2}$$

becomes small: P is the fourth map of the face, A the Gram matrices of the style, F and G those of the picture. Both are shares, so 1 is as far off as a map of zeros. A small third term keeps neighbouring pixels alike (Johnson et al. 2016 use such a term too). Like Gatys et al., `style.restyled` uses L-BFGS, which remembers how the slope has changed and so guesses the curvature; sixty steps of Adam, when we tried, showed hardly any texture.
"""

# %% tags=["nbval-ignore-output"]
content, styles = three.repeat_interleave(3, 0), pictures.repeat(3, 1, 1, 1)
states = list(style.restyled(content, styles, statistic=gram))
painted = states[-1].x
show(image_grid(torch.cat([pictures, painted]), columns=3, width=5,
                row_titles=["style", "", "", ""]),
     """Top row: the three styles. Below, a face a row, in each style. Crayon: pale strokes on
     cream. Glass: yellow, green and blue between dark. Print: red, navy and off-white. Eyes,
     glasses and mouths stay where they were.""")
show(curves({"content": [s.content for s in states], "style": [s.style for s in states]},
            xlabel="steps of five iterations", ylabel="share", logy=True),
     """The two losses, means over the nine pictures. Style falls steeply, and falls to the end;
     content rises in the first steps and stays about there.""")

# %% [markdown]
r"""
The losses trade: a picture cannot have the face's features at every place and the style's on the average. Here style gets most. What comes through is colour, and the kind of stroke; leads that close around a pane, or round dots, do not. VGG has seen a million photographs of everything, and its Gram matrices hold more.

What do the single layers know? Leave the content out, begin from noise, and ask for the statistics of one layer alone.
"""

# %% tags=["nbval-ignore-output"]
small = torch.cat([draw_style(name, seed=100) for name in STYLES])
rows = [small]
for k in range(5):
    one = style.restyled(small, small, lambda x, k=k: style.toy_maps(x)[k : k + 1], steps=16,
                         layer=0, noise=1.0, smooth=0.1, statistic=gram)
    rows.append(list(one)[-1].x)
show(image_grid(torch.cat(rows), columns=3, width=4.2,
                row_titles=["style", *(f"layer {k}" for k in range(1, 6))]),
     """Pictures from noise that have the Gram matrix of one layer, a row for each. Layer 1:
     short crayon strokes, blots of colour with dark between them, dabs of three colours. From
     layer to layer more noise, in rows 3 and 4 with blots of colour where the style has
     them.""")

# %% [markdown]
r"""
The first map sees three by three pixels, and its matrix of 32 × 32 numbers is enough for strokes, and for dark beside colour. The deeper ones have learned what tells one face from another, and the many pictures that they cannot tell apart look like noise to us. (And where the style's yellow was, yellow comes back in rows 3 and 4: the matrix knows no places, but a channel may be one that answers only near the edge, or in the middle, as features of a face do.) For VGG it is the other way round: its deeper layers add larger and larger pieces of texture (as the first figure of Gatys et al. shows). What a network takes for style hangs on what it was trained for.

**Break it.** What if style *were* places? Put the identity in the place of the Gram matrix: then each layer's map has to agree with the style's, place by place.
"""

# %% tags=["nbval-ignore-output"]
broken = style.restyled(three, pictures, statistic=lambda h: h)
show(image_grid(torch.cat([pictures, list(broken)[-1].x]), columns=3, width=4.2,
                row_titles=["style", "broken"]),
     """Above the styles, below what has become of three faces: the style's picture, each
     stroke, pane and dot in its place, in brighter colours. No face is left.""")

# %% [markdown]
r"""
### In one pass: adaptive instance normalisation

Some seconds for nine pictures: for a film that is too slow. Johnson et al. (2016) train a network that does it in one pass, one network for one style. Huang and Belongie (2017) need one network for all styles. They go further than Gatys: of all statistics they keep only each channel's **mean and deviation** over the places. And they do not search for them, they set them. Take the content's map, bring each channel to mean 0 and deviation 1, and then to the style's:

$$\operatorname{AdaIN}(x, y) = \sigma(y)\, \frac{x - \mu(x)}{\sigma(x)} + \mu(y), \qquad \sigma(x) = \sqrt{\operatorname{mean}\,(x - \mu(x))^2 + \varepsilon}$$

for each picture and each channel by itself. A decoder, trained once, makes a picture of the result.

### Exercise x3.6 · `adain` · ★★ · 8 minutes

The deviation divides by H W (not H W − 1), ε stands below the root in both, and the style may have another height and width.

<details><summary>Hint</summary>

`x.mean((2, 3), keepdim=True)` is (B, C, 1, 1), which fits every place. For the variance: `x.var((2, 3), correction=0, keepdim=True)`.

</details>
"""

# %%
def adain(content, style, eps=1e-5):
    """The content's map with the style's means and deviations, channel by channel.

    Shapes: content (B, C, H, W), style (B, C, any, any) -> as content.
    """
    ### BEGIN SOLUTION
    def moments(x):
        variance = x.var((2, 3), correction=0, keepdim=True)
        return x.mean((2, 3), keepdim=True), (variance + eps).sqrt()

    (mean, deviation), (mean_style, deviation_style) = moments(content), moments(style)
    return deviation_style * (content - mean) / deviation + mean_style
    ### END SOLUTION

# %% points=2
check(adain)

# %% tags=["nbval-ignore-output"]
adain = yours(adain)
decoder = load_weights(StyleDecoder, "adain")


def repainted(x, pictures, strength=1.0):
    """Faces in one pass, with your AdaIN; strength 0 only encodes and decodes."""
    with torch.no_grad():
        h, s = decoder.encode(x), decoder.encode(pictures)
        return decoder(torch.lerp(h, adain(h, s), strength))


some = ToyFaces(3, seed=5).images()
new = torch.cat([draw_style(name, seed=100 + k) for name in STYLES for k in range(2)])
rows = [repainted(x[None].expand(6, -1, -1, -1), new) for x in some]
show(image_grid(torch.cat([new, *rows]), columns=6, row_titles=["style", "", "", ""]),
     """Six new style pictures, and three faces in each. Pale and warm after crayon, dark green
     after glass, colours between after the print. A woven pattern lies over every background;
     eyes, glasses and mouths stay readable.""")

# %% [markdown]
r"""
Light and dark, a tint, and a rough brush come through; strokes, leads and dots do not, one weave has to do for all. Two reasons. Two numbers a channel say less than a matrix does. And a convolution makes of a flat area a flat area: whatever is painted on these cartoon faces, which are flat almost everywhere, the decoder has to add by itself. In photographs there is always something for a stroke to begin at. (So this decoder, other than the paper's, has a canvas of its own, a pattern that it has learned; it can be seen in the background of every face.) It was trained on 60 pictures of each style, and the pictures above are none of these.

Between content and style there is a way: mix the map as it is with the map after AdaIN, in shares (Eq. 14 of the paper).
"""

# %% tags=["nbval-ignore-output"]
def by_strength(style_of, seed, strength):
    """Eight faces in one style."""
    x = ToyFaces(8, seed=6).images()
    picture = draw_style(style_of, seed=seed)
    painted = repainted(x, picture.expand(8, -1, -1, -1), strength)
    return image_grid(torch.cat([picture, painted]), columns=9)


explore(by_strength, by_strength("stained glass", 100, 1.0),
        """A pane of stained glass at the left, and eight faces in its style at full strength.
        In a running notebook style, picture and strength can be set.""",
        style_of=(list(STYLES), "stained glass"), seed=(100, 130, 100),
        strength=(0.0, 1.0, 1.0));

# %% [markdown]
r"""
What survives? A person would say: the face is still there. The classifier can count it. For each style and strength: in what share of faces does it still read the same attributes?
"""

# %% tags=["nbval-ignore-output"]
test, strengths = ToyFaces(60, seed=21), (0.0, 0.5, 1.0)
print(f"{'':<14}", *(f"strength {a:<4}" for a in strengths))
kept = {}
for name in STYLES:
    brushed = torch.cat([draw_style(name, seed=1000 + k) for k in range(len(test))])
    painted = [repainted(test.images(), brushed, a) for a in strengths]
    read = [reads(x) for x in painted]
    right = [(r == test.labels).float().mean(0) for r in read]            # (9,) each
    kept[name] = right[-1]
    print(f"{name:<14}", *(f"{float(r.mean()):13.0%}" for r in right))
print("\nat strength 1:")
for k, name in enumerate(ATTRIBUTES):
    print(f"    {name:<12}", *(f"{s} {float(r[k]):4.0%}  " for s, r in kept.items()),
          f"(chance {1 / len(ATTRIBUTES[name]):.0%})")

# %% [markdown]
r"""
Encoding and decoding alone, strength 0, already costs nine per cent. With strength it falls, and at strength 1 about 72 per cent is still read, in all three styles alike. (Measured with three seeds, 60 faces each, when the decoder was trained: 91.5 ± 0.7 at strength 0; at strength 1 crayon 71.9 ± 0.6, glass 72.6 ± 0.5, print 73.3 ± 3.0. Guessing gives 29.) Pose and glasses stay best, that is form. Background and skin go first, the large areas of one colour (hair and shirts keep theirs better). That is what one asks of a style; but mouths and eyes go, too, and these are content that a few pixels tell. And a warning: the reader is the network whose first layers have encoded, so it may read more than you see.
"""

# %% [markdown]
r"""
## 5. From one picture to another

*40 minutes.*

### Drawings: pix2pix

Damage can be more drastic: keep only the lines. `translation.outlines` draws them where colours change. A network learns the way back from pairs, and again the squared error (or the absolute one) would answer with a mean: grey hair, grey walls, since lines do not seem to tell the colours. **pix2pix** (Isola et al. 2017) adds a judge that sees *the pair*, drawing and answer, and says whether they belong together.

### Exercise x3.7 · `pix2pix_step` · ★★★ · 20 minutes

Assemble a training step. The generator makes `fake` from the drawing. First the judge's turn: real pair against fake pair, with chapter 4's hinge loss; the fake one detached. Then the generator's: the absolute error, and `weight` times its own hinge loss for the fake pair. A pair is `torch.cat([drawing, picture], 1)`, six channels. Return both losses, as numbers (`.item()`) or tensors. The absolute error is a mean, as all losses here.

<details><summary>Hint</summary>

`gan.discriminator_loss(real, fake, "hinge")` and `gan.generator_loss(fake, "hinge")` take the judge's answers. Each turn is `zero_grad`, `backward`, `step` of its own optimiser.

</details>

<details><summary>A second hint</summary>

The generator's `backward` also leaves gradients in the judge. They do no harm, because the judge's turn begins with `opt_d.zero_grad()`.

</details>
"""

# %%
def pix2pix_step(generator, judge, opt_g, opt_d, drawing, face, weight):
    """One step of both networks. Shapes: drawing, face (B, 3, H, W) -> (d_loss, g_loss)."""
    ### BEGIN SOLUTION
    fake = generator(drawing)
    real_pair = torch.cat([drawing, face], 1)
    fake_pair = torch.cat([drawing, fake], 1)
    d_loss = gan.discriminator_loss(judge(real_pair), judge(fake_pair.detach()), "hinge")
    opt_d.zero_grad()
    d_loss.backward()
    opt_d.step()
    fooled = gan.generator_loss(judge(fake_pair), "hinge")
    g_loss = (fake - face).abs().mean() + weight * fooled
    opt_g.zero_grad()
    g_loss.backward()
    opt_g.step()
    return d_loss.item(), g_loss.item()
    ### END SOLUTION

# %% points=3
check(pix2pix_step)

# %% tags=["nbval-ignore-output"]
pix2pix_step = yours(pix2pix_step)
torch.manual_seed(0)
painter = UNet(size=32, width=16, multipliers=(1, 2, 4), attention_at=8)
judge = PatchDiscriminator(32, 2, channels=6)
opt_g, opt_d = (torch.optim.Adam(net.parameters(), 1e-3, betas=(0.5, 0.9))
                for net in (painter, judge))
data = batches(translation.outlines(known), known, batch_size=32, seed=0)
for drawing, face in itertools.islice(data, size["pix_steps"]):
    pix2pix_step(lambda x: translation.repaired(painter, x).clamp(-1, 1), judge, opt_g, opt_d,
                 drawing, face, 0.05)
lines = translation.outlines(faces[:8])
with evaluating(painter):
    yours_now = translation.repaired(painter, lines).clamp(-1, 1)
longer = restored.METHODS["outline, pix2pix"](faces[:8], 0).clamp(-1, 1)
show(image_grid(torch.cat([lines, yours_now, longer, faces[:8]]), columns=8,
                row_titles=["drawing", "your training", "longer", "true"]),
     """Eight line drawings; what your short training makes of them: grey fog with the lines
     in it, which is all that forty steps can do; what a longer one makes of them: clear faces,
     many in their own colours, some in others; the true faces.""")

# %% [markdown]
r"""
What survives the drawing and the way back? Let the classifier count, over 256 faces. (What the lines do not tell can only be right by luck.) **Before you run the next cell:** which attributes will that be?

<details><summary>Answer</summary>

The colours: background, skin, hair, shirt, eyes. So one thinks. See below.

</details>
"""

# %% tags=["nbval-ignore-output"]
grey_lines = translation.outlines(faces)
kept = {}
for kind, lines in {"as drawn": grey_lines,
                    "all black": torch.where(grey_lines < 0.5, -1.0, 1.0)}.items():
    with evaluating(load_weights(UNet, "pix2pix")) as net:
        kept[kind] = (reads(translation.repaired(net, lines).clamp(-1, 1)) == reads(faces))
print(f"{'lines':<12}" + "".join(f"{kind:>11}" for kind in kept) + "  by chance")
for k, name in enumerate(ATTRIBUTES):
    shares = "".join(f"{float(v[:, k].float().mean()):11.0%}" for v in kept.values())
    print(f"{name:<12}{shares}{1 / len(ATTRIBUTES[name]):11.0%}")

# %% [markdown]
r"""
Forms come back, as expected. But most colours do, too: hair and skin in four of five faces! The lines are *darker* where the step between two colours is larger, and five or six such steps may tell which palette it must have been. To see whether it is that, make all lines equally black, the second column, and the colours of walls, hair, skin and shirts are near chance. (It was not trained on such lines, so its pictures suffer in other ways, too: poses are lost. Colours suffer most.) A network uses whatever goes along with the answer, whether you thought of it or not.

### Strokes: SDEdit

You cannot draw, and would like a face all the same? Paint blobs. **SDEdit** (Meng et al. 2022) noises your painting so far that nobody could tell it from a noisy *face*, and denoises from there. No training, no pairs: only the one network, and one number, the **strength**.

### Exercise x3.8 · `sdedit` · ★★ · 8 minutes

`alpha_bar` holds $\bar\alpha_t$ for all time steps; `denoise(x_t, T)` samples down from time step $T - 1$. Strength $s$ means $T = \mathrm{round}(s \cdot \mathrm{len}(\bar\alpha))$ steps of noise: 0 gives the painting back untouched, 1 begins with noise alone and forgets it.

<details><summary>Hint</summary>

Three cases. In the middle one $x_t = \sqrt{\bar\alpha_{T-1}}\, x + \sqrt{1 - \bar\alpha_{T-1}}\, \varepsilon$: time steps count from 0, so $T$ of them end at $T - 1$.

</details>
"""

# %%
def sdedit(denoise, x, noise, alpha_bar, strength):
    """A painting, noised part of the way and denoised.

    Shapes: x, noise (B, C, H, W) -> as x.
    """
    ### BEGIN SOLUTION
    T = round(strength * len(alpha_bar))
    if T == 0:
        return x
    if strength == 1:
        return denoise(noise, T)
    left = float(alpha_bar[T - 1])
    return denoise(left**0.5 * x + (1 - left) ** 0.5 * noise, T)
    ### END SOLUTION

# %% points=2
check(sdedit)

# %% tags=["nbval-ignore-output"]
sdedit = yours(sdedit)


def blobs(hair="red", wall="mint", skin="peach", shirt="navy"):
    """A face in seven strokes: (colour, points, width). Change them, add your own!"""
    hair, skin = colour_of("hair", hair), colour_of("skin", skin)
    dark, red = colour_of("hair", "black"), colour_of("shirt", "crimson")
    return translation.paint([
        (colour_of("shirt", shirt), [(-0.5, 1.0), (0.5, 1.0)], 0.55),
        (hair, [(-0.42, 0.3), (-0.45, -0.3), (0, -0.5), (0.45, -0.3), (0.42, 0.3)], 0.4),
        (skin, [(0, -0.15), (0, 0.2)], 0.8),
        (hair, [(-0.3, -0.45), (0, -0.52), (0.3, -0.45)], 0.32),
        (dark, [(-0.2, -0.05)], 0.13), (dark, [(0.2, -0.05)], 0.13),
        (red, [(-0.15, 0.3), (0, 0.36), (0.15, 0.3)], 0.08)], 32, colour_of("background", wall))


def down_from(x, T):
    """Twenty steps of DDIM from time step T − 1."""
    sampler = ddim_sample(unet, diffusion, x, steps=min(20, T), clip=(-1, 1), below=T)
    return ddpm.last(sampler)


def painted_over(painting, strength, n=8):
    noise = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    x = painting.expand(n, -1, -1, -1)
    return sdedit(down_from, x, noise, diffusion.alpha_bar, strength).clamp(-1, 1)


strengths = (0.0, 0.3, 0.5, 0.7, 0.8, 1.0)
rows = [painted_over(blobs(), s) for s in strengths]
show(image_grid(torch.cat(rows), columns=8, row_titles=[f"{s:g}" for s in strengths]),
     """A face in seven strokes, eight times, and what eight noises make of it at strengths 0 to
     1: untouched; a face in the same colours, with eyes and a mouth; freer ones; at 1 any
     faces at all.""")

# %% [markdown]
r"""
What does each strength keep? The colours of the strokes are those of the palette, so the classifier can tell.

**Before you run the next cell:** the painted eyes and mouth are replaced at 0.3 already: noise drowns fine detail first, as in chapter 5. Of the four large areas, which goes first?

<details><summary>Answer</summary>

The skin. (Perhaps because it is interrupted most, by features that the network draws anew.)

</details>
"""

# %% tags=["nbval-ignore-output"]
meant = {"background": "mint", "skin": "peach", "hair": "red", "shirt": "navy"}
at = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
kept = {name: [] for name in meant}
for s in at:
    read = reads(painted_over(blobs(), s, n=48))
    for name, value in meant.items():
        column = read[:, list(ATTRIBUTES).index(name)]
        kept[name].append(float((column == ATTRIBUTES[name].index(value)).float().mean()))
show(curves(kept, x=at, xlabel="strength", ylabel="share of 48 faces that keep it"),
     """Share of the faces that keep the painting's background, skin, hair and shirt, over the
     strength: all of them up to 0.5; skin falls first, from there on; the three others stay
     up to 0.7, and at 1 there is what chance gives.""")

# %% [markdown]
r"""
Now you. The menu's colours are the palette's; the slider is the strength.
"""

# %% tags=["nbval-ignore-output"]
def studio(strength, hair, wall):
    painting = blobs(hair, wall)
    x = torch.cat([painting, painted_over(painting, strength, n=7)])
    return image_grid(x, columns=8)


explore(studio, studio(0.5, "black", "rose"),
        """A painting in seven strokes with black hair on rose, left, and seven faces made of it
        at strength 0.5: black hair on rose and blue shirts, as painted; eyes, glasses and
        mouths as chance had them.""",
        strength=(0.0, 1.0, 0.5), hair=(list(ATTRIBUTES["hair"]), "black"),
        wall=(list(ATTRIBUTES["background"]), "rose"));

# %% [markdown]
r"""
## 6. Everything beside everything

*15 minutes.*

500 faces, three seeds (of the faces, the noise and the draws; each network was trained once). `time_ms` is the time of the processor for one face.
"""

# %%
print(reproduce.as_text("restoration"))

# %% [markdown]
r"""
Read it by tasks.

- **Trained for the damage, or never told?** From 8×8, SR3 is six decibels nearer than DPS, and five times as fast. But SR3 can do that one thing; the other network did all the rest, and was trained for none of it.
- **Pull, do not overwrite.** DPS is nearer to the truth than overwriting in every task, for less than twice the price. RePaint with five repeats costs more than DPS and stays behind it. (By toy Fréchet too, but for grey pictures, where it is the other way round.)
- **The trade-off again.** The GAN is as like faces as SR3 (both about where 500 fresh real ones are, 42 to 51; three seeds do not tell them apart), and four decibels further from the truth. And the *same* SR3 in one run, its mean, is nearer than its draws and in each seed less like faces.
- **Not a fair race.** The trainings cost 8 (squared error), 15 (GAN) and 31 (SR3) minutes of the processor, so the squared error's row could be better than it is. What is compared fairly is one network with itself.
- **The drawing** has lost most, and what comes back is a face, not this one.
"""

# %% [markdown]
r"""
## Summary

- What was lost allows many answers. The mean of them has the least error, a draw looks right, and a perfect network's draw has twice that error. Between the two there is a curve that no method passes.
- A diffusion network is a thousand denoisers; begun in the middle, its sampling draws from what lies behind a noisy picture.
- A conditional diffusion model is shown the damaged picture beside the noisy one. In a cascade what it is shown is noised, so that it forgives the model before it.
- A model of faces alone repairs what it was never told of: by overwriting what was measured (linear, exact, the parts agree too little), or by a gradient through the network (anything that can be differentiated, one number to choose).
- Style is statistics of features: Gram matrices, or only means and deviations.
- pix2pix judges pairs. SDEdit needs no pairs: noise enough that the strokes could be a face, and denoise.
- What the damage erased is made up, and looks as sure as the rest. Ask several times, and count.
"""

# %%
minigen.progress()

# %% [markdown]
r"""
### Words

| English | 中文 | meaning here |
|---|---|---|
| restoration | 图像复原 | undoing a damage |
| peak signal-to-noise ratio | 峰值信噪比 | squared error in decibels |
| Wiener filter | 维纳滤波 | the best linear denoiser |
| posterior | 后验 | what can lie behind a measurement, and how likely |
| perception–distortion trade-off | 感知-失真权衡 | near to the truth, or like a picture |
| super-resolution | 超分辨率 | enlarging, with detail added |
| cascade | 级联 | one diffusion model after the other, each larger |
| inpainting | 图像修补 | filling a hole |
| pseudo-inverse | 伪逆 | the smallest picture that is measured so |
| style transfer | 风格迁移 | the places of one picture, the statistics of another |
| Gram matrix | 格拉姆矩阵 | which features occur together |
| image-to-image translation | 图像到图像翻译 | one kind of picture into another |

### References

- Blau, Michaeli 2018, *The Perception-Distortion Tradeoff*, [arXiv:1711.06077](https://arxiv.org/abs/1711.06077).
- Wang, Bovik, Sheikh, Simoncelli 2004, *Image Quality Assessment: From Error Visibility to Structural Similarity*, [doi:10.1109/TIP.2003.819861](https://doi.org/10.1109/TIP.2003.819861): SSIM.
- Freirich, Michaeli, Meir 2021, *A Theory of the Distortion-Perception Tradeoff in Wasserstein Space*, [arXiv:2107.02555](https://arxiv.org/abs/2107.02555).
- Kawar, Vaksman, Elad 2021, *Stochastic Image Denoising by Sampling from the Posterior Distribution*, [arXiv:2101.09552](https://arxiv.org/abs/2101.09552).
- Menon, Damian, Hu, Ravi, Rudin 2020, *PULSE: Self-Supervised Photo Upsampling via Latent Space Exploration of Generative Models*, [arXiv:2003.03808](https://arxiv.org/abs/2003.03808); its authors describe the bias in an appendix that was added.
- Ledig et al. 2017, *Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network*, [arXiv:1609.04802](https://arxiv.org/abs/1609.04802): SRGAN.
- Saharia, Ho, Chan, Salimans, Fleet, Norouzi 2021, *Image Super-Resolution via Iterative Refinement*, [arXiv:2104.07636](https://arxiv.org/abs/2104.07636): SR3.
- Li et al. 2022, *SRDiff: Single Image Super-Resolution with Diffusion Probabilistic Models*, [arXiv:2104.14951](https://arxiv.org/abs/2104.14951).
- Ho, Saharia, Chan, Fleet, Norouzi, Salimans 2022, *Cascaded Diffusion Models for High Fidelity Image Generation*, [arXiv:2106.15282](https://arxiv.org/abs/2106.15282).
- Lugmayr, Danelljan, Romero, Yu, Timofte, Van Gool 2022, *RePaint*, [arXiv:2201.09865](https://arxiv.org/abs/2201.09865).
- Choi, Kim, Jeong, Gwon, Yoon 2021, *ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models*, [arXiv:2108.02938](https://arxiv.org/abs/2108.02938).
- Wang, Yu, Zhang 2023, *Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model*, [arXiv:2212.00490](https://arxiv.org/abs/2212.00490): the pseudo-inverse at work.
- Chung, Kim, Mccann, Klasky, Ye 2023, *Diffusion Posterior Sampling for General Noisy Inverse Problems*, [arXiv:2209.14687](https://arxiv.org/abs/2209.14687): DPS.
- Song, Vahdat, Mardani, Kautz 2023, *Pseudoinverse-Guided Diffusion Models for Inverse Problems*, [OpenReview](https://openreview.net/forum?id=9_gsMA8MRKQ): the variance of the clean guess.
- Cohen, Luck, Honari 2018, *Distribution Matching Losses Can Hallucinate Features in Medical Image Translation*, [arXiv:1805.08841](https://arxiv.org/abs/1805.08841).
- Gatys, Ecker, Bethge 2016, *Image Style Transfer Using Convolutional Neural Networks*, [doi:10.1109/CVPR.2016.265](https://doi.org/10.1109/CVPR.2016.265): content, Gram matrices, the optimisation.
- Johnson, Alahi, Fei-Fei 2016, *Perceptual Losses for Real-Time Style Transfer and Super-Resolution*, [arXiv:1603.08155](https://arxiv.org/abs/1603.08155): one network for one style.
- Huang, Belongie 2017, *Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization*, [arXiv:1703.06868](https://arxiv.org/abs/1703.06868): AdaIN.
- Isola, Zhu, Zhou, Efros 2017, *Image-to-Image Translation with Conditional Adversarial Networks*, [arXiv:1611.07004](https://arxiv.org/abs/1611.07004): pix2pix.
- Meng et al. 2022, *SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations*, [arXiv:2108.01073](https://arxiv.org/abs/2108.01073).
"""
