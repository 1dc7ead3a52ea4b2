"""Excursion 4: LoRA. Low-rank updates of a trained network's linear maps, and their merging.

Source: Hu et al. 2022 (LoRA).
"""

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.common import generator as seeded
from minigen.inputs import described, number, refuse, whole

Model = TypeVar("Model", bound=nn.Module)


def lora_linear(x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor,
                alpha: float) -> Tensor:
    """x Wᵀ + b + (α / r) x Aᵀ Bᵀ, the update by way of r numbers: never the whole matrix B A.

    Shapes: x (…, in), weight W (out, in), bias (out,) or None, down A (r, in), up B (out, r)
    → (…, out). Source: Hu et al. 2022, Eq. 3.
    """
    return F.linear(x, weight, bias) + alpha / len(down) * F.linear(F.linear(x, down), up)


class LoRALinear(nn.Module):
    """A frozen linear map and a low-rank update: x Wᵀ + b + (α / r) x Aᵀ Bᵀ.

    A is drawn, B starts at zero, so at first nothing is changed. Only A and B have gradients.
    rank: r. alpha: α; without it r, so that the update is B A as it is.
    Shapes: x (…, in) → (…, out); down = A (r, in), up = B (out, r).
    Source: Hu et al. 2022, §4.1. Raises: ValueError for a rank above either width.
    """
    act = staticmethod(lora_linear)     # excursion 4 puts the learner's own in its place

    def __init__(self, base: nn.Linear, rank: int, alpha: float | None = None,
                 generator: torch.Generator | None = None):
        super().__init__()
        if not isinstance(base, nn.Linear):
            refuse("base", "an nn.Linear", type(base).__name__)
        narrow = min(base.in_features, base.out_features)
        whole(rank, "rank", 1, narrow)
        self.base = base.requires_grad_(False)
        self.alpha = number(rank if alpha is None else alpha, "alpha", positive=True)
        drawn = torch.randn(rank, base.in_features, generator=generator) / rank**0.5
        self.down = nn.Parameter(drawn.to(base.weight))
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    @property
    def weight(self) -> Tensor:
        """W, of the map below; what a network asks for its type and device."""
        return self.base.weight

    @property
    def in_features(self) -> int:
        return self.base.in_features

    @property
    def out_features(self) -> int:
        return self.base.out_features

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.shape[-1:] != (self.in_features,):
            refuse("x", f"(…, {self.in_features})", described(x))
        return self.act(x, self.weight, self.base.bias, self.down, self.up, self.alpha)

    def merged(self) -> nn.Linear:
        """One linear map that does the same: W + (α / r) B A."""
        plain = copy.deepcopy(self.base)
        with torch.no_grad():
            plain.weight += self.alpha / len(self.down) * self.up @ self.down
        return plain


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def with_lora(model: Model, rank: int = 4, alpha: float | None = None, within: str = "blocks",
              seed: int = 0) -> Model:
    """A copy of a model in which linear maps have low-rank updates; all else is frozen.

    Every map of a part has one for which A and B hold fewer numbers than W.
    within: the name of that part, such as "blocks"; "" is all of it.
    Raises: ValueError where there is no such map, or there are updates already.
    """
    whole(rank, "rank")
    adapted, g = copy.deepcopy(model).requires_grad_(False), seeded(seed)
    if any(isinstance(m, LoRALinear) for m in adapted.modules()):
        refuse("the model", "one without low-rank updates", "one with them", "merge them first")
    inside = f"{within}." if within else ""
    linear = [name for name, m in adapted.named_modules()
              if isinstance(m, nn.Linear) and name.startswith(inside)
              and rank * (m.in_features + m.out_features) < m.weight.numel()]
    if not linear:
        refuse("within", f"a part with linear maps that rank {rank} makes smaller", repr(within))
    for name in linear:
        base = adapted.get_submodule(name)
        assert isinstance(base, nn.Linear)
        _set(adapted, name, LoRALinear(base, rank, alpha, g))
    return adapted


def merged(model: Model) -> Model:
    """A copy in which each update has become part of its linear map: no slower than the base."""
    plain = copy.deepcopy(model)
    for name, m in list(plain.named_modules()):
        if isinstance(m, LoRALinear):
            _set(plain, name, m.merged())
    return plain
