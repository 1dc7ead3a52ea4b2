# %% [markdown]
r"""
# Chapter 8 · CelebA-HQ, the paper end to end

Here everything meets: data as people really get it, stage 1, stage 2, samples, a measured distance. The cells are the same on a laptop and on a GPU. At small scale they train small models on drawn faces, for a minute. With `MINIGEN_SCALE=full` they train on photographs, for hours or days, as `MINIGEN_PRESET` says: `colab` (128×128 on a free GPU), `paper` (256×256 exactly as the paper writes it) or `fast` (256×256 as we would do it). Since a training of days *will* be interrupted, much of this chapter is about the engine that survives it.

**No photograph, and no picture by a model that learned from photographs, is on this page**, for two reasons: the licences of these photographs do not allow it (and section 8 shows that a model may hand them out again), and nobody has run the course on a GPU yet. What you see is smaller and was all run: drawn faces, trained while you watch, the numbers of a few minutes on 28 portraits (section 8), and a *rehearsal* of the preset `colab` on a processor, with its curves and its shortcomings (section 11). With a GPU, Colab's free one or your own, **section 10** leads from an empty notebook to faces of your own, cell by cell; there is no need to read the rest first.

In this chapter you will

1. prepare data, and know what may go wrong with it;
2. build training on one rule, that everything random is a function of the seed and the step;
3. run both stages, kill one in the middle, and see it go on bit for bit;
4. draw images that do not depend on how they were drawn, measure them with the protocol stated, and see whether they are copies;
5. read the paper as a reviewer would, and plan a run on photographs.
"""

# %%
import contextlib
import csv
import io
import math
import os
import tempfile
import textwrap
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

import minigen
from minigen import check, ddim, ddpm, latents
from minigen.checks import yours
from minigen.data import ToyFaces, from_uint8, to_uint8
from minigen.engine import checkpoints, drawing, evaluate, loop, parts, presets, stages
from minigen.engine.encoding import encode_images
from minigen.engine.images import Images
from minigen.engine.plan import GPUS, plan
from minigen.engine.settings import Stage1, Stage2, make_config
from minigen.engine.stage1 import train_stage1
from minigen.engine.stage2 import train_stage2
from minigen.files import data_path, load_weights
from minigen.ivqvae import IVQVAE
from minigen.metrics import attribute_probabilities, results, results_table
from minigen.paper import reproduce
from minigen.plots import COLOURS, curves, heat, image_grid, legend, panels, show
from minigen.widgets import explore

# %%
scale, _ = minigen.setup()
scratch = tempfile.mkdtemp() if scale == "small" else "runs"
runs = Path(os.environ.get("MINIGEN_RUNS", scratch))
preset = presets.chosen(scale)                        # at full scale what MINIGEN_PRESET names
size = presets.SIZES[preset]                                      # pixels
full_data = os.environ.get("MINIGEN_DATA", f"data/celebahq{size}")    # by `prepare`, section 1
data = {"small": "toyfaces:4096", "full": full_data}[scale]
setup = {
    "small": dict(
        one=dict(steps=480, batch_size=8, discriminator_start=430, lr=3e-3, ema=0.98),
        two=dict(steps=130, batch_size=64, lr=2e-3, ema=0.98, log_every=5),
        samples=100,
        ddim=20,
    ),
    "full": dict(one=dict(preset=preset), two=dict(preset=preset), samples=50_000, ddim=500),
}[scale]
if preset == "colab":                              # 50,000 would take as long as the trainings
    setup |= dict(samples=5_000, ddim=100)
if scale == "full":                         # what is missing is told now, not after a training
    evaluate.network_of("inception")
stand_in = "\nCelebA-HQ is not here, drawn faces stand in for it" if scale == "small" else ""
print(f"scale: {scale}; preset: {preset}; data: {data}{stand_in}")

# %% [markdown]
r"""
Here is where it goes, at small scale and with weights that were trained for longer: sixteen faces, drawn by the same function that draws fifty thousand.
"""

# %% tags=["nbval-ignore-output"]
weights = {name: data_path("pretrained", f"{name}.safetensors") for name in ("ivqvae", "fftd")}
longer = drawing.Sampler(weights["fftd"], weights["ivqvae"], steps=20)
show(image_grid(from_uint8(longer(0, 16)), columns=8), """Sixteen faces drawn by the
     longer-trained small models: whole, sharp, varied.""")

# %% [markdown]
r"""
## 1. The data

*10 minutes.*

**CelebA-HQ** is 30,000 photographs of celebrities at 1024×1024, chosen and cleaned from CelebA by Karras et al. (2018). **AFHQ** is about 16,000 of cats, dogs and wild animals. Neither may be passed on with a course: CelebA is for non-commercial research, AFHQ is CC BY-NC 4.0. You get them yourself, under their terms; [data/README.md]({{repository}}/blob/{{tag}}/data/README.md#celeba-hq-and-afhq) names the places and the forms in which people find them, folders of JPEG, a zip, parquet files of a hub, with the command for each. One command makes of any of these one memory map with a manifest:

```
python -m minigen prepare DOWNLOADED --size 256 --classes none --out data/celebahq256
python -m minigen prepare afhq.zip   --size 256 --out data/afhq256 --split train
```

What it guards against has all happened to others:

- **Names lie.** Data sets called CelebA-HQ with 202,599 rows (plain CelebA) or 270,000 exist. Count: 30,000. The manifest says how many, how large they were, and what was skipped, by name.
- **The resize kernel decides FIDs**, by several points. It is Lanczos with antialiasing unless you say otherwise, and it is written down.
- **JPEG instead of PNG** moves FIDs by whole points (Parmar et al. 2022). Take lossless sources where there are some.
- **Sorted files.** Some mirrors hold all women first. The order of training is a permutation of everything, so this does no harm; taking "the first thousand" as a test set would.
- A broken image stops nothing and is not silently replaced: it is listed.
- **Folders are not always classes.** They may be splits, or pieces of a thousand files each. The command says what it took them for, and `--classes` settles it. (`celeba_hq.zip` has folders `female` and `male`. Left alone they become labels, and stage 2 a model of two classes, whose samples without a label come from a part that only 15 % of the batches trained; other mirrors have none. So `--classes none`.)

Here drawn faces stand in:
"""

# %%
images = Images(data, size)
show(image_grid(images(torch.arange(16)), columns=8), """The first sixteen training images:
     drawn faces at small scale.""")
classes = ", ".join(map(str, images.classes))
print(len(images), "images of", size, "pixels; classes:", classes)

# %% [markdown]
r"""
## 2. The rule

*35 minutes.*

A training of four million steps will be stopped: by Colab after twelve hours, by a power cut, by a full disk. To go on *exactly*, one must know where everything stood: the weights, the optimiser's moments, the running averages; and also which images were still to come in this epoch, which were mirrored, and the state of every random generator. Many public trainings forget some of it: the epoch starts anew, the averages are lost, the learning rate jumps.

There is a simple way out. **Make everything random a function of (seed, step).** Then nothing about chance need be saved at all. Before step 1234 the generator is seeded with (seed, 1234). The order of epoch 7 is a permutation drawn from (seed, 7). Whether image 42 is mirrored in epoch 7 depends on (seed, 7, 42).

### Exercise 8.1 · `place_of` · ★★ · 6 minutes

Step 1 sees the first `batch_size` places of the stream of epochs, step 2 the next, and so on without a gap. In which epoch (from 0) is image `k` of step `step`, and at which place of that epoch's permutation?

<details><summary>Hint</summary>

How many images were seen before? `//` and `%` do the rest.

</details>
"""

