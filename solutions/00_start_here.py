# %% [markdown]
r"""
# Chapter 0 · Start here

This course starts with a single Gaussian and ends with a latent diffusion model that draws faces. In every chapter you write what
makes its model the model that it is: a loss, the step that trains it, the loop that draws with it. The cells below work with what you
wrote; the rest is in a package short enough to be read. In this chapter you will

1. see what you will have built;
2. learn how a chapter works, with one exercise to warm up;
3. meet the images: drawn faces and scanned digits;
4. write the simplest generator of images there is, and look hard at what it gets wrong;
5. build the yardstick that measures every model of the course;
6. take your generator apart, and let it draw from photographs of your own.
"""

# %% tags=["nbval-ignore-output"]
import torch

import minigen
from minigen import gallery
from minigen.plots import image_grid, show

scale, _ = minigen.setup()
rows = gallery.faces(10, seed=0)
show(image_grid(torch.cat(list(rows.values())), columns=10, row_titles=list(rows)),
     """Seven rows of ten faces. Real ToyFaces are crisp cartoons. The Gaussian's are ghosts
     with every attribute at once; the GAN's are distinct but flawed; the VAE's are grainy and
     undecided; the VQ-VAE's are soft and whole; the U-Net's and FFTD's are close to the real
     ones.""")

# %% [markdown]
r"""
## 1. What you will have built

*5 minutes.*

The first row is what the models learned from; nobody drew the others. You will build them all: the Gaussian in this chapter, the **GAN**
in chapter 1, the **VAE** in 2, the **VQ-VAE** in 3, the diffusion model on pixels (**U-Net**) in 5 and 6. The last row is the paper that
the course follows to its end: Liu, Chen and Gao, *Image Generation Based on Diffusion Model in Latent Space* (2026).

How good are they? One yardstick measures them all, the **toy Fréchet distance**: how far the samples, as a
crowd, are from real faces, seen through a small classifier; 0 would be no difference. Section 5 builds it.
"""

# %%
from minigen.metrics import results
from minigen.plots import COLOURS, panels

ladder = results()
fig, axes = panels(1, 1, height=2.6)
ax = axes[0, 0]
names = [f"{row['model']}  (chapter {row['chapter']})" for row in ladder]
names[0] = "real faces (fresh)"
ax.plot([row["frechet"] for row in ladder], names, "o", color=COLOURS[0])
for name, row in zip(names, ladder, strict=True):
    ax.annotate(f"{row['frechet']:.0f}", (row["frechet"], name), xytext=(8, -3),
                textcoords="offset points", fontsize=8)
ax.axvline(ladder[0]["frechet"], color="0.7", lw=0.8, ls="--")
ax.set_xlim(0, 330)
ax.set_xlabel("toy Fréchet distance to real faces (lower is better)", fontsize=9)
ax.invert_yaxis()
best = {k: min(r["frechet"] for r in ladder if r["chapter"] == k) for k in (1, 2, 3, 5, 7)}
assert best[7] < best[1] < min(best[2], best[3], best[5]), "as the next paragraph says"
values = "; ".join(f"{row['model']}: {row['frechet']:.0f}" for row in ladder)
show(fig, f"""The toy Fréchet distance of every model, in the course's order: {values}. The
     dashed line is what fresh real faces score.""")

# %% [markdown]
r"""
The ladder does not fall evenly: **the best samples for a long time come in chapter 1, and chapters of worse scores follow.** A GAN is
trained for its samples and for nothing else: it cannot say how likely a face is, nor find the code of a given face, and its training is a
game that may go wrong. The VAE and the VQ-VAE can do what it cannot and pay with their samples: a model that has to account for *every*
training face averages wherever it is unsure. But the last row is built of them: its autoencoder is an improved VQ-VAE,
whose codes are drawn by diffusion. The U-Nets of chapter 5 draw faces that look better than the GAN's and score worse, as eyes and
mouths are often wrong. (The autoencoder of the last rows was trained against the yardstick's own classifier, which flatters them a little.)

All these were trained for up to an hour or so, and come with the course. What you train yourself in a minute is worse, and the chapters say
by how much.

The paper's system has two stages. An **autoencoder** (IVQ-VAE) presses an image into a tiny map of codes, sixteen tokens for a whole
face, and unfolds it again. A **diffusion Transformer** (FFTD) learns to turn pure noise into such maps, a little less noisy at every
step:
"""

# %% tags=["nbval-ignore-output"]
from minigen import ddim, ddpm, fftd, ivqvae, latents
from minigen.data import ToyFaces
from minigen.files import load_weights

autoencoder = load_weights(ivqvae.IVQVAE, "ivqvae")
transformer = load_weights(fftd.FFTD, "fftd")
face = ToyFaces(1, seed=11).images()
codes = latents.encode(autoencoder, face).z
noise = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
path = ddim.ddim_sample(transformer, ddpm.diffusion_of(transformer), noise, steps=100)
new_codes = ddpm.last(path)
new_face = latents.decode(autoencoder, new_codes)

# %%
def as_colours(z):
    """Three of a latent's four channels as red, green and blue."""
    return (z[:, :3] / 2).clamp(-1, 1)


stages = {"a face\n32 × 32": face, "its 16 codes\n4 × 4": as_colours(codes),
          "noise\n4 × 4": as_colours(noise), "16 new codes\n4 × 4": as_colours(new_codes),
          "a new face\n32 × 32": new_face}
arrows = ["encode →", "add noise →", "FFTD removes it →", "decode →", ""]
fig, axes = panels(1, 5, height=1.9)
for ax, (title, x), arrow in zip(axes[0], stages.items(), arrows, strict=True):
    ax.imshow((x[0].permute(1, 2, 0) + 1) / 2, interpolation="nearest")
    ax.set_title(title, fontsize=9)
    ax.set_xlabel(arrow, fontsize=9)
    ax.set_xticks([])
    ax.set_yticks([])
show(fig, """Learning uses the left half: a face becomes a 4×4 map of codes, noise is added,
     and FFTD learns to remove it. Drawing uses the right half only: pure noise, made less
     noisy in a hundred steps, becomes a map of codes that decodes to a face which was not
     there before. (Codes have four channels; three are shown as colours.)""")

