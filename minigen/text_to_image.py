"""Excursion 2: FFTD told by a sentence. Cross-attention to its words, guidance, negative prompts.

Sources: Rombach et al. 2022 (latent diffusion), §3.3; Saharia et al. 2022 (Imagen), §2; Ho &
Salimans 2022 (guidance).
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen import ode
from minigen.captions import captions
from minigen.clip import TextEncoder, at_end
from minigen.common import evaluating
from minigen.common import generator as seeded
from minigen.ddpm import ask, diffusion_of, last, prediction_of, schedule_of
from minigen.fftd import FFTD, Block
from minigen.fusion import kind_of
from minigen.inputs import described, labels, number, refuse, tensor, times, whole, wholes
from minigen.ivqvae import IVQVAE
from minigen.latents import decode
from minigen.names import listed
from minigen.prompts import PAD, labels_told, tokenise

WAYS = ("words", "pooled", "both")
NULL = ""                           # the null caption: a start and an end, and no word


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """softmax(Q Kᵀ / √d) V, in which words that the mask leaves out have no weight.

    Shapes: q (B, heads, L, d), k and v (B or 1, heads, M, d), mask (B or 1, M), True where there is
    a word → (B, heads, L, d). Source: Vaswani et al. 2017, Eq. 1.
    """
    return F.scaled_dot_product_attention(q, k, v, mask[:, None, None])


class CrossAttention(nn.Module):
    """Every place of a picture looks at every word: x + W_o softmax(Q Kᵀ / √d) V.

    Q comes from the picture's tokens, normalised; K and V from the words. W_o starts at zero, so
    that at first nothing is added.
    Shapes: x (B, L, dim), words (B or 1, M, width), mask (B or 1, M), True where there is a word
    → (B, L, dim); weights (B, heads, L, M), rows sum to 1.
    Source: Rombach et al. 2022, §3.3; Vaswani et al. 2017, §3.2.
    """
    mix = staticmethod(attend)          # excursion 2 puts the learner's own in its place

    def __init__(self, dim: int, width: int, heads: int):
        super().__init__()
        wholes(dim=dim, width=width, heads=heads)
        if dim % heads:
            refuse("heads", f"a divisor of dim={dim}", heads)
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(width, 2 * dim)
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def _qkv(self, x: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q, K and V, each (B or 1, heads, places, dim / heads)."""
        tensor(x, "x", ("B", "L", self.query.in_features), like=self.query.weight)
        tensor(words, "words", ("B", "M", self.key_value.in_features), like=self.query.weight)
        q = self.query(F.layer_norm(x, x.shape[-1:], eps=1e-6))
        k, v = self.key_value(words).chunk(2, -1)
        q, k, v = (u.unflatten(-1, (self.heads, -1)).transpose(1, 2) for u in (q, k, v))
        return q, k, v

    def forward(self, x: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or (
                mask.shape != words.shape[:2]):
            refuse("mask", f"booleans of shape {tuple(words.shape[:2])}", described(mask))
        q, k, v = self._qkv(x, words)
        mixed = self.mix(q, k, v, mask)                               # (B, heads, L, dim / heads)
        return x + self.out(mixed.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """How much each place looks at each word, which `forward` does not keep."""
        q, k, _ = self._qkv(x, words)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5         # (B, heads, L, M)
        return scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)


class TextBlock(Block):
    """FFTD's block, before which the picture's tokens have looked at the words."""

    def __init__(self, dim: int, width: int, heads: int, *rest, **named):
        super().__init__(dim, heads, *rest, **named)
        self.cross = CrossAttention(dim, width, heads)

    def forward(self, x: Tensor, modulation: Tensor, *words: Tensor) -> Tensor:
        return super().forward(self.cross(x, *words), modulation)


class Sentences(NamedTuple):
    """What a text encoder makes of sentences.

    words (N, M, width), mask (N, M), True where there is a word, end (N, width), the features of
    the end token, which has seen the sentence whole.
    """

    words: Tensor
    mask: Tensor
    end: Tensor


class TextFFTD(FFTD):
    """FFTD told by a sentence: noisy latent, time step, numbers of words → prediction.

    way: how the sentence comes in. "words": by cross-attention to its words before each block, as
        in Stable Diffusion; "pooled": by one vector, that of its end token, added to the time's;
        "both", as in Imagen.
    learned: words that the text encoder knows beyond the vocabulary (excursion 4).
    frozen: the text encoder is not trained with the rest (CLIP's is meant to be put in: `told_by`).
    y=None is the null caption, the sentence without a word. Other arguments: as `FFTD`.
    Shapes: z (B, latent_channels, grid, grid), t (B,) or (1,), y (B, L) integers, as
    `minigen.prompts.tokenise` makes them → as z.
    """

    def __init__(self, way: str = "words", frozen: bool = False, text_width: int = 64,
                 text_depth: int = 2, text_heads: int = 4, learned: Sequence[str] = (), **fftd):
        if way not in WAYS:
            refuse("way", f"one of {', '.join(WAYS)}", repr(way))
        if fftd.pop("num_classes", 0):
            refuse("num_classes", "left out: this network is told by sentences", "classes")
        super().__init__(**fftd)
        self.config |= dict(way=way, frozen=frozen, text_width=text_width, text_depth=text_depth,
                            text_heads=text_heads, learned=list(learned))
        self.config.pop("num_classes")
        self.text = TextEncoder(text_width, text_depth, text_heads, learned)
        self.text.requires_grad_(not frozen)
        c = self.config
        if way != "pooled":
            fuse = kind_of(c["fusion"], c["fusion_start"])
            self.blocks = nn.ModuleList(
                TextBlock(c["dim"], text_width, c["heads"], fuse, c["mlp_ratio"], c["dropout"])
                for _ in range(c["depth"]))
            self._start()
        if way != "words":
            self.pool = nn.Linear(text_width, c["dim"])

    def told_by(self, encoder: TextEncoder) -> "TextFFTD":
        """The same network with the weights of this text encoder."""
        mine = self.text.words.weight.shape
        if isinstance(encoder, TextEncoder) and encoder.learned != self.text.learned:
            refuse("encoder", "one that has learned the same words", listed(encoder.learned))
        if not isinstance(encoder, TextEncoder) or encoder.words.weight.shape != mine or len(
                encoder.layers.layers) != len(self.text.layers.layers):
            refuse("encoder", f"a TextEncoder of width {mine[1]} and depth "
                   f"{len(self.text.layers.layers)}, such as clip.text_encoder", "another")
        self.text.load_state_dict(encoder.state_dict())
        return self

    def read(self, ids: Tensor) -> Sentences:
        """Sentences as the network sees them. Shapes: (N, L) integers → `Sentences`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config["frozen"]):
            features = self.text(ids)                                 # (N, L, text_width)
        return Sentences(features, ids != PAD, at_end(features, ids))

    def told(self, z: Tensor, t: Tensor, sentences: Sentences, trace: list[Tensor] | None = None
             ) -> Tensor:
        """The prediction, from sentences that have been read. One for all, or one for each z."""
        self._check(z)
        if len(sentences.end) not in (1, len(z)):
            refuse("y", f"one sentence, or {len(z)}, one for each latent", len(sentences.end))
        condition = self.condition(t, None, len(z))
        if self.config["way"] != "words":
            condition = condition + self.pool(sentences.end)
        more = () if self.config["way"] == "pooled" else (sentences.words, sentences.mask)
        return self.through(z, condition, trace, *more)

    def forward(self, z: Tensor, t: Tensor, y: Tensor | None = None,
                trace: list[Tensor] | None = None) -> Tensor:
        ids = tokenise([NULL]).to(z.device) if y is None else y
        return self.told(z, t, self.read(ids), trace)


class Prompted(nn.Module):
    """A text model with prompts, guidance and a negative prompt: ε = ε_n + s (ε_p − ε_n).

    ε_p is the answer to the prompt, ε_n to the negative one, which is the null caption if nothing
    is given. scale s: 1 is the plain conditional model, asked once; 0 sees the negative one only.
    A sample's label y is the number of its prompt; all sentences are read once, here.
    Shapes: as the model's; y (B,) integers 0 … number of prompts − 1.
    Source: Ho & Salimans 2022; for the negative prompt Liu et al. 2022 (negation).
    """

    def __init__(self, model: TextFFTD, prompts: Sequence[str], scale: float = 1.0,
                 negative: str = NULL):
        super().__init__()
        self.scale = number(scale, "scale", 0)
        if negative != NULL and scale <= 1:
            raise ValueError("a negative prompt works by guidance: the scale must be above 1 with "
                             f"it; got {scale:g}")
        self.model, self.count = model, len(prompts)
        self.prediction, self.schedule = prediction_of(model), schedule_of(model)
        with evaluating(model):
            read = model.read(model.text.numbers([*prompts, negative]))
        for name, part in read._asdict().items():  # .to(…) takes them along
            self.register_buffer(name, part, persistent=False)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if y is None:
            raise ValueError("which prompt? Pass y, the number of each sample's prompt")
        tensor(x, "x", ("B", "C", ...))
        times(t, len(x))
        y = labels(y, len(x), self.count)
        negative = torch.full_like(y, self.count)
        if self.scale in (0, 1):
            return self._ask(x, t, y if self.scale else negative)
        twice = t if len(t) == 1 else torch.cat([t, t])
        both = self._ask(torch.cat([x, x]), twice, torch.cat([y, negative]))
        told, untold = both.chunk(2)                                  # (B, C, …)
        return untold + self.scale * (told - untold)

    def _ask(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        sentences = Sentences(*(self.get_buffer(name)[y] for name in Sentences._fields))
        return ask(lambda x, t: self.model.told(x, t, sentences), x, t)


def caption_batches(
    z: Tensor, rows: Tensor, batch_size: int = 64, drop: float = 0.15, seed: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches (z, ids): each time a face comes it has a new caption.

    With probability `drop` it is the null caption, so that one network learns both (Ho & Salimans
    2022, Algorithm 1). Shapes: z (N, …), rows (N, 9) labels of ToyFaces → (B, …), (B, L).
    """
    whole(batch_size, "batch_size")
    number(drop, "drop", 0, 1)
    if len(rows) != len(z):
        refuse("rows", f"{len(z)} rows of labels, one for each latent", len(rows))
    generator, rng = seeded(seed), random.Random(seed)
    for step in itertools.count():
        picked = torch.randint(len(z), (batch_size,), generator=generator)
        texts = captions(rows[picked], seed=seed * 1_000_003 + step)
        yield z[picked], tokenise([NULL if rng.random() < drop else text for text in texts])


def draw(
    model: TextFFTD, tokenizer: IVQVAE, prompts: Sequence[str], *, scale: float = 2.0,
    negative: str = NULL, steps: int = 10, seed: int = 0, noise: Tensor | None = None
) -> Tensor:
    """A face for every prompt, by steps of second order. Each prompt is read first, and refused
    where it contradicts itself or says what no face can be (`minigen.prompts.read`).

    noise: where to start from, (N, C, grid, grid); else it is drawn from the seed.
    Shapes: N prompts → (N, 3, H, W).
    """
    labels_told(prompts, model.text.learned)      # each is read, for its refusal
    c = model.config
    shape = (len(prompts), c["latent_channels"], c["grid"], c["grid"])
    xT = torch.randn(shape, generator=seeded(seed)) if noise is None else noise
    prompted = Prompted(model, prompts, scale, negative)
    z = last(ode.multistep_sample(prompted, diffusion_of(prompted), xT,
                                  torch.arange(len(prompts)), steps=steps))
    return decode(tokenizer, z, made_with=getattr(model, "card", {}).get("tokenizer"))