# %%
def place_of(step, k, batch_size, n):
    """(epoch, place). Integers: step from 1, k from 0, n images in the data."""
    ### BEGIN SOLUTION
    seen = (step - 1) * batch_size + k
    return seen // n, seen % n
    ### END SOLUTION

# %% points=1
check(place_of)

# %%
seen = torch.full((12, 24), float("nan"))
orders = [[], [], []]                              # of the images, in each epoch
for step in range(1, 10):
    epoch = (step - 1) * 8 // 24
    indices, flips = loop.batch_at(0, step, 8, 24)
    orders[epoch] += indices.tolist()
    for i, flip in zip(indices, flips, strict=True):
        seen[4 * epoch + 1 + int(flip), i] = step
fig, axes = panels(1, 1, height=2.2)
heat(axes[0, 0], seen, low=1, high=9, aspect="auto").colorbar.set_label("step", fontsize=8)
axes[0, 0].set_yticks([1.5, 5.5, 9.5], ["epoch 0", "epoch 1", "epoch 2"])
axes[0, 0].set_xticks(range(0, 24, 5))
axes[0, 0].set_xlabel("image", fontsize=9)
show(fig, """Nine steps of batch 8 over 24 images: in each of three epochs every image is seen
     exactly once, in one of two rows, as it is or mirrored; colours tell the step, and the
     order differs from epoch to epoch.""")
print("every image once an epoch:", all(sorted(order) == list(range(24)) for order in orders))

# %% [markdown]
r"""
With several GPUs each process takes every world-size-th image *of the same batch*. Then the order does not depend on how many there are.

### Exercise 8.2 · `my_share` · ★ · 3 minutes

The part of a batch that process `rank` of `world` takes.

<details><summary>Hint</summary>

A slice with a step.

</details>
"""

# %%
def my_share(batch, rank, world):
    """Every world-th entry, from entry `rank` on. Shapes: (B, ...) -> (B / world, ...)."""
    ### BEGIN SOLUTION
    return batch[rank::world]
    ### END SOLUTION

# %% points=1
check(my_share)

# %% [markdown]
r"""
Nor may a run depend on how much fits into memory. A batch of 32 at 256×256 takes 28 GB, by the plan of section 10; for a card of 24 it is cut into parts that are done in turn, `--accumulate 2`, and the step must come out the same.

### Exercise 8.3 · `in_parts` · ★★ · 8 minutes

Leave in `.grad` of the network's weights the gradient of the *whole batch's* loss, though the network may have only `size` images at a time. `loss_of(net(x), y)` is a mean over the images it gets. The batch need not be a multiple of `size`. Old gradients may be lying there.

<details><summary>Hint</summary>

The mean over ten images is made of the means over four, four and two: with what weights? What does `backward()` do to a gradient that is there already? And which memory does a part keep until its `backward()`?

</details>
"""

# %%
def in_parts(net, loss_of, x, y, size):
    """The gradient of loss_of(net(x), y), at most `size` images at a time.

    Shapes: x, y (B, …). Returns: the loss of the whole batch, a number.
    """
    ### BEGIN SOLUTION
    net.zero_grad()
    total = 0.0
    for part, wanted in zip(x.split(size), y.split(size), strict=True):
        loss = loss_of(net(part), wanted) * len(part) / len(x)
        loss.backward()
        total += loss.item()
    return total
    ### END SOLUTION

# %% points=2
check(in_parts)

# %% [markdown]
r"""
Does it hold for a real network? Here is the small decoder, ten images of it at once and in threes.
"""

# %% tags=["nbval-ignore-output"]
in_parts = yours(in_parts)
decoder = load_weights(IVQVAE, "ivqvae").decoder
z, x = torch.randn(10, 4, 4, 4), ToyFaces(10, size=32, seed=3).images()


def gradient(size):
    loss = in_parts(decoder, F.l1_loss, z, x, size)
    return loss, torch.cat([p.grad.flatten() for p in decoder.parameters()])


(whole_loss, whole), (loss, split) = gradient(10), gradient(3)
print(f"loss {whole_loss:.6f} and {loss:.6f}; the gradients differ by "
      f"{float((split - whole).norm() / whole.norm()):.1e} of their length")

# %% [markdown]
r"""
They agree but for rounding, because no layer here looks across the batch: with batch normalisation a part of three would have other statistics than ten, and the trick would be an approximation. (The codebook's running means do look across it; the engine moves them once a step, by all parts together.)

The learning rate, too, is a function of the step. The paper keeps it constant; for short trainings we let it rise over the first tenth and then fall like half a cosine.

### Exercise 8.4 · `rate_factor` · ★★ · 6 minutes

The factor at a step (from 1) of `steps`: linear up to 1 at `steps // 10` (at least one step), then down along half a cosine to 0 at the last.

<details><summary>Hint</summary>

`0.5 * (1 + math.cos(math.pi * share))`, where `share` goes from 0 to 1 after the rise.

</details>
"""

# %%
def rate_factor(step, steps):
    """A number from 0 to 1."""
    ### BEGIN SOLUTION
    rise = max(1, steps // 10)
    if step <= rise:
        return step / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))
    ### END SOLUTION

# %% points=2
check(rate_factor)

# %%
config = make_config(Stage1, steps=200)
factors = [stages.rate_factor(config, s) for s in range(1, 201)]
show(curves({"factor of the learning rate": factors}), """The factor of the learning rate over
     200 steps: a straight rise to 1 at step 20, then half a cosine down to 0.""")

# %% [markdown]
r"""
## 3. Stage 1

*10 minutes.*

`train_stage1` is chapter 4's training as a task for the engine: all losses, two optimisers, the discriminator from its start step on, the running average. It says first what room it needs on the disk and in memory, and stops at once where there is less. It writes its settings, the losses as CSV (and for TensorBoard, where that is installed), grids of reconstructions, checkpoints, and at the end `ivqvae.safetensors`.

Two columns of the log are about the codebook: `use`, the share of the codes that were chosen lately, and `perplexity`, the number of codes that would be used alike. With 16,384 codes and 512 vectors a step, as at 256×256, a code chosen as often as the average has its turn once in 32 steps, so a rule that calls a code dead after a fixed number of steps is too hasty or too late. "Lately" is here as many steps as give the average code five choices; a code that none chose in them is dead and takes the place of a vector of the batch. Section 11 shows it at work on all 16,384.

LPIPS, the perceptual loss of the other presets, needs the package `lpips` and fetches the weights of VGG16 once, 528 MB; without network or package stage 1 says so before it begins, and `--perceptual none` does without.

On the command line:

```
python -m minigen train-ivqvae --preset fast --data data/celebahq256 --out runs/ivqvae
```
"""