# %% [markdown]
r"""
## 2. How a chapter works

*5 minutes.*

The first cell of a chapter does something only on Colab. The second imports tools and
reads the **scale**: `small`, the default, runs on two processor cores in about two minutes; `full` is the same cells with the paper's
sizes, for a GPU. The environment variable `MINIGEN_SCALE` chooses it before Jupyter starts; on Colab, a cell
`%env MINIGEN_SCALE=full` above the imports does.
"""

# %%
import io
import os
import tempfile
import time
import zipfile
from pathlib import Path

import torch.nn.functional as F
from matplotlib.collections import LineCollection
from PIL import Image

from minigen import check
from minigen.checks import yours
from minigen.data import (ATTRIBUTES, Digits, PreparedImages, draw_faces, labels_of, prepare,
                          to_uint8)
from minigen.gaussian import GaussianModel
from minigen.metrics import frechet_distance, results_table, toy_frechet
from minigen.plots import curves, legend, points
from minigen.widgets import explore

n_faces = {"small": 4096, "full": 20_000}[scale]
print(f"scale: {scale}, {n_faces} faces")

# %% [markdown]
r"""
**Read a little, run a cell** (`Shift`+`Enter`)**, look at the figure, do the exercise.** Cells build
on each other, so run them in order; *Run → Run All Cells* is always safe, even with no exercise solved.

An exercise is a function with a gap. Replace `raise NotImplementedError`, run the cell, then the check below it:
it says whether the answer passed, and if not, what is wrong with it. Each has one to three stars, a time, and a hint to unfold, often with a
second one inside; the one of three stars puts together what you wrote before it. Most chapters also have something to **predict** before you run a cell, and something to **break** on purpose. All answers are in
[`solutions/00_start_here.ipynb`](../solutions/00_start_here.ipynb), the same chapter solved: try first.

Below most exercises stands a line like `to_unit_range = yours(to_unit_range)`. From there on the chapter works with **your** function if
it passes its check, and with the course's if not; what is printed says which. Come back whenever you like, and run the cells below again.

To warm up: image files hold **bytes**, 0 to 255. Networks prefer numbers around zero, so here every image
is a float tensor in $[-1, 1]$:

$$x = \frac{\text{byte}}{127.5} - 1 .$$

### Exercise 0.1 · `to_unit_range` · ★ · 3 minutes

Turn bytes into floats in $[-1, 1]$.

<details><summary>Hint</summary>

Arithmetic on a `uint8` tensor wraps around at 256. Call `.float()` first.

</details>
"""

# %%
def to_unit_range(byte_images):
    """Bytes (any shape, uint8) to float32 in [-1, 1]."""
    ### BEGIN SOLUTION
    return byte_images.float() / 127.5 - 1
    ### END SOLUTION

# %% points=1
check(to_unit_range)

# %% [markdown]
r"""
Try it wrong on purpose: divide by 255, leave out the $-1$, and see what the check says. That mistake looks like this:
"""

# %%
to_unit_range = yours(to_unit_range)
stored = to_uint8(ToyFaces(1, seed=5).images())             # bytes, as a file holds them
both = torch.cat([to_unit_range(stored), stored.float() / 255])
show(image_grid(both, titles=["in [-1, 1]", "in [0, 1]"], width=2.4), """One face twice: in
     the right range, and pale, with nothing darker than grey, where it lies in [0, 1].""")

# %% [markdown]
r"""
If a picture looks washed out, check its range first. The plotting functions of `minigen` cannot catch $[0, 1]$, which fits inside $[-1, 1]$; anything
outside they refuse:
"""

# %%
try:
    image_grid(torch.tensor([0.0, 255.0]).expand(1, 3, 2, 2))
except ValueError as e:
    print(e)

# %% [markdown]
r"""
What you have passed is kept on your own computer (in your home folder, under `.minigen`) and nowhere else:
"""

# %% tags=["nbval-ignore-output"]
minigen.progress()

# %% [markdown]
r"""
### Is this computer ready?
"""

# %% tags=["nbval-ignore-output"]
minigen.environment()

# %% [markdown]
r"""
## 3. The images

*5 minutes.*

### ToyFaces

Real photographs need a download and hours of training. **ToyFaces** are cartoon faces drawn by a formula, ellipses and
strokes with smooth edges, and we know the truth about each one: nine named attributes.
"""

# %%
real = ToyFaces(n_faces, size=32, seed=0)
images = real.images()
show(image_grid(images[:24], columns=12),
     """Twenty-four ToyFaces of 32×32 pixels: different backgrounds, skin tones, hair colours
     and lengths, shirts, some with glasses, some smiling, some turned to a side.""")

# %%
for name, values in ATTRIBUTES.items():
    print(f"{name:<12} {', '.join(values)}")
print("\nface 0:", ", ".join(real.describe(0).values()))

# %% [markdown]
r"""
Each face has small unnamed variations as well (place, width, gaze, light), so no two are equal. Face $k$
depends on the seed and on $k$ only: everyone sees the same faces. And a formula can be drawn at any size:
"""

# %%
one = ToyFaces(1, seed=5)
sizes = [draw_faces(one.labels, one.jitter, s) for s in (16, 32, 128)]
enlarged = torch.cat([F.interpolate(x, 128, mode="nearest") for x in sizes])
show(image_grid(enlarged, titles=["16 × 16", "32 × 32", "128 × 128"], width=4.5),
     """The same face at 16, 32 and 128 pixels. At 16 the mouth is a smudge; at 128 every
     outline is smooth.""")

# %% [markdown]
r"""
**Play:** choose the attributes yourself. (Without a running kernel you see the still picture only.)
"""

# %% tags=["nbval-ignore-output"]
start = dict(background="mint", skin="peach", hair="chestnut", hair_length="medium",
             shirt="navy", eyes="blue", glasses="no", smile="smile", pose="centre")
changes = [{}, dict(glasses="yes"), dict(smile="frown"), dict(hair="red", hair_length="long"),
           dict(pose="right")]
