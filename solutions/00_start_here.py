# %% [markdown]
r"""
# Chapter 0 · Start here

This course starts with a single Gaussian and ends with a latent diffusion model that draws faces. You build every
part on the way. In this chapter you will

1. see what you will have built, and check that your computer is ready;
2. learn how a chapter works, with one exercise to warm up;
3. meet the images: drawn faces, scanned digits, and a folder of your own;
4. build the simplest generator of images there is, look hard at what it gets wrong, and measure it.
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

One row of faces for every model of this course, drawn just now from weights that come with it. The first row is what the models
learned from; nobody drew the others.

Each row answers a failure of the one above it, and you will build them all: the Gaussian in this chapter, the **GAN** in chapter 1,
the **VAE** in 2, the **VQ-VAE** in 3, the diffusion model on pixels (**U-Net**) in 5 and 6. The last row is the paper that the course
follows to its end: Liu, Chen and Gao, *Image Generation Based on Diffusion Model in Latent Space* (2026).

How good are they? The course measures all of them with one yardstick, the **toy Fréchet distance**: how far the samples, as a
crowd, are from real faces, seen through a small classifier; 0 would be no difference. Section 5 builds it. Here is the ladder:
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
values = "; ".join(f"{row['model']}: {row['frechet']:.0f}" for row in ladder)
show(fig, f"""The toy Fréchet distance of every model, in the course's order: {values}. The
     dashed line is what fresh real faces score.""")

# %% [markdown]
r"""
The ladder does not fall evenly, and that is part of the story: the VAE's faces score worse than the Gaussian's; and the U-Net's, clean
in colour and outline, often wrong in eyes and mouths, look better than the GAN's and score worse. Each chapter takes its own number apart.

The paper's system has two stages. An **autoencoder** (IVQ-VAE) presses an image into a tiny map of codes, sixteen tokens for a whole
face, and unfolds it again. A **diffusion Transformer** (FFTD) learns to turn pure noise into such maps, a little less noisy at every
step. This is that plan, with the trained models themselves:
"""

# %% tags=["nbval-ignore-output"]
from minigen import ddim, fftd, ivqvae, latents
from minigen.data import ToyFaces
from minigen.ddpm import last
from minigen.diffusion import Diffusion
from minigen.files import load_weights

autoencoder = load_weights(ivqvae.IVQVAE, "ivqvae")
transformer = load_weights(fftd.FFTD, "fftd")
face = ToyFaces(1, seed=11).images()
codes = latents.encode(autoencoder, face).z
noise = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
new_codes = last(ddim.ddim_sample(transformer, Diffusion(), noise, steps=100))
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

Every chapter begins with two cells like the ones at the top. The first does something only on Colab. The second imports tools and
reads the **scale**: `small`, the default, runs on two processor cores in at most two minutes; `full` is the same cells with the paper's
sizes, for a GPU. You choose it with the environment variable `MINIGEN_SCALE` before Jupyter starts, or, on Colab, with a cell
`%env MINIGEN_SCALE=full` above the imports. Here are the tools of the rest of this chapter:
"""

# %%
import io
import tempfile
import zipfile
from pathlib import Path

import torch.nn.functional as F
from PIL import Image

from minigen import check
from minigen.data import (ATTRIBUTES, Digits, PreparedImages, draw_faces, labels_of, prepare,
                          to_uint8)
from minigen.gaussian import GaussianModel
from minigen.plots import curves, legend
from minigen.widgets import explore

n_faces = {"small": 4096, "full": 20_000}[scale]
print(f"scale: {scale}, {n_faces} faces")

# %% [markdown]
r"""
**Read a little, run a cell, look at the figure, do the exercise.** `Shift`+`Enter` runs a cell and moves on. Cells build
on each other, so run them in order; *Run → Run All Cells* is always safe, even with no exercise solved, because after an
exercise the chapter goes on with the tested version from the package `minigen`.

An exercise is a function with a gap. Replace `raise NotImplementedError`, run the cell, then run the check below it.
The check tells you whether the answer passed, and if not, what is wrong with it. Each exercise has its difficulty (one to
three stars), a time, and a hint to unfold.

Let us warm up. Image files hold **bytes**, 0 to 255. Networks prefer numbers around zero, so in this course every image
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
Try it wrong on purpose, once: divide by 255 and leave out the $-1$, and see what the check says.

The plotting functions of `minigen` refuse images outside $[-1, 1]$, as the next cell shows. They cannot catch $[0, 1]$, which fits inside: such an
image is drawn too pale. If a picture looks washed out, check its range first.
"""

