# %% [markdown]
r"""
# Chapter 8 · CelebA-HQ, the paper end to end

Here everything meets: data as people really get it, stage 1, stage 2, samples, a measured distance. The cells are the same on a laptop and on a GPU. With `MINIGEN_SCALE=full` they train on photographs, for hours or days, as `MINIGEN_PRESET` says: `colab` (128×128 on a free GPU), `paper` (256×256 exactly as the paper writes it) or `fast` (256×256 as we would do it); at small scale they train small models on drawn faces, for a minute. Section 8 says where the presets differ, and what each costs. And since a training of days *will* be interrupted, much of this chapter is about the engine that survives it.

In this chapter you will

1. prepare data, and know what may go wrong with it;
2. build training on one rule, that everything random is a function of the seed and the step;
3. run both stages, kill one in the middle, and see it go on bit for bit;
4. draw images that do not depend on how they were drawn, and measure them with the protocol stated;
5. read the paper as a reviewer would.
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

import minigen
from minigen import check
from minigen.data import from_uint8
from minigen.engine import checkpoints, drawing, evaluate, loop, parts, presets, stages
from minigen.engine.encoding import encode_images
from minigen.engine.images import Images
from minigen.engine.plan import plan
from minigen.engine.settings import Stage1, Stage2, make_config
from minigen.engine.stage1 import train_stage1
from minigen.engine.stage2 import train_stage2
from minigen.files import data_path
from minigen.metrics import attribute_probabilities, results_table
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
stand_in = "\nCelebA-HQ is not here, drawn faces stand in for it" if scale == "small" else ""
print(f"scale: {scale}; preset: {preset}; data: {data}{stand_in}")

# %% [markdown]
r"""
Here is where it goes, at small scale and with weights that were trained for longer: sixteen faces, drawn by the same function that draws fifty thousand.
"""

# %% tags=["nbval-ignore-output"]
weights = {name: data_path("pretrained", f"{name}.safetensors") for name in ("ivqvae", "fftd")}
longer = drawing.Sampler(weights["fftd"], weights["ivqvae"], steps=50)
show(image_grid(from_uint8(longer(0, 16)), columns=8), """Sixteen faces drawn by the
     longer-trained small models: whole, sharp, varied.""")

# %% [markdown]
r"""
## 1. The data

*15 minutes.*

**CelebA-HQ** is 30,000 photographs of celebrities at 1024×1024, chosen and cleaned from CelebA by Karras et al. (2018). **AFHQ** is about 16,000 of cats, dogs and wild animals. Neither may be passed on with a course: CelebA is for non-commercial research, AFHQ is CC BY-NC 4.0. You get them yourself; `data/README.md` says where and in which forms people find them: folders of JPEG, a zip, parquet files from a hub. One command makes of any of these one memory map with a manifest:

```
python -m minigen prepare DOWNLOADED --size 256 --out data/celebahq256
python -m minigen prepare afhq.zip   --size 256 --out data/afhq256 --split train
```

What it guards against has all happened to others:

- **Names lie.** Data sets called CelebA-HQ with 202,599 rows (plain CelebA) or 270,000 exist. Count: 30,000. The manifest says how many, how large they were, and what was skipped, by name.
- **The resize kernel decides FIDs**, by several points. It is Lanczos with antialiasing unless you say otherwise, and it is written down.
- **JPEG instead of PNG** has moved an FID from 2.5 to 5.8. Take lossless sources where there are some.
- **Sorted files.** Some mirrors hold all women first. The order of training is a permutation of everything, so this does no harm; taking "the first thousand" as a test set would.
- A broken image stops nothing and is not silently replaced: it is listed.
- **Folders are not always classes.** They may be splits, or pieces of a thousand files each. The command says what it took them for, and `--classes` settles it.

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

*25 minutes.*

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
The learning rate, too, is a function of the step. The paper keeps it constant; for short trainings we let it rise over the first tenth and then fall like half a cosine.

