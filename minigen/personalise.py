"""Excursion 4: a text model learns one new face from a few pictures.

Textual inversion learns the vector of a new word, LoRA low-rank updates beside it, DreamBooth every
weight. What the model knew is kept by a prior: faces it drew itself before, in the same training.
Sources: Gal et al. 2023 (textual inversion); Hu et al. 2022 (LoRA); Ruiz et al. 2023 (DreamBooth).
"""

import copy
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minigen import ddpm, ode
from minigen.captions import captions
from minigen.common import filled, one_cycle
from minigen.common import generator as seeded
from minigen.data.toyfaces import ToyFaces
from minigen.errors import DataError
from minigen.files import read_tensors, save_tensors
from minigen.inputs import described, number, refuse, tensor, whole
from minigen.ivqvae import IVQVAE
from minigen.latents import encode, fingerprint
from minigen.lora import with_lora
from minigen.rebuilding import require_finite
from minigen.text_to_image import Prompted, TextFFTD

METHODS = ("inversion", "lora", "dreambooth")
RATES = dict(inversion=3e-2, lora=5e-3, dreambooth=1e-3)      # of learning, found on one seed
LIKE = "person"                                               # what a new word begins as


def begin(model: TextFFTD, word: str, method: str, *, like: str = LIKE, rank: int = 4,
          seed: int = 0) -> TextFFTD:
    """A copy of a text model with a new word; only what the method trains has gradients.

    method: "inversion" trains the vectors of learned words alone; "lora" these, and low-rank
        updates of all linear maps of the blocks; "dreambooth" everything.
    like: the known word whose vector is the new one's first.
    Raises: DataError for a word that is one already; ValueError for an unknown method, or a model
    whose text encoder is frozen.
    """
    if method not in METHODS:
        refuse("method", f"one of {', '.join(METHODS)}", repr(method))
    if not isinstance(model, TextFFTD):
        refuse("the model", "a TextFFTD", described(model))
    if model.config["frozen"]:
        refuse("the model", "one whose text encoder is not frozen", "frozen=True",
               "no gradient would reach the new word")
    new: Any = copy.deepcopy(model).requires_grad_(method == "dreambooth")
    if method == "lora":
        new = with_lora(new, rank, seed=seed)
    new.text.add_word(word, like)
    new.config = new.config | dict(learned=list(new.text.learned))
    new.learned_by = dict(method=method, word=word, rank=rank, base=fingerprint(model))
    return new.train()