# %%
try:
    image_grid(torch.tensor([0.0, 255.0]).expand(1, 3, 2, 2))
except ValueError as e:
    print(e)

# %% [markdown]
r"""
What you have passed is kept on your own computer (in your home folder, under `.minigen`) and nowhere else. The board of all
exercises is one call away:
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

*10 minutes.*

### ToyFaces

Real photographs need a download and hours of training. **ToyFaces** are cartoon faces drawn by a formula: ellipses and
strokes with smooth edges. They need no network, they can be drawn at any size, and, best of all, we know the truth about
each one: nine named attributes.
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
Beside the named attributes each face has small unnamed variations (place, width, gaze, light), so no two are equal. Face $k$
depends on the seed and on $k$ only: everyone who takes this course sees the same faces.

Because a face is a formula, it can be drawn at any size. This is one face at three resolutions:
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

The first statistic of any data set is its mean. Average a batch of images over the batch, keeping channels and pixels.

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
def with_glasses(wear):
    return images[real["glasses"] == wear].mean(0, keepdim=True)


means = {"mean of all": images.mean(0, keepdim=True),
         "without glasses": with_glasses(0),
         "with glasses": with_glasses(1),
         "difference": (with_glasses(1) - with_glasses(0)).clamp(-1, 1)}
show(image_grid(torch.cat(list(means.values())), titles=list(means), width=5),
     """Mean faces are blurred: all of them, those without glasses, those with. The difference
     of the last two is grey everywhere but at the dark rims of a pair of glasses.""")

# %% [markdown]
r"""
The difference of two means is already a picture of an attribute. Hold on to that thought; chapter 2 adds glasses to a face
with it.

### Digits

ToyFaces are invented. The second data set is real: 1,797 handwritten digits, scanned and reduced to 8×8 pixels; each pixel counts the ink in a
block of 4×4 dots, 0 to 16, hence 17 grey levels (UCI repository; CC BY 4.0). It is small enough to be part of the course, and messy, as
real data is.
"""

# %%
digits = Digits()
show(image_grid(digits.images[:32], columns=16),
     "Thirty-two scanned digits of 8×8 pixels: light strokes on black, each hand different.")
print(len(digits), "digits of shape", tuple(digits.images.shape[1:]),
      "from", digits.images.min().item(), "to", digits.images.max().item())

# %% [markdown]
r"""
### Your own images

Put the path of a folder, of a zip, or of a parquet file in the next cell, and plotting, eigenfaces and the Gaussian work on your
photographs. (The measurements at the end of the chapter are for ToyFaces only.) Sub-folders become classes. Nothing is unpacked and nothing is changed: `prepare` centre-crops and resizes each
image and writes them into **one file of bytes**, from which training later reads just what it needs. On the command line
that is

```
python -m minigen prepare my_photos --size 256 --out data/my_photos
```

Until you name a folder, the cell makes a small zip as a stand-in: ToyFaces as PNG files in two class folders. Two
things that every real folder has are in it as well, a torn file and one that is no image at all.
"""

# %%
MY_IMAGES = None  # for example "../my_photos" or "../my_photos.zip"

work = Path(tempfile.mkdtemp())
if MY_IMAGES is None:
    with zipfile.ZipFile(work / "stand_in.zip", "w") as z:
        for i, picture in enumerate(to_uint8(ToyFaces(12, size=96, seed=7).images())):
            buffer = io.BytesIO()
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "PNG")
            png = buffer.getvalue()
            z.writestr(f"{'even' if i % 2 == 0 else 'odd'}/{i:02}.png", png)
        z.writestr("odd/torn.png", png[: len(png) // 2])
        z.writestr("even/notes.txt", "remember to water the plants")

# %%
source = MY_IMAGES or work / "stand_in.zip"
manifest = prepare(source, work / "prepared", size=64, overwrite=True)
print(manifest["count"], "images of", manifest["size"], "pixels, classes:",
      manifest["class_counts"])
for entry in manifest["skipped"]:
    print("skipped", entry["name"], "-", entry["reason"])

# %%
mine = PreparedImages(work / "prepared")
batch, labels = mine[list(range(min(12, len(mine))))]
names = [mine.classes[k] if k >= 0 else "" for k in labels]
show(image_grid(batch, columns=6, titles=names, width=5),
     "The prepared images, each with the class that its folder gave it.")

# %% [markdown]
r"""
The torn file was found, named and left out, and it is listed in the manifest. A loader that silently fills the missing half
with grey would have taught the model grey halves.

