"""Rebuild the weights of data/pretrained from their seeds, and the results table measured with them.

    python tools/pretrain.py              # everything, in order
    python tools/pretrain.py gan cgan     # some of it

Each recipe is a function here; what it writes carries its command, seed, steps, data and measurements.
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F
from safetensors import safe_open
from tqdm import trange

from minigen import ddim, ddpm, fftd, gan, guidance, ivqvae, latents, metrics, pixelcnn, unet, vae, vqvae
from minigen.data import ATTRIBUTES, ToyFaces, batches, draw_faces
from minigen.diffusion import Diffusion
from minigen.files import data_path, load_weights, save_tensors, save_weights, sha256_of, write_text
from minigen.gaussian import GaussianModel
from minigen.perceptual import ToyPerceptual

OUT = data_path("pretrained")
TRAINING_SET = "20,000 ToyFaces 32×32, seed 0"


def classifier(steps=1800, batch_size=128, seed=0):
    """Attribute classifier on endless fresh ToyFaces."""
    torch.manual_seed(seed)
    model = metrics.AttributeClassifier()
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for step in trange(steps, desc="classifier", mininterval=2):
        faces = ToyFaces(batch_size, seed=10_000 + step)
        loss = sum(F.cross_entropy(logits, faces[name]) for name, logits in model(faces.images()).items())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    model.eval()
    test = ToyFaces(4000, seed=3)
    with torch.no_grad():
        right = (model.predict(test.images()) == test.labels).float().mean(0)
    accuracy = {name: round(float(r), 4) for name, r in zip(ATTRIBUTES, right, strict=True)}
    save_weights(OUT / "classifier.safetensors", model, steps=steps, batch_size=batch_size, seed=seed,
                 data="endless ToyFaces 32×32, seeds from 10,000", test_accuracy=accuracy)
    metrics.attribute_classifier.cache_clear()
    mean, cov = metrics.gaussian_statistics(metrics.toy_features(
        ToyFaces(metrics.N_REFERENCE, seed=metrics.REFERENCE_SEED).images()))
    save_tensors(OUT / "toy_reference.safetensors", {"mean": mean, "cov": cov})
    return accuracy


def _train_gan(name, attribute, steps, batch_size, seed, lr=1.5e-3, r1=1.0, average_decay=0.998):
    torch.manual_seed(seed)
    faces = ToyFaces(20_000, seed=0)
    data = [faces.images()] + ([faces[attribute]] if attribute else [])
    classes = len(ATTRIBUTES[attribute]) if attribute else 0
    g, d = gan.Generator(num_classes=classes), gan.Discriminator(num_classes=classes, batch_norm=False)
    average = torch.optim.swa_utils.AveragedModel(
        g, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(average_decay), use_buffers=True)
    start, bar = time.time(), trange(steps, desc=name, mininterval=2)
    data = batches(*data, batch_size=batch_size, seed=seed)
    for s in gan.train_gan(g, d, data, steps=steps, lr=lr, betas=(0.0, 0.99), r1=r1, decay=True, seed=seed):
        average.update_parameters(g)
        bar.update()
        if s.step % 500 == 0:
            bar.set_postfix(d=s.d_loss, g=s.g_loss)
        if s.step % 2000 == 0:
            y = None if attribute is None else faces[attribute][:2000]
            print(f"\n{name} step {s.step}: toy Fréchet "
                  f"{metrics.toy_frechet(gan.sample(average.module, 2000, y)):.2f}", flush=True)
    card = dict(steps=steps, batch_size=batch_size, seed=seed, data=TRAINING_SET, lr=lr, r1=r1,
                average_decay=average_decay, minutes=round((time.time() - start) / 60))
    y = faces[attribute][:2000] if attribute else None
    x = gan.sample(average.module, 2000, y, seed=1)
    card["toy_frechet"] = round(metrics.toy_frechet(x), 2)
    if attribute:
        card["obedience"] = round(metrics.obedience(x, attribute, y), 4)
    save_weights(OUT / f"{name}.safetensors", average.module, **card)
    return card


def gan_(steps=20_000, batch_size=32, seed=0):
    """DCGAN on ToyFaces; what is kept is the running average of the generator's weights."""
    return _train_gan("gan", None, steps, batch_size, seed)