variants = [labels_of(**start | change) for change in changes]
still = image_grid(draw_faces(torch.cat(variants), size=96), columns=5,
                   titles=["start", "glasses", "frown", "long red hair", "turned right"])


def portrait(**chosen):
    return image_grid(draw_faces(labels_of(**chosen), size=96), width=2.9)


explore(portrait, still,
        """One face in five versions, each with one or two attributes changed: glasses, a
        frown, long red hair, a turned head.""",
        **{name: (list(values), start[name]) for name, values in ATTRIBUTES.items()});

# %% [markdown]
r"""
### Exercise 0.2 · `mean_face` · ★ · 3 minutes

Average a batch of images over the batch, keeping channels and pixels.

<details><summary>Hint</summary>

Images are stored batch first, `(B, C, H, W)`. Which axis do you average over?

</details>
"""

# %%
def mean_face(batch):
    """Mean image. Shapes: (B, C, H, W) -> (C, H, W)."""
    ### BEGIN SOLUTION
    return batch.mean(dim=0)
    ### END SOLUTION

# %% points=1
check(mean_face)

# %%
mean_face = yours(mean_face)
without, wearing = (mean_face(images[real["glasses"] == k]) for k in (0, 1))
means = {"mean of all": mean_face(images), "without glasses": without, "with glasses": wearing,
         "difference": (wearing - without).clamp(-1, 1)}
show(image_grid(torch.stack(list(means.values())), titles=list(means), width=5),
     """Mean faces are blurred: all of them, those without glasses, those with. The difference
     of the last two is grey everywhere but at the dark rims of a pair of glasses.""")

# %% [markdown]
r"""
The difference of two means is already a picture of an attribute; chapter 2 adds glasses to a face with it.

### Digits

The second data set is real, and messy as real data is: 1,797 handwritten digits, scanned and reduced to 8×8 pixels; each pixel counts the ink in a
block of 4×4 dots, 0 to 16 (UCI repository; CC BY 4.0).
"""

# %%
digits = Digits()
show(image_grid(digits.images[:32], columns=16),
     "Thirty-two scanned digits of 8×8 pixels: light strokes on black, each hand different.")
print(len(digits), "digits of shape", tuple(digits.images.shape[1:]),
      "from", digits.images.min().item(), "to", digits.images.max().item())

# %% [markdown]
r"""
## 4. The simplest generator

*55 minutes.*

To **generate** is to draw new samples from the distribution $p(x)$ that the training images came from. We do not know $p(x)$;
we have samples, and choose a family of distributions simple enough to fit. The simplest of all treats every pixel as independent, with its
own mean and standard deviation:
"""

# %%
rng = torch.Generator().manual_seed(0)
mean, std = mean_face(images), images.std(0)
independent = (mean + std * torch.randn(8, *mean.shape, generator=rng)).clamp(-1, 1)
show(image_grid(independent),
     """Eight samples of independent pixels: coloured static through which the mean face is
     barely seen.""")

# %% [markdown]
r"""
Every pixel on its own has the right colours; what is missing is that **pixels agree**: if one pixel of the
background is blue, so are all others. That agreement is what a generator has to learn.

### A Gaussian over whole images

Write an image as one long vector $x \in \mathbb{R}^{D}$, $D = 3 \cdot 32 \cdot 32 = 3072$. Agreement between two pixels is their
covariance, so take the Gaussian with all of them:

$$x \sim \mathcal N(\mu, \Sigma), \qquad \mu = \frac1N \sum_n x_n, \qquad \Sigma = \frac1N \sum_n (x_n-\mu)(x_n-\mu)^\top .$$

$\Sigma$ is a 3072 × 3072 matrix. Its eigenvectors make it readable:

$$\Sigma = U \,\mathrm{diag}(\lambda)\, U^\top .$$

Each column of $U$ is an image of length 1, an **eigenface**, at right angles to all others; $\lambda_i$ is the variance of the faces along it.

### Exercise 0.3 · `eigenfaces_of` · ★★ · 10 minutes

Given images less their mean, one in each *row*, return the eigenfaces, one in each *column*, and the variances along them, the
largest first.

<details><summary>Hint</summary>

With the centred images as rows of $X$, the covariance is $X^\top X / N$. `torch.linalg.eigh` takes a symmetric matrix and returns its
eigenvalues and, as columns, its eigenvectors, the *smallest* first.

<details><summary>More</summary>

`.flip(0)` turns the order of a vector round, `.flip(1)` that of a matrix's columns. Where there are fewer images than pixels some variances are 0;
rounding may put them a little below, and their root would be NaN: `.clamp_min(0)`.

</details>
</details>
"""

# %%
def eigenfaces_of(centred):
    """The axes of a cloud of images, and the variances along them, the largest first.

    Shapes: centred (N, D) -> eigenfaces (D, R), variances (R,), R = D (or all above 0).
    """
    ### BEGIN SOLUTION
    covariance = centred.T @ centred / len(centred)
    variances, eigenfaces = torch.linalg.eigh(covariance)
    return eigenfaces.flip(1), variances.flip(0).clamp_min(0)
    ### END SOLUTION

# %% points=2
check(eigenfaces_of)

# %%
eigenfaces_of = yours(eigenfaces_of)
middle = mean.flatten()
eigenfaces, variances = eigenfaces_of(images.flatten(1) - middle)
share = (variances.cumsum(0) / variances.sum())[:200]
show(curves({"share of the variance": share}, xlabel="number of eigenfaces", height=2.2),
     """The share of the total variance against the number of eigenfaces: it rises steeply to
     0.8 at ten and slowly to almost 1 at 200.""")
print(f"10 eigenfaces: {share[9]:.2f}   50: {share[49]:.2f}   200: {share[199]:.3f}")

# %%
def as_pictures(eigenfaces, shape):
    """Eigenfaces as images: grey is no change, the largest change -1 or 1."""
    return (eigenfaces / eigenfaces.abs().amax(0)).T.reshape(-1, *shape)


first = as_pictures(eigenfaces[:, :8], mean.shape)
show(image_grid(first, titles=[f"λ = {v:.0f}" for v in variances[:8]]),
     """The first eight eigenfaces with their variances. They change large areas of colour:
     background, hair, shirt and skin; the sixth the length of the hair, the last the turn of
     the head. Grey means no change, and the sign is arbitrary.""")