## 4. The simplest generator

*15 minutes.*

To **generate** is to draw new samples from the distribution $p(x)$ that the training images came from. We do not know $p(x)$.
We have samples, and we choose a family of distributions simple enough to fit.

### The simplest wrong thing

Treat every pixel as independent: give each its own mean and standard deviation. Drawing from that takes one line.
"""

# %%
rng = torch.Generator().manual_seed(0)
mean, std = images.mean(0), images.std(0)
independent = (mean + std * torch.randn(8, *mean.shape, generator=rng)).clamp(-1, 1)
show(image_grid(independent),
     """Eight samples of independent pixels: coloured static through which the mean face is
     barely seen.""")

# %% [markdown]
r"""
Coloured static. Every pixel on its own has the right colours; what is missing is that **pixels agree**: if one pixel of the
background is blue, so are all others. That agreement is what a generator has to learn, here and in every later chapter.

### A Gaussian over whole images

Write an image as one long vector $x \in \mathbb{R}^{D}$, $D = 3 \cdot 32 \cdot 32 = 3072$. Agreement between two pixels is their
covariance, so take the Gaussian with all of them:

$$x \sim \mathcal N(\mu, \Sigma), \qquad \mu = \frac1N \sum_n x_n, \qquad \Sigma = \frac1N \sum_n (x_n-\mu)(x_n-\mu)^\top .$$

$\Sigma$ is a 3072 × 3072 matrix. Its eigenvectors make it readable:

$$\Sigma = U \,\mathrm{diag}(\lambda)\, U^\top .$$

Each column of $U$ is an image, an **eigenface**; $\lambda_i$ is the variance of the faces along it. `GaussianModel(images)`
finds $\mu$, $U$ and $\lambda$, which takes a few seconds. The first few eigenfaces carry most of the variance:
"""

# %%
gaussian = GaussianModel(images)
share = (gaussian.variances.cumsum(0) / gaussian.variances.sum())[:200]
show(curves({"share of the variance": share}, xlabel="number of eigenfaces", height=2.2),
     """The share of the total variance against the number of eigenfaces: it rises steeply to
     0.8 at ten and slowly to almost 1 at 200.""")
print(f"10 eigenfaces: {share[9]:.2f}   50: {share[49]:.2f}   200: {share[199]:.3f}")

# %%
first = gaussian.eigenfaces[:, :8].T.reshape(8, 3, 32, 32).float()
first = first / first.abs().amax((1, 2, 3), keepdim=True)
show(image_grid(first, titles=[f"λ = {v:.0f}" for v in gaussian.variances[:8]]),
     """The first eight eigenfaces with their variances. They change large areas of colour:
     background, hair, shirt and skin; the sixth the length of the hair, the last the turn of
     the head. Grey means no change, and the sign is arbitrary.""")

# %% [markdown]
r"""
The first eigenfaces are about large areas of colour: background, hair, shirt, skin. Eyes, mouth and glasses are a few pixels and
carry little variance, so they come late. **Variance is not importance.** A smile weighs almost nothing in pixels and
decides what you see. This is why chapter 4 measures images with something better than pixels.

**Play:** rebuild one face from its first $k$ coordinates $c = U_k^\top (x - \mu)$.
"""

# %% tags=["nbval-ignore-output"]
def rebuilt(face, eigenfaces):
    x = images[face : face + 1]
    y = gaussian.decode(gaussian.encode(x, eigenfaces)).clamp(-1, 1)
    titles = ["original", f"k = {eigenfaces}"]
    return image_grid(torch.cat([x, y]), titles=titles, width=3)


ks = [1, 5, 20, 50, 100, 200, 1000]
from_k = [gaussian.decode(gaussian.encode(images[3:4], k)).clamp(-1, 1) for k in ks]
still = image_grid(torch.cat([*from_k, images[3:4]]), titles=[*map(str, ks), "original"])
explore(rebuilt, still,
        """One face rebuilt from 1, 5, 20, 50, 100, 200 and 1000 eigenfaces, and the original:
        the colours are there at 20, the eyes at 50, their right colour by 200.""",
        face=(0, 63, 3), eigenfaces=(1, 1000, 50));

# %% [markdown]
r"""
### Sampling