def cgan(steps=10_000, batch_size=32, seed=0):
    """Conditional DCGAN on hair colour."""
    return _train_gan("cgan", "hair", steps, batch_size, seed)


def _steps(name, training, total, note=lambda s: {}):
    """Run a training to its end, with a progress bar; returns the minutes it took."""
    start, bar = time.time(), trange(total, desc=name, mininterval=2)
    for s in training:
        bar.update()
        if s.step % 500 == 0:
            bar.set_postfix(note(s))
    return round((time.time() - start) / 60)


def _rounded(model):
    """The model as it will be when it is read back from 16-bit weights: what is measured is what is kept."""
    return model.half().float().eval()


def _vae(name, attribute, steps, batch_size, seed, width, beta=0.03, lr=2e-3):
    torch.manual_seed(seed)
    faces, classes = ToyFaces(20_000, seed=0), len(ATTRIBUTES[attribute]) if attribute else 0
    model = vae.VAE(width=width, num_classes=classes)
    data = batches(faces.images(), *([faces[attribute]] if attribute else []), batch_size=batch_size, seed=seed)
    minutes = _steps(name, vae.train_vae(model, data, steps=steps, beta=beta, lr=lr, seed=seed), steps,
                     lambda s: dict(distortion=s.distortion, rate=s.rate))
    test = ToyFaces(2000, seed=2)
    labels = [test[attribute]] if attribute else []
    x_hat, samples = vae.reconstruct(_rounded(model), test.images(), *labels), vae.sample(model, 2000, *labels, seed=1)
    card = dict(steps=steps, batch_size=batch_size, seed=seed, data=TRAINING_SET, beta=beta, lr=lr, minutes=minutes,
                test_l1=round(float((x_hat - test.images()).abs().mean()), 4),
                toy_frechet=round(metrics.toy_frechet(samples), 2))
    if attribute:
        card["obedience"] = round(metrics.obedience(samples, attribute, *labels), 4)
    save_weights(OUT / f"{name}.safetensors", model, half=True, **card)
    return card


def vae_(steps=10_000, batch_size=64, seed=0):
    """VAE on ToyFaces."""
    return _vae("vae", None, steps, batch_size, seed, width=32)


def cvae(steps=6000, batch_size=64, seed=0):
    """Conditional VAE on hair colour."""
    return _vae("cvae", "hair", steps, batch_size, seed, width=24, beta=0.3)


def vqvae_(steps=12_000, batch_size=64, seed=0, lr=3e-3):
    """VQ-VAE on ToyFaces: 4×4 tokens of 512 codes."""
    torch.manual_seed(seed)
    model = vqvae.VQVAE()
    data = batches(ToyFaces(20_000, seed=0).images(), batch_size=batch_size, seed=seed)
    minutes = _steps("vqvae", vqvae.train_vqvae(model, data, steps=steps, lr=lr), steps,
                     lambda s: dict(mse=s.reconstruction, perplexity=s.perplexity))
    test = ToyFaces(2000, seed=2).images()
    codes = _rounded(model).encode_indices(test)
    x_hat = model.decode_indices(codes)
    card = dict(steps=steps, batch_size=batch_size, seed=seed, data=TRAINING_SET, lr=lr, minutes=minutes,
                test_l1=round(float((x_hat - test).abs().mean()), 4),
                toy_frechet_of_reconstructions=round(metrics.toy_frechet(x_hat), 2), codes_used=len(codes.unique()),
                perplexity=round(vqvae.perplexity(codes, model.quantizer.num_codes)))
    save_weights(OUT / "vqvae.safetensors", model, half=True, **card)
    return card


