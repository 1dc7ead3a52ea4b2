"""Excursion 2: DALL-E 2's detour. A sentence becomes a picture's embedding, and that a picture.

Sources: Ramesh et al. 2022 (unCLIP): §2.1 the decoder, §2.2 the prior.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen import ddim, ode
from minigen.clip import CLIP, embed_texts
from minigen.common import evaluating, time_features
from minigen.common import generator as seeded
from minigen.ddpm import Denoiser, ask, diffusion_of, last, prediction_of, schedule_of
from minigen.diffusion import check_training
from minigen.fftd import FFTD, TIME_FEATURES
from minigen.inputs import labels, number, refuse, tensor, times, whole, wholes
from minigen.ivqvae import IVQVAE
from minigen.latents import decode, fingerprint


class Prior(nn.Module):
    """Noisy picture embedding, time step, sentence embedding → the clean picture embedding.

    A residual network over vectors; in DALL-E 2 it is a Transformer, which predicts the same.
    Embeddings are scaled to numbers of deviation about 1: √dim times a vector of length 1.
    y=None is "no sentence", a learned vector.
    Shapes: x (B, dim), t (B,) or (1,), y (B, dim) → (B, dim).
    Source: Ramesh et al. 2022, §2.2, Eq. 2.
    """
    card: dict  # what load_weights finds beside the weights

    def __init__(self, dim: int = 64, width: int = 128, depth: int = 3, prediction: str = "x0",
                 schedule: str | None = "cosine"):
        super().__init__()
        check_training(prediction, schedule)
        wholes(dim=dim, width=width, depth=depth)
        self.config = dict(dim=dim, width=width, depth=depth, prediction=prediction,
                           schedule=schedule)
        self.prediction, self.schedule = prediction, schedule
        self.nothing = nn.Parameter(torch.zeros(dim))
        self.first = nn.Linear(2 * dim + TIME_FEATURES, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(),
                          nn.Linear(2 * width, width)) for _ in range(depth))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        tensor(x, "x", ("B", self.config["dim"]), like=self.nothing)
        times(t, len(x))
        told = self.nothing.expand_as(x) if y is None else tensor(y, "y", tuple(x.shape))
        features = time_features(t, TIME_FEATURES).expand(len(x), -1)
        h = self.first(torch.cat([x, told, features], 1))             # (B, width)
        for layer in self.layers:
            h = h + layer(h)
        return self.last(h)


class EmbeddedFFTD(FFTD):
    """FFTD told by a picture's CLIP embedding: the decoder of DALL-E 2.

    The embedding, times √dim, is mapped linearly and added to the time's vector; y=None is a
    learned vector, "no picture known".
    Shapes: z (B, latent_channels, grid, grid), t, y (B, embedding) → as z.
    Source: Ramesh et al. 2022, §2.1.
    """

    def __init__(self, embedding: int = 64, **fftd):
        if fftd.pop("num_classes", 0):
            refuse("num_classes", "left out: this network is told by embeddings", "classes")
        super().__init__(**fftd)
        self.config |= dict(embedding=whole(embedding, "embedding"))
        self.config.pop("num_classes")
        self.told = nn.Linear(embedding, self.config["dim"])
        self.nothing = nn.Parameter(torch.zeros(embedding))

    def condition(self, t: Tensor, y: Tensor | None = None, count: int | None = None) -> Tensor:
        told = self.nothing[None] if y is None else tensor(
            y, "y", ("B", self.config["embedding"]), like=self.nothing)
        return super().condition(t, None, count) + self.told(told)


def scaled(embedding: Tensor) -> Tensor:
    """√dim times embeddings of length 1, so that each number has about deviation 1."""
    tensor(embedding, "embedding", ("N", "D"))
    return embedding * embedding.shape[1] ** 0.5


class Steered(nn.Module):
    """A model told by vectors, with guidance: ε = ε_u + s (ε_c − ε_u), ε_u being told nothing.

    A sample's label y is the number of its vector. scale s: 1 is the plain model, asked once.
    Shapes: vectors (M, D); y (B,) integers 0 … M − 1; else as the model's.
    """

    vectors: Tensor

    def __init__(self, model: Denoiser, vectors: Tensor, scale: float = 1.0):
        super().__init__()
        self.model, self.scale = model, number(scale, "scale", 0)
        self.prediction, self.schedule = prediction_of(model), schedule_of(model)
        self.register_buffer("vectors", tensor(vectors, "vectors", ("M", "D")), persistent=False)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if y is None:
            raise ValueError("which vector? Pass y, the number of each sample's vector")
        told = ask(self.model, x, t, self.vectors[labels(y, len(x), len(self.vectors))])
        if self.scale == 1:
            return told
        nothing = ask(self.model, x, t)
        return nothing + self.scale * (told - nothing)


def embeddings_of(
    prior: Prior, clip: CLIP, sentences: Sequence[str], *, scale: float = 1.0, steps: int = 20,
    seed: int = 0
) -> Tensor:
    """Picture embeddings that the prior draws for sentences, of length 1.

    Shapes: N sentences → (N, dim).
    """
    made_for = getattr(prior, "card", {}).get("clip")
    if made_for not in (None, fingerprint(clip)):
        raise ValueError(f"this prior was trained with the CLIP {made_for[:12]}…, and this is "
                         "another: each training has a space of its own")
    text = scaled(embed_texts(clip, sentences))
    noise = torch.randn(text.shape, generator=seeded(seed))
    model = Steered(prior, text, scale)
    drawn = last(ddim.ddim_sample(model, diffusion_of(model), noise, torch.arange(len(text)),
                                  steps=steps, eta=1.0, generator=seeded(seed + 1)))
    return F.normalize(drawn, dim=1)


def decoded(
    decoder: EmbeddedFFTD, tokenizer: IVQVAE, embedding: Tensor, *, scale: float = 1.5,
    steps: int = 10, seed: int = 0, noise: Tensor | None = None
) -> Tensor:
    """Faces for picture embeddings of length 1. Another seed gives a variation of the same face.

    Shapes: (N, dim) → (N, 3, H, W).
    """
    c = decoder.config
    shape = (len(embedding), c["latent_channels"], c["grid"], c["grid"])
    xT = torch.randn(shape, generator=seeded(seed)) if noise is None else noise
    model = Steered(decoder, scaled(embedding), scale)
    with evaluating(decoder):
        z = last(ode.multistep_sample(model, diffusion_of(model), xT,
                                      torch.arange(len(embedding)), steps=steps))
    return decode(tokenizer, z, made_with=getattr(decoder, "card", {}).get("tokenizer"))
