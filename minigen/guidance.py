"""Chapter 6: classifier-free guidance. One network, with and without labels, and the difference.

The null label is the number of classes, K: "no class given". Source: Ho & Salimans 2022.
"""

import torch
from torch import Generator, Tensor, nn

from minigen.ddpm import Denoiser, ask, prediction_of
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
        self.schedule = getattr(model, "schedule", None)
        self.null = null
        self.scale = scale

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if y is None:
            raise ValueError("guidance needs labels y; for samples without a class use the model "
                             "itself")
        tensor(x, "x", ("B", "C", ...))
        times(t, len(x))
        y = labels(y, len(x), self.null)
        if self.scale == 1:
            return ask(self.model, x, t, y)
        nothing = torch.full_like(y, self.null)
        if self.scale == 0:
            return ask(self.model, x, t, nothing)
        twice = t if len(t) == 1 else torch.cat([t, t])
        both = ask(self.model, torch.cat([x, x]), twice, torch.cat([y, nothing]))    # (2B, C, …)
        conditional, unconditional = both.chunk(2)                                   # (B, C, …)
        return unconditional + self.scale * (conditional - unconditional)
