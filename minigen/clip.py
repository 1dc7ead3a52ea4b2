"""Excursion 2: CLIP. Two encoders, one for pictures and one for sentences, trained to agree.

Sources: Radford et al. 2021 (CLIP); van den Oord et al. 2018 (InfoNCE).
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.captions import WORDS, captions, in_combination
from minigen.common import Batches, counted, evaluating, one_cycle
from minigen.common import generator as seeded
from minigen.data.toyfaces import ToyFaces, attribute_values, draw_faces
from minigen.inputs import alike, images, in_range, number, refuse, tensor, whole, wholes
from minigen.prompts import END, LONGEST, VOCABULARY, check_new_word, tokenise

HOTTEST = 100.0        # the scale of the similarities is clamped here, as in CLIP
# how each value is put when a picture is read by sentences, {} a word of the value
READINGS = {"background": "a person on a {} background", "skin": "a person with {} skin",
            "hair": "a person with {} hair", "hair_length": "a person with {} hair",
            "shirt": "a person in a {} shirt", "eyes": "a person with {} eyes"}
SENTENCES = {"glasses": ("a person", "a person wearing glasses"),
             "smile": ("a frowning person", "a serious person", "a smiling person"),
             "pose": ("a person looking left", "a person looking ahead",
                      "a person looking right")}


def embed_words(table: Tensor, vectors: Tensor | None, ids: Tensor) -> Tensor:
    """Each word's vector; those of words that were learned later stand behind the table.

    Shapes: table (V, D), vectors (K, D) or None, ids (N, L) below V + K → (N, L, D).
    """
    return F.embedding(ids, table if vectors is None else torch.cat([table, vectors]))


class TextEncoder(nn.Module):
    """A causal Transformer over words: each place sees the words up to its own.

    So a sentence's features do not depend on the padding behind it, and those of its end token have
    seen it whole.
    learned: words added by `add_word` (excursion 4), whose vectors stand behind the others.
    Shapes: ids (N, L) integers → (N, L, width). Source: Radford et al. 2021, §2.4.
    Raises: ValueError for numbers of no word and sentences longer than `prompts.LONGEST`.
    """
    embed = staticmethod(embed_words)   # excursion 4 puts the learner's own in its place

    def __init__(self, width: int = 64, depth: int = 2, heads: int = 4,
                 learned: Sequence[str] = ()):
        super().__init__()
        wholes(width=width, depth=depth, heads=heads)
        if width % heads:
            refuse("heads", f"a divisor of the width {width}", heads)
        self.words = nn.Embedding(len(VOCABULARY), width)
        self.places = nn.Parameter(0.01 * torch.randn(LONGEST, width))
        nn.init.normal_(self.words.weight, std=0.02)
        self.learned = tuple(check_new_word(word, learned[:k]) for k, word in enumerate(learned))
        self.vectors: nn.Parameter | None = None                     # (len(learned), width)
        if self.learned:
            self.vectors = nn.Parameter(torch.zeros(len(self.learned), width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, activation="gelu",
                                           batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width),
                                            enable_nested_tensor=False)
        hidden = torch.ones(LONGEST, LONGEST, dtype=torch.bool).triu(1)
        self.register_buffer("hidden", hidden, persistent=False)

    def add_word(self, word: str, like: str) -> None:
        """A new word, whose vector begins as that of a known one.

        Raises: DataError for a word that is known already, or a `like` that is not.
        """
        check_new_word(word, self.learned)
        start = self.words.weight[tokenise([like])[0, 1]].detach()[None]
        before = [] if self.vectors is None else [self.vectors.detach()]
        self.vectors = nn.Parameter(torch.cat([*before, start.clone()]))
        self.learned += (word,)

    def numbers(self, prompts: Sequence[str]) -> Tensor:
        """`prompts.tokenise`, with the words that were learned, on the encoder's device."""
        return tokenise(prompts, self.learned).to(self.places.device)

    def forward(self, ids: Tensor) -> Tensor:
        tensor(ids, "ids", ("N", "L"), integers=True)
        in_range(ids, 0, len(VOCABULARY) + len(self.learned) - 1, "ids")
        n = ids.shape[1]
        whole(n, "the sentences' length", 1, LONGEST)
        x = self.embed(self.words.weight, self.vectors, ids) + self.places[:n]  # (N, L, width)
        return self.layers(x, mask=self.get_buffer("hidden")[:n, :n])