# %% [markdown]
r"""
Large areas of colour come first. Eyes, mouth and glasses are a few pixels and
carry little variance, so they come late. **Variance is not importance**: a smile weighs almost nothing in pixels and
decides what you see. Chapter 4 will measure images with something better than pixels.

**Play:** rebuild one face from its first $k$ coordinates $c = U_k^\top (x - \mu)$.
"""

# %% tags=["nbval-ignore-output"]
def rebuilt_from(x, k):
    """Images rebuilt from k coordinates. Shapes: (B, C, H, W), same."""
    c = (x.flatten(1) - middle) @ eigenfaces[:, :k]
    return (middle + c @ eigenfaces[:, :k].T).view(x.shape).clamp(-1, 1)


def rebuilt(face, eigenfaces):
    x = images[face : face + 1]
    both = torch.cat([x, rebuilt_from(x, eigenfaces)])
    return image_grid(both, titles=["original", f"k = {eigenfaces}"], width=3)


ks = [1, 5, 20, 50, 100, 200, 1000]
from_k = [rebuilt_from(images[3:4], k) for k in ks]
still = image_grid(torch.cat([*from_k, images[3:4]]), titles=[*map(str, ks), "original"])
explore(rebuilt, still,
        """One face rebuilt from 1, 5, 20, 50, 100, 200 and 1000 eigenfaces, and the original:
        the colours are nearly there at 20 and right at 50, with the eyes, their own colour by
        200.""",
        face=(0, 63, 3), eigenfaces=(1, 1000, 50));

# %% [markdown]
r"""
### Sampling

To draw from the Gaussian, draw standard normal noise, stretch it along each eigenface by the **standard deviation** there,
and add the mean:

$$x = \mu + U \,\mathrm{diag}(\sqrt{\lambda})\, \varepsilon, \qquad \varepsilon \sim \mathcal N(0, I).$$

Its covariance is $U\,\mathrm{diag}(\sqrt\lambda)\;\mathbb E[\varepsilon\varepsilon^\top]\;\mathrm{diag}(\sqrt\lambda)\,U^\top = \Sigma$, as it should be.

### Exercise 0.4 · `gaussian_draw` · ★★ · 8 minutes

Write the draw for a whole batch of noise, one row a sample.

<details><summary>Hint</summary>

First stretch each column of the noise, then go from coordinates to pixels with a matrix product, then add the mean.

<details><summary>More</summary>

`noise * variances.sqrt()` stretches. A sample is a row here, so the product stands the other way round: `@ eigenfaces.T`.

</details>
</details>
"""

# %%
def gaussian_draw(mean, eigenfaces, variances, noise):
    """Shapes: mean (D,), eigenfaces (D, R), variances (R,), noise (B, R) -> (B, D)."""
    ### BEGIN SOLUTION
    return mean + (noise * variances.sqrt()) @ eigenfaces.T
    ### END SOLUTION

# %% points=2
check(gaussian_draw)

# %% [markdown]
r"""
Two pixels are an image, too, of $D = 2$, and can be drawn as a point. Take the red of two pixels near the top of the head, most often both hair:
"""

# %%
gaussian_draw = yours(gaussian_draw)
two = images[:, 0, 6, [12, 19]]                           # one on the left, one on the right
axes2, variances2 = eigenfaces_of(two - two.mean(0))
noise = torch.randn(len(two), 2, generator=rng)
clouds = [two, two.mean(0) + two.std(0) * noise,
          gaussian_draw(two.mean(0), axes2, variances2, noise)]
show(points(clouds, columns=3, limit=2, titles=["real", "independent", "your Gaussian"]),
     """Three clouds of points, one for each face: the red of the left pixel against that of
     the right. Real: clumps, most of them on the diagonal. Independent: a round cloud. Your
     Gaussian: a long ellipse along the diagonal, without clumps.""")
print(f"correlation: {[round(float(torch.corrcoef(c.T)[0, 1]), 1) + 0.0 for c in clouds]}")

# %% [markdown]
r"""
The Gaussian has the correlation that independent pixels lack, but not the clusters: that there are a handful of colours is nothing that means and
covariances can say. And some of its points leave $[-1, 1]$, so images drawn from it are clipped.

### Exercise 0.5 · `new_faces` · ★★★ · 20 minutes

The whole generator: a function that is given images and returns new ones. Put together what you have:

1. the mean face of `images`, and the images less their mean, one a row;
2. the eigenfaces of those, and their variances;
3. noise, one row for each of the `n` samples, drawn from the `generator` that is given;
4. the draws, each in the shape of an image again, clipped to $[-1, 1]$.

It has to work for images of any shape, and for fewer images than they have numbers. The check looks only at what is drawn (mean, covariance, range),
so any way that leads there is right.

<details><summary>Hint</summary>

`images.flatten(1)` makes one row of each image, `mean_face(images).flatten()` is the mean as a row. `torch.randn(n, len(variances), generator=generator)` is the noise.

<details><summary>More</summary>

`.view(n, *images.shape[1:])` gives each row the shape of an image again.

</details>
<details><summary>Another way, without eigenvectors</summary>

Any matrix $A$ with $A A^\top = \Sigma$ will do in $x = \mu + A\,\varepsilon$. `torch.linalg.cholesky` finds a triangular one. It needs a $\Sigma$ whose variances are all above zero, so add a
millionth of the identity first; and for rows of noise it is `noise @ A.T`.

</details>
</details>
"""

# %%
def new_faces(images, n, generator):
    """n draws from the Gaussian fitted to images. Shapes: (N, C, H, W) -> (n, C, H, W)."""
    ### BEGIN SOLUTION
    mean = mean_face(images).flatten()
    eigenfaces, variances = eigenfaces_of(images.flatten(1) - mean)
    noise = torch.randn(n, len(variances), generator=generator)
    rows = gaussian_draw(mean, eigenfaces, variances, noise)
    return rows.clamp(-1, 1).view(n, *images.shape[1:])
    ### END SOLUTION

# %% points=3
check(new_faces)