def learned(model: nn.Module) -> dict[str, Tensor]:
    """What a personalised model has learned, by name: all that has gradients."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def encode_pictures(tokenizer: IVQVAE, pictures: Tensor) -> Tensor:
    """A person's pictures as latents. Shapes: (K, 3, S, S) in [-1, 1] → (K, C, grid, grid).

    Raises: DataError for no pictures, or pictures of another size than the tokenizer's.
    """
    side = tokenizer.config["size"]
    if not isinstance(pictures, Tensor) or pictures.ndim != 4 or not len(pictures):
        got = f"the shape {tuple(pictures.shape)}" if isinstance(pictures, Tensor) else described(
            pictures)
        raise DataError(f"at least one picture is needed, as a tensor (K, 3, {side}, {side}); got "
                        f"{got}")
    if tuple(pictures.shape[1:]) != (3, side, side):
        raise DataError(f"the pictures must be (3, {side}, {side}), as the tokenizer's are; got "
                        f"{tuple(pictures.shape[1:])}: resize them first")
    return encode(tokenizer, pictures).z


class Prior(NamedTuple):
    """Latents that a model drew before it was changed, and their sentences.

    z (N, C, grid, grid), sentences: N of them.
    """

    z: Tensor
    sentences: list[str]


def prior_of(model: TextFFTD, n: int = 256, sentences: Sequence[str] | None = None, *,
             scale: float = 2.0, steps: int = 10, seed: int = 0) -> Prior:
    """n latents that the model draws as it is now, for sentences (again and again, if too few).

    sentences: without them, captions of all kinds, so that all that the model can do is asked;
        DreamBooth takes the class alone, ["a person"].
    """
    texts = captions(ToyFaces(whole(n, "n"), seed=30_000 + seed).labels, seed=seed)
    if sentences is not None:
        if isinstance(sentences, str) or not len(sentences):
            refuse("sentences", "a list of sentences", described(sentences))
        texts = list(itertools.islice(itertools.cycle(sentences), n))
    c, parts = model.config, []
    for k in range(0, n, 128):
        part = texts[k : k + 128]
        noise = torch.randn(len(part), c["latent_channels"], c["grid"], c["grid"],
                            generator=seeded(seed + k))
        prompted = Prompted(model, part, scale)
        parts.append(ddpm.last(ode.multistep_sample(
            prompted, ddpm.diffusion_of(prompted), noise, torch.arange(len(part)), steps=steps)))
    return Prior(torch.cat(parts), texts)


Noisy = tuple[Tensor, Tensor, Tensor, Tensor]                 # latents, ids, time steps, noise


def noisy_batch(z: Tensor, ids: Tensor, n: int, T: int, generator: torch.Generator) -> Noisy:
    """n latents by chance and their sentences, each with a time step and a noise.

    Shapes: z (N, C, grid, grid), ids (N, L) → (n, …), (n, L), (n,), (n, …).
    """
    picked = torch.randint(len(z), (whole(n, "n"),), generator=generator)
    t = torch.randint(T, (n,), generator=generator)
    return z[picked], ids[picked], t, torch.randn(n, *z.shape[1:], generator=generator)


def preserving_loss(model: TextFFTD, own: Noisy, known: Noisy | None) -> tuple[Tensor, Tensor]:
    """The person's loss and the prior's, whose weighted sum is trained: L = L_own + λ L_known.

    known=None leaves the second out, which is then 0. Source: Ruiz et al. 2023, Eq. 2.
    """
    diffusion = ddpm.diffusion_of(model)

    def loss(z: Tensor, ids: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return ddpm.simple_loss(model, diffusion, z, t, eps, ids)

    first = loss(*own)
    return first, loss(*known) if known is not None else first.new_zeros(())


class PersonalStep(NamedTuple):
    """One step of `train`: its number (from 1), the person's loss, and the prior's."""

    step: int
    loss: float
    prior: float


def train(model: TextFFTD, z: Tensor, sentences: Sequence[Sequence[str]], *, steps: int, lr: float,
          prior: Prior | None = None, weight: float = 1.0, batch_size: int = 8, seed: int = 0
          ) -> Iterator[PersonalStep]:
    """Train what has gradients on a person's latents, and on a prior beside them.

    sentences: for each picture what can be said of it, [["a zuv person", …], …]; each time one of
        them by chance.
    prior: without it nothing keeps what the model knew. weight: λ, of its loss.
    Shapes: z (K, C, grid, grid). Raises: ValueError where nothing has gradients.
    """
    c = model.config
    tensor(z, "z", ("K", c["latent_channels"], c["grid"], c["grid"]), like=model.embed.weight)
    number(weight, "weight", 0)
    parameters = list(learned(model).values())
    if not parameters:
        refuse("the model", "one with something to learn", "all frozen", "personalise.begin")
    if len(sentences) != len(z) or any(isinstance(said, str) or not said for said in sentences):
        refuse("sentences", f"{len(z)} lists of sentences, one for each picture",
               described(sentences))
    picture = torch.tensor([k for k, said in enumerate(sentences) for _ in said])
    own_ids = model.text.numbers([text for said in sentences for text in said])
    known_ids = model.text.numbers(prior.sentences) if prior is not None else own_ids
    optimiser = torch.optim.Adam(parameters, lr=number(lr, "lr", 0))
    rate, g, T = one_cycle(optimiser, lr, steps), seeded(seed), ddpm.diffusion_of(model).T
    for step in range(1, steps + 1):
        own = noisy_batch(z[picture], own_ids, batch_size, T, g)
        known = noisy_batch(prior.z, known_ids, batch_size, T, g) if prior is not None else None
        first, second = preserving_loss(model, own, known)
        optimiser.zero_grad()
        (first + weight * second).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        rate.step()
        yield PersonalStep(step, first.item(), second.item())
    model.eval()


def nearest(x: Tensor, pictures: Tensor) -> Tensor:
    """How far each is from the nearest of the pictures: the root mean square of the difference.

    Shapes: x (N, …), pictures (K, …) → (N,).
    """
    tensor(filled(pictures, "pictures"), "pictures", ("K", ...))
    tensor(filled(x, "x"), "x", ("N", *pictures.shape[1:]))
    return torch.cdist(x.flatten(1), pictures.flatten(1)).amin(1) / x[0].numel() ** 0.5


def copied(x: Tensor, pictures: Tensor, fresh: Tensor, share: float = 0.01) -> float:
    """What share of x copies a picture: is nearer to one than all but a `share` of fresh ones are.

    fresh: other pictures of the same person, which nothing was trained on. Of them, `share` count.
    Shapes: x (N, 3, S, S), pictures (K, 3, S, S), fresh (M, 3, S, S).
    """
    limit = nearest(fresh, pictures).quantile(number(share, "share", 0, 1))
    return float((nearest(x, pictures) < limit).float().mean())


def save_learned(path: str | Path, model: TextFFTD) -> None:
    """Write what a personalised model has learned, and nothing of the base but its fingerprint.

    Raises: ValueError for a model that `begin` did not make; DataError for NaN or infinity.
    """
    about: Any = getattr(model, "learned_by", None)
    if about is None:
        refuse("the model", "one that personalise.begin made", described(model))
    require_finite(learned(model), "What was learned", "nothing was written")
    save_tensors(path, learned(model), kind="learned", about=json.dumps(about))


def load_learned(path: str | Path, base: TextFFTD) -> TextFFTD:
    """The personalised model: what a file of `save_learned` holds, on its base.

    Raises: DataError for another file, or another base than it was learned on.
    """
    values, meta = read_tensors(path, "file of something learned")
    if meta.get("kind") != "learned":
        raise DataError(f"'{path}' holds nothing that was learned on a text model; "
                        "personalise.save_learned writes such files.")
    whole = f"'{path}' does not hold what it says: make it again."
    try:
        about = json.loads(meta["about"])
        word, method, rank, theirs = (about[k] for k in ("word", "method", "rank", "base"))
    except (KeyError, ValueError, TypeError):
        raise DataError(whole) from None
    if theirs != (mine := fingerprint(base)):
        raise DataError(f"'{path}' was learned on the model {theirs[:12]}…, and this one is "
                        f"{mine[:12]}…: load the one that it was learned on.")
    model = begin(base, word, method, rank=rank)
    own = learned(model)
    if own.keys() != values.keys() or any(
            own[k].shape != v.shape or own[k].dtype != v.dtype or not bool(v.isfinite().all())
            for k, v in values.items()):
        raise DataError(whole)
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
    return model.eval()