### Exercise 8.3 · `rate_factor` · ★★ · 6 minutes

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

*15 minutes.*

`train_stage1` is chapter 4's training as a task for the engine: all losses, two optimisers, the discriminator from its start step on, the running average. It says first what room it needs on the disk and in memory, and stops at once where there is less. It writes its settings, the losses as CSV (and for TensorBoard, where that is installed), grids of reconstructions, checkpoints, and at the end `ivqvae.safetensors`.

Two columns of the log are about the codebook: `use`, the share of the codes that were chosen lately, and `perplexity`, the number of codes that would be used alike. With 16,384 codes and 512 vectors a step, as at 256×256, a code chosen as often as the average has its turn once in 32 steps; a rule that calls a code dead after a fixed number of steps is then either too hasty or, if its count starts too high, hundreds of steps late. So "lately" is here as many steps as give the average code five choices; a code that none chose in them is dead and takes the place of a vector of the batch.

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
     in the last twenty steps, soon nearly all.""")
codes = presets.network("IVQVAE", preset)["num_codes"]
print(f"at the end {log['use'][-1]:.0%} of {codes:,} codes in use, "
      f"perplexity {log['perplexity'][-1]:.0f}")
print(sorted(p.name.split(".")[0] + p.suffix for p in Path(one.out).iterdir()))
assert log["l1"][-1] < log["l1"][0]

# %% [markdown]
r"""
## 4. Stage 2

*15 minutes.*

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
show(curves({"loss": log["loss"]}, x=log["step"], ylabel="mean squared error of ε"), """The loss
     of stage 2 over the steps: from 1 it falls quickly, then slowly.""")
assert log["loss"][-1] < 0.8 * log["loss"][0]

# %% tags=["nbval-ignore-output"]
samplers = {"here": drawing.Sampler(denoiser, autoencoder, steps=setup["ddim"])}
if scale == "small":                               # the longer-trained models draw 32 pixels
    samplers["longer"] = longer
rows = torch.cat([from_uint8(sampler(0, 8)) for sampler in samplers.values()])
show(image_grid(rows, columns=8, row_titles=list(samplers)), """Eight images each: from the
     models just trained, faces as through frosted glass, with hair, glasses and shirts to be
     made out; from the longer-trained ones, sharp faces.""")

# %% [markdown]
r"""
The upper row is a minute's work for both stages together, the lower row an hour and a half's. At full scale the same cells take days.

## 5. Kill it

*20 minutes.*

A checkpoint must be whole or absent. So it is written under a temporary name in the same folder, flushed to the disk, and only then renamed; a rename happens or does not. Its name holds the first half of its own digest: a file that was torn by a crash, or changed, does not match its name, is refused, and the one before it is used.

### Exercise 8.4 · `to_delete` · ★ · 4 minutes

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
def ten_steps(name, steps, resume=False):
    config = make_config(
        Stage1, data="toyfaces:64", out=str(runs / name), steps=steps, batch_size=4,
        discriminator_start=4, init_images=32, decay=False, save_every=2, log_every=1,
        perceptual="none",
    )
    train_stage1(config, resume=resume, progress=False)


ten_steps("whole", 10)
ten_steps("stopped", 5)
newest = checkpoints.found(runs / "stopped")[-1][1]
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
whole, stopped = (checkpoints.latest(runs / name, "ivqvae") for name in ("whole", "stopped"))
same = [torch.equal(whole[part][name], stopped[part][name])
        for part in ("model", "judge", "average") for name in whole[part]]
print(f"{sum(same)} of {len(same)} tensors equal bit for bit, "
      "codebook and running average among them")
assert all(same)

# %% [markdown]
r"""
The torn file was refused by name, the checkpoint of step 4 used instead, and the end is the same to the last bit. The tests of `minigen` do the same for stage 2, for encoding and for sampling, kill processes at random moments (`kill -9`), and run two processes side by side. (It holds on a CPU with the same number of threads and of processes. With other numbers, and on a GPU, sums are added in another order, and "bit for bit" becomes "as close as two runs are".)