# %% tags=["nbval-ignore-output"]
one = make_config(Stage1, data=data, out=str(runs / "ivqvae"), **setup["one"])
begun = (runs / "ivqvae" / "config.json").exists()
autoencoder = train_stage1(one, resume=begun)

# %% tags=["nbval-ignore-output"]
def losses_of(folder):
    with open(Path(folder) / "losses.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    return {k: [float(r[k]) for r in rows] for k in rows[0]}


log = losses_of(one.out)
shown = {k: log[k] for k in ("l1", "perceptual", "vq", "discriminator")}
fig, axes = panels(1, 2)
curves(shown, x=log["step"], ax=axes[0, 0])
curves({"codes in use": log["use"]}, x=log["step"], ylabel="share", ax=axes[0, 1])
show(fig, """Left: the losses of stage 1 over the steps: L1 and the perceptual loss fall; the
     discriminator's appears at its start step. Right: the share of the codes that were chosen
     in the last steps, soon nearly all.""")
codes = presets.network("IVQVAE", preset)["num_codes"]
print(f"at the end {log['use'][-1]:.0%} of {codes:,} codes in use, "
      f"perplexity {log['perplexity'][-1]:.0f}")
print(sorted(p.name.split(".")[0] + p.suffix for p in Path(one.out).iterdir()))
assert scale == "full" or log["l1"][-1] < log["l1"][0]

# %% [markdown]
r"""
## 4. Stage 2

*10 minutes.*

Encode every image once, **and its mirror image**: the latent of a mirrored face is not the mirrored latent, because nothing made the encoder symmetric. For 30,000 images that is 15 MB, so it stays on the GPU and no data loader is needed. The file carries the autoencoder's fingerprint.

```
python -m minigen encode data/celebahq256 --autoencoder runs/ivqvae/ivqvae.safetensors --out runs/latents.safetensors
python -m minigen train-fftd --preset fast --latents runs/latents.safetensors --autoencoder runs/ivqvae/ivqvae.safetensors --out runs/fftd
```
"""

# %% tags=["nbval-ignore-output"]
stored = encode_images(data, autoencoder, runs / "latents.safetensors")
two = make_config(Stage2, latents=str(stored), out=str(runs / "fftd"), **setup["two"])
begun = (runs / "fftd" / "config.json").exists()
denoiser = train_stage2(two, autoencoder, resume=begun)
log = losses_of(two.out)
show(curves({"loss": log["loss"]}, x=log["step"], ylabel="mean squared error"), """The loss
     of stage 2 over the steps: from 1 it falls quickly, then slowly.""")
assert scale == "full" or log["loss"][-1] < 0.8 * log["loss"][0]

# %% tags=["nbval-ignore-output"]
samplers = {"here": drawing.Sampler(denoiser, autoencoder, steps=setup["ddim"])}
if scale == "small":                               # the longer-trained models draw 32 pixels
    samplers["longer"] = longer
rows = torch.cat([from_uint8(sampler(0, 8)) for sampler in samplers.values()])
show(image_grid(rows, columns=8, row_titles=list(samplers)), """Eight images each: from the
     models just trained, faces as through frosted glass, with hair and shirts to be made out
     and a dark bar where eyes are; from the longer-trained ones, sharp faces.""")

# %% [markdown]
r"""
The upper row is a minute's work for both stages together, the lower row an hour and a half's. At full scale the same cells take days.

## 5. Kill it

*15 minutes.*

A checkpoint must be whole or absent. So it is written under a temporary name in the same folder, flushed to the disk, and only then renamed; a rename happens or does not. Its name holds the first half of its own digest: a file that was torn by a crash, or changed, does not match its name, is refused, and the one before it is used.

### Exercise 8.5 · `to_delete` · ★ · 4 minutes

The last `keep` checkpoints stay. Given the steps for which there is one, in any order, which are to be deleted?

<details><summary>Hint</summary>

Sort; then all but the last `keep`. Mind that `steps[:-0]` is empty; `keep` is at least 1 here.

</details>
"""

# %%
def to_delete(steps, keep):
    """A sorted list of the steps whose checkpoints go."""
    ### BEGIN SOLUTION
    return sorted(steps)[:-keep]
    ### END SOLUTION

# %% points=1
check(to_delete)

# %% [markdown]
r"""
Now a small stage 1, ten steps. Once as a whole. Once stopped after five steps, with a fresh task, as after a crash; and because crashes are not polite, we also tear the newest checkpoint in half.
"""

# %%
crash = Path(tempfile.mkdtemp())         # not in `runs`, where it would lie a second time


def ten_steps(name, steps, resume=False):
    config = make_config(
        Stage1, data="toyfaces:64", out=str(crash / name), steps=steps, batch_size=4,
        discriminator_start=4, init_images=32, decay=False, save_every=2, log_every=1,
        perceptual="none", device="cpu",
    )
    train_stage1(config, resume=resume, progress=False)


ten_steps("whole", 10)
ten_steps("stopped", 5)
newest = checkpoints.found(crash / "stopped")[-1][1]
newest.write_bytes(newest.read_bytes()[:1000])                    # torn
try:
    ten_steps("stopped", 10)
except minigen.DataError as e:
    print("without --resume:", str(e).split("' ")[1])

# %% tags=["nbval-ignore-output"]
with contextlib.redirect_stdout(io.StringIO()) as said:
    ten_steps("stopped", 10, resume=True)
print(textwrap.fill(said.getvalue(), 90))

# %%
whole, stopped = (checkpoints.latest(crash / name, "ivqvae") for name in ("whole", "stopped"))
same = [torch.equal(whole[part][name], stopped[part][name])
        for part in ("model", "judge", "average") for name in whole[part]]
print(f"{sum(same)} of {len(same)} tensors equal bit for bit, "
      "codebook and running average among them")
assert all(same)

# %% [markdown]
r"""
The torn file was refused by name, the checkpoint of step 4 used instead, and the end is the same to the last bit. The tests of `minigen` do the same for stage 2, for encoding and for sampling, kill processes at random moments (`kill -9`), and run two processes side by side. (It holds on a CPU with the same number of threads and of processes. With other numbers, and on a GPU, sums are added in another order, and "bit for bit" becomes "as close as two runs are".)

Other things the engine does: Ctrl-C and the system's polite request to stop save at the end of the step. A gradient that is not finite skips the step and is counted, and ten in a row stop the run and tell which images were in the batch (a latent map that is not finite stops it at once). A full disk stops it with the last checkpoint whole. Another learning rate than before is refused by name, and so is another data set under the same path, while a folder that was moved goes on. A second process in the same folder is turned away. Settings, room on the disk and the pixels' digest are checked before the first step, and a run that is refused leaves nothing behind.

**Several GPUs**: the same commands behind `torchrun --nproc_per_node=4 -m minigen train-fftd …`. **AFHQ**, with its three classes: `train-ivqvae` and `encode` with `data/afhq256`, then `sample --label 1 --scale 1.5`.

## 6. Images that do not depend on how they were drawn

*5 minutes.*

Fifty thousand images are drawn in parts, perhaps by several processes, perhaps in two nights. The noise of image $k$ is drawn from (seed, $k$), so image $k$ is the same in every arrangement, and a part that exists need not be drawn again.
"""

# %% tags=["nbval-ignore-output"]
def one_by_one(first_image, steps, seed):
    sampler = drawing.Sampler(weights["fftd"], weights["ivqvae"], steps=steps, seed=seed)
    return image_grid(from_uint8(sampler(first_image, first_image + 6)), columns=6)


explore(one_by_one, one_by_one(0, 20, 0), """Images 0 to 5 of seed 0, in twenty steps.""",
        first_image=(0, 5000, 0), steps=(1, 100, 20), seed=(0, 99, 0));

# %%
few = drawing.Sampler(weights["fftd"], weights["ivqvae"], steps=5)
alone, of_eight = few(7, 8)[0].int(), few(0, 8)[7].int()
print("image 7 alone is image 7 of eight:", int((alone - of_eight).abs().max()) <= 1)

# %% [markdown]
r"""
## 7. A number, with its protocol

*30 minutes.*

The paper reports **FID** (Eq. 31): chapter 0's Fréchet distance in the features of the Inception network, on 50,000 samples. The same checkpoint gets quite different values from different people, because of: the number of samples; the reference set (all 30,000? 27,000? 28,000?); how *those* were resized; which port of the network; rounding; steps, η, guidance, average or raw weights. So a value without its protocol is no result, and `minigen` prints both together:

```
python -m minigen fid --weights runs/fftd/fftd.safetensors --autoencoder runs/ivqvae/ivqvae.safetensors --data data/celebahq256 --images 50000
```

FID needs the Inception network (`torch-fidelity`, in `minigen[full]`), whose weights are fetched once; it is loaded before the first image is drawn, so that what is missing is said then and not an hour later, and nothing else is called FID. Here, with the classifier's features, by explicit choice:
"""

# %% tags=["nbval-ignore-output"]
features, measured = "toy" if scale == "small" else "inception", {}
network = evaluate.network_of(features, samplers["here"].device)    # before anything is drawn
for name, sampler in samplers.items():
    folder = runs / f"samples-{name}"
    drawing.draw_images(sampler, folder, setup["samples"], progress=False)
    protocol = dict(DDIM_steps=sampler.steps, eta=0, seed=0)
    measured[name] = evaluate.evaluate(
        parts.drawn(folder), images, features=(features, network), cache=runs / "cache",
        protocol=protocol,
    )
    print(f"{name}:\n{measured[name]['line']}\n")
assert scale == "full" or measured["longer"]["distance"] < measured["here"]["distance"]

# %% [markdown]
r"""
FID's expectation falls with the number of samples, so a value of 5,000 cannot stand beside one of 50,000. **KID** (Bińkowski et al. 2018) has no such bias: the average of a kernel $k(x, y) = (x \cdot y / D + 1)^3$ within the samples, plus within the data, minus twice between them.

### Exercise 8.6 · `kid` · ★★★ · 10 minutes

Write it, without the pairs of an image with itself.

<details><summary>Hint</summary>

A matrix of all pairs, `(a @ a.T / D + 1) ** 3`; take its diagonal out of the sum; divide by $n (n - 1)$.

</details>
"""

# %%
def kid(a, b):
    """Unbiased squared MMD. Shapes: (N, D), (M, D) -> a number."""
    ### BEGIN SOLUTION
    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x):
        pairs, n = kernel(x, x), len(x)
        return (pairs.sum() - pairs.trace()) / (n * (n - 1))

    return within(a) + within(b) - 2 * kernel(a, b).mean()
    ### END SOLUTION