To draw from the Gaussian, draw standard normal noise, stretch it along each eigenface by the **standard deviation** there,
and add the mean:

$$x = \mu + U \,\mathrm{diag}(\sqrt{\lambda})\, \varepsilon, \qquad \varepsilon \sim \mathcal N(0, I).$$

### Exercise 0.3 · `gaussian_draw` · ★★ · 8 minutes

Write the draw for a whole batch of noise, one row a sample.

<details><summary>Hint</summary>

First stretch each column of the noise, then go from coordinates to pixels with a matrix product, then add the mean.

<details><summary>More</summary>

`noise * variances.sqrt()` stretches. A batch of rows times $U^\top$ gives the pixels: `@ eigenfaces.T`.

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

# %%
samples = gaussian.sample(2000, seed=0)
both = torch.cat([images[:16], samples[:16]])
show(image_grid(both, columns=8, row_titles=["real", "", "Gaussian", ""]),
     """Two rows of real faces above two rows of Gaussian samples. The samples have a head,
     hair and shirt in plausible places, but the colours run into each other and nearly every
     face wears half-visible glasses.""")

# %% [markdown]
r"""
For something fitted without any training loop, that is remarkable: heads, hair and shirts are where they belong. Now look for
what is wrong, for this list is the programme of the course:

- **Everything at once.** Glasses are on or off; a Gaussian knows only "more" and "less", so most samples have half-visible ones.
- **No decisions.** Hair is one of five colours. The Gaussian draws mixtures of them, and mixtures of backgrounds.
- **Soft edges.** A hard edge that moves from face to face becomes a ramp.

The next figure shows the first of these as a histogram. We look along the direction, in the space of the first 200 eigenfaces,
that best separates faces with glasses from faces without.
"""

# %%
coordinates = gaussian.encode(images, 200)
contrast = coordinates[real["glasses"] == 1].mean(0) - coordinates[real["glasses"] == 0].mean(0)
direction = contrast / gaussian.variances[:200]      # Fisher's: weigh down what varies anyway
strength = {name: gaussian.encode(x, 200) @ direction / (contrast @ direction)
            for name, x in (("real", images), ("Gaussian", samples))}
fig, axes = panels(1, 1, height=2.2)
ax = axes[0, 0]
for (name, s), colour in zip(strength.items(), COLOURS, strict=False):
    ax.hist(s.numpy(), bins=60, density=True, alpha=0.6, color=colour, label=name)
ax.set_xlabel("how much the pixels look like glasses", fontsize=9)
legend(ax)
show(fig, """Histograms of the strength of glasses. Real faces form two separate humps,
     without and with; the Gaussian's samples form one hump between them.""")

# %% [markdown]
r"""
Two humps in the data, one in the model. The Gaussian has the right mean and the right variance along this direction and still
gets it wrong, because two humps are not a Gaussian.

## 5. A yardstick for the whole course

*10 minutes.*

"Looks better" is not a measurement. All chapters are compared by one number, the **Fréchet distance**. Take a feature vector of
every image, fit a Gaussian to the features of the real images and one to those of the samples, and ask how far apart the two
Gaussians are:

$$d^2 = \lVert \mu_1 - \mu_2 \rVert^2 + \mathrm{tr}\left(\Sigma_1 + \Sigma_2 - 2\,(\Sigma_1^{1/2}\, \Sigma_2\, \Sigma_1^{1/2})^{1/2}\right)$$

(paper, Eq. 31). In one dimension it is easy to see: $d^2 = (\mu_1-\mu_2)^2 + (\sigma_1-\sigma_2)^2$.

### Exercise 0.4 · `frechet_1d` · ★ · 4 minutes

The one-dimensional formula, from means and **variances**. By custom the distance stays squared.

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

# %% [markdown]
r"""
Which features? Pixels would repeat the mistake of the eigenfaces. We need features in which a smile weighs as much as a
background. The course uses the last hidden layer (64 numbers) of a small classifier that was trained to read the nine
attributes of ToyFaces. We call the result the **toy Fréchet distance**. It is *not* FID, which uses the Inception network and
photographs; values of the two cannot be compared. In chapter 8, on photographs, FID itself takes over.