Other things the engine does: Ctrl-C and the system's polite request to stop save at the end of the step. A gradient that is not finite skips the step and is counted, and ten in a row stop the run and tell which images were in the batch (a latent map that is not finite stops it at once). A full disk stops it with the last checkpoint whole. Another learning rate than before is refused by name, and so is another data set under the same path, while a folder that was moved goes on. A second process in the same folder is turned away. Settings, room on the disk and the pixels' digest are checked before the first step, and a run that is refused leaves nothing behind.

**In Colab**, put the runs on your drive (`MINIGEN_RUNS=/content/drive/MyDrive/runs`); after a disconnect, run the cells again: they go on. **Several GPUs**: the same commands behind `torchrun --nproc_per_node=4 -m minigen train-fftd …`. **AFHQ**, with its three classes: `--data data/afhq256`, then `sample --label 1 --scale 1.5`.

## 6. Images that do not depend on how they were drawn

*10 minutes.*

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

*25 minutes.*

The paper reports **FID** (Eq. 31): chapter 0's Fréchet distance in the features of the Inception network, on 50,000 samples. The same checkpoint has been measured between 9 and 17 by different people, because of: the number of samples; the reference set (all 30,000? 27,000? 28,000?); how *those* were resized; which port of the network; rounding; steps, η, guidance, average or raw weights. So a value without its protocol is no result, and `minigen` prints both together:

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

### Exercise 8.5 · `kid` · ★★★ · 10 minutes

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
**Precision** asks how many samples lie near real images, **recall** how many real images have a sample near them: a blurry model lacks the first, a collapsed one the second. And since FID against the training set rewards copying, look at the nearest neighbours:
"""

# %% tags=["nbval-ignore-output"]
reference = evaluate.reference_features(images, images.digest, features, runs / "cache",
                                        network)
best = list(samplers.values())[-1](0, 8)
near = images(evaluate.nearest(best, network, reference))
pairs = torch.cat([from_uint8(best), near])
show(image_grid(pairs, columns=8, row_titles=["sample", "nearest"]),
     """Eight samples, and below each the training image nearest in the classifier's features:
     alike in background and skin, and mostly in hair and glasses, but not the same faces:
     shirts, mouths and eyes differ.""")

# %% [markdown]
r"""
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
pool, attributes = from_uint8(longer(0, 200)), ("background", "skin", "hair", "shirt", "smile")
sure = [attribute_probabilities(pool, name).amax(1) for name in attributes]
worst = torch.stack(sure).amin(0).argsort()[:16]
show(image_grid(pool[worst], columns=8), """The sixteen of two hundred samples of which the
     classifier is least sure: a pair of half-faded glasses, a shirt of two colours, undecided
     mouths; the others look whole.""")

# %% [markdown]
r"""
## 8. Reading the paper as a reviewer

*20 minutes.*

Sixteen tokens of a codebook with 16,384 entries: how much is that?

### Exercise 8.6 · `image_bits` · ★ · 3 minutes

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
| 851, 1140, 1431, 4026 ms for 50, 100, 200, 500 steps (Table 3) | 5.8, 2.9, 8.7 ms for each further step: no fixed cost explains that | 0.44 to 0.46 ms of processor time for each further step from 20 steps on, and two or three ms whatever the number (above, right) |
| batch size 1, 57 hours | most of that is waiting: the GPU is started for sixteen tokens at a time | `python -m minigen bench`: on a CPU already, a batch of 256 trains ten to twenty times as many images a second as batch 1 |

None of this says that the method is bad. Its ideas hold up here: multi-resolution and adaptive fusion are each a large gain by themselves, and together hardly more than the larger of the two (chapter 7), and the whole gives the best row of our table. It says which sentences of a paper its evidence carries, and which not yet.

### Four presets

What the paper does, and what we would do, are two things; so there are presets for both, one for a free GPU, and the small one of this page. Every field in which one of them differs from the paper stands here with its reason, and nothing else differs:
"""

