"""Chapter 6: classifier-free guidance. One network, with and without labels, and the difference.

The null label is the number of classes, K: "no class given".
Sources: Ho & Salimans 2022; Liu et al. 2022 (several labels at once).
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from minigen.ddpm import Denoiser, ask, prediction_of, schedule_of
from minigen.inputs import in_range, labels, number, refuse, tensor, times, whole


def drop_labels(y: Tensor, null: int, p: float = 0.1, generator: Generator | None = None) -> Tensor:
    """A copy of y in which each label has become `null` with probability p, on its own.

    Shapes: y (B,) integers → (B,). Source: Ho & Salimans 2022, Algorithm 1.
    Raises: ValueError for p outside [0, 1].
    """
    number(p, "p", 0, 1)
    whole(null, "null", 0)
    in_range(tensor(y, "labels", ("B",), integers=True), 0, null, "labels")
    dropped = torch.rand(len(y), generator=generator).to(y.device) < p
    return torch.where(dropped, null, y)


class Guided(nn.Module):
    """A conditional model with guidance: ε = ε_u + s (ε_c − ε_u), for all channels.

    ε_c is the answer to the label, ε_u to the null label. scale s: 0 ignores the label, 1 is the
    plain conditional model (asked once), above 1 exaggerates what the label adds. Ho & Salimans
    write 1 + w for s. What the model predicts may be x_0 or v as well: both are linear in ε.
    Shapes: as the model's; y (B,) integers 0 … null − 1.
    Raises: ValueError for a label outside, or none.
    """

    def __init__(self, model: Denoiser, null: int, scale: float = 1.0):
        super().__init__()
        classes = getattr(model, "num_classes", None)
        whole(null, "null")
        if classes not in (None, null):
            refuse("null", f"{classes}, the model's number of classes", null)
        number(scale, "scale", 0)
        self.model = model
        self.prediction = prediction_of(model)
        self.schedule = schedule_of(model)
        self.null = null
        self.scale = scale

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        y = _labels(x, t, y, self.null)
        if self.scale == 1:
            return ask(self.model, x, t, y)
        nothing = torch.full_like(y, self.null)
        if self.scale == 0:
            return ask(self.model, x, t, nothing)
        twice = t if len(t) == 1 else torch.cat([t, t])
        both = ask(self.model, torch.cat([x, x]), twice, torch.cat([y, nothing]))    # (2B, C, …)
        conditional, unconditional = both.chunk(2)                                   # (B, C, …)
        return unconditional + self.scale * (conditional - unconditional)


def _labels(x: Tensor, t: Tensor, y: Tensor | None, count: int) -> Tensor:
    """y, with which and x and t a guided model can be asked. Raises: ValueError for others."""
    if y is None:
        raise ValueError("guidance needs labels y; for samples without a class use the model "
                         "itself")
    tensor(x, "x", ("B", "C", ...))
    times(t, len(x))
    return labels(y, len(x), count)


class Composed(Guided):
    """Several labels at once, of a model told only one in training: ε = ε_u + Σ_k s_k (ε_k − ε_u).

    It follows from Bayes' rule where the labels, given the picture, say nothing of each other.
    combinations: the labels that go together, a row each; a sample's label y is the number of its
    row. scale: one for all, or one for each column; 0 leaves that column unasked.
    Shapes: combinations (M, K) integers 0 … null − 1; y (B,) integers 0 … M − 1; the model is asked
    for up to (K + 1) · B images at once.
    Source: Liu et al. 2022, Eq. 11. Raises: as `Guided`, and ValueError for scales that are not K.
    """

    combinations: Tensor

    def __init__(self, model: Denoiser, null: int, combinations: Tensor,
                 scale: float | Sequence[float] = 1.0):
        super().__init__(model, null)
        tensor(combinations, "combinations", ("M", "K"), integers=True)
        in_range(combinations, 0, null - 1, "combinations")
        columns = combinations.shape[1]
        scales = list(scale) if isinstance(scale, Sequence) else [scale] * columns
        if len(scales) != columns or not columns:
            refuse("scale", f"one number, or {columns}, one for each column", len(scales))
        self.scales = [number(s, "scale", 0) for s in scales]
        self.register_buffer("combinations", combinations.long(), persistent=False)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        y = _labels(x, t, y, len(self.combinations))
        told = self.combinations.to(y.device)[y].T                   # (K, B)
        asked = [k for k, s in enumerate(self.scales) if s != 0]
        rows = torch.cat([torch.full_like(y, self.null), *(told[k] for k in asked)])
        n = len(asked) + 1
        at = t if len(t) == 1 else t.repeat(n)
        x = x.repeat(n, *[1] * (x.ndim - 1))
        nothing, *answers = ask(self.model, x, at, rows).chunk(n)    # (B, C, …) each
        steps = (self.scales[k] * (a - nothing) for k, a in zip(asked, answers, strict=True))
        return sum(steps, nothing)