def pixelcnn_(steps=12_000, batch_size=128, seed=0, faces=100_000, lr=2e-3):
    """PixelCNN over the VQ-VAE's tokens, with and without the hair colour."""
    torch.manual_seed(seed)
    tokens, drawn = load_weights(vqvae.VQVAE, OUT / "vqvae.safetensors"), ToyFaces(faces, seed=0)
    parts = [torch.arange(i, min(i + 1000, faces)) for i in range(0, faces, 1000)]
    codes = torch.cat([tokens.encode_indices(draw_faces(drawn.labels[i], drawn.jitter[i])) for i in parts])
    model = pixelcnn.PixelCNN(tokens.quantizer.num_codes, num_classes=len(ATTRIBUTES["hair"]))
    data = batches(codes, drawn["hair"], batch_size=batch_size, seed=seed)
    minutes = _steps("pixelcnn", pixelcnn.train_pixelcnn(model, data, steps=steps, lr=lr, seed=seed), steps,
                     lambda s: dict(bits=s.bits))
    test = ToyFaces(2000, seed=2)
    with torch.no_grad():
        test_codes = tokens.encode_indices(test.images())
        bits = float(pixelcnn.bits_per_image(_rounded(model)(test_codes), test_codes))
    samples = tokens.decode_indices(pixelcnn.sample_codes(model, 2000, seed=1))
    asked = tokens.decode_indices(pixelcnn.sample_codes(model, 2000, test["hair"], seed=1))
    card = dict(steps=steps, batch_size=batch_size, seed=seed, data=f"tokens of {faces:,} ToyFaces 32×32, seed 0", lr=lr,
                minutes=minutes, test_bits=round(bits, 1), toy_frechet=round(metrics.toy_frechet(samples), 2),
                obedience=round(metrics.obedience(asked, "hair", test["hair"]), 4))
    save_weights(OUT / "pixelcnn.safetensors", model, half=True, **card)
    return card


def ivqvae_(steps=12_000, batch_size=32, seed=0, lr=2e-3):
    """IVQ-VAE, the small preset, with all its losses; the discriminator starts at 70 %."""
    torch.manual_seed(seed)
    model, judge = ivqvae.IVQVAE(**ivqvae.PRESETS["small"]), ivqvae.PatchDiscriminator(width=32, layers=2)
    perceptual, images = ToyPerceptual(), ToyFaces(20_000, seed=0).images()
    training = ivqvae.train_ivqvae(model, batches(images, batch_size=batch_size, seed=seed), steps=steps, lr=lr,
                                   perceptual=perceptual, discriminator=judge, start=max(1, int(0.7 * steps)))
    minutes = _steps("ivqvae", training, steps, lambda s: dict(l1=s.l1, perceptual=s.perceptual, d=s.discriminator))
    _rounded(model).measure_latents(images)
    _rounded(model)
    test = ToyFaces(2000, seed=2).images()
    codes = model.encode_indices(test)
    x_hat = model.decode_indices(codes)
    with torch.no_grad():
        distance = torch.cat([perceptual(a, b) for a, b in zip(x_hat.split(500), test.split(500), strict=True)]).mean()
    card = dict(steps=steps, batch_size=batch_size, seed=seed, data=TRAINING_SET, lr=lr, minutes=minutes,
                test_l1=round(float((x_hat - test).abs().mean()), 4), test_perceptual=round(float(distance), 4),
                toy_frechet_of_reconstructions=round(metrics.toy_frechet(x_hat), 2), codes_used=len(codes.unique()),
                perplexity=round(vqvae.perplexity(codes, model.quantizer.num_codes)))
    save_weights(OUT / "ivqvae.safetensors", model, half=True, **card)
    return card


def _denoiser(name, model, data, null, steps, batch_size, seed, lr, drop, decay):
    """Train a diffusion model told the hair colour except in a share `drop` of the cases; its running average, rounded."""
    dice, average = torch.Generator().manual_seed(seed), ddpm.ema(model, decay)
    dropped = ((x, guidance.drop_labels(y, null, drop, dice)) for x, y in batches(*data, batch_size=batch_size, seed=seed))
    training = ddpm.train_ddpm(model, dropped, Diffusion(), steps=steps, lr=lr, average=average, seed=seed)
    minutes = _steps(name, training, steps, lambda s: dict(loss=s.loss))
    return _rounded(average.module), dict(steps=steps, batch_size=batch_size, seed=seed, lr=lr, labels="hair", label_dropout=drop,
                                          average_decay=decay, minutes=minutes)