# %%
print(presets.table())

# %% [markdown]
r"""
### How long, on what?

Before a training of hours one counts. The function below builds the networks of a preset without their numbers, lets PyTorch count the operations of a training step, and adds up bytes. So the work is exact (but for element-wise operations), the bytes on disk as well; the memory of the activations is an estimate; and the hours are the work divided by a *share of the peak* of a GPU's data sheet. What share a training reaches nobody knows beforehand: convolutions reach more than sixteen tokens do, a batch of 1 next to nothing. `make gpu` measures it, in ten minutes.
"""

# %% tags=["nbval-ignore-output"]
print(plan("colab" if scale == "small" else preset))

# %% [markdown]
r"""
The rest is `python -m minigen plan --preset paper`, `--preset fast`, with `--images` and `--share` as you have them. Three things are worth reading there. One: at 256×256 stage 1 is nearly all of the work, and stage 2, the one that the paper is about, is nearly free: the plan has 0.15 hours for the paper's own card, the paper tells of 57, with a batch of 1 (question 8 of the table above is the rest). Two: LPIPS and the discriminator add 30 % to the autoencoder's own work there, and more where it is smaller. Three: where a batch does not fit into a card's memory, `--accumulate N` cuts it into $N$ parts that are done in turn, with the gradient of the whole.

`python -m minigen bench` measures your machine, beside the same work done with diffusers.

## 9. Where to go from here

- **A better tokenizer.** Sixteen tokens are few. Try f = 16 (`multipliers` with five entries), and see what stage 2 then costs.
- **v-prediction, flow matching.** Replace the target in `ddpm.simple_loss`; the straight paths of rectified flow need fewer steps.
- **Text instead of labels.** Cross-attention to a text encoder where the label embedding is now.
- **Your own pictures.** A folder of a few thousand is enough for faces of one kind; raise `--dropout` to 0.1, as the paper does for small sets, and watch the nearest neighbours.

## Summary

- Data: counted, resized once, with a manifest. Nothing guessed.
- Everything random is a function of (seed, step); then resuming is exact and needs no bookkeeping.
- Checkpoints: temporary name, flush, rename, digest in the name.
- Image k depends on (seed, k). A distance is printed with its protocol, or not at all.
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
| protocol | 评测协议 | everything a value depends on |

### References

- Liu, Chen, Gao 2026, [c-s-a.org.cn](http://www.c-s-a.org.cn/1003-3254/10098.html): Algorithms 1 to 3, §4, Tables 3 to 9, Fig. 8.
- Karras, Aila, Laine, Lehtinen 2018, *Progressive Growing of GANs*, [arXiv:1710.10196](https://arxiv.org/abs/1710.10196): CelebA-HQ.
- Choi et al. 2020, *StarGAN v2*, [arXiv:1912.01865](https://arxiv.org/abs/1912.01865): AFHQ.
- Heusel et al. 2017, *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium*, [arXiv:1706.08500](https://arxiv.org/abs/1706.08500): FID.
- Bińkowski et al. 2018, *Demystifying MMD GANs*, [arXiv:1801.01401](https://arxiv.org/abs/1801.01401): KID.
- Kynkäänniemi et al. 2019, *Improved Precision and Recall Metric for Assessing Generative Models*, [arXiv:1904.06991](https://arxiv.org/abs/1904.06991): precision and recall.
- Parmar, Zhang, Zhu 2022, *On Aliased Resizing and Surprising Subtleties in GAN Evaluation*, [arXiv:2104.11222](https://arxiv.org/abs/2104.11222).
- Karras et al. 2024, *Analyzing and Improving the Training Dynamics of Diffusion Models* (EDM2), [arXiv:2312.02696](https://arxiv.org/abs/2312.02696): seeds from the step.
"""
