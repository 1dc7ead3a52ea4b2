"""The playground's networks as ONNX files, and the proof that they answer as torch does.

The course's weights are kept in 16 bits, and so are they here: a file holds them as they are, with
a cast in front that the runtime carries out once, while loading. All arithmetic is in 32 bits.
"""

import builtins
import contextlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from minigen.fftd import FFTD
from minigen.files import data_path, load_weights, replacing
from minigen.ivqvae import IVQVAE
from minigen.metrics import AttributeClassifier
from minigen.prompts import LONGEST, PAD, VOCABULARY
from minigen.text_to_image import Sentences, TextFFTD
from minigen.vae import VAE
from minigen.vqvae import VQVAE, nearest_code

CLOSE = 1e-3  # how far the runtime's answer may be from torch's
SMALL = 64    # tensors of fewer numbers stay in 32 bits, which costs nothing


class VAEDecoder(nn.Module):
    """z (B, 32) → image (B, 3, 32, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.model = load_weights(VAE, "vae")

    def forward(self, z: Tensor) -> Tensor:
        return self.model.decode(z)


class TokenDecoder(nn.Module):
    """tokens (B, 4, 4) → image (B, 3, 32, 32), by the VQ-VAE."""

    def __init__(self) -> None:
        super().__init__()
        self.model = load_weights(VQVAE, "vqvae")

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.decode(self.model.quantizer.embed(tokens))


class LatentDecoder(nn.Module):
    """Normalised latents z (B, 4, 4, 4) → image (B, 3, 32, 32) and its tokens (B, 4, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.model = load_weights(IVQVAE, "ivqvae")

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z_e = self.model.denormalise(z)
        rows = z_e.movedim(1, -1).flatten(0, 2)                          # (B·16, 4)
        tokens = nearest_code(rows, self.model.quantizer.codebook).view(-1, 4, 4)
        return self.model.decode(self.model.quantizer.embed(tokens)), tokens


class Denoiser(nn.Module):
    """Noisy latents z (B, 4, 4, 4), time t (1,), hair y (B,) or 5 for any → v as z."""

    def __init__(self) -> None:
        super().__init__()
        self.model = load_weights(FFTD, "fftd")

    def forward(self, z: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.model(z, t, y)


class Words(nn.Module):
    """Sentences of 48 tokens, ids (N, 48), padding among them → their words' features (N, 48, 64).
    """

    def __init__(self) -> None:
        super().__init__()
        self.model = load_weights(TextFFTD, "text_fftd").text

    def forward(self, ids: Tensor) -> Tensor:
        # as the encoder's own forward; told that the mask is causal, torch need not look at it
        x = self.model.words(ids) + self.model.places
        return self.model.layers(x, mask=self.model.get_buffer("hidden"), is_causal=True)


class TextDenoiser(nn.Module):
    """Noisy latents z (B, 4, 4, 4), time t (1,), the number y (B,) of each one's sentence, 0 or 1,
    and the two sentences, words (2, 48, 64) and ids (2, 48) → v as z.
    """

    def __init__(self) -> None:
        super().__init__()
        self.model = load_weights(TextFFTD, "text_fftd")

    def forward(self, z: Tensor, t: Tensor, y: Tensor, words: Tensor, ids: Tensor) -> Tensor:
        own, mask = words[y], ids[y] != PAD                      # the end's features are not used
        return self.model.told(z, t, Sentences(own, mask, own[:, 0]))


class Reader(nn.Module):
    """image (B, 3, 32, 32) → the logits of all attributes' values, one attribute after another."""

    def __init__(self) -> None:
        super().__init__()
        self.model = load_weights(AttributeClassifier, "classifier")

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat(list(self.model(image).values()), 1)


class Network(NamedTuple):
    """A file of the playground: what builds it, the names of inputs and outputs, an example, and
    which inputs are of one size, however large the batch.
    """

    build: Callable[[], nn.Module]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: Callable[[int, torch.Generator], tuple[Tensor, ...]]
    fixed: tuple[str, ...] = ()


def _latents(n: int, g: torch.Generator) -> Tensor:
    return torch.randn(n, 4, 4, 4, generator=g)


def _time(g: torch.Generator) -> Tensor:
    return torch.randint(1000, (1,), generator=g)


def _sentences(n: int, g: torch.Generator) -> Tensor:
    """Words at random, of any number, and padding behind them. Shapes: → (n, 48)."""
    length = torch.randint(2, LONGEST + 1, (n, 1), generator=g)
    ids = torch.randint(1, len(VOCABULARY), (n, LONGEST), generator=g)
    return ids.masked_fill(torch.arange(LONGEST) >= length, PAD)


NETWORKS = {
    "vae": Network(VAEDecoder, ("z",), ("image",),
                   lambda n, g: (torch.randn(n, 32, generator=g),)),
    "vqvae": Network(TokenDecoder, ("tokens",), ("image",),
                     lambda n, g: (torch.randint(512, (n, 4, 4), generator=g),)),
    "ivqvae": Network(LatentDecoder, ("z",), ("image", "tokens"),
                      lambda n, g: (_latents(n, g),)),
    "fftd": Network(Denoiser, ("z", "t", "y"), ("v",),
                    lambda n, g: (_latents(n, g), _time(g),
                                  torch.randint(6, (n,), generator=g)), ("t",)),
    "words": Network(Words, ("ids",), ("words",), lambda n, g: (_sentences(n, g),)),
    "text_fftd": Network(TextDenoiser, ("z", "t", "y", "words", "ids"), ("v",),
                         lambda n, g: (_latents(n, g), _time(g),
                                       torch.randint(2, (n,), generator=g),
                                       torch.randn(2, LONGEST, 64, generator=g),
                                       _sentences(2, g)), ("t", "words", "ids")),
    "classifier": Network(Reader, ("image",), ("logits",),
                          lambda n, g: (torch.rand(n, 3, 32, 32, generator=g) * 2 - 1,)),
}


@contextlib.contextmanager
def _symbolic_lengths() -> Iterator[None]:
    """Inside, len(x) of a tensor may be a symbol in the course's modules, as x.shape[0] is.

    Python's own len makes a plain number of it, which would fix the batch for ever.
    """
    def length(x: Any) -> Any:
        return x.shape[0] if isinstance(x, Tensor) else builtins.len(x)

    modules = [m for n, m in sys.modules.items() if n.split(".")[0] == "minigen"]
    for module in modules:
        vars(module)["len"] = length
    try:
        yield
    finally:
        for module in modules:
            del vars(module)["len"]


def exported(name: str) -> onnx.ModelProto:
    """A network of the table as ONNX, its weights in 16 bits where they are exact there."""
    network = NETWORKS[name]
    example = network.example(2, torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = tuple(None if n in network.fixed else {0: batch} for n in network.inputs)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad(), _symbolic_lengths():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            network.build().eval(), example, dynamo=True, dynamic_shapes=shapes, verbose=False,
            input_names=network.inputs, output_names=network.outputs)
    model = program.model_proto
    _halve(model)
    return model


def _halve(model: onnx.ModelProto) -> None:
    """Keep every weight that 16 bits hold exactly in 16 bits, and cast it where it is used."""
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < SMALL:
            continue
        half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(half, f"{name}_16"))
        casts.append(helper.make_node("Cast", [f"{name}_16"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    del model.graph.value_info[:]
    del model.metadata_props[:]
    for node in model.graph.node:                 # where in the sources each step came from
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model)


def difference(name: str, path: Path, batch: int = 3, seed: int = 1) -> float:
    """The largest difference between the runtime's answers and torch's to the same input."""
    network = NETWORKS[name]
    given = network.example(batch, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        wanted = network.build().eval()(*given)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    named = {n: x.numpy() for n, x in zip(network.inputs, given, strict=True)}
    got = session.run(list(network.outputs), named)
    return max(float(np.abs(g - w.numpy()).max()) for g, w in zip(got, wanted, strict=True))


def write(folder: Path) -> dict[str, float]:
    """Every network as folder/NAME.onnx; answers with its difference to torch.

    Raises: RuntimeError where one differs by more than `CLOSE`.
    """
    far = {}
    for name in NETWORKS:
        path = folder / f"{name}.onnx"
        with replacing(path) as temporary:
            temporary.write_bytes(exported(name).SerializeToString())
        far[name] = difference(name, path)
        if not far[name] <= CLOSE:
            raise RuntimeError(f"{path.name} answers {far[name]:.2g} away from torch, and {CLOSE} "
                               "is allowed: the versions in requirements.txt are the ones tried.")
    return far


def weights_of(name: str) -> Path:
    """The file that a network's weights come from."""
    return data_path("pretrained", f"{name}.safetensors")