# %% points=3
check(kid)

# %% [markdown]
r"""
A kernel distance is around 0, on either side of it, where both sides are of one distribution. Its unit is that of the features, so the classifier's are first divided by their root mean square.

**Precision** is the share of the samples that lie near a real image, **recall** the share of the real images that have a sample near them; near is, for each image, as far as the third nearest of its own kind. So a model that repeats a few good faces has precision and no recall. One reads that blurry models lack precision. Above, the model just trained has frosted faces, high precision and low recall: what do these features say of blur? Real faces that the reference does not hold, 100 as above, tell:
"""

# %% tags=["nbval-ignore-output"]
drawn, toy = Images("toyfaces:4096", 32), evaluate.network_of("toy")
fresh = to_uint8(ToyFaces(500, size=32, seed=2).images())
coarse = F.interpolate(fresh[:100].float(), 8, mode="area")
blurred = F.interpolate(coarse, 32, mode="bilinear").round().to(torch.uint8)


def against_faces(x):
    return evaluate.evaluate(x, drawn, features=("toy", toy), cache=runs / "cache")


sets = {"unseen real faces": fresh[:100], "the same, blurred": blurred,
        "ten of them, ten times": fresh[:10].repeat(10, 1, 1, 1)}
print(f"{'100 of each':<24}{'precision':>10}{'recall':>8}{'kernel':>9}{'Fréchet':>9}")
for name, x in sets.items():
    v = against_faces(x)
    print(f"{name:<24}{v['precision']:>10.2f}{v['recall']:>8.2f}{v['kid']:>9.3f}"
          f"{v['distance']:>9.0f}")

# %% [markdown]
r"""
Blur costs a little precision and nearly all recall. The distances behind it (medians): a blurred face has its nearest real one at 40, a sharp one at 36, and real faces reach 43, to their third neighbour among 4,096; so blurred faces still pass as near. But they lie close together, third neighbours at 45 instead of 64, and real faces have the nearest of them at 63: out of reach. A classifier of attributes was not made to see sharpness; to it, blurred faces are much alike. So here low recall need not mean that kinds of faces are missing, as it does in the last row, ten faces without fault. The rule to take along: precision and recall speak of a network's features, and one learns their language on images whose fault one knows. (What Inception's features make of blur was not tried here.)

The second thing to learn from the table is in its first row. Real faces, and yet a Fréchet distance of more than 200! A hundred samples for 64 features are too few for a covariance, and what is missing counts as distance. How much, as the number grows?
"""

# %% tags=["nbval-ignore-output"]
pool, counts = longer(0, 500), [100, 200, 500]
lines = {"unseen real faces": [against_faces(fresh[:n])["distance"] for n in counts],
         "longer-trained model": [against_faces(pool[:n])["distance"] for n in counts]}
fig = curves(lines, x=counts, xlabel="number of samples", ylabel="toy Fréchet distance")
ax = fig.axes[0]
table = {r["model"]: r["frechet"] for r in results()}
for model in ("real faces (fresh)", "IVQ-VAE + FFTD, v, 100 steps"):
    ax.plot(2000, table[model], "kx", ms=6, label="results table")
ax.set(xscale="log", yscale="log")
ax.set_xticks([*counts, 2000], [*counts, 2000])
ax.set_yticks([15, 30, 60, 120, 240], [15, 30, 60, 120, 240])
ax.minorticks_off()
legend(ax)
show(fig, """Toy Fréchet distance over the number of samples, both axes logarithmic. The
     lines fall alike, the real faces' from 229 at 100 samples to 50 at 500, the model's above
     it from 257 to 66; the results table's values at 2,000, 13.9 and 19.2, lie further down
     the same slope.""")
print({name: [round(v, 1) for v in values] for name, values in lines.items()})