@torch.no_grad()
def _test_loss(model, x0):
    dice, diffusion = torch.Generator().manual_seed(1), Diffusion()
    t, eps = torch.randint(diffusion.T, (len(x0),), generator=dice), torch.randn(x0.shape, generator=dice)
    losses = [ddpm.simple_loss(model, diffusion, *part) for part in zip(x0.split(500), t.split(500), eps.split(500), strict=True)]
    return round(float(torch.stack(losses).mean()), 5)


def unet_(steps=14_000, batch_size=32, seed=0, lr=1e-3, drop=0.15, decay=0.999):
    """U-Net on ToyFaces in pixels, DDPM's noise schedule; told the hair colour except in one case of seven."""
    torch.manual_seed(seed)
    faces, classes = ToyFaces(20_000, seed=0), len(ATTRIBUTES["hair"])
    model = unet.UNet(**unet.PRESETS["small"], num_classes=classes)
    model, card = _denoiser("unet", model, (faces.images(), faces["hair"]), classes, steps, batch_size, seed, lr, drop, decay)
    card.update(data=TRAINING_SET, test_loss=_test_loss(model, ToyFaces(2000, seed=2).images()))
    save_weights(OUT / "unet.safetensors", model, half=True, **card)
    return card


def fftd_(steps=8000, batch_size=128, seed=0, lr=1e-3, drop=0.15, decay=0.999, faces=50_000):
    """FFTD, the small preset, on the IVQ-VAE's latents; told the hair colour except in one case of seven."""
    torch.manual_seed(seed)
    drawn, classes = ToyFaces(faces, seed=0), len(ATTRIBUTES["hair"])
    tokenizer = load_weights(ivqvae.IVQVAE, OUT / "ivqvae.safetensors")
    parts = [torch.arange(i, min(i + 1000, faces)) for i in range(0, faces, 1000)]
    z = torch.cat([latents.encode(tokenizer, draw_faces(drawn.labels[i], drawn.jitter[i])).z for i in parts])
    model, card = _denoiser("fftd", fftd.FFTD(**fftd.PRESETS["small"], num_classes=classes), (z, drawn["hair"]), classes, steps,
                            batch_size, seed, lr, drop, decay)
    card.update(data=f"latents of {faces:,} ToyFaces 32×32, seed 0", tokenizer=latents.fingerprint(tokenizer),
                test_loss=_test_loss(model, latents.encode(tokenizer, ToyFaces(2000, seed=2).images()).z))
    save_weights(OUT / "fftd.safetensors", model, half=True, **card)
    return card


def results():
    """The rows of the results table, measured on what lies in data/pretrained."""
    def row(model, chapter, parameters, images):
        return dict(model=model, chapter=chapter, parameters=parameters, frechet=round(metrics.toy_frechet(images), 2))

    def parameters(*models):
        return sum(p.numel() for model in models for p in model.parameters())

    n = metrics.N_SAMPLES
    gaussian, g = GaussianModel(ToyFaces(4096, seed=0).images()), load_weights(gan.Generator, "gan")
    auto, tokens, prior = (load_weights(*pair) for pair in (
        (vae.VAE, "vae"), (vqvae.VQVAE, "vqvae"), (pixelcnn.PixelCNN, "pixelcnn")))
    rows = [row("real faces (fresh)", 0, 0, ToyFaces(n, seed=21).images()),
            row("Gaussian", 0, gaussian.parameters, gaussian.sample(n)),
            row("GAN", 1, parameters(g), gan.sample(g, n, seed=7)),
            row("VAE", 2, parameters(auto), vae.sample(auto, n, seed=7)),
            row("VQ-VAE + PixelCNN", 3, parameters(tokens, prior) + tokens.quantizer.codebook.numel(),   # learned, a buffer
                tokens.decode_indices(pixelcnn.sample_codes(prior, n, seed=7)))]
    net, latent_net, tokenizer = (load_weights(*pair) for pair in (
        (unet.UNet, "unet"), (fftd.FFTD, "fftd"), (ivqvae.IVQVAE, "ivqvae")))

    def diffused(model, shape, steps, eta, clip):
        dice = torch.Generator().manual_seed(7)
        noise = torch.randn(n, *shape, generator=dice)
        return ddpm.last(ddim.ddim_sample(model, Diffusion(), noise, steps=steps, eta=eta, clip=clip, generator=dice,
                                          batch_size=64, progress=True))

    pixels, whole = (3, 32, 32), parameters(tokenizer, latent_net) + tokenizer.quantizer.codebook.numel()
    drawn = diffused(latent_net, (4, 4, 4), 100, 0.0, None)
    rows += [row("DDPM: U-Net, 100 steps", 5, parameters(net), diffused(net, pixels, 100, 1.0, (-1, 1)).clamp(-1, 1)),
             row("DDIM: U-Net, 50 steps", 6, parameters(net), diffused(net, pixels, 50, 0.0, (-1, 1)).clamp(-1, 1)),
             row("IVQ-VAE + FFTD, 100 steps", 7, whole, latents.decode(tokenizer, drawn, made_with=latent_net.card["tokenizer"]))]
    write_text(OUT / "results.json", json.dumps(rows, indent=1) + "\n")
    return rows