# %% tags=["nbval-ignore-output"]
new_faces = yours(new_faces)
begin = time.time()
samples = new_faces(images, 2000, torch.Generator().manual_seed(0))
seconds = time.time() - begin
both = torch.cat([images[:16], samples[:16]])
show(image_grid(both, columns=8, row_titles=["real", "", "Gaussian", ""]),
     """Two rows of real faces above two rows of Gaussian samples. The samples have a head,
     hair and shirt in plausible places, but the colours run into each other, some have pale
     rims, and many wear half-visible glasses.""")
print(f"fitted to {len(images)} faces, and 2,000 drawn, in {seconds:.0f} seconds")

# %% [markdown]
r"""
For a mean and a covariance it is remarkable: heads, hair and shirts are where they belong. Now look for
what is wrong, for this list is the programme of the course:

- **No decisions.** Glasses are on or off, and hair is one of five colours; a Gaussian knows only "more" and "less", so it draws half-visible glasses and mixtures of colours.
- **Soft edges.** A hard edge that moves from face to face becomes a ramp.

How many glasses are half-visible? To see it, put all faces on one axis, with 0 the mean of those without glasses and 1 the mean of those with.

<details><summary>Which axis: Fisher's linear discriminant</summary>

Faces with glasses and without differ, on average, by the contrast $c$ of their two means. Looking along $c$ itself would be noisy, as the loud
eigenfaces (background, hair) vary for reasons of their own. *Fisher's linear discriminant* (1936) divides the contrast, along each eigenface, by the variance there: of all directions it is
the one along which two groups lie farthest apart, measured in their own spread.

</details>
"""

# %% tags=["nbval-ignore-output"]
def coordinates(x):
    return (x.flatten(1) - middle) @ eigenfaces[:, :200]


bare, glassy = (coordinates(images[real["glasses"] == k]).mean(0) for k in (0, 1))
direction = (glassy - bare) / variances[:200]
strength = {name: (coordinates(x) - bare) @ direction / ((glassy - bare) @ direction)
            for name, x in (("real", images), ("Gaussian", samples))}
fig, axes = panels(1, 1, height=2.2)
ax = axes[0, 0]
for (name, s), colour in zip(strength.items(), COLOURS, strict=False):
    ax.hist(s.numpy(), bins=60, density=True, alpha=0.6, color=colour, label=name)
ax.set_xlabel("how much the pixels look like glasses: 0 none, 1 a pair", fontsize=9)
legend(ax)
show(fig, """Histograms of the strength of glasses. Real faces form two separate humps,
     at 0 and at 1; the Gaussian's samples form one broad hump over both and all between.""")
half = {name: float(((s > 0.25) & (s < 0.75)).float().mean()) for name, s in strength.items()}
print(", ".join(f"{name}: {100 * v:.0f} % between ¼ and ¾" for name, v in half.items()))
assert half["real"] < 0.1 and half["Gaussian"] > 0.3

# %% [markdown]
r"""
Two humps in the data, one in the model. The Gaussian has the
right mean and variance along this axis and still gets it wrong, because two humps are not a Gaussian.

## 5. A yardstick for the whole course

*20 minutes.*

"Looks better" is not a measurement. All chapters are compared by the **Fréchet distance**: take a feature vector of
every image, fit a Gaussian to the features of the real images and one to those of the samples, and ask how far apart the two
Gaussians are. Begin with crowds of numbers.

### How far must a crowd move?

Pair every number $x$ of one crowd, $\mathcal N(\mu_1, \sigma_1^2)$, with a number $y$ of the other, $\mathcal N(\mu_2, \sigma_2^2)$, and let each $x$ walk to its $y$. The mean square of the ways is

$$\mathbb E\,(x - y)^2 = (\mu_1-\mu_2)^2 + \sigma_1^2 + \sigma_2^2 - 2\,\mathrm{cov}(x, y),$$

and only its last term depends on who is paired with whom. It is largest, $2\sigma_1\sigma_2$, if the smallest goes to the smallest, the second to the second, and so on. So
the least that a crowd has to move is

$$d^2 = (\mu_1-\mu_2)^2 + (\sigma_1-\sigma_2)^2 .$$

### Exercise 0.6 · `frechet_1d` · ★ · 4 minutes

That formula, from means and **variances**. By custom the distance stays squared.

<details><summary>Hint</summary>

$\sigma$ is the root of the variance: `var ** 0.5`.

</details>
"""

# %%
def frechet_1d(mean1, var1, mean2, var2):
    """Squared Fréchet distance of N(mean1, var1) and N(mean2, var2), a number."""
    ### BEGIN SOLUTION
    return (mean1 - mean2) ** 2 + (var1**0.5 - var2**0.5) ** 2
    ### END SOLUTION

# %% points=1
check(frechet_1d)

# %%
frechet_1d = yours(frechet_1d)
a = 1 + 2 * torch.randn(1_000_000, generator=rng)
b = -1 + torch.randn(1_000_000, generator=rng)
as_they_come = (a - b).square().mean()
smallest_to_smallest = (a.sort().values - b.sort().values).square().mean()
print(f"paired as they come:  {as_they_come:.1f}")
print(f"smallest to smallest: {smallest_to_smallest:.1f}")
print(f"your formula:         {frechet_1d(1, 4, -1, 1):.1f}")

