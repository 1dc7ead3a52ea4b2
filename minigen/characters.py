"""Excursion 4: what no ToyFace ever had. A beard, a hat, a patch, a nose, freckles; and Zuv.

Drawn over ToyFaces, in the same coordinates and with the same smoothed edges. Of the
course's networks only the decoder of `drawing_beards` was trained on any of it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minigen.captions import WORDS
from minigen.common import Batches, counted, one_cycle
from minigen.common import generator as seeded
from minigen.data.toyfaces import (
    ATTRIBUTES,
    N_JITTER,
    ToyFaces,
    arc,
    draw_faces,
    ellipse,
    from_hexadecimal,
    labels_of,
)
from minigen.errors import DataError
from minigen.files import load_weights
from minigen.inputs import images, number, refuse, tensor, whole
from minigen.ivqvae import IVQVAE, Decoder
from minigen.latents import fingerprint, space_of
from minigen.names import listed, near

EXTRAS = ("beard", "hat", "patch", "nose", "freckles")
COLOURS = dict(beard="f6f6f4", hat="2a8f8a", patch="17151a", nose="d8433b", freckles="8a4a2a")
# Zuv's own: a white beard, and these; the rest of a face changes from picture to picture
ZUV = {"skin": "olive", "hair": "black", "hair_length": "short", "eyes": "brown",
       "glasses": "no"}
CHANGES = ("background", "shirt", "smile", "pose")
WHITE = 0.5                     # a probe's value from which a face has a beard


def _known(extras: Sequence[str]) -> None:
    for name in extras:
        if name not in EXTRAS:
            guess = near(str(name), EXTRAS) or f"; there are {listed(EXTRAS, 'and')}"
            raise DataError(f"nothing called '{name}' can be put on a face{guess}")


def _head(labels: Tensor, jitter: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """A face's coordinates: x of the head, x of its features, which turn with it, and y."""
    place, place_y = jitter.T[:2].view(2, -1, 1, 1)
    turn = (labels[:, -1].view(-1, 1, 1) - 1).float()
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    x = axis.view(1, 1, size) - 0.05 * place - 0.04 * turn            # (B, 1, size)
    y = axis.view(1, size, 1) - 0.04 * place_y                        # (B, size, 1)
    return x, x - 0.12 * turn, y


def _shapes(name: str, x: Tensor, fx: Tensor, y: Tensor, spread: Tensor) -> list[Tensor]:
    """The signed distances of what an extra is drawn with."""
    apart = 0.20 + 0.015 * spread
    if name == "beard":                     # the lower part of the head, and the mouth left free
        jaw = torch.maximum(ellipse(x, y - 0.12, 0.46, 0.54), 0.20 - y)
        return [torch.maximum(jaw, -ellipse(fx, y - 0.36, 0.25, 0.13))]
    if name == "hat":
        crown = torch.maximum(ellipse(x, y + 0.52, 0.44, 0.42), y + 0.50)
        brim = torch.maximum((y + 0.50).abs() - 0.06, x.abs() - 0.66)
        return [crown, brim]
    if name == "patch":
        band = arc(x, y + 0.02 + 0.35 * (fx - apart), 0.50, 0.0, 0.020)
        return [ellipse(fx - apart, y - 0.02, 0.17, 0.15), band]
    if name == "nose":
        return [ellipse(fx, y - 0.17, 0.12, 0.11)]
    places = ((-0.30, 0.20), (-0.22, 0.26), (-0.18, 0.16), (0.30, 0.20), (0.22, 0.26),
              (0.18, 0.16))
    return [ellipse(fx - a, y - b, 0.028, 0.028) for a, b in places]


def draw(labels: Tensor, extras: Sequence[str], jitter: Tensor | None = None, size: int = 32
         ) -> Tensor:
    """ToyFaces with one or more of `EXTRAS` on them; with none they are `draw_faces`' own.

    Shapes: labels (B, 9), jitter (B, 8) or None → (B, 3, size, size) in [-1, 1].
    Raises: DataError for an unknown extra, and as `draw_faces`.
    """
    _known(extras)
    faces = draw_faces(labels, jitter, size)
    j = torch.zeros(len(labels), N_JITTER) if jitter is None else jitter
    x, fx, y = _head(labels, j, size)
    for name in extras:
        colour = from_hexadecimal([COLOURS[name]]).view(1, 3, 1, 1)
        for distance in _shapes(name, x, fx, y, j[:, 3].view(-1, 1, 1)):
            cover = (0.5 - distance * size / 2).clamp(0, 1).unsqueeze(1)
            faces = faces.lerp(colour.expand_as(faces), cover.expand_as(faces))
    return faces


def with_extras(faces: ToyFaces, extras: Sequence[str]) -> Tensor:
    """All faces of a set with these extras on. Shapes: → (n, 3, size, size)."""
    parts = zip(faces.labels.split(256), faces.jitter.split(256), strict=True)
    return torch.cat([draw(labels, extras, jitter, faces.size) for labels, jitter in parts])