# %% [markdown]
r"""
So the 257 above and the 19.21 of the results table are one model, measured with 100 and with 2,000 samples (the table's reference is another ten thousand faces, and its samples took 100 steps). Of the former nearly all is the small number: real faces have 229. Compare values of equal numbers only; KID's expectation is free of that, its spread is not.

### Steps against quality

The paper's Table 3 with one network throughout (measured beforehand, chapter 7):
"""

# %% tags=["nbval-ignore-output"]
cells, counts = reproduce.read("table3"), [5, 10, 20, 50, 100, 500]
table3 = {(c["row"], c["seed"]): c for c in cells}
labels = {"frechet": "toy Fréchet distance", "ms": "milliseconds an image"}
fig, axes = panels(1, 2)
for ax, (column, label) in zip(axes.flat, labels.items(), strict=True):
    lines = {f"seed {seed}": [table3[f"DDIM {n}", seed][column] for n in counts]
             for seed in range(3)}
    curves(lines, x=counts, xlabel="DDIM steps", ylabel=label, ax=ax)
    ax.set_xscale("log")
    ax.set_xticks(counts, counts)
legend(fig)
show(fig, """Left: toy Fréchet distance over DDIM steps, three seeds: it falls from 5 to about
     20 steps and then stays. Right: milliseconds an image, which grow a little more slowly than
     the steps at first, then in proportion.""")

# %% [markdown]
r"""
### Failures

The paper shows its own (Fig. 8): torn backgrounds. Ours, found by asking the classifier where it is least sure of anything:
"""

# %% tags=["nbval-ignore-output"]
found, attributes = from_uint8(pool), ("background", "skin", "hair", "shirt", "smile")
sure = [attribute_probabilities(found, name).amax(1) for name in attributes]
worst = torch.stack(sure).amin(0).argsort()[:16]
show(image_grid(found[worst], columns=8), """The sixteen of five hundred samples of which the
     classifier is least sure: some mouths and glasses are undecided; most look whole.""")

# %% [markdown]
r"""
## 8. Copies, and the people in the pictures

*20 minutes.*

A distance to the training images rewards those who copy them: a folder of the training set itself would have the best FID. So one looks at the nearest neighbours, and one measures. Below, two images are as far apart as the root mean square of the differences of their pixels, in grey levels of 255, at 32×32; a training image counts in both directions, since training mirrors.

What would be the *best* network for so and so many images? Chapter 5 found it: the guess that makes the loss smallest is the mean of the training images, weighted by how well each explains the noisy one (`ideal_x0`). It needs no training, so we can draw with it at once. Let sixteen drawn faces be all the data there are:
"""

# %% tags=["nbval-ignore-output"]
def apart(a, b):
    """Distances in grey levels. Shapes: uint8 (N, 3, S, S), (M, 3, S, S) -> (N, M)."""
    a, b = (F.interpolate(x.float(), 32, mode="area").flatten(1) for x in (a, b))
    return torch.cdist(a, b) / a.shape[1] ** 0.5


coder = load_weights(IVQVAE, "ivqvae")
sixteen = Images("toyfaces:16", 32)(torch.arange(16))
shown = torch.cat([sixteen, sixteen.flip(-1)])            # what a training on them would see
kept = latents.encode(coder, shown).z.flatten(1)          # (32, 64)
process = ddpm.diffusion_of(longer.model)


def best_network(z, t, y=None):
    """The guess of z_0 with the smallest loss, when these sixteen faces are the data."""
    a = process.alpha_bar[t[0]].float()
    far = torch.cdist(z.flatten(1), a.sqrt() * kept).square()
    return ((-far / (2 * (1 - a))).softmax(1) @ kept).view_as(z)


noise = torch.randn(64, 4, 4, 4, generator=torch.Generator().manual_seed(0))
z = ddpm.last(ddim.ddim_sample(best_network, process, noise, steps=20, prediction="x0"))
copied, shown = to_uint8(latents.decode(coder, z)), to_uint8(shown)

# %% tags=["nbval-ignore-output"]
def nearest_figure(samples, near, caption):
    """Eight samples above the training images that are nearest to them, floats in [-1, 1]."""
    both = torch.cat([from_uint8(samples[:8]), near])
    show(image_grid(both, columns=8, row_titles=["sample", "nearest"]), caption)


for samples, caption in (
    (copied, """Eight samples of the best network for sixteen faces, and below each the
     training image, as it is or mirrored, that is nearest in pixels: the same face, a little
     softer."""),
    (pool, """Eight samples of the longer-trained model, which learned from 50,000 faces, and
     the nearest of the sixteen: other faces."""),
):
    nearest_figure(samples, from_uint8(shown[apart(samples[:8], shown).argmin(1)]), caption)

# %% tags=["nbval-ignore-output"]
between = apart(shown[:16], shown)
between[:, :16].fill_diagonal_(float("inf"))              # not itself
between[:, 16:].fill_diagonal_(float("inf"))              # nor its mirror image
decoded = to_uint8(coder.decode_indices(coder.encode_indices(from_uint8(shown))))
groups = {
    "reconstructions of the sixteen": apart(decoded, shown).diag(),
    "samples of the best network": apart(copied, shown).amin(1),
    "samples of the longer-trained model": apart(pool[:64], shown).amin(1),
    "unseen real faces": apart(fresh[:64], shown).amin(1),
    "the sixteen, from each other": between.amin(1),
}
fig, axes = panels(1, 1, height=2.0)
for k, d in enumerate(groups.values()):
    axes[0, 0].plot(d, [-k] * len(d), "o", ms=4, alpha=0.4, color=COLOURS[k])
axes[0, 0].set_yticks([-k for k in range(len(groups))], list(groups))
axes[0, 0].set_xlabel("grey levels to the nearest of sixteen training images", fontsize=9)
show(fig, """Distances to the nearest of sixteen training images, a dot an image.
     Reconstructions and samples of the best network lie at 5 to 14 grey levels; samples of the
     longer-trained model, unseen faces, and the sixteen among themselves at 26 to 64, with
     nothing between.""")
print("medians:")
for name, d in groups.items():
    print(f"  {name:<38}{float(d.median()):>5.1f}")

