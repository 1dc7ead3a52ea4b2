"""What the cells of the reproduced tables are: a function that trains or draws, then measures.

Its arguments stand row by row.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minigen import ddim, ddpm, fftd, guidance, ivqvae, latents, metrics, ode, unet
from minigen.common import generator as seeded
from minigen.data import ATTRIBUTES, ToyFaces, batches
from minigen.files import load_weights
from minigen.paper import excursions
from minigen.paper.losses import losses_cell
from minigen.paper.pixels import origins_cell, pixels_cell
from minigen.paper.prices import DISTANCES, price_cell
from minigen.paper.table import Table
from minigen.paper.transformer import TINY, WAYS, beyond_cell, fftd_cell
from minigen.perceptual import ToyPerceptual

SMALL: dict[str, Any] = dict(size=32, width=16, attention_at=8, num_codes=512, code_dim=4)
PLAIN = SMALL | dict(multipliers=(1, 2, 4, 4))
GAINS = dict(fusion_start="norms")
# digits behind the point of a column, 1 for the others
DIGITS = {"loss": 4, "sharpness": 2}
DIGITS |= dict.fromkeys(("parameters", *WAYS, *DISTANCES), 0)
DIGITS |= dict.fromkeys(("l1", "perceptual", "hair", "smile", "both", "diversity", "colour_off",
                         "red", "clear"), 3)
DIGITS |= excursions.DIGITS


def ivqvae_cell(seed: int, steps: int, mixed: bool = True, **options: Any) -> dict[str, float]:
    """Train one autoencoder on 8,192 ToyFaces and measure it on 2,000 others."""
    torch.manual_seed(seed)
    model, perceptual = ivqvae.IVQVAE(**options), ToyPerceptual()
    discriminator = ivqvae.PatchDiscriminator(width=32, layers=2) if mixed else None
    data = batches(ToyFaces(8192, seed=0).images(), batch_size=32, seed=seed)
    for _ in ivqvae.train_ivqvae(
            model, data, steps=steps, perceptual=perceptual if mixed else None,
            discriminator=discriminator, start=int(0.7 * steps) + 1 if mixed else None, lr=2e-3):
        pass
    test = ToyFaces(2000, seed=2).images()
    codes = model.eval().encode_indices(test)
    x_hat = model.decode_indices(codes)
    pairs = zip(x_hat.split(64), test.split(64), strict=True)
    with torch.no_grad():
        distance = torch.cat([perceptual(a, b) for a, b in pairs]).mean()
    return dict(l1=float((x_hat - test).abs().mean()), perceptual=float(distance),
                frechet=metrics.toy_frechet(x_hat), codes_used=len(codes.unique()))


def _drawn(
    model: str, images: int, seed: int, steps: int, eta: float = 0.0, solver: str = "ddim",
    spacing: str = "trailing", y: Tensor | None = None,
    guided: Callable[[Any], Any] = lambda net: net,
) -> tuple[Tensor, float]:
    """Faces of a longer-trained model, as "unet" or "fftd", and the processor seconds they took.

    solver: "ddim", "heun" or "multistep". guided: what is made of the network before it is asked.
    """
    generator = seeded(seed)
    pixels = model.startswith("unet")
    net: Any = load_weights(unet.UNet if pixels else fftd.FFTD, model)
    decoder = load_weights(ivqvae.IVQVAE, "ivqvae")
    diffusion, asked = ddpm.diffusion_of(net), guided(net)
    start = time.process_time()
    shape = (3, 32, 32) if pixels else (4, 4, 4)
    noise = torch.randn(images, *shape, generator=generator)
    options: dict[str, Any] = dict(
        steps=steps, spacing=spacing, clip=(-1, 1) if pixels else None)
    if solver == "ddim":
        states = ddim.ddim_sample(
            asked, diffusion, noise, y, eta=eta, generator=generator, **options)
    else:
        second = dict(heun=ode.heun_sample, multistep=ode.multistep_sample)[solver]
        states = second(asked, diffusion, noise, y, **options)
    x = ddpm.last(states)
    x = x.clamp(-1, 1) if pixels else latents.decode(decoder, x)
    return x, time.process_time() - start


def steps_cell(
    seed: int, images: int, model: str, steps: int, eta: float = 0.0, solver: str = "ddim",
    spacing: str = "trailing",
) -> dict[str, float]:
    """Draw faces with so many steps: toy Fréchet distance, and milliseconds an image.

    The milliseconds are the processor's, which what else runs does not lengthen as it does those
    of the clock. Decoding is part of them.
    """
    x, seconds = _drawn(model, images, seed, steps, eta, solver, spacing)
    return dict(frechet=metrics.toy_frechet(x), ms=1000 * seconds / images)


def guidance_cell(seed: int, images: int, model: str, scale: float) -> dict[str, float]:
    """Ask for a hair colour and a smile at once, all 15 pairs equally often, with a guidance scale.

    Drawn in 10 steps of second order. Measured: shares in which the classifier reads the hair
    asked for, the smile, both; spread of the features within a pair; toy Fréchet distance.
    diversity: trace of the features' covariance within a pair, over the same of real faces; 1 is
    as varied as the data.
    """
    colours, smiles = len(ATTRIBUTES["hair"]), len(ATTRIBUTES["smile"])
    pairs = torch.cartesian_prod(torch.arange(colours), torch.arange(smiles))       # (15, 2)
    y = torch.arange(images) % len(pairs)
    labels = pairs + torch.tensor([0, colours])                  # smiles are told as 5, 6, 7
    x, _ = _drawn(model, images, seed, 10, solver="multistep", y=y, guided=lambda net:
                  guidance.Composed(net, net.num_classes, labels, scale))
    real = ToyFaces(2000, seed=2)

    def spread(faces, which):
        f = metrics.toy_features(faces)                                     # (N, 64)
        return sum(float(f[which == k].var(0).sum()) for k in range(len(pairs)))

    read = metrics.predict_attributes(x)
    hair, smile = (read[name] == pairs[y, k] for k, name in enumerate(("hair", "smile")))
    share = {"hair": hair, "smile": smile, "both": hair & smile}
    told = real["hair"] * smiles + real["smile"]                 # a pair's number
    diversity = spread(x, y) / spread(real.images(), told)
    return {name: float(right.float().mean()) for name, right in share.items()} | dict(
        diversity=diversity, frechet=metrics.toy_frechet(x))


COLUMNS = ("l1", "perceptual", "frechet", "codes_used")
FFTD_COLUMNS = ("frechet", "loss", "parameters")
TABLES = {
    "prices": Table(
        "What a VAE buys at three prices of a nat, and what it draws", price_cell, 2000,
        ("rate", "distortion", "used", *DISTANCES),
        {f"β = {beta:g}": dict(beta=beta) for beta in (0.03, 0.3, 3.0)}, {},
        "2,000 steps of 32 faces. rate: nats of a test face; used: of 32 dimensions. Toy Fréchet "
        "distances of 2,000 pictures: test faces redrawn, draws from N(0, I), draws from 40 "
        "Gaussians fitted to the codes. Chapter 0's Gaussian has 228."),
    "table1": Table(
        "Table 1: compression and reconstruction", ivqvae_cell, 250, COLUMNS,
        {"f = 4 (8×8 map)": SMALL | dict(multipliers=(1, 2, 4)),
         "f = 8 (4×4 map)": PLAIN,
         "f = 16 (2×2 map)": SMALL | dict(multipliers=(1, 2, 4, 4, 4))},
        {"f = 4 (8×8 map)": "f = 32: L1 .068, LPIPS .157, rFID 48.67",
         "f = 8 (4×4 map)": "f = 64: L1 .062, LPIPS .132, rFID 18.93",
         "f = 16 (2×2 map)": "f = 128: did not fit"},
        "The paper compresses 256×256 photographs, we 32×32 ToyFaces: rows stand beside each other "
        "by the size of the map.\n"
        "Its larger maps: f = 16 (16×16): L1 .075, LPIPS .183, rFID 87.36; f = 8 (32×32): L1 .082, "
        "LPIPS .215, rFID none."),
    "table7": Table(
        "Table 7: what each part of IVQ-VAE is worth", ivqvae_cell, 250, COLUMNS,
        {"none": PLAIN | dict(mixed=False, residual=False, attention_at=0),
         "attention only": PLAIN | dict(mixed=False, residual=False),
         "residual only": PLAIN | dict(mixed=False, attention_at=0),
         "mixed loss only": PLAIN | dict(residual=False, attention_at=0),
         "all but mixed loss": PLAIN | dict(mixed=False),
         "all": PLAIN},
        {"none": "no valid samples", "attention only": "FID 97.26", "residual only": "FID 68.31",
         "mixed loss only": "FID 36.57", "all": "FID 9.64"},
        "The paper's values are FIDs of images *generated* by the whole system on CelebA-HQ; ours "
        "are of reconstructions."),
    "losses": Table(
        "What each loss buys: L1, the perceptual loss as well, a judge as well", losses_cell, 1600,
        ("l1", "perceptual", "frechet", "sharpness"),
        {"L1": dict(features=False), "+ perceptual": {}, "+ judge": dict(judged=True)}, {},
        "The paper has no such table. Half the width, 1,600 steps of batch 16; the judge, with the "
        "balance and λ_d = 0.5, is there for the last 640.\n"
        "sharpness: how much neighbouring pixels differ, over the same of the real faces."),
    "table2": Table(
        "Table 2: patch size, that is, number of tokens", fftd_cell, 3000, FFTD_COLUMNS,
        {"1×1 (16 tokens)": TINY, "2×2 (4 tokens)": TINY | dict(patch=2),
         "4×4 (1 token)": TINY | dict(patch=4, levels=1)},
        {"1×1 (16 tokens)": "14.98 M, FID 9.64", "2×2 (4 tokens)": "13.73 M, FID 14.38",
         "4×4 (1 token)": "12.76 M, FID 19.85"},
        "One token cannot be halved, so the last row has one resolution."),
    "table8": Table(
        "Table 8: what fusion and multi-resolution are worth", fftd_cell, 3000, FFTD_COLUMNS,
        {"neither": TINY | dict(fusion="add", levels=1), "fusion": TINY | dict(levels=1),
         "multi-resolution": TINY | dict(fusion="add"), "both": TINY,
         "both, gains at 1": TINY | GAINS},
        {"neither": "FID 64.96", "fusion": "FID 31.37", "multi-resolution": "FID 24.52",
         "both": "FID 9.64"},
        "Without multi-resolution there is no U and no link between its sides; fusion is then only "
        "inside the blocks. Adaptive fusion starts as a plain sum, or with its norms' gains at 1."),
    "table9": Table(
        "Table 9: the kind of fusion, all with multi-resolution", fftd_cell, 3000, FFTD_COLUMNS,
        {"add": TINY | dict(fusion="add"), "concat": TINY | dict(fusion="concat"),
         "adaptive": TINY, "adaptive, gains at 1": TINY | GAINS},
        {"add": "9.54 M, FID 64.96", "concat": "11.49 M, FID 48.53",
         "adaptive": "14.98 M, FID 9.64"},
        "The paper's add row has the value of its Table 8 without multi-resolution as well; ours "
        "all have it. Adaptive fusion starts as a plain sum, or with its norms' gains at 1."),
    "beyond": Table(
        "Beyond the paper: what FFTD predicts, and the noise schedule", beyond_cell, 1200,
        tuple(WAYS),
        {"ε, linear (the paper's)": dict(prediction="eps", schedule="linear"),
         "ε, cosine": dict(prediction="eps", schedule="cosine"),
         "v, linear": dict(prediction="v", schedule="linear"),
         "v, cosine": dict(prediction="v", schedule="cosine")}, {},
        "Toy Fréchet distances of 2,000 faces, DDIM steps in the columns: one network, one "
        "training, five ways to draw. 2,000 fresh real faces have 13.9."),
    **excursions.TABLES,
    "table3": Table(
        "Table 3: sampling steps, FFTD in the latent space", steps_cell, 300, ("frechet", "ms"),
        {f"DDIM {n}": dict(model="fftd_eps", steps=n) for n in (5, 10, 20, 50, 100, 500)}
        | {"DDPM 1000": dict(model="fftd_eps", steps=1000, eta=1.0)},
        {"DDIM 50": "FID 37.98, 851 ms", "DDIM 100": "FID 16.83, 1140 ms",
         "DDIM 500": "FID 9.64, 4026 ms", "DDPM 1000": "FID 14.96, 10386 ms (its pixel U-Net)"},
        "300 images a cell. So few give a larger distance than the results table's 2,000: 300 "
        "fresh real faces have 81 ± 16. ms: the processor's milliseconds an image.",
        "images"),
    "table3_pixels": Table(
        "Table 3 in pixel space: sampling steps, U-Net", steps_cell, 300, ("frechet", "ms"),
        {f"DDIM {n}": dict(model="unet", steps=n) for n in (5, 10, 20, 50)}
        | {"DDIM 10, leading": dict(model="unet", steps=10, spacing="leading")}
        | {"DDIM 20, η = 1": dict(model="unet", steps=20, eta=1.0)}
        | {f"Heun {n} ({2 * n - 1} runs)": dict(model="unet", steps=n, solver="heun")
           for n in (3, 5, 10)}
        | {f"multistep {n}": dict(model="unet", steps=n, solver="multistep")
           for n in (5, 10, 20)},
        {"DDIM 50": "FID 37.98, 851 ms"},
        "The paper's column is of its latent model. 300 images a cell; as many fresh real faces "
        "have 81 ± 16. ms: the processor's milliseconds an image.",
        "images"),
    "guidance": Table(
        "Guidance: U-Net asked for hair and smile at once", guidance_cell, 1000,
        ("hair", "smile", "both", "diversity", "frechet"),
        {f"scale {s}": dict(model="unet", scale=s) for s in (0, 1, 2, 5)}, {},
        "The paper has no such table. 1,000 images a cell, 10 steps of second order; as many fresh "
        "real faces have a distance of 23.5 ± 1.3. By chance hair would be right in 0.200, smile "
        "in 0.333, both in 0.067.",
        "images"),
    "predictions": Table(
        "What a U-Net in pixels predicts, and on which schedule", pixels_cell, 600,
        ("frechet", "colour_off"),
        {"ε, linear": dict(prediction="eps", schedule="linear"),
         "v, linear": dict(prediction="v", schedule="linear"),
         "v, cosine": dict(prediction="v", schedule="cosine"),
         "v, cosine, details": dict(prediction="v", schedule="cosine", detail=1.0)}, {},
        "The paper has no such table. 600 steps of batch 16, without labels; 500 faces a cell, 25 "
        "DDIM steps; 500 fresh real faces have a distance of 49 ± 9.\n"
        "colour off: how far the mean red, green or blue is from the data's, on the scale from −1 "
        "to 1."),
    "origins": Table(
        "Where two U-Nets lose what: real faces noised, then drawn from there", origins_cell, 300,
        ("red", "frechet", "clear"),
        {"real faces": {}}
        | {f"{name}, {words}": dict(model=model, ratio=ratio)
           for name, model in (("ε", "unet_eps"), ("v", "unet"))
           for words, ratio in (("from 0.7 × signal", 0.7), ("from 6 × signal", 6.0),
                                ("from pure noise", None))}
        | {f"real, mixture of {name}": dict(model=model, mixture=True)
           for name, model in (("ε", "unet_eps"), ("v", "unet"))}, {},
        "The paper has no such table. 300 faces a cell; up to 50 DDIM steps. red: the mean of "
        "all red values.\n"
        "mixture: real faces, each attribute as often as it is read off those from pure noise.",
        "images"),
}