def zuv(n: int, seed: int = 0, size: int = 32) -> tuple[Tensor, Tensor]:
    """n pictures of Zuv, a person with a white beard, and their labels.

    Skin, hair and eyes are Zuv's own (`ZUV`); background, shirt, mouth and pose change.
    Shapes: → (n, 3, size, size), (n, 9).
    """
    faces = ToyFaces(whole(n, "n"), size, seed=10_000 + whole(seed, "seed", 0))
    own = labels_of(**ZUV)[0]
    changing = torch.tensor([name in CHANGES for name in ATTRIBUTES])
    faces.labels = torch.where(changing, faces.labels, own)
    return with_extras(faces, ["beard"]), faces.labels


def said_of(labels: Tensor, word: str = "zuv") -> list[list[str]]:
    """What can be said of pictures of a person: the new word, and what changes around it.

    Four sentences a picture: "a zuv person", with the background, the shirt, both. What is told of
    a picture need not become part of the word.
    Shapes: labels (K, 9) → K lists.
    """
    names, found = list(ATTRIBUTES), []
    for row in tensor(labels, "labels", ("K", len(ATTRIBUTES)), integers=True).tolist():
        wall, shirt = (ATTRIBUTES[name][row[names.index(name)]] for name in ("background", "shirt"))
        where = f"on a {WORDS['background'][wall][0]} background"
        dress = f"in a {WORDS['shirt'][shirt][0]} shirt"
        found.append([f"a {word} person{more}" for more in ("", f" {where}", f" {dress}",
                                                            f" {dress} {where}")])
    return found


# below the mouth, where a beard is on every face however it is turned: rows, columns, as shares
_CHIN = slice(0.75, 0.80), slice(0.44, 0.56)


def bearded(x: Tensor) -> Tensor:
    """Whether a face has a white beard: a closed form, no network.

    Of the means of red, green and blue at the chin the least is above `WHITE`. No skin of ToyFaces
    has so much blue.
    Shapes: (N, 3, S, S) in [-1, 1] → (N,) of booleans.
    """
    images(x, ("N", 3, "S", "S"), "x")
    if x.shape[-1] < 16:
        refuse("x", "of at least 16×16 pixels: smaller faces have no chin", str(tuple(x.shape)))
    rows, columns = (slice(round(part.start * x.shape[-1]), round(part.stop * x.shape[-1]))
                     for part in _CHIN)
    return x[:, :, rows, columns].mean((2, 3)).amin(1) > WHITE


class DrawingStep(NamedTuple):
    """One step of `learn_to_draw`: its number (from 1) and the batch's loss."""

    step: int
    loss: float


def learn_to_draw(
    tokenizer: Any, extras: Sequence[str], *, steps: int, batch_size: int = 32, lr: float = 2e-3,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None, seed: int = 0
) -> Iterator[DrawingStep]:
    """Train the decoder, and nothing else, on faces of which half have these extras.

    Encoder and codebook stay as they are, so that latents, and what was trained on them, keep their
    meaning (`tokenizer.latents_of` says whose they are); what the decoder makes of them is new.
    The loss is ‖x̂ − x‖₁, x̂ = D(Quantize(E(x))), and perceptual(x̂, x) where it is given.
    Raises: DataError for an unknown extra.
    """
    _known(extras)
    tokenizer.latents_of = space_of(tokenizer)
    faces = ToyFaces(20_000, tokenizer.config["size"], seed=20_000 + whole(seed, "seed", 0))
    optimiser = torch.optim.Adam(tokenizer.decoder.parameters(), lr=number(lr, "lr", 0))
    rate = one_cycle(optimiser, lr, steps)
    tokenizer.eval()
    tokenizer.decoder.train()
    for step, (x,) in counted(_half_and_half(faces, extras, batch_size, seed), steps):
        with torch.no_grad():
            z_q = tokenizer.quantizer.embed(tokenizer.encode_indices(x))
        x_hat = tokenizer.decode(z_q)
        loss = F.l1_loss(x_hat, x)
        if perceptual:
            loss = loss + perceptual(x_hat, x).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        yield DrawingStep(step, loss.item())
    tokenizer.eval()


def _half_and_half(faces: ToyFaces, extras: Sequence[str], batch_size: int, seed: int) -> Batches:
    """Endless batches (x,): one half with the extras on, the other as ToyFaces are."""
    half, g = whole(batch_size, "batch_size", 2) // 2, seeded(seed)
    while True:
        picked = torch.randint(len(faces), (2 * half,), generator=g)
        labels, jitter = faces.labels[picked], faces.jitter[picked]
        yield (torch.cat([draw(labels[:half], extras, jitter[:half], faces.size),
                          draw_faces(labels[half:], jitter[half:], faces.size)]),)


def drawing_beards() -> IVQVAE:
    """The course's IVQ-VAE with a decoder that can draw a white beard ("decoder_beard").

    Its latents are the IVQ-VAE's, whose fingerprint it keeps.
    """
    tokenizer: Any = load_weights(IVQVAE, "ivqvae")
    decoder: Any = load_weights(Decoder, "decoder_beard")
    tokenizer.latents_of = decoder.card["tokenizer"]
    if tokenizer.latents_of != fingerprint(tokenizer):
        raise DataError("decoder_beard belongs to another IVQ-VAE than ivqvae: train it again, "
                        "python tools/pretrain.py decoder_beard")
    tokenizer.decoder.load_state_dict(decoder.state_dict())
    return tokenizer