# %% [markdown]
r"""
The best network is a machine for copies: its samples are as near to a training image as the images' own reconstructions (median 7.8 and 7.7 grey levels). So the training loss has its minimum at copying; how near a network comes depends on its size, its training and the number of images. What keeps the longer-trained model from it is that 50,000 faces at 8,000 steps cannot be learned by heart, and that smooth networks fill in between them; its samples lie as far from the sixteen (45.6) as faces do that nothing has trained on (45.8). That says only that these sixteen are not copied: whether any other of the 50,000 is, we have not measured.

So much for cartoons. **With photographs the copy is a person.** Carlini et al. (2023) drew from diffusion models and found training images among the samples, nearly as they were: about a hundred in Stable Diffusion, photographs of individual people among them, and more than a thousand in small models that they had trained on CIFAR-10. Images that stand in the data many times come out most easily. Somepalli et al. (2023) found copies, of whole images and of parts, too. For you that means: a model that was trained on people's photographs may hand them out again, so it deserves the care that the photographs deserve. Ask before you train on people; keep duplicates out; do not publish weights that only learned from a few; and look at the neighbours before you show a sample.

### Your own photographs

Train both stages on a folder of yours and look whether it learned by heart. A folder of a few dozen pictures is enough for that, and too little for anything else:

```
python -m minigen prepare PHOTOS --size 64 --out data/mine
python -m minigen train-ivqvae --data data/mine --size 64 --perceptual none --init-images 28 --steps 800 --batch-size 8 --lr 3e-3 --ema 0.98 --out runs/mine1
python -m minigen encode data/mine --autoencoder runs/mine1/ivqvae.safetensors --out runs/mine.safetensors
python -m minigen train-fftd --latents runs/mine.safetensors --autoencoder runs/mine1/ivqvae.safetensors --no-labels --prediction v --schedule cosine --batch-size 28 --steps 500 --lr 2e-3 --ema 0.98 --out runs/mine2
```

On 28 portraits of CelebA-HQ that took four minutes of processor time, and we measured, once (medians, in grey levels; the photographs are not here, so neither is the record): a photograph is 58 from the next one, its own reconstruction from 64 tokens 21, a sample 51 from the nearest photograph. So this run had not learned them by heart (nor much else: what one saw were heads as through rain, nobody in particular). The best network for the same 28, computed as above, draws at 20: each sample is the reconstruction of somebody's photograph. That is where the loss has its minimum; how near yours has come, the cell below measures.

Put your folder's name below for the same figure and numbers. (At full scale the cell shows the run of this notebook and its photographs.)
"""

# %% tags=["nbval-ignore-output"]
own = {"data": "", "autoencoder": "runs/mine1/ivqvae.safetensors",
       "weights": "runs/mine2/fftd.safetensors"}          # data: "data/mine", say
if scale == "full":
    own = {"data": data, "autoencoder": autoencoder, "weights": denoiser}
if own["data"]:
    sampler = drawing.Sampler(own["weights"], own["autoencoder"], steps=50)
    theirs = Images(own["data"], sampler.decoder.config["size"])
    n, mine = len(theirs), sampler(0, 64)
    small = torch.cat([to_uint8(F.interpolate(theirs(i), 32, mode="area"))
                       for i in torch.arange(n).split(64)])
    small = torch.cat([small, small.flip(-1)])
    far = apart(mine, small)
    index = far[:8].argmin(1)
    nearest_figure(mine, theirs(index % n, index >= n), "Eight samples, and below each the "
                   "training image nearest in pixels, as it is or mirrored.")
    print("samples, nearest, median and farthest:",
          far.amin(1).quantile(torch.tensor([0, 0.5, 1])).round(decimals=1).tolist())
    among = apart(small[:n][:500], small)
    for half in among.split(n, 1):
        half.fill_diagonal_(float("inf"))                 # neither itself nor its mirror image
    print("training images among themselves, median:", round(float(among.amin(1).median()), 1))
else:
    print("no folder named, so there is no figure of photographs here")

# %% [markdown]
r"""
## 9. Reading the paper as a reviewer

*15 minutes.*

Sixteen tokens of a codebook with 16,384 entries: how much is that?

### Exercise 8.7 · `image_bits` · ★ · 3 minutes

How many bits does an image of `tokens` tokens from `codes` codes take?

<details><summary>Hint</summary>

$\log_2$ of the number of different token sequences.

</details>
"""

# %%
def image_bits(tokens, codes):
    """A number of bits."""
    ### BEGIN SOLUTION
    return tokens * math.log2(codes)
    ### END SOLUTION

# %% points=1
check(image_bits)

# %%
budgets = {
    "this paper, 4×4 of 16384": 16 * 14,
    "TiTok, 32 of 4096": 32 * 12,
    "VQGAN f16, 256 of 16384": 256 * 14,
    "a small JPEG, 10 kB": 80_000,
}
fig, axes = panels(1, 1, height=1.8)
axes[0, 0].barh(list(budgets), list(budgets.values()), color=COLOURS[:4])
axes[0, 0].set_xscale("log")
axes[0, 0].set_xlabel("bits an image", fontsize=9)
show(fig, """Bits an image on a log scale: this paper 224, TiTok 384, VQGAN 3584, a small JPEG
     80,000.""")

# %% [markdown]
r"""
A good reader believes nothing and is friendly about it. Questions to this paper, and what the course found:

| the paper says | the question | what we saw |
|---|---|---|
| more compression reconstructs *better* (Table 1) | rate and distortion say the opposite, at equal training | at small scale the opposite, for every seed (chapter 4) |
| reconstructions at f = 64 have rFID 18.93; samples through the same decoder reach FID 9.64 | how can samples be closer to the data than what the decoder makes of the data itself? | ours: reconstructions 12.2, samples 23.4 from the paper's network, 19.2 from the course's, as it should be (chapters 4 and 7) |
| 224 bits an image | what can survive? Hair and pose, not a person's identity | 144 bits for a drawn face are enough: it has few attributes |
| DDPM with 1000 steps as a row of Table 3 | its value is that of Table 4's *pixel-space* baseline: another network | one network: chapter 7's Table 3 |
| "add" fusion 64.96 (Table 9) | the same value is Table 8's *neither*: multi-resolution is missing too | with two levels in all rows "adaptive" and "concat" cannot be told apart, and "add" is hardly worse (chapter 7) |
| what each part of IVQ-VAE is worth (Table 7) | the rows are FIDs of *generated* images | reconstructions, measured by themselves (chapter 4) |
| 851, 1140, 1431, 4026 ms for 50, 100, 200, 500 steps (Table 3) | 5.8, 2.9, 8.7 ms for each further step: no fixed cost explains that | 0.42 to 0.47 ms of processor time for each further step, and one or two ms whatever the number (above, right) |
| batch size 1, 57 hours | is most of that waiting? The GPU is started for sixteen tokens at a time | `python -m minigen bench`: on a CPU already, a batch of 256 trains ten to twenty times as many images a second as batch 1 |

None of this says that the method is bad. Its ideas hold up here: multi-resolution and adaptive fusion are each a large gain by themselves, and together hardly more than the larger of the two (chapter 7), and the paper's network (23.4) is ahead of every other family here, the course's variant of it (19.2) ahead of that. It says which sentences of a paper its evidence carries, and which not yet.

## 10. On a GPU: photographs, from an empty notebook

*15 minutes to read; then an evening, or days.*

What the paper does, and what we would do, are two things; so there are presets for both, one for a free GPU, and `small`, what the commands do on a laptop (this page shortens it further, in its third cell). Every field in which one of them differs from the paper stands here with its reason, and nothing else differs:
"""

# %%
print(presets.table())

# %% [markdown]
r"""
### How long, on what?

Before a training of hours one counts. The function below builds the networks of a preset without their numbers, lets PyTorch count the operations of a training step, and adds up bytes. So the work is exact (but for element-wise operations), the bytes on disk as well; the memory of the activations is an estimate; and the hours are the work divided by a *share of the peak* of a GPU's data sheet. What share a training reaches nobody knows beforehand: convolutions reach more than sixteen tokens do, a batch of 1 next to nothing. `make gpu` measures it in ten minutes, in Colab `!python -m minigen bench --preset colab` the images a second alone.
"""