def at_end(features: Tensor, ids: Tensor) -> Tensor:
    """Each sentence's features at its end token. Shapes: (N, L, D), (N, L) → (N, D)."""
    tensor(features, "features", (*ids.shape, "D"))
    is_end = ids == END
    if not bool((is_end.sum(1) == 1).all()):
        refuse("ids", "sentences with one end token each", "others",
               "minigen.prompts.tokenise writes it")
    return features[is_end]


class ImageEncoder(nn.Sequential):
    """A convolutional network of ToyFaces: 32, 16, 8, 4 pixels a side, then one vector.

    Shapes: (N, 3, 32, 32) in [-1, 1] → (N, dim).
    """

    def __init__(self, dim: int = 64, width: int = 32):
        wholes(dim=dim, width=width)
        channels = (3, width, 2 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        for k, (c, d) in enumerate(itertools.pairwise(channels)):
            layers += [nn.Conv2d(c, d, 3, 1 if k == 0 else 2, 1), nn.BatchNorm2d(d), nn.ReLU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(4 * width * 16, dim))


class CLIP(nn.Module):
    """An image encoder and a text encoder with a common space, and the scale of similarities.

    Both embeddings have length 1; the logits of n pictures and m sentences are exp(log_scale) times
    the cosines between them. exp(log_scale), the inverse temperature, is learned, at most 100.
    Shapes: `image` (N, 3, 32, 32) → (N, dim), `text` ids (N, L) → (N, dim).
    Source: Radford et al. 2021, §2.3 and Figure 3.
    """
    card: dict  # what load_weights finds beside the weights

    def __init__(self, dim: int = 64, width: int = 64, depth: int = 2, heads: int = 4,
                 image_width: int = 32):
        super().__init__()
        self.config = dict(dim=dim, width=width, depth=depth, heads=heads, image_width=image_width)
        self.image_encoder = ImageEncoder(dim, image_width)
        self.text_encoder = TextEncoder(width, depth, heads)
        self.project = nn.Linear(width, dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def image(self, x: Tensor) -> Tensor:
        """Embeddings of pictures, of length 1."""
        images(x, ("N", 3, 32, 32), "x", like=self.log_scale)
        return F.normalize(self.image_encoder(x), dim=1)

    def text(self, ids: Tensor) -> Tensor:
        """Embeddings of sentences, of length 1."""
        return F.normalize(self.project(at_end(self.text_encoder(ids), ids)), dim=1)

    def scale(self) -> Tensor:
        """The similarities' scale, at most 100."""
        return self.log_scale.exp().clamp(max=HOTTEST)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        """Logits: row k is picture k against all sentences. Shapes: → (N, M)."""
        return self.scale() * self.image(x) @ self.text(ids).T


def clip_loss(image: Tensor, text: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE: which sentence belongs to a picture, and which picture to a sentence.

    ½ (mean_k −log softmax_j(s u_k · v_j)[k]  +  mean_k −log softmax_j(s v_k · u_j)[k])

    Shapes: image, text (N, D), rows of length 1, row k of both belonging together → a scalar.
    Source: Radford et al. 2021, Figure 3; van den Oord et al. 2018, Eq. 4.
    """
    alike(tensor(image, "image", ("N", "D")), text, "image", "text")
    number(scale if not isinstance(scale, Tensor) else scale.detach(), "scale", positive=True)
    logits = scale * image @ text.T                                  # (N, N)
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


class CLIPStep(NamedTuple):
    """One step of `train_clip`: its number (from 1), the loss and the scale of similarities."""

    step: int
    loss: float
    scale: float


def train_clip(model: CLIP, data: Batches, *, steps: int, lr: float = 2e-3) -> Iterator[CLIPStep]:
    """Train on batches (pictures, ids); a `CLIPStep` a step. One cycle of the rate, up to `lr`.

    Raises: ValueError where `data` ends before `steps`.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=number(lr, "lr", 0), weight_decay=1e-3)
    schedule = one_cycle(optimiser, lr, steps)
    model.train()
    for step, (x, ids) in counted(data, steps):
        loss = clip_loss(model.image(x), model.text(ids), model.scale())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        yield CLIPStep(step, loss.item(), model.scale().item())


def pair_batches(
    faces: ToyFaces, batch_size: int = 128, told: Sequence[str] | None = None, seed: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches (pictures, ids) of faces without the held-out combinations, and new captions.

    told: the attributes that all captions tell; without it any part of them, as in `captions`.
    Shapes: (B, 3, size, size), (B, L).
    """
    whole(batch_size, "batch_size")
    kept, generator = (~in_combination(faces.labels)).nonzero().flatten(), seeded(seed)
    for step in itertools.count():
        picked = kept[torch.randint(len(kept), (batch_size,), generator=generator)]
        labels, jitter = faces.labels[picked], faces.jitter[picked]
        texts = captions(labels, seed=seed * 1_000_003 + step, told=told)
        yield draw_faces(labels, jitter, faces.size), tokenise(texts)


def embed_images(model: CLIP, x: Tensor, batch_size: int = 500) -> Tensor:
    """Embeddings of many pictures, without gradients. Shapes: (N, 3, 32, 32) → (N, dim)."""
    tensor(x, "x", ("N", 3, 32, 32))
    with evaluating(model):
        return torch.cat([model.image(part) for part in x.split(whole(batch_size, "batch_size"))])


def embed_texts(model: CLIP, sentences: Sequence[str]) -> Tensor:
    """Embeddings of sentences, without gradients. Shapes: N sentences → (N, dim)."""
    with evaluating(model):
        return model.text(model.text_encoder.numbers(sentences))


def retrieval(image: Tensor, text: Tensor) -> tuple[float, float]:
    """Recall at 1: for what share the own sentence is the nearest, and the own picture.

    Shapes: image, text (N, D), row k of both belonging together. Chance is 1 / N.
    """
    alike(tensor(image, "image", ("N", "D")), text, "image", "text")
    cosines = image @ text.T
    own = torch.arange(len(cosines))
    return (float((cosines.argmax(1) == own).float().mean()),
            float((cosines.argmax(0) == own).float().mean()))


def readings(attribute: str) -> list[str]:
    """A sentence for each value of an attribute, in label order."""
    values = attribute_values(attribute)
    if attribute in SENTENCES:
        return list(SENTENCES[attribute])
    return [READINGS[attribute].format(WORDS[attribute][v][0]) for v in values]


def zero_shot(model: CLIP, x: Tensor, sentences: Sequence[str]) -> Tensor:
    """Which of the sentences is nearest to each picture: a classifier made of sentences.

    Shapes: x (N, 3, 32, 32), M sentences → (N,) integers below M. Source: Radford et al., §3.1.2.
    """
    return (embed_images(model, x) @ embed_texts(model, sentences).T).argmax(1)


def clip_score(model: CLIP, x: Tensor, sentences: Sequence[str]) -> Tensor:
    """Cosine of each picture and its sentence, never below 0; times 100 is the usual CLIP score.

    Shapes: x (N, 3, 32, 32), N sentences → (N,). Source: Hessel et al. 2021, CLIPScore (without
    its factor 2.5).
    """
    if len(x) != len(sentences):
        refuse("sentences", f"{len(x)}, one for each picture", len(sentences))
    return (embed_images(model, x) * embed_texts(model, sentences)).sum(1).clamp(min=0)
