"""Chapter 7: three ways to join two streams of tokens, and tokens from maps and back.

Source: Liu, Chen, Gao 2026, §3.2, Eqs. 18 to 25, Table 9.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from minigen.inputs import alike, refuse, tensor, whole

FUSIONS = ("add", "concat", "adaptive")
STARTS = ("sum", "norms")


def to_tokens(x: Tensor) -> Tensor:
    """A map's places in reading order. Shapes: (B, D, h, w) → (B, h·w, D)."""
    if not isinstance(x, torch.Tensor) or x.ndim != 4:
        tensor(x, "x", ("B", "D", "H", "W"))
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor) -> Tensor:
    """The square map of tokens in reading order. Shapes: (B, n², D) → (B, D, n, n)."""
    if not isinstance(tokens, torch.Tensor) or tokens.ndim != 3:
        tensor(tokens, "tokens", ("B", "L", "D"))
    n = round(tokens.shape[1] ** 0.5)
    if n * n != tokens.shape[1]:
        refuse("the number of tokens", "a square", tokens.shape[1])
    return tokens.transpose(1, 2).reshape(len(tokens), tokens.shape[2], n, n)


class AdaptiveFusion(nn.Module):
    """Joins two streams of tokens with weights read off both, for each channel and each place.

    p         = [mean_l, max_l] of x1‖x2                                       (B, 4D)     18, 19
    w_channel = σ(Linear2(Swish(Linear1(p))))                                  (B, 1, D)   20
    w_spatial = σ(Conv3(Swish(Conv2(Swish(Conv1(map of x1‖x2))))))             (B, L, 1)   21, 22
    x_fused   = w_channel · LN(x1) + w_spatial · LN(x2) + s · Linear(x1‖x2)    (B, L, D)   23 to 25

    The last column names the equations. The course's decisions: p is 4D wide and has a true
    maximum; Swish between layers, without which two would be one.
    start: "sum" has the norms' gains at 0, s at 1 and Linear at x1 + x2, so a new fusion is a plain
    sum and learns to differ. "norms" has the gains at 1 and s at ½: with both weights near ½ the
    adaptive half and the linear half are alike in size for streams of deviation 1, and their sum
    is near x1 + x2.
    Shapes: x1, x2 (B, L, D), L a square number. return_weights: also {name: intermediate}.
    Raises: ValueError for another start, or a dim that 16 does not divide.
    """

    def __init__(self, dim: int, start: str = "sum"):
        super().__init__()
        if start not in STARTS:
            raise ValueError(f"a fusion's start must be 'sum' or 'norms'; got '{start}'")
        if whole(dim, "dim") % 16:
            raise ValueError(f"adaptive fusion divides dim by 16; got {dim}")
        few, quarter = dim // 16, dim // 4
        self.channel = nn.Sequential(nn.Linear(4 * dim, few), nn.SiLU(), nn.Linear(few, dim))
        self.spatial = nn.Sequential(
            nn.Conv2d(2 * dim, quarter, 3, 1, 1), nn.SiLU(),
            nn.Conv2d(quarter, quarter, 3, 1, 1), nn.SiLU(), nn.Conv2d(quarter, 1, 3, 1, 1))
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.linear = nn.Linear(2 * dim, dim)
        self.s = nn.Parameter(torch.tensor(1.0 if start == "sum" else 0.5))
        _start_as_sum(self.linear)
        if start == "sum":
            nn.init.zeros_(self.norm1.weight)
            nn.init.zeros_(self.norm2.weight)

    def forward(self, x1: Tensor, x2: Tensor,
                return_weights: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        both = _joined(x1, x2, self.linear)                            # (B, L, 2D)
        p = torch.cat([both.mean(1), both.amax(1)], -1)                # (B, 4D)
        w_channel = self.channel(p).sigmoid()[:, None]                 # (B, 1, D)
        w_spatial = to_tokens(self.spatial(to_map(both)).sigmoid())    # (B, L, 1)
        x_channel = w_channel * self.norm1(x1)                         # (B, L, D)
        x_spatial = w_spatial * self.norm2(x2)                         # (B, L, D)
        x_fused = x_channel + x_spatial + self.s * self.linear(both)
        if not return_weights:
            return x_fused
        return x_fused, dict(p=p, w_channel=w_channel, w_spatial=w_spatial,
                             x_channel=x_channel, x_spatial=x_spatial)


def _start_as_sum(linear: nn.Linear) -> None:
    """Linear(x1‖x2) = x1 + x2."""
    with torch.no_grad():
        linear.weight.copy_(torch.eye(linear.out_features).repeat(1, 2))
        linear.bias.zero_()


def _joined(x1: Tensor, x2: Tensor, linear: nn.Linear) -> Tensor:
    tensor(x1, "x1", ("B", "L", linear.out_features), like=linear.weight)
    alike(x1, x2, "x1", "x2")
    return torch.cat([x1, x2], -1)


class ConcatFusion(nn.Module):
    """Linear(x1‖x2), starting as x1 + x2 (Table 9). Shapes: (B, L, D) twice → (B, L, D)."""

    def __init__(self, dim: int):
        super().__init__()
        self.linear = nn.Linear(2 * whole(dim, "dim"), dim)
        _start_as_sum(self.linear)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self.linear(_joined(x1, x2, self.linear))


class AddFusion(nn.Module):
    """x1 + x2 (Table 9)."""

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        alike(x1, x2, "x1", "x2")
        return x1 + x2


def kind_of(fusion: str, start: str = "sum") -> Callable[[int], nn.Module]:
    """What builds such a fusion from a width: kind_of("add")(128).

    start: see `AdaptiveFusion`; the other two begin as x1 + x2 in any case.
    Raises: ValueError for an unknown kind or start.
    """
    if fusion not in FUSIONS:
        raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}; got '{fusion}'")
    if start not in STARTS:
        raise ValueError(f"fusion_start must be 'sum' or 'norms'; got '{start}'")
    if fusion == "adaptive":
        return functools.partial(AdaptiveFusion, start=start)
    return AddFusion if fusion == "add" else ConcatFusion