# %% tags=["nbval-ignore-output"]
chosen = "colab" if scale == "small" else preset
print(plan(chosen))

# %% [markdown]
r"""
`python -m minigen plan --preset fast` and `--preset paper` tell the same of the others, with `--images` and `--share` as you have them: at the same 15 %, `fast` takes 18 hours on an A100 and 6 on an H100, `paper` 283 and 82 (it is float32, and the plan counts no TF32). Three things are worth reading there. One: at 256×256 stage 1 is nearly all of the work, and stage 2, the one that the paper is about, is nearly free: the plan has 0.15 hours for the paper's own card, the paper tells of 57, with a batch of 1 (which is likely much of the rest: on a processor it costs a factor of ten to twenty, section 9's last row; on a GPU we have not measured it). Two: LPIPS and the discriminator add 30 % to the autoencoder's own work there, and more where it is smaller. Three: where a batch does not fit into a card's memory, `--accumulate N` cuts it into $N$ parts, exercise 8.3. `python -m minigen bench` measures your machine, beside the same work done with diffusers.

What a session in Colab keeps must lie on a mounted Drive; what it loses is what came after the last checkpoint. Both follow from the plan:
"""

# %% tags=["nbval-ignore-output"]
p, t4 = plan(chosen), GPUS[0]
disk, hours = p.disk(), p.hours(t4)
kept_there = {k: v for k, v in disk.items() if not k.endswith("samples")}
many = 5_000 if chosen == "colab" else setup["samples"]                  # section 7 draws
kept_there["samples"] = many * 3 * presets.SIZES[chosen] ** 2
print("on Drive, in GB:")
for name, size_of_it in (kept_there | {"in all": sum(kept_there.values())}).items():
    print(f"  {name:<24}{size_of_it / 1e9:>6.2f}")