Does it measure what we want? Damage real images in different ways and see.
"""

# %%
from minigen.metrics import results_table, toy_frechet

crowd = ToyFaces(2000, seed=21)
x = crowd.images()
rng = torch.Generator().manual_seed(0)
bare = crowd.labels.clone()
bare[:, list(ATTRIBUTES).index("glasses")] = 0
damaged = {
    "fresh real faces": x,
    "slightly noisy": (x + 0.1 * torch.randn(x.shape, generator=rng)).clamp(-1, 1),
    "blurred": F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1),
    "no one wears glasses": draw_faces(bare, crowd.jitter),
    "upside down": x.flip(2),
}
distances = {name: toy_frechet(y) for name, y in damaged.items()}
assert distances["fresh real faces"] == min(distances.values())

# %%
fig, axes = panels(1, 1, height=2.0)
ax = axes[0, 0]
ax.plot(list(distances.values()), list(distances), "o", color=COLOURS[0])
for name, value in distances.items():
    ax.annotate(f"{value:,.0f}", (value, name), xytext=(8, -3), textcoords="offset points",
                fontsize=8)
ax.set_xlabel("toy Fréchet distance (log scale)", fontsize=9)
ax.set_xscale("log")
ax.invert_yaxis()
show(fig, """Toy Fréchet distances of five sets on a log scale: fresh faces lowest, slight
     noise just above them, missing glasses about twenty times as far, blur and upside-down
     farther still.""")

# %% [markdown]
r"""
Three things to remember whenever you read such a number, here or in a paper:

- Even **fresh real faces** are not at 0, because 2,000 images estimate a covariance with an error. Their value is about the best that an
  honest generator can reach. It falls as the number of images grows, so we always use 2,000.
- The classifier hardly notices **slight noise**. A distance sees only what its features see.
- A set in which **no one wears glasses** is caught although each single image is perfect. The distance compares
  distributions, not images.

And the Gaussian? It is the first model of the table that grows with every chapter; the row above it is the floor.
"""

# %% tags=["nbval-ignore-output"]
ours = toy_frechet(samples)
print(results_table(through_chapter=0, Gaussian=ours))
recorded = {row["model"]: row["frechet"] for row in results()}["Gaussian"]
assert 0.9 < ours / recorded < 1.1, "fitted, not trained: everyone gets about the same value"

# %% [markdown]
r"""
## 6. The map

| chapter | what it adds | why it is needed |
|---|---|---|
| 0 Start here | a Gaussian over pixels | the simplest thing that generates at all |
| 1 GAN | two networks in a game | decisions and sharp edges |
| 2 VAE | a likelihood and an encoder | a GAN cannot say how likely an image is, nor encode one |
| 3 VQ-VAE | a codebook of discrete codes | a VAE is blurry |
| 4 IVQ-VAE | a better autoencoder (paper, stage 1) | few codes, sharp faces |
| 5 DDPM | denoising step by step | a better way to learn a distribution |
| 6 DDIM | fewer steps, guidance | a thousand steps are slow |
| 7 FFTD | a Transformer in the latent space (paper, stage 2) | diffusion where images are small |
| 8 CelebA-HQ | the whole paper on photographs | the real thing |

## Summary

- To generate is to sample from a distribution fitted to data. What has to be learned is how pixels **agree**.
- A Gaussian over whole images has the right means and covariances and still makes no decisions: half-visible glasses.
- The toy Fréchet distance compares two sets of images through the features of a classifier. It has a floor above zero.

### Words

(The paper of this course is written in Chinese; each chapter's list of words gives its terms, too.)

| English | 中文 | meaning here |
|---|---|---|
| generative model | 生成模型 | a distribution one can sample from |
| mean, covariance | 均值, 协方差 | how pixels are on average, how they agree |
| eigenface | 特征脸 | an eigenvector of the faces' covariance, seen as an image |
| attribute | 属性 | a named property of a face |
| feature | 特征 | what a network computes of an image |
| Fréchet distance | Fréchet 距离 | how far two Gaussians are apart |

### References

- Liu, Chen, Gao 2026, *Image Generation Based on Diffusion Model in Latent Space*, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): Eq. 31.
- Turk, Pentland 1991, *Eigenfaces for Recognition*, [doi:10.1162/jocn.1991.3.1.71](https://doi.org/10.1162/jocn.1991.3.1.71).
- Heusel et al. 2017, *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium*, [arXiv:1706.08500](https://arxiv.org/abs/1706.08500): Eq. 6, the Fréchet distance.
"""
