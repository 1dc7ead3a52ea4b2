"""Wrong input is answered with one sentence of ours, whatever the module."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from minigen import (
    ddim,
    ddpm,
    fftd,
    gan,
    gaussian,
    guidance,
    inputs,
    ivqvae,
    latents,
    metrics,
    perceptual,
    pixelcnn,
    plots,
    unet,
    vae,
    vlb,
    vqvae,
    widgets,
)
from minigen.data import (
    ToyFaces,
    batches,
    count_modes,
    draw_faces,
    labels_of,
    ring_of_gaussians,
    swiss_roll,
)
from minigen.diffusion import Diffusion, cosine_betas, ideal_eps, learned_variance, linear_betas

NAN, INF = math.nan, math.inf
generator = torch.Generator().manual_seed(0)
X, X16, X32 = (torch.rand(2, 3, n, n, generator=generator) * 2 - 1 for n in (8, 16, 32))
BYTES, Z = (X + 1) * 127.5, torch.randn(2, 4, 4, 4, generator=generator)
Y, T = torch.tensor([0, 2]), torch.tensor([1, 2])
CODES, ONE = torch.zeros(2, 4, 4, dtype=torch.long), torch.tensor([1])
D = Diffusion(linear_betas(10, 0.01, 0.2))
TINY16 = dict(size=16, width=8, multipliers=(1, 2, 2), attention_at=8, num_codes=16)
TINY_UNET = dict(size=16, width=8, multipliers=(1, 2), attention_at=8)
TINY_FFTD = dict(dim=16, heads=2, depth=3)


def zero(x, t, y=None):
    return torch.zeros_like(x)


def both(x, t, y=None):
    """Noise and a variance."""
    return torch.cat([x, x], 1)


def cases(*rows):
    return pytest.mark.parametrize(("call", "words"), rows)


def refused(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "minigen" in str(caught.traceback[-1].path) and "\n" not in str(caught.value)


torch.manual_seed(0)
g, gc = gan.Generator(4, 8, 8), gan.Generator(4, 8, 8, 3)
d, dc = gan.Discriminator(8, 8), gan.Discriminator(8, 8, 3)
v, vc, vq = vae.VAE(4, 8, 8), vae.VAE(4, 8, 8, 3), vqvae.VQVAE(16, 4, 8, 8)
iv, judge = ivqvae.IVQVAE(**TINY16), ivqvae.PatchDiscriminator(8, 1)
prior, plain_prior = pixelcnn.PixelCNN(16, 8, 1, 4, 3), pixelcnn.PixelCNN(16, 8, 1)
u, uc = unet.UNet(**TINY_UNET), unet.UNet(**TINY_UNET, num_classes=3)
point, f = unet.PointDenoiser(2, 16, 1), fftd.FFTD(**TINY_FFTD)
fc = fftd.FFTD(**TINY_FFTD, num_classes=3)
toy, lpips = perceptual.ToyPerceptual(), perceptual.LPIPS(nn.Identity())
model = gaussian.GaussianModel(X.repeat(3, 1, 1, 1))
X64 = torch.zeros(2, 3, 64, 64)


@pytest.mark.parametrize(
    "take",
    [
        d,
        v.encode,
        v,
        vq.encode,
        vq,
        vq.encode_indices,
        lambda x: vae.reconstruct(v, x),
        lambda x: vae.importance_bound(v, x),
        lambda x: gan.r1_penalty(d, x),
    ],
    ids=range(9),
)
@cases(
    (X.mul(127).byte(), r"floating point; got torch.uint8: .*from_uint8\(x\), x / 127.5 - 1"),
    (BYTES, r"must lie in \[-1, 1\]; these reach from 0.\d\d to 25\d.\d\d .*from_uint8"),
    (X[0], r"\(3, 8, 8\)"),
    (X[:, :1], r"got \(2, 1, 8, 8\)"),
    (X32[..., :12], "got .2, 3, 32, 12"),
    (X.numpy(), "a tensor.*got ndarray: torch.as_tensor makes one"),
    (X.tolist(), "got list"),
    (None, "got None"),
    (Image.new("RGB", (8, 8)), "a tensor.*; got Image"),
)
def test_networks_that_take_images(take, call, words):
    refused(lambda: take(call), words)


@cases(
    # images elsewhere
    (lambda: iv.encode(X16 * 127 + 128), r"\[-1, 1\]; these reach"),
    (lambda: iv.encode(X16[0]), "makes a batch of one"),
    (lambda: judge(X16 * 127), r"\[-1, 1\]"),
    (lambda: judge(X16[:, :2]), r"\(B, 3, H, W\); got \(2, 2, 16, 16\)"),
    (lambda: judge(X[..., :4, :4]), "6 pixels and more"),
    (lambda: toy(BYTES, BYTES), r"\(B, 3, 32, 32\); got"),
    (lambda: toy(X32 * 127, X32), r"\[-1, 1\]"),
    (lambda: toy(X32, X32[:1]), "x and y differ in shape"),
    (lambda: toy(X32.mul(127).byte(), X32), "uint8"),
    (lambda: lpips(X64 + 100, X64), r"\[-1, 1\]"),
    (lambda: lpips(X64, X64[:1]), "differ in shape"),
    (lambda: ivqvae.mixed_loss(X * 127, X, 0.1), r"\[-1, 1\]"),
    (lambda: ivqvae.mixed_loss(X, X[:, :1], 0.1), "x and x_hat differ in shape"),
    (lambda: ivqvae.mixed_loss(X, X, 0.1, lambda_d=NAN), "lambda_d must be a finite number"),
    (lambda: metrics.toy_frechet(X32.repeat(64, 1, 1, 1).mul(127)), r"\[-1, 1\]"),
    (lambda: metrics.toy_features(X32.numpy()), "got ndarray"),
    (lambda: metrics.predict_attributes(X32 * NAN), "NaN"),
    (lambda: metrics.predict_attributes(X32.mul(127).byte()), "uint8"),
    (lambda: metrics.toy_frechet(X), "at least 128"),
    (lambda: metrics.attribute_classifier()(X32 * 127), r"\[-1, 1\]"),
    (lambda: model.encode(X32, 2), r"\(B, 3, 8, 8\)"),
    (lambda: gaussian.GaussianModel(BYTES), r"\[-1, 1\]; these reach"),
    (lambda: gaussian.GaussianModel(X.byte()), "uint8"),
    (lambda: gaussian.GaussianModel(X * NAN), "NaN"),
    (lambda: gaussian.GaussianModel(X.tolist()), "a tensor"),
    (lambda: model.encode(X, 99), "components must be a whole number, 1 to 5; got 99"),
    (lambda: model.sample(2, components=0), "components"),
    (lambda: model.sample(1.5), "n must be a whole number"),
    (lambda: model.decode(torch.zeros(2, 9)), "number of coordinates"),
    (lambda: latents.encode(iv, X16 * 127), r"\[-1, 1\]"),
    (lambda: latents.encode(iv, X16, batch_size=0), "batch_size"),
    (lambda: latents.decode(iv, Z[0]), "x.None. makes a batch"),
    (lambda: vlb.bits_per_dim(zero, D, BYTES, "small"), r"\[-1, 1\]"),
    (
        lambda: next(ddpm.train_ddpm(u, [(X16 * 127 + 128,)], D, steps=1)),
        r"x0 must lie in \[-1, 1\]",
    ),
    (
        lambda: next(ddpm.train_ddpm(u, [(X16.mul(127).byte(),)], D, steps=1)),
        "x0 must be floating point",
    ),
    (lambda: next(vae.train_vae(v, [(BYTES,)], steps=1)), r"\[-1, 1\]"),
    (
        lambda: v.encode(X.double()),
        "images must be torch.float32, as the weights are; got torch.float64",
    ),
)
def test_images(call, words):
    refused(call, words)


@cases(
    (lambda: d.features(X, Y), "not conditional: it takes no labels"),
    (lambda: g(torch.zeros(2, 4), Y), "not conditional"),
    (lambda: dc(X), "pass labels y"),
    (lambda: dc(X, [0, 1]), r"each of the 2 images is wanted; got \[0, 1\], no tensor"),
    (lambda: dc(X, 1), "got 1, no tensor"),
    (lambda: dc(X, Y[:1]), r"wanted; got \(1,\)"),
    (lambda: dc(X, Y.float()), "labels must be integers; got torch.float32"),
    (lambda: dc(X, Y + 1), "0 to 2; got 1 to 3"),
    (lambda: gan.with_label(X, Y, "a"), "num_classes must be"),
    (lambda: gan.sample(gc, 2, Y[:1]), r"each of the 2 images"),
    (lambda: gan.sample(gc, 2, ["a", "b"]), "labels must be a tensor or a list"),
    (lambda: vc.encode(X, Y - 1), "got -1 to 1"),
    (lambda: vae.sample(vc, 3, Y), r"each of the 3 images is wanted; got \(2,\)"),
    (lambda: v.decode(Z[..., 0, 0], Y), "not cond"),
    (lambda: prior(CODES, Y.float()), "integers; got torch.float32"),
    (lambda: plain_prior(CODES, Y), "without classes"),
    (lambda: prior(CODES, [0, 1]), "each of the 2 maps"),
    (lambda: uc(X16, ONE, Y[:1]), r"2 images is wanted; got \(1,\)"),
    (lambda: uc(X16, ONE, Y.float()), "integers"),
    (lambda: uc(X16, ONE, Y + 2), "0 to 2, or 3 for none; got 2 to 4"),
    (lambda: u(X16, ONE, Y), "without classes"),
    (lambda: point(X[:, 0, 0, :2], ONE, Y), "without classes"),
    (lambda: fc(Z, ONE, [1, 2]), "each of the 2 images"),
    (lambda: fc(Z, ONE, Y[:1]), r"got \(1,\)"),
    (lambda: f(Z, ONE, Y), "without classes"),
    (lambda: guidance.Guided(uc, 3, 2.0)(X16, ONE, 1), "each of the 2"),
    (lambda: guidance.Guided(uc, 3, 2.0)(X16, ONE, Y[:1]), r"got \(1,\)"),
    (lambda: guidance.drop_labels([0, 1], 3), "a tensor"),
    (lambda: guidance.drop_labels(Y, 1), "labels must be 0 to 1; got 0 to 2"),
    (lambda: guidance.drop_labels(Y.float(), 3), "integers"),
    (lambda: guidance.drop_labels(Y, 3, NAN), "p must be"),
    (lambda: guidance.Guided(uc, 2), "null must be 3, the model's number of classes; got 2"),
    (lambda: guidance.Guided(zero, 1.5), "null must be a whole number"),
    (lambda: guidance.Guided(uc, 3, NAN), "scale must be"),
    (lambda: guidance.Guided(uc, 3, -INF), "scale must be"),
    (lambda: next(ddpm.ddpm_sample(uc, D, X16, [0, 1])), "2 samples"),
    (lambda: next(ddim.ddim_sample(uc, D, X16, Y.float(), steps=2)), "labels must be integers"),
    (lambda: metrics.obedience(X32, "nose", Y), "unknown attribute 'nose'"),
    (lambda: metrics.obedience(X32, "hair", Y[:1]), "each of the 2"),
    (lambda: metrics.obedience(X32, "hair", Y + 9), "0 to 4"),
    (lambda: metrics.obedience(X32[:0], "hair", Y[:0]), "at least one value"),
    (lambda: metrics.attribute_probabilities(X32, "ears"), "unknown attribute 'ears'"),
)
def test_labels(call, words):
    refused(call, words)


@pytest.mark.parametrize(
    ("network", "x"),
    [(u, X16), (f, Z), (point, Z[:, 0, 0, :2]), (guidance.Guided(zero, 3), X16)],
    ids=range(4),
)
@cases(
    (5, "time steps t must be a tensor of shape .2,. or .1,.; got 5"),
    (0.5, "got 0.5"),
    (torch.tensor(5), "got a tensor of shape"),
    (torch.zeros(3), r"got a tensor of shape \(3,\)"),
    (torch.tensor([-1]), "0 to 9999; got -1"),
    (None, "got None"),
    (torch.tensor([10**6]), "0 to 9999; got 1000000"),
    (torch.tensor([NAN]), "time steps must be 0 to 9999; got nan"),
    (torch.tensor([True]), "time steps must be integers; got torch.bool"),
)
def test_networks_that_are_told_the_time(network, x, call, words):
    refused(lambda: network(x, call, *([Y] if isinstance(network, guidance.Guided) else [])), words)


@pytest.mark.parametrize(
    "method",
    [
        lambda t: D.add_noise(Z, t, Z),
        lambda t: D.scales(t, Z),
        lambda t: D.target(Z, Z, t, "v"),
        lambda t: D.views(Z, Z, t),
        lambda t: D.posterior(Z, Z, t),
        lambda t: D.at(D.betas, t, Z),
        lambda t: ideal_eps(D, Z, Z, t),
        lambda t: learned_variance(D, Z, t),
        lambda t: ddpm.simple_loss(zero, D, Z, t, Z),
        lambda t: vlb.vlb_terms(D, Z, Z, Z, t, "small"),
    ],
    ids=range(10),
)
@cases(
    (5, "got 5: torch.tensor"),
    (torch.tensor([0.5]), "time steps must be integers; got torch.float32"),
    (torch.tensor([10]), "0 to 9; got 10"),
    (torch.tensor([-1]), "got -1"),
    (torch.tensor([1, 2, 3]), r"got a tensor of shape \(3,\)"),
)
def test_the_diffusion_takes_integer_time_steps(method, call, words):
    refused(lambda: method(call), words)


@cases(
    (lambda: D.add_noise(Z, T, Z[:1]), "x0 and eps differ in shape"),
    (lambda: D.views(Z[:1], Z, T), "differ in shape"),
    (lambda: D.posterior(Z, Z[:, :1], T), "x0 and xt differ in shape"),
    (lambda: D.scales(T, Z.long()), "floating point"),
    (lambda: ideal_eps(D, Z[:, :1], Z, T), r"data must be \(N, 4, 4, 4\)"),
    (lambda: ideal_eps(D, Z[:0], Z, T), "at least one"),
    (lambda: D.at(D.betas[:3], T, Z), r"table must be \(10\)"),
    (lambda: linear_betas(2.5), "at least one step; got T=2.5"),
    (lambda: linear_betas(10, NAN), "start must be between 0 and 1"),
    (lambda: cosine_betas(10, largest="a"), "largest must be"),
    (lambda: Diffusion(["a"]), "betas must be a tensor or a list"),
    (lambda: ddpm.simple_loss(zero, D, Z, T, Z[:1]), "x0 and eps"),
    (
        lambda: ddpm.ask(both, X, T),
        r"\(2, 6, 8, 8\): this network also answers a variance.*\"learned\" in ddpm_sample",
    ),
    (lambda: next(ddpm.ddpm_sample(both, D, X, variance="small")), "also answers a variance"),
    (lambda: next(ddim.ddim_sample(both, D, X, steps=2)), "also answers a variance"),
    (lambda: guidance.Guided(both, 3)(X, ONE, Y), "also answers a variance"),
    (lambda: ddpm.ask(lambda x, t: 3, X, T), "it gave 3"),
    (lambda: vlb.hybrid_loss(zero, D, Z, T, Z), "answers no variance; learn_variance=True"),
    (lambda: next(ddpm.ddpm_sample(zero, D, X[:0])), "at least one value"),
    (lambda: next(ddpm.ddpm_sample(zero, D, 3)), "a tensor"),
    (lambda: next(ddpm.ddpm_sample(zero, D, X, clip=1)), "clip must be None or"),
    (lambda: ddpm.draw_like(X, 7), "torch.Generator"),
    (lambda: next(ddpm.ddpm_sample(zero, D, X, clip=(1, -1))), "clip"),
    (lambda: ddpm.last([]), "start it again"),
    (
        lambda: next(ddpm.ddpm_sample(zero, D, X, batch_size=0)),
        "batch_size must be a whole number, at least 1; got 0",
    ),
    (lambda: ddpm.ema(u, 2), "decay must be"),
    (lambda: ddpm.ema(zero), "torch.nn.Module"),
    (lambda: ddim.timesteps(10, 2.5), "1 to T=10, a whole number: .*; got 2.5"),
    (lambda: ddim.timesteps(10, -1), "got -1"),
    (lambda: ddim.timesteps(10, "3"), "got '3'"),
    (lambda: ddim.timesteps(10, 3, None), "spacing must be"),
    (
        lambda: next(ddim.ddim_invert(zero, D, X, steps=2, refine=-1)),
        "refine must be a whole number, at least 0; got -1",
    ),
    (lambda: next(ddim.ddim_sample(zero, D, X, steps=2, eta=NAN)), "eta must be a finite number"),
    (lambda: ddim.sigma(D, 10, 3, 0.1), "t must be a whole number, -1 to 9; got 10"),
    (lambda: ddim.ddim_step(D, Z, Z[:1], 5, 3), "x0 and eps"),
    (lambda: ddim.ddim_step(D, Z, Z, 5, 3, 0.5), "noise.*None"),
    (lambda: ddim.slerp(Z, Z[:1], 0.5), "a and b differ"),
    (lambda: ddim.slerp(Z, Z, [0.1, 0.2, 0.3]), "or 2 of them"),
    (lambda: ddim.slerp(Z, Z, NAN), "w must be a finite number"),
    (lambda: ddim.slerp(Z, Z, "a"), "w must be"),
    (lambda: next(ddim.inpaint(zero, D, X[:1], X * 0, X, steps=2)), "known and xT differ"),
    (
        lambda: next(ddim.inpaint(zero, D, X, torch.ones(5), X, steps=2)),
        "mask must be of a shape that broadcasts",
    ),
    (lambda: next(ddim.inpaint(zero, D, X, X * 0, X, steps=2, repeats=1.5)), "repeats"),
    (lambda: vlb.gaussian_kl(Z, 1.0, Z[:1], 1.0), "mean1 and mean2 differ"),
    (lambda: vlb.gaussian_kl(Z, 0.0, Z, 1.0), "variance1"),
    (lambda: vlb.vlb_terms(D, Z, Z, Z, T, "tiny"), "'small', 'large' or 'learned'; got 'tiny'"),
    (
        lambda: vlb.vlb_terms(D, Z, Z, Z, T),
        r"the output must be \(2, 8, 4, 4\); got \(2, 4, 4, 4\)",
    ),
    (lambda: vlb.discretised_log_likelihood(Z, Z[:1], 1.0), "x and mean differ"),
    (lambda: vlb.discretised_log_likelihood(Z, Z * NAN, 1.0), "got NaN"),
    (lambda: vlb.prior_bits(D, 3), "a tensor"),
)
def test_diffusion_and_its_samplers(call, words):
    refused(call, words)


@cases(
    (lambda: gan.Generator(latent_dim=0), "latent_dim"),
    (lambda: gan.Generator(width=8.0), "width must be a whole number.*got 8.0"),
    (lambda: gan.Generator(num_classes=-1), "num_classes"),
    (lambda: gan.Generator(size="a"), "size must be 8, 16, 32, 64, …; got 'a'"),
    (lambda: gan.Discriminator(size=32.0), "got 32.0"),
    (lambda: gan.Discriminator(width=0), "width"),
    (lambda: gan.MinibatchDiscrimination(4, kernels=0), "kernels"),
    (lambda: vae.VAE(width=4), "width must be a multiple of 8"),
    (lambda: vae.VAE(latent_dim="a"), "latent_dim"),
    (lambda: vae.ConvEncoder(in_channels=0), "in_channels"),
    (lambda: vqvae.VQVAE(num_codes="a"), "num_codes=a"),
    (lambda: vqvae.VQVAE(code_dim=1.5), "code_dim"),
    (lambda: vqvae.VectorQuantizer(4, 4, decay="a"), "decay must be"),
    (lambda: vqvae.VectorQuantizer(4, 4, beta=NAN), "beta=nan"),
    (lambda: pixelcnn.PixelCNN(0), "num_codes"),
    (lambda: pixelcnn.PixelCNN(4, dropout=2), "dropout must be a finite number, 0 to 1"),
    (lambda: pixelcnn.PixelCNN(4, blocks=0), "blocks"),
    (lambda: pixelcnn.causal_mask(3.0, "A"), "odd; got 3.0"),
    (lambda: ivqvae.IVQVAE(multipliers=()), "multipliers must be a list of whole numbers"),
    (lambda: ivqvae.IVQVAE(multipliers=(1, 1.5)), "multipliers"),
    (lambda: ivqvae.IVQVAE(width=9), "group normalisation"),
    (lambda: ivqvae.IVQVAE(size="a"), "size"),
    (lambda: ivqvae.PatchDiscriminator(layers=0), "layers"),
    (lambda: ivqvae.Attention(8, 0), "num_heads must be"),
    (lambda: ivqvae.ResidualBlock(2, 8), "group normalisation"),
    (lambda: unet.UNet(width=2), "width must be at least 4"),
    (lambda: unet.UNet(width=5), "even"),
    (
        lambda: unet.UNet(size=(64, 128)),
        r"size must be a whole number, at least 1; got \(64, 128\)",
    ),
    (lambda: unet.UNet(blocks=0), "blocks"),
    (lambda: unet.UNet(num_classes=None), "num_classes"),
    (lambda: unet.UNet(learn_variance=2), "learn_variance must be True or False"),
    (lambda: unet.UNet(multipliers=3), "multipliers"),
    (lambda: unet.PointDenoiser("a"), "dim"),
    (lambda: unet.PointDenoiser(2, layers=-1), "layers"),
    (lambda: unet.time_features(ONE, 0), "dim must be even"),
    (lambda: unet.TimeBlock(8, 8, 0), "condition_dim"),
    (lambda: fftd.FFTD(heads=0), "heads must be a whole number"),
    (lambda: fftd.FFTD(depth=2.5), "depth"),
    (lambda: fftd.FFTD(grid="a"), "grid"),
    (lambda: fftd.FFTD(dropout=NAN), "dropout"),
    (lambda: fftd.FFTD(mlp_ratio=0), "mlp_ratio"),
    (lambda: fftd.AdaptiveFusion(0), "dim"),
    (lambda: fftd.positions(6, 2), "divisible by 4"),
    (lambda: fftd.Block(16, 3, fftd.AddFusion), "heads and 4 must divide dim=16"),
)
def test_constructors(call, words):
    refused(call, words)


@cases(
    (lambda: gan.generator_loss(3), "logits must be a tensor"),
    (lambda: gan.generator_loss(X[:0]), "at least one value"),
    (lambda: gan.discriminator_loss(X, X, smooth=NAN), "smooth"),
    (lambda: gan.js_divergence(X, X[:1], 0.1), "differ in shape"),
    (lambda: gan.optimal_discriminator(X - 9, X - 9), "densities must be 0"),
    (lambda: gan.game_value(X.abs(), X.abs(), 0), "dx"),
    (lambda: gan.feature_matching_loss(X, X[:, :1]), r"fake features must be \(B, 3, 8, 8\)"),
    (lambda: gan.r1_penalty(d, X.long()), "x must be floating point"),
    (lambda: g(torch.zeros(2, 5)), r"z must be \(B, 4\)"),
    (lambda: gan.sample(g, 0), "n must be a whole number, at least 1; got 0"),
    (lambda: gan.sample(g, -3), "got -3"),
    (lambda: gan.sample(g, 2.0), "got 2.0"),
    (lambda: gan.sample(g, 2, seed=0.5), "seed must be a whole number; got 0.5"),
    (lambda: vae.sample(v, 2, batch_size=0), "batch_size"),
    (lambda: vae.kl_standard_normal(X, X[:1]), "mean and logvar differ"),
    (lambda: vae.vae_loss(X, X, Z[:1], Z[:1]), r"mean must be \(2, D, …\)"),
    (lambda: vae.reparameterise(Z, Z[:1]), "differ"),
    (lambda: vae.vae_loss(X, X, Z, Z, beta=NAN), "beta"),
    (lambda: vae.vae_loss(BYTES, X, Z, Z), r"\[-1, 1\]"),
    (lambda: vae.active_units(Z), r"mean must be \(N, D\)"),
    (lambda: vae.importance_bound(v, X, samples=0), "samples"),
    (lambda: vae.importance_bound(v, X, variance=0), "variance must be positive"),
    (lambda: v.decode(Z), r"z must be \(B, 4\)"),
    (lambda: vqvae.nearest_code(Z[0, 0], Z[0, 0, :, :2]), r"z must be \(N, 2\)"),
    (lambda: vqvae.nearest_code(Z[0, 0], Z[0, 0, :0]), "at least one value"),
    (lambda: vqvae.kmeans(Z[0, 0], 0), "k must be"),
    (lambda: vqvae.perplexity(CODES[:0], 4), "at least one value"),
    (lambda: vqvae.perplexity(CODES + 9, 4), "0 to 3; got 9"),
    (lambda: vq.quantizer.embed(CODES.float()), "indices must be integers"),
    (lambda: vq.decode_indices([1]), "a tensor"),
    (lambda: vq.encode_indices(X, batch_size=1.5), "batch_size"),
    (lambda: prior(CODES.float()), "codes must be integers"),
    (
        lambda: pixelcnn.bits_per_image(torch.zeros(2, 9, 4, 4), CODES + 9),
        "codes must be 0 to 8; got 9",
    ),
    (lambda: pixelcnn.sample_codes(prior, 0), "n must be"),
    (lambda: pixelcnn.sample_codes(prior, 1, temperature=NAN), "temperature"),
    (lambda: u(X16.numpy(), ONE), "x must be a tensor"),
    (lambda: u(X16.long(), ONE), "floating point"),
    (lambda: f(Z[0], ONE), "the latents must be"),
    (lambda: point(Z, ONE), r"x must be \(B, 2\)"),
    (lambda: f(Z.double(), ONE), "float64"),
    (lambda: metrics.frechet_distance(ONE * NAN, torch.eye(1), ONE * 1.0, torch.eye(1)), "finite"),
    (
        lambda: metrics.frechet_distance(ONE * 1.0, torch.eye(1), ONE * 1.0, torch.eye(1) * INF),
        "finite",
    ),
    (
        lambda: metrics.frechet_distance(
            torch.zeros(2), torch.zeros(2, 3), torch.zeros(2), torch.eye(2)
        ),
        r"covariance must be \(2, 2\)",
    ),
    (
        lambda: metrics.frechet_distance(
            torch.zeros(2), torch.eye(2), torch.zeros(3), torch.eye(3)
        ),
        "mean1 and mean2 differ",
    ),
    (
        lambda: metrics.frechet_distance(
            torch.zeros(2), torch.ones(2, 2).triu(), torch.zeros(2), torch.eye(2)
        ),
        "symmetric",
    ),
    (lambda: metrics.inception_score(torch.ones(2, 3)), "the sum of a row must be 1; got 3.0"),
    (lambda: metrics.inception_score(torch.tensor([[1.5, -0.5]])), "probabilities must be 0 to 1"),
    (lambda: metrics.gaussian_statistics([1]), "features must be a tensor"),
    (lambda: plots.image_grid(X, columns=0), "columns"),
    (lambda: plots.image_grid(X, titles=["a"] * 3), "at most 2 texts; got 3"),
    (lambda: plots.image_grid(X, titles="ab"), "a list of texts; got 'ab'"),
    (lambda: plots.image_grid(X.byte()), "uint8"),
    (lambda: plots.image_grid(X, columns=1, row_titles=["a"]), "row_titles must be 2 texts; got 1"),
    (lambda: plots.curves({}), "at least one line"),
    (lambda: plots.curves({"a": []}), "the line 'a' must be of one value or more"),
    (lambda: plots.curves({"a": [1, 2]}, x=[1]), "as many as x has"),
    (lambda: plots.curves({"a": "x"}), "list of numbers"),
    (lambda: plots.curves({"a": [1]}, smooth=0), "smooth"),
    (lambda: plots.points([]), "at least one point cloud"),
    (lambda: plots.points([X]), r"points must be \(N, 2\)"),
    (lambda: plots.panels(rows=0), "rows"),
    (lambda: plots.smoothed([1.0], 0), "window"),
    (lambda: plots.show(None, "a"), "a matplotlib Figure"),
    (lambda: widgets.explore(3, None, "a"), "draw must be a function"),
    (lambda: ToyFaces(1.5), "n=1.5"),
    (lambda: ToyFaces("a"), "n='a'"),
    (lambda: ToyFaces(True), "n=True"),
    (lambda: ToyFaces(2, size=32.0), "size=32.0"),
    (lambda: ToyFaces(2, seed=0.5), "seed"),
    (lambda: ToyFaces(2)[0.5], "got 0.5"),
    (lambda: draw_faces(labels_of(), torch.zeros(2, 8)), r"jitter must be \(1, 8\)"),
    (lambda: draw_faces("a"), "labels must be"),
    (lambda: draw_faces(labels_of().float()), "labels must be integers"),
    (lambda: next(batches()), "got none"),
    (lambda: next(batches([1, 2])), r"takes tensors.*got \[1, 2\]"),
    (lambda: next(batches(ToyFaces(2))), r"faces.images\(\); got Toy"),
    (lambda: next(batches(X, batch_size=1.5)), "batch_size"),
    (lambda: next(batches(X, batch_size=2, seed="a")), "seed"),
    (lambda: ring_of_gaussians(0), "n must be"),
    (lambda: ring_of_gaussians(2, modes=0), "modes"),
    (lambda: ring_of_gaussians(2, radius=NAN), "radius"),
    (lambda: count_modes(Z), r"points must be \(N, 2\)"),
    (lambda: swiss_roll(2.5), "n must be"),
    (lambda: swiss_roll(2, std=-1), "std"),
)
def test_everything_else(call, words):
    refused(call, words)


def test_what_is_right_passes():
    assert inputs.whole(np.int64(3), "n") == 3 and inputs.number(np.float32(0.5), "p", 0, 1) == 0.5
    for t in (T, T[:1], T.int(), T.to(torch.uint8)):
        assert D.add_noise(Z, t, Z).shape == Z.shape
    assert u(X16, torch.tensor([5.5])).shape == X16.shape  # a network may be told 999·t
    assert d(X + 0.5 * X).shape == (2,) and d(X[:0]).shape == (0,)  # a little noise, no image
    assert iv.encode(X16[:0]).shape == (0, 4, 4, 4) and vq.encode_indices(X[:0]).shape == (0, 4, 4)
    assert metrics.toy_features(X32.half()).shape == (2, 64) and metrics.toy_features(
        X32.double()
    ).shape == (2, 64)
    assert gan.sample(gc, 2, [0, 1]).shape == X.shape and dc(X, Y.to(torch.uint8)).shape == (2,)
    assert torch.equal(dc.eval()(X, Y.int()), dc(X, Y))
    with torch.autocast("cpu", torch.bfloat16):
        assert v.encode(X.bfloat16())[0].shape == (2, 4)