for k, (stage, config) in enumerate({"stage 1": p.one, "stage 2": p.two}.items()):
    minutes = 60 * hours[stage] * config.save_every / config.steps if hours else math.nan
    gone = (config.steps // config.save_every - config.keep) * p.checkpoints[k] / 1e9
    print(f"{stage}: a disconnect costs at most {config.save_every:,} of {config.steps:,} "
          f"steps, about {minutes:.0f} minutes on a {t4.name};")
    print(f"         in all {gone:.1f} GB of older checkpoints are deleted on the way")

# %% [markdown]
r"""
### In Colab, cell by cell

*Neither Colab nor a GPU was at hand, nor the downloads of cell 3, nor a mounted Drive with its renaming and locking, so these cells are written and not tried*; the commands of minigen in them were run on a processor with few images. Open this chapter in Colab (the link at its top), save a copy (*File → Save a copy in Drive*; what is opened from GitHub is not kept), choose a GPU (*Runtime → Change runtime type*), and put these cells **above the first**; minigen reads the settings when it is imported, so they come before everything else.

**1.** Which GPU is it? A T4 is what is free; the hours above are by name.

```
!nvidia-smi -L
```

**2.** Drive, where results outlive the session. It asks for your permission.

```
from google.colab import drive
drive.mount("/content/drive")
```

**3.** The course, LPIPS and FID's network, without a new torch: `--no-deps` leaves Colab's torch, torchvision and numpy as they are, and the two packages need nothing else that Colab lacks. Their weights come later, once a session: VGG16 for LPIPS, 528 MB, when stage 1 begins; Inception, 91 MB, when FID does.

```
%pip install -q --no-deps "git+{{repository}}@{{tag}}" "lpips>=0.1.4" "torch-fidelity>=0.3"
```

**4.** The settings; each line prints what it set.

```
%env MINIGEN_SCALE=full
%env MINIGEN_PRESET=colab
%env MINIGEN_DATA=/content/celebahq128
%env MINIGEN_HOME=/content/drive/MyDrive/minigen
%env MINIGEN_RUNS=/content/drive/MyDrive/minigen/runs
```

**5.** Once: the photographs, from the file you downloaded to your Drive, as a map of 128×128. It prints how many it found (30,000, else something is wrong), and costs 1.5 GB and some minutes: here a JPEG of 1024×1024 takes 14 ms of processor time, 30,000 of them seven minutes.

```
!python -m minigen prepare /content/drive/MyDrive/celeba_hq.zip --size 128 --classes none --out /content/drive/MyDrive/minigen/celebahq128
```

**6.** Every session: a copy on the session's own disk, since training reads images in random order, 32 a step, and a mounted drive is slow at that.

```
!cp -r /content/drive/MyDrive/minigen/celebahq128 /content/
```

**7.** Put the cursor into the chapter's own first cell, and *Runtime → Run cell and below*. The cells of sections 3 and 4 train; the bar tells images a second and what is left. Compare the first minutes with the plan: on a T4, 15 % of the peak are 100 images a second in stage 1, and 89 once the discriminator has started. After every thousandth step a picture `samples-….png` lies beside the checkpoints: real above, reconstructed below. If `use` in `losses.csv` stays below a half after a few thousand steps, or L1 does not fall, stop, and open an issue.

**8.** After a disconnect: cells 2, 3, 4 and 6 (not 5: it would refuse to replace the map), then 7. Both trainings, the latents and the samples go on by themselves from what lies on the Drive. If the newest checkpoint had not reached the Drive, it is the one before. Files deleted on a mounted Drive may go to its bin, which counts against the 15 GB that are free: empty it between the stages, and delete the download after cell 5.

**9.** At the end section 7 prints an FID of 5,000 samples in 100 steps (50,000 in 500 would take as long as the trainings; it cannot be compared with the paper's), section 8 the nearest neighbours. More faces:

```
!python -m minigen sample --weights /content/drive/MyDrive/minigen/runs/fftd/fftd.safetensors --autoencoder /content/drive/MyDrive/minigen/runs/ivqvae/ivqvae.safetensors --images 64 --steps 100 --out /content/drive/MyDrive/minigen/faces.png
```

**With one large GPU of your own**: in the clone's folder `.venv/bin/pip install torch-fidelity` (after `make install`), `prepare` as in section 1, and then, with whole paths, since notebooks run in a folder of their own,

```
export MINIGEN_SCALE=full MINIGEN_PRESET=fast MINIGEN_DATA=$PWD/data/celebahq256 MINIGEN_RUNS=$PWD/runs
make lab
```

or use the commands of sections 1, 3, 4 and 7 as they stand, from that folder. `MINIGEN_PRESET=paper` is the paper's own run, four million steps of one image in each stage: begin with `python -m minigen plan --preset paper` and decide then.

## 11. The rehearsal

*10 minutes.*

Before anyone gives an evening to it: does the preset `colab` work at its own size? Here are both stages at 128×128, with 8.9 and 14.9 million weights and all 16,384 codes, on *one thread of a processor*. That changes much: it learned from 512 drawn faces and not from photographs; in float32; without LPIPS, whose weights were not at hand; in stage 2 at twice the preset's rate; and for a tiny part of the time, 500 steps of 8 images in stage 1 (of 40,000 of 32: a 320th of the images), about forty minutes, and 800 steps of 16 latents of the first 128 faces in stage 2 (of 45,000 of 256: a 900th), about six. Commands, versions and pictures in full size are in [data/rehearsal]({{repository}}/blob/{{tag}}/data/rehearsal/README.md); nothing below was run by this page.
"""

# %% tags=["nbval-ignore-output"]
first, second = (losses_of(data_path("rehearsal", stage)) for stage in ("stage1", "stage2"))
fig, axes = panels(1, 3)
curves({k: first[k] for k in ("l1", "discriminator")}, x=first["step"], ax=axes[0, 0])
curves({"codes in use": first["use"]}, x=first["step"], ylabel="share", ax=axes[0, 1])
axes[0, 1].set_ylim(0, 1)
curves({"stage 2": second["loss"]}, x=second["step"], ylabel="loss of v", ax=axes[0, 2])
show(fig, """Left: stage 1's L1 falls from 0.34 to 0.18, unevenly; the discriminator's loss
     appears at step 250. Middle: the share of 16,384 codes in use creeps to a half by step
     160, then rises to over 0.9. Right: stage 2's loss falls from 0.96 to about 0.3 in 800
     steps, unevenly.""")
print(f"after {first['step'][-1]:.0f} steps {1 - first['use'][-1]:.1%} of 16,384 codes dead, "
      f"perplexity {first['perplexity'][-1]:,.0f}")

# %% [markdown]
r"""
The codebook does at its real size what section 3 says. Until step 160 no code can be called dead, and the share in use creeps to a half while the encoder moves away from where k-means had put the codes. Then up to 512 of the dead a step take the places of vectors of the batch: 74 % are in use at step 200, 93 % at 400. At the end 8.9 % are dead, and the perplexity is 11,320 of 16,384. What photographs do with the codes nobody has seen here; the column `use` of their log tells.

The pictures are the beginning of a training and no more. L1 is 0.180 on faces it has seen and 0.182 on others: nothing is learned by heart yet, and nothing learned well. The rings appeared after the discriminator's start at step 250: the picture of step 200, which lies in the folder, is blurred and has none.
"""

# %% tags=["nbval-ignore-output"]
def tiles(name, size=128):
    """The images of a picture in which they stand a pixel apart: (N, 3, size, size)."""
    with Image.open(data_path("rehearsal", name)) as picture:
        rgb = picture.convert("RGB")
    x = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
    x = x.view(rgb.height, rgb.width, 3).movedim(2, 0)[:, 1:, 1:]
    x = x.unfold(1, size, size + 1).unfold(2, size, size + 1)         # (3, rows, columns, S, S)
    return from_uint8(x.movedim(0, 2).flatten(0, 1))


decoded_titles = ["seen", "decoded", "unseen", "decoded"]
show(image_grid(tiles("reconstructions.png"), columns=8, row_titles=decoded_titles),
     """Faces that stage 1 has seen and, below, what its 64 tokens leave of them; then the same
     of faces it has not seen, no better and no worse: place, dark or light skin and dark hair
     can be told, and whether the shirt is white; eyes and glasses are rings.""")
show(image_grid(tiles("samples.png"), columns=4, width=5.2), """Sixteen images drawn by
     stage 2 after 800 steps: heads and shoulders on plain backgrounds, long hair and short;
     where eyes and glasses belong, rings; three or four have no face.""")

# %% [markdown]
r"""
Stage 2 draws people, as far as this decoder can: compare them with the decoded rows above, whose rings they share. Its loss fell from 0.84, the mean of the first hundred steps, to 0.32 in the last, and after 120 steps there was no head to be seen yet; so it learns, at its real size. To see that nothing between network and picture stands in its way, we also put the *best network* of section 8 in its place, with the same latents, sampler and decoder: it draws the reconstructions of faces (`best.png` in the folder). What 45,000 steps on photographs make of it, a GPU has yet to show; if yours does, open an issue with its log.

## 12. Where to go from here

- **A better tokenizer.** Sixteen tokens are few. Try f = 16 (`multipliers` with five entries), and see what stage 2 then costs.
- **v-prediction, flow matching.** Replace the target in `ddpm.simple_loss`; the straight paths of rectified flow need fewer steps.
- **Text instead of labels.** Cross-attention to a text encoder where the label embedding is now.
- **Your own pictures.** A folder of a few thousand is enough for faces of one kind; raise `--dropout` to 0.1, as the paper does for small sets, and watch the nearest neighbours (section 8).

## Summary

- Data: counted, resized once, with a manifest, and what was taken for classes is said.
- Everything random is a function of (seed, step); then resuming is exact and needs no bookkeeping.
- Checkpoints: temporary name, flush, rename, digest in the name.
- Image k depends on (seed, k). A distance is printed with its protocol, or not at all; its number of samples is part of it.
- The best network for few images copies them. A model of people's photographs deserves their care.
- A paper is a claim with evidence: match each table with the sentence it is to support.
"""

# %%
print(results_table())

# %% tags=["nbval-ignore-output"]
minigen.progress()

# %% [markdown]
r"""
### Words

| English | 中文 | meaning here |
|---|---|---|
| checkpoint | 检查点 | the state of a training on disk |
| resume | 断点续训 | go on from a checkpoint |
| atomic write | 原子写入 | whole or not at all |
| distributed data parallel | 分布式数据并行 | several processes, one batch |
| gradient accumulation | 梯度累积 | a batch in parts |
| mixed precision (bf16) | 混合精度 | 16-bit products, 32-bit weights |
| FID, KID | FID, KID | distances of feature distributions |
| memorisation | 记忆（训练样本复现） | samples that are training images |
| protocol | 评测协议 | everything a value depends on |

### References

- Liu, Chen, Gao 2026, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): Algorithms 1 to 3, §4, Tables 3 to 9, Fig. 8.
- Karras, Aila, Laine, Lehtinen 2018, *Progressive Growing of GANs*, [arXiv:1710.10196](https://arxiv.org/abs/1710.10196): CelebA-HQ.
- Choi et al. 2020, *StarGAN v2*, [arXiv:1912.01865](https://arxiv.org/abs/1912.01865): AFHQ.
- Heusel et al. 2017, *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium*, [arXiv:1706.08500](https://arxiv.org/abs/1706.08500): FID.
- Bińkowski et al. 2018, *Demystifying MMD GANs*, [arXiv:1801.01401](https://arxiv.org/abs/1801.01401): KID.
- Carlini et al. 2023, *Extracting Training Data from Diffusion Models*, [arXiv:2301.13188](https://arxiv.org/abs/2301.13188).
- Somepalli et al. 2023, *Diffusion Art or Digital Forgery? Investigating Data Replication in Diffusion Models*, [arXiv:2212.03860](https://arxiv.org/abs/2212.03860).
- Kynkäänniemi et al. 2019, *Improved Precision and Recall Metric for Assessing Generative Models*, [arXiv:1904.06991](https://arxiv.org/abs/1904.06991): precision and recall.
- Parmar, Zhang, Zhu 2022, *On Aliased Resizing and Surprising Subtleties in GAN Evaluation*, [arXiv:2104.11222](https://arxiv.org/abs/2104.11222).
- Karras et al. 2024, *Analyzing and Improving the Training Dynamics of Diffusion Models* (EDM2), [arXiv:2312.02696](https://arxiv.org/abs/2312.02696): seeds from the step.
"""