# %% [markdown]
r"""
### From numbers to vectors

With vectors nothing changes but the last term, whose largest value is now a matter of matrices. That gives the paper's Eq. 31:

$$d^2 = \lVert \mu_1 - \mu_2 \rVert^2 + \mathrm{tr}\left(\Sigma_1 + \Sigma_2 - 2\,(\Sigma_1^{1/2}\, \Sigma_2\, \Sigma_1^{1/2})^{1/2}\right).$$

In one dimension the matrix is the number $\sigma_1^2\sigma_2^2$, its root is $\sigma_1\sigma_2$, and the line is the formula of the exercise. If both crowds are stretched along the same axes, it is that formula for each axis, added
up. What is new is a **turn**, and in two dimensions one can see it.

<details><summary>Why this matrix</summary>

The mean square of the ways is

$$\mathbb E\,\lVert x - y\rVert^2 = \lVert \mu_1 - \mu_2 \rVert^2 + \mathrm{tr}\,\Sigma_1 + \mathrm{tr}\,\Sigma_2 - 2\,\mathrm{tr}\,C,$$

where $C$ is the covariance of $x$ with its partner $y$; and we look for the pairing with the largest trace of $C$. Take each crowd's own spread out of it, $C = \Sigma_1^{1/2} K\, \Sigma_2^{1/2}$: what is left, $K$,
is a matrix of correlations and stretches no vector. So $\mathrm{tr}\,C = \mathrm{tr}\,(K\,\Sigma_2^{1/2}\Sigma_1^{1/2})$ is at most the sum of the singular values of $M = \Sigma_2^{1/2}\Sigma_1^{1/2}$, and those are the
roots of the eigenvalues of $M^\top M = \Sigma_1^{1/2}\,\Sigma_2\,\Sigma_1^{1/2}$.

</details>

**Play:** shift and turn the second crowd. Each line leads from a point to its partner in the cheapest pairing.
"""

# %%
def root(cov):
    values, vectors = torch.linalg.eigh(cov)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def crowd_at(angle):
    """The covariance of a long thin crowd, turned by an angle in degrees."""
    along = torch.tensor([angle, angle + 90.0]).double().deg2rad()
    axes = torch.stack([along.cos(), along.sin()])
    return (axes * torch.tensor([1.0, 0.08])) @ axes.T


# %% tags=["nbval-ignore-output"]
def two_crowds(ax, shift, turn):
    one, other, mean2 = crowd_at(45.0), crowd_at(45.0 + turn), torch.tensor([shift, 0.0])
    half, back = root(one), torch.linalg.inv(root(one))
    cheapest = back @ root(half @ other @ half) @ back             # from x to its partner y
    x = torch.randn(150, 2, generator=torch.Generator().manual_seed(3)).double() @ half
    y = mean2 + x @ cheapest
    ax.add_collection(LineCollection(torch.stack([x, y], 1).numpy(), colors="0.7", lw=0.6))
    ax.plot(*x.T, "o", ms=3, color=COLOURS[0])
    ax.plot(*y.T, "o", ms=3, color=COLOURS[1])
    d2 = frechet_distance(torch.zeros(2), one, mean2, other)
    by_axis = sum(frechet_1d(0.0, float(one[i, i]), float(mean2[i]), float(other[i, i]))
                  for i in range(2))
    ax.set(xlim=(-3.2, 4.4), ylim=(-3.1, 3.1), aspect="equal", xticks=[], yticks=[])
    ax.set_title(f"d² = {d2:.2f}\nby x and y alone: {by_axis:.2f}", fontsize=9)


def crowds(shift, turn):
    fig, axes = panels(1, 1, height=3, width=3.6)
    two_crowds(axes[0, 0], float(shift), float(turn))
    return fig


still, axes = panels(1, 3, height=2.4)
for ax, (shift, turn) in zip(axes[0], ((2.0, 0.0), (0.0, 45.0), (0.0, 90.0)), strict=True):
    two_crowds(ax, shift, turn)
explore(crowds, still,
        """Three pairs of crowds of points, each point joined to its partner. Left: the second
        is shifted, all ways are alike, d² = 4.00. Middle: turned by 45 degrees, 0.44. Right:
        turned by 90 degrees, 1.03, where x and y alone would say 0.""",
        shift=(0.0, 2.0, 1.0), turn=(0, 90, 60));

# %% [markdown]
r"""
On the right both crowds have the same mean and the same variance in $x$ and in $y$; only the sign of the correlation is another. The matrix formula sees it, as it has to:
correlation is all that tells a face from coloured static.

### Which features?

Pixels would repeat the mistake of the eigenfaces. For features in which a smile weighs as much as a
background, the course takes the last hidden layer (64 numbers) of a small classifier that was trained to read the nine
attributes of ToyFaces. The result is the **toy Fréchet distance**. It is *not* FID, which looks at photographs with the Inception network and takes over in chapter 8; the two cannot be compared.

Does it measure what we want? Damage real images in different ways and see.
"""

# %%
crowd = ToyFaces(2000, seed=21)
x = crowd.images()
rng = torch.Generator().manual_seed(0)
bare = crowd.labels.clone()
bare[:, list(ATTRIBUTES).index("glasses")] = 0
damaged = {
    "fresh real faces": x,
    "copies of training faces": images[:2000],
    "slightly noisy": (x + 0.1 * torch.randn(x.shape, generator=rng)).clamp(-1, 1),
    "200 faces, ten times each": x[:200].repeat(10, 1, 1, 1),
    "no one wears glasses": draw_faces(bare, crowd.jitter),
    "blurred": F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1),
    "upside down": x.flip(2),
}
distances = {name: toy_frechet(y) for name, y in damaged.items()}

# %%
fig, axes = panels(1, 1, height=2.3)
ax = axes[0, 0]
ax.plot(list(distances.values()), list(distances), "o", color=COLOURS[0])
for name, value in distances.items():
    ax.annotate(f"{value:,.0f}", (value, name), xytext=(8, -3), textcoords="offset points",
                fontsize=8)
ax.set_xlabel("toy Fréchet distance (log scale)", fontsize=9)
ax.set_xscale("log")
ax.invert_yaxis()
show(fig, """Toy Fréchet distances of seven sets on a log scale: fresh faces and copies of
     training faces lowest, slight noise just above them, 200 faces over and over ten times
     as far, missing glasses twenty times, blur and upside-down farther still.""")

# %% [markdown]
r"""
Four things to remember whenever you read such a number:

- Even **fresh real faces** are not at 0, because 2,000 images estimate a covariance with an error. Their value is about the best that an
  honest generator can reach. It falls as the number of images grows, so we always use 2,000.
- **Copies** score as well as fresh faces: the distance cannot tell a generator from a thief. It does see that there are only 200 faces.
- The classifier hardly notices **slight noise**. A distance sees only what its features see.
- A set in which **no one wears glasses** is caught although each single image is perfect: distributions are compared, not images.

And your Gaussian? It is the first row of a table that grows with every chapter.
"""

