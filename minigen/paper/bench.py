"""Chapter 8: how fast this machine is.

Each measurement stands beside the same work done with another library, where that is installed:
diffusers, vector-quantize-pytorch, scipy. What is compared takes turns in one run, since a
machine's speed changes from minute to minute; the median of the turns counts.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from minigen import ddim, fftd, ivqvae, metrics, vqvae
from minigen.ddpm import simple_loss
from minigen.diffusion import Diffusion
from minigen.engine import presets, stages
from minigen.engine.sampling import SamplingFFTD
from minigen.names import how_many

Action = Callable[[], Any]
TURNS = 7                      # at least
STEP = 500                     # the time step at which one step of sampling is measured


def seconds_of(
    actions: dict[str, Action], seconds: float = 5.0, device: str = "cpu"
) -> dict[str, float]:
    """Median seconds of each of several actions: turns for about `seconds` each, at least seven."""
    for act in actions.values():
        act()                                             # warm up
    times: dict[str, list[float]] = {name: [] for name in actions}
    end = time.perf_counter() + seconds * len(actions)
    while time.perf_counter() < end or min(map(len, times.values())) < TURNS:
        for name, act in actions.items():
            start = time.perf_counter()
            act()
            if device == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def peak_flops(device: str = "cpu", n: int = 1536) -> float:
    """Floating point operations a second of a large float32 matrix product: the roof."""
    a = torch.randn(n, n, device=device)
    return 2 * n**3 / seconds_of({"matmul": lambda: a @ a}, 0.5, device)["matmul"]


def diffusers_dit(config: dict[str, Any], device: str) -> Any:
    """diffusers' DiT of the same width, depth and tokens, as a function of (z, t).

    None where diffusers is missing.
    """
    try:
        from diffusers import DiTTransformer2DModel
    except ImportError:
        return None
    channels, heads = config["latent_channels"], config["heads"]
    net: Any = DiTTransformer2DModel(
        num_attention_heads=heads, attention_head_dim=config["dim"] // heads,
        in_channels=channels, out_channels=channels, num_layers=config["depth"],
        sample_size=config["grid"], patch_size=config["patch"], num_embeds_ada_norm=1)
    net.to(device)

    def forward(z, t, y=None):
        classes = torch.zeros(len(z), dtype=torch.long, device=z.device)
        return net(z, timestep=t.expand(len(z)), class_labels=classes).sample

    forward.parameters = net.parameters  # type: ignore[attr-defined]
    return forward


def _adam(model: Any, device: str) -> torch.optim.Adam:
    """As the engine trains, and so for the peers."""
    return torch.optim.Adam(model.parameters(), 1e-4, fused=stages.fused(torch.device(device)))


def _training_step(model: Any, batch: int, grid: int, device: str) -> Action:
    optimiser, diffusion = _adam(model, device), Diffusion()
    z, eps = torch.randn(2, batch, 4, grid, grid, device=device)
    t = torch.randint(diffusion.T, (batch,), device=device)

    def step():
        optimiser.zero_grad()
        simple_loss(model, diffusion, z, t, eps).backward()
        optimiser.step()

    return step


def _ddim_step(model: Any, batch: int, grid: int, device: str) -> Action:
    diffusion, z = Diffusion(), torch.randn(batch, 4, grid, grid, device=device)
    t = torch.tensor([STEP], device=device)

    @torch.no_grad()
    def step():
        eps = model(z, t)
        return ddim.ddim_step(diffusion, diffusion.views(eps, z, t)[0], eps, STEP, STEP - 2)

    return step


def _diffusers_ddim_step(forward: Any, batch: int, grid: int, device: str) -> Action:
    from diffusers import DDIMScheduler

    scheduler: Any = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(500)
    z = torch.randn(batch, 4, grid, grid, device=device)
    t = torch.tensor([STEP], device=device)

    @torch.no_grad()
    def step():
        return scheduler.step(forward(z, t), STEP, z).prev_sample

    return step


def _autoencoder_step(
    model: nn.Module, size: int, batch: int, device: str, loss: Callable[[Any, Tensor], Tensor]
) -> Action:
    optimiser = _adam(model, device)
    x = torch.rand(batch, 3, size, size, device=device) * 2 - 1

    def step():
        optimiser.zero_grad()
        loss(model, x).backward()
        optimiser.step()

    return step


def _ours_loss(model: Any, x: Tensor) -> Tensor:
    x_hat, quantized = model(x)
    return F.l1_loss(x_hat, x) + quantized.loss


def _theirs_loss(model: Any, x: Tensor) -> Tensor:
    out = model(x)
    return F.l1_loss(out.sample, x) + out.commit_loss.mean()


def diffusers_vq(config: dict[str, Any], device: str) -> Any:
    """diffusers' VQModel with as many stages, widths and codes; None where diffusers is missing.

    Its blocks have two convolutions where IVQ-VAE's have one.
    """
    try:
        from diffusers import VQModel
    except ImportError:
        return None
    widths = [config["width"] * m for m in config["multipliers"]]
    net: Any = VQModel(
        block_out_channels=widths, layers_per_block=1, latent_channels=4, norm_num_groups=4,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths), sample_size=config["size"],
        num_vq_embeddings=config["num_codes"], vq_embed_dim=4)
    return net.to(device)


def _quantizer_step(quantise: Callable[[Tensor], tuple[Tensor, Tensor]], z: Tensor) -> Action:
    """Forward and back through a quantizer, which answers with vectors and a loss."""
    def step():
        vectors, loss = quantise(z.clone().requires_grad_())
        (vectors.mean() + loss).backward()

    return step


def quantizers(codes: int, device: str, vectors: int = 8192, dim: int = 4) -> dict[str, Action]:
    """A training step of the quantizer alone, and vector-quantize-pytorch's where installed.

    Both move their codes as running averages.
    """
    z = torch.randn(vectors // 64, dim, 8, 8, device=device)
    ours = vqvae.VectorQuantizer(codes, dim, decay=0.99).to(device)

    def quantise(z):
        quantized = ours(z)
        return quantized.z_q, quantized.loss

    actions = {"ours": _quantizer_step(quantise, z)}
    try:
        from vector_quantize_pytorch import VectorQuantize
    except ImportError:
        return actions
    theirs: Any = VectorQuantize(dim, codes, decay=0.99, commitment_weight=0.25).to(device)
    rows = z.movedim(1, -1).reshape(1, -1, dim)

    def theirs_quantise(z):
        vectors, _, loss = theirs(z)
        return vectors, loss.sum()

    return actions | {"vector-quantize-pytorch": _quantizer_step(theirs_quantise, rows)}


def distances(dims: int) -> dict[str, Action]:
    """A Fréchet distance of two Gaussians, and by scipy's root of a matrix where installed.

    The second is how pytorch-fid does it. Each action returns the distance.
    """
    mix = torch.randn(dims, dims) / dims**0.5
    one, two = (metrics.gaussian_statistics(scale * torch.randn(2 * dims, dims) @ mix)
                for scale in (1.0, 1.1))
    actions: dict[str, Action] = {"ours": lambda: metrics.frechet_distance(*one, *two)}
    try:
        from scipy.linalg import sqrtm
    except ImportError:
        return actions

    def by_root() -> float:
        (mean1, cov1), (mean2, cov2) = one, two
        root = torch.from_numpy(sqrtm((cov1 @ cov2).numpy()).real)
        return float((mean1 - mean2).square().sum() + (cov1 + cov2 - 2 * root).trace())

    return actions | {"scipy's root": by_root}


def _line(
    name: str, times: dict[str, float], unit: str, count: int, bound: float | None = None
) -> str:
    """One measurement in words: `times` in seconds for `count` images, `bound` at full speed."""
    ours = times["ours"] / count
    line = f"{name:<44}{1 / ours if unit == 'images/s' else 1000 * ours:>10.1f} {unit}"
    for peer in times.keys() - {"ours"}:
        line += f"; {peer} {times[peer] / times['ours']:.2f} times as long"
    return line + (f"; {bound / ours:.0%} of the roof" if bound else "")


def bench(preset: str = "small", seconds: float = 5.0, device: str | None = None) -> str:
    """Measure both stages of a preset. Returns: a report as text."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    config: dict[str, Any] = presets.network("FFTD", preset)
    auto: dict[str, Any] = presets.network("IVQVAE", preset)
    model, theirs = fftd.FFTD(**config).to(device), diffusers_dit(config, device)
    roof, grid = peak_flops(device), config["grid"]
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 4, grid, grid, device=device), torch.tensor([STEP], device=device))
    flops = counter.get_total_flops()
    size = sum(p.numel() for p in model.parameters())
    threads = how_many(torch.get_num_threads(), "thread")
    lines = [f"{preset} preset on {device} ({threads}); matrix products reach "
             f"{roof / 1e9:.0f} GFLOP/s",
             f"FFTD: {size / 1e6:.2f} M parameters, {flops / 1e9:.4f} GFLOP a step"]

    def turns(net, make, batch, make_theirs=None):
        actions = {"ours": make(net, batch, grid, device)}
        if theirs:
            actions["diffusers"] = (make_theirs or make)(theirs, batch, grid, device)
        return seconds_of(actions, seconds, device)

    trained = {batch: turns(model, _training_step, batch) for batch in (1, 16, 64, 256)}
    best = min(trained, key=lambda b: trained[b]["ours"] / b)
    for batch in dict.fromkeys((1, best)):
        name = f"stage 2, training, batch {batch}"
        name += " (the paper's)" if batch == 1 else " (best)"
        lines.append(_line(name, trained[batch], "images/s", batch, 3 * flops / roof))
    ready = SamplingFFTD(model, [STEP])
    drawn = {b: turns(ready, _ddim_step, b, _diffusers_ddim_step) for b in (1, 64, 256)}
    best = min(drawn, key=lambda b: drawn[b]["ours"] / b)
    for batch in sorted({1, 64, best}):
        all_steps = {k: 500 * v for k, v in drawn[batch].items()}
        name = f"500 DDIM steps, batch {batch}, 500 × one step"
        lines.append(_line(name, all_steps, "ms an image", batch, 500 * flops / roof))
    batch = 8 if preset == "small" else 1
    net, other = ivqvae.IVQVAE(**auto).to(device), diffusers_vq(auto, device)
    actions = {"ours": _autoencoder_step(net, auto["size"], batch, device, _ours_loss)}
    if other is not None:
        actions["diffusers"] = _autoencoder_step(other, auto["size"], batch, device, _theirs_loss)
    name = f"stage 1, training without critics, batch {batch}"
    lines.append(_line(name, seconds_of(actions, seconds, device), "images/s", batch))
    codes, dims = auto["num_codes"], 256 if preset == "small" else 2048
    times = seconds_of(quantizers(codes, device), seconds, device)
    lines.append(_line(f"quantizer, {codes:,} codes × 4, 8,192 vectors", times, "ms", 1))
    times = seconds_of(distances(dims), seconds, device)
    lines.append(_line(f"Fréchet distance, {dims:,} dimensions", times, "ms", 1))
    alone = "" if theirs else "; diffusers is not installed: nothing to compare with"
    lines.append(f"peak memory: {_peak_gb(device):.2f} GB{alone}")
    return "\n".join(lines)


def _peak_gb(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    try:
        import resource
    except ImportError:                                   # Windows does not tell
        return float("nan")
    unit = 2**30 if sys.platform == "darwin" else 2**20     # bytes there, kB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