README = """# Pretrained weights

What longer training gives, so that every chapter can show it. All were trained on ToyFaces, so no photograph is in them.
They are safetensors files with the model's configuration and this card inside; nothing here is a pickle. Licence: CC BY 4.0.

`make pretrained` rebuilds everything from the seeds below, and this page with it (another kind of processor gives weights that
differ in the last digits, and after thousands of GAN steps visibly).

| file | class | parameters | kB | built by | trained with | measured | SHA-256 |
|---|---|---|---|---|---|---|---|
{rows}

`results.json` holds the results table: toy Fréchet distance of 2,000 samples to 10,000 ToyFaces (seed 1), in the features of
`classifier.safetensors`, whose statistics for those 10,000 are `toy_reference.safetensors`.
"""
MEASURED = ("test_accuracy", "test_l1", "test_perceptual", "test_loss", "test_bits", "toy_frechet",
            "toy_frechet_of_reconstructions", "codes_used", "perplexity", "obedience", "minutes")


def card():
    """README.md of data/pretrained, from what the files say of themselves."""
    rows = []
    for path in sorted(OUT.glob("*.safetensors")):
        with safe_open(path, "pt") as f:
            meta, count = f.metadata() or {}, sum(f.get_tensor(k).numel() for k in f.keys())  # noqa: SIM118
        told = json.loads(meta.get("card", "{}"))

        def words(entries):
            return "; ".join(f"{k.replace('_', ' ')} {v}" for k, v in entries.items()).replace("{", "").replace("}", "")

        name = path.stem if path.stem in RECIPES else "classifier"
        rows.append(f"| {path.name} | {meta.get('class', 'mean and covariance')} | {count:,} | {path.stat().st_size / 1e3:.0f} | "
                    f"`python tools/pretrain.py {name}` | {words({k: v for k, v in told.items() if k not in MEASURED})} | "
                    f"{words({k: v for k, v in told.items() if k in MEASURED})} | `{sha256_of(path)}` |")
    write_text(OUT / "README.md", README.format(rows="\n".join(rows)))
    return f"{len(rows)} files"


RECIPES = {"classifier": classifier, "gan": gan_, "cgan": cgan, "vae": vae_, "cvae": cvae, "vqvae": vqvae_, "pixelcnn": pixelcnn_,
           "ivqvae": ivqvae_, "unet": unet_, "fftd": fftd_, "results": results, "card": card}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(RECIPES)} (default: all, in this order)")
    names = parser.parse_args().names or list(RECIPES)
    if unknown := [n for n in names if n not in RECIPES]:
        parser.error(f"there is no recipe {unknown[0]}; there are {', '.join(RECIPES)}")
    for name in names:
        print(name, json.dumps(RECIPES[name](), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