# %% tags=["nbval-ignore-output"]
ours = toy_frechet(samples)
print(results_table(through_chapter=0, Gaussian=ours))
recorded = {row["model"]: row["frechet"] for row in results()}["Gaussian"]
assert 0.8 < ours / recorded < 1.2, "fitted, not trained: everyone gets about the same value"

# %% [markdown]
r"""
A few seconds of arithmetic give about 215 (from 200 to 235, by the noise that is drawn; the table's own draw has 228). Hold whatever you train against it: a
network that scores worse has not yet beaten a mean and a covariance.

## 6. Take it apart

*20 minutes.*

### Predict

Forget the eigenfaces. Draw one number $\varepsilon_n \sim \mathcal N(0, 1)$ for every *training face*, and add up:

$$x = \mu + \frac{1}{\sqrt N} \sum_{n=1}^{N} \varepsilon_n\, (x_n - \mu).$$

The weights are random, half of them negative. **Before you run it:** will these mixtures of all faces score better than the Gaussian, worse, or the same? And if only the first 1,000 or the first 200 are mixed?
"""

# %% tags=["nbval-ignore-output"]
def mixtures(images, n, seed):
    centred = (images - images.mean(0)).flatten(1)
    noise = torch.randn(n, len(images), generator=torch.Generator().manual_seed(seed))
    rows = images.mean(0).flatten() + noise @ centred / len(images) ** 0.5
    return rows.clamp(-1, 1).view(n, *images.shape[1:])


def along_eigenfaces(n, seed):
    noise = torch.randn(n, len(variances), generator=torch.Generator().manual_seed(seed))
    rows = gaussian_draw(middle, eigenfaces, variances, noise)
    return rows.clamp(-1, 1).view(n, *mean.shape)


ways = {"the Gaussian": lambda seed: along_eigenfaces(2000, seed),
        f"mixtures of {len(images)}": lambda seed: mixtures(images, 2000, seed),
        "mixtures of 1000": lambda seed: mixtures(images[:1000], 2000, seed),
        "mixtures of 200": lambda seed: mixtures(images[:200], 2000, seed)}
scores = {name: [toy_frechet(draw(seed)) for seed in range(3)] for name, draw in ways.items()}
for name, values in scores.items():
    print(f"{name:<17}", "  ".join(f"{v:.0f}" for v in values))
rows = torch.cat([along_eigenfaces(8, 1), mixtures(images, 8, 1), mixtures(images[:200], 8, 1)])
names = list(ways)
show(image_grid(rows, row_titles=[*names[:2], names[3]]), """Eight samples of the Gaussian,
     eight mixtures of all faces and eight of 200: three rows of ghosts of the same kind.""")

# %% [markdown]
r"""
<details><summary>Answer</summary>

The same. A weighted sum of independent normal numbers is normal; its mean is $\mu$, and its covariance is
$\frac1N \sum_n (x_n - \mu)(x_n - \mu)^\top$, which *is* $\Sigma$. So this is another answer to exercise 0.5, and it says where the ghosts come from: **every
draw of the Gaussian is a mixture of all training faces at once**, so it has a little of everybody's glasses.

A thousand faces give as good a Gaussian as four thousand, two hundred a slightly worse one, 250 to 275. What fails is not the amount of data, it is the family of
distributions.

</details>

### Break it

Now one thing wrong at a time. What do you expect of each?
"""

# %%
noise = torch.randn(2000, len(variances), generator=torch.Generator().manual_seed(0))
std, raw = images.flatten(1).std(0), images.flatten(1)[: len(variances)]
broken = {
    "as it should be": gaussian_draw(middle, eigenfaces, variances, noise),
    "10 eigenfaces only": gaussian_draw(middle, eigenfaces[:, :10], variances[:10],
                                        noise[:, :10]),
    "each pixel alone": middle + noise[:, : len(middle)] * std,
    "λ for √λ": middle + (noise * variances) @ eigenfaces.T,
    "mean not taken off": middle + noise @ raw / len(raw) ** 0.5,
}
broken = {name: x.clamp(-1, 1).view(-1, *mean.shape) for name, x in broken.items()}
scores = {name: toy_frechet(x) for name, x in broken.items()}
titles = [f"{name}\n{scores[name]:,.0f}" for name in broken]
show(image_grid(torch.cat([x[:8] for x in broken.values()]), row_titles=titles),
     """Five rows of eight samples, each with its toy Fréchet distance. As it should be:
     ghosts. 10 eigenfaces only: faces whose eyes and mouths are smudges. Each pixel alone:
     static. λ for √λ: burnt out, pure white, black and glaring colours. Mean not taken off:
     ghosts with too much contrast, some of them negatives.""")

# %% [markdown]
r"""
- **10 eigenfaces only** hold 80 % of the variance, and the distance is nearly that of static: eyes and mouths are all the same smudge.
- **λ for √λ.** The first eigenface has the variance 121, so what should vary by 11 varies by 121 and is clipped to black and white, while what has a variance below 1 becomes quieter than it was.
- **Mean not taken off.** This is the mixture of $x_n$ in place of $x_n - \mu$. The covariance grows by $\mu\mu^\top$: one face is given the mean face twice, another its negative.

None of these raises an error. It takes a look, or a number, to find it.

### Your photographs

Now the same functions on images of your own. Name a folder, a zip or a parquet file of photographs in the next cell, as `MY_IMAGES`. A hundred or more are wanted, and it helps if they are aligned, the eyes always in the same place: the mean of faces that stand anywhere is fog, and the eigenfaces are clouds. (They get no distance: the yardstick is for ToyFaces.)
Until you name one, the cell makes a stand-in: a zip of 200 ToyFaces in two folders, with two things that every real folder has, a torn file and one that is no image.
"""

# %%
MY_IMAGES = os.environ.get("MINIGEN_DATA")  # or your own: "../my_photos", "../my_photos.zip"

work = Path(tempfile.mkdtemp())
if MY_IMAGES is None:
    with zipfile.ZipFile(work / "stand_in.zip", "w") as z:
        for i, picture in enumerate(to_uint8(ToyFaces(200, size=64, seed=7).images())):
            buffer = io.BytesIO()
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "PNG")
            png = buffer.getvalue()
            z.writestr(f"{'even' if i % 2 == 0 else 'odd'}/{i:03}.png", png)
        z.writestr("odd/torn.png", png[: len(png) // 2])
        z.writestr("even/notes.txt", "remember to water the plants")

# %%
source = Path(MY_IMAGES or work / "stand_in.zip")
prepared = source if (source / "manifest.json").is_file() else work / "prepared"
if prepared != source:
    prepare(source, prepared, size=64, overwrite=True)
mine = PreparedImages(prepared)
manifest = mine.manifest
print(len(mine), "images of", manifest["size"], "pixels, classes:", manifest["class_counts"])
for entry in manifest["skipped"]:
    print("skipped", entry["name"], "-", entry["reason"])

# %%
some = range(0, len(mine), max(1, len(mine) // 12))
batch, labels = mine[list(some)[:12]]
names = [mine.classes[k] if k >= 0 else "" for k in labels]
show(image_grid(batch, columns=6, titles=names, width=5),
     "Some of the prepared images, each with the class that its folder gave it, if any.")

# %% [markdown]
r"""
`prepare` has centre-cropped and resized each image and written all into **one file of bytes**, from which training reads just what it needs; sub-folders are classes, and your own files stay as they are. (Without a notebook: `python -m minigen prepare my_photos --size 256 --out data/my_photos`. What that wrote can be named above, too.)
The torn file is named and left out. A loader that silently fills the missing half with grey would have taught the model grey halves.

Now your generator, at 32×32 pixels:
"""

# %% tags=["nbval-ignore-output"]
if MY_IMAGES is None:
    print("No folder was named above, so these are the stand-in's 200 ToyFaces.")
photos = torch.cat([F.interpolate(mine[[i]][0], 32, mode="area")
                    for i in range(min(len(mine), 1000))])
k = min(8, len(photos) - 1)
axes, spread = eigenfaces_of(photos.flatten(1) - mean_face(photos).flatten())
drawn = new_faces(photos, 2000, torch.Generator().manual_seed(0))
rows = torch.cat([photos[:k], as_pictures(axes[:, :k], photos.shape[1:]), drawn[: 2 * k]])
show(image_grid(rows, columns=k, row_titles=["given", "eigenfaces", "drawn", ""]),
     """From top to bottom: some of the images given, at 32×32 pixels; their first eigenfaces;
     two rows of new ones, drawn by the Gaussian that was fitted to them.""")
tested = GaussianModel(photos)
same = torch.allclose(spread[:k].double(), tested.variances[:k], rtol=1e-3)
print(f"{len(photos)} images; the variances are those of minigen's GaussianModel: {same}")
if MY_IMAGES is None:
    print(f"toy Fréchet distance of 2,000 draws: {toy_frechet(drawn):.0f}")

# %% [markdown]
r"""
`minigen.gaussian.GaussianModel` is what you wrote, tested. Of an $N \times N$ and a $D \times D$ matrix it takes the smaller, Turk and Pentland's own trick: with a few hundred photographs of 256×256 pixels there is no other way.

**If you like:** are the ghosts of photographs better or worse than those of cartoons? With 64 for 32 one sees more, but the eigenvectors take minutes; `mixtures(photos, 16, seed=0)` needs none.

## 7. The map

| chapter | what it adds | why it is needed |
|---|---|---|
| 0 Start here | a Gaussian over pixels | the simplest thing that generates at all |
| 1 GAN | two networks in a game | decisions and sharp edges |
| 2 VAE | a likelihood and an encoder | a GAN has neither; the price is paid in samples |
| 3 VQ-VAE | a codebook of discrete codes | a VAE is blurred or undecided |
| 4 IVQ-VAE | a better autoencoder (paper, stage 1) | few codes, sharp faces |
| 5 DDPM | denoising step by step | a better way to learn a distribution |
| 6 DDIM | fewer steps, guidance | a thousand steps are slow |
| 7 FFTD | a Transformer in the latent space (paper, stage 2) | diffusion where images are small |
| 8 CelebA-HQ | the whole paper on photographs | the real thing |

## Summary

- To generate is to sample from a distribution fitted to data. What has to be learned is how pixels **agree**.
- A Gaussian over whole images has the right means and covariances and still makes no decisions. Every draw is a
  mixture of all training images; more of them do not help.
- The Fréchet distance is the mean square of the shortest ways from one crowd to the other; the toy one looks through a classifier's features. It has a floor above zero, and moves by a few units with the noise of the samples.

### Words

(The paper of this course is written in Chinese; each chapter's list of words gives its terms, too.)

| English | 中文 | meaning here |
|---|---|---|
| generative model | 生成模型 | a distribution one can sample from |
| mean, covariance | 均值, 协方差 | how pixels are on average, how they agree |
| eigenface | 特征脸 | an eigenvector of the faces' covariance, seen as an image |
| Cholesky factor | 楚列斯基因子 | a triangular root of a covariance, $L L^\top = \Sigma$ |
| attribute | 属性 | a named property of a face |
| feature | 特征 | what a network computes of an image |
| Fréchet distance | Fréchet 距离 | how far two Gaussians are apart |

### References

- Liu, Chen, Gao 2026, *Image Generation Based on Diffusion Model in Latent Space*, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): Eq. 31.
- Turk, Pentland 1991, *Eigenfaces for Recognition*, [doi:10.1162/jocn.1991.3.1.71](https://doi.org/10.1162/jocn.1991.3.1.71).
- Fisher 1936, *The Use of Multiple Measurements in Taxonomic Problems*, [doi:10.1111/j.1469-1809.1936.tb02137.x](https://doi.org/10.1111/j.1469-1809.1936.tb02137.x).
- Dowson, Landau 1982, *The Fréchet Distance between Multivariate Normal Distributions*, [doi:10.1016/0047-259X(82)90077-X](https://doi.org/10.1016/0047-259X%2882%2990077-X): the matrix formula.
- Heusel et al. 2017, *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium*, [arXiv:1706.08500](https://arxiv.org/abs/1706.08500): Eq. 6, the Fréchet distance.
"""
