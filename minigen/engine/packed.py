"""Chapter 8: linear maps and small convolutions whose weights are laid out once, for many products.

A matrix product first brings the weights into the order that the processor's instructions want. For
a processor torch's library oneDNN can do that beforehand, and do the activation within the product;
where it is missing, and on a GPU, the weights are transposed once. All without gradients.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {"none": lambda x: x, "silu": F.silu, "gelu": lambda x: F.gelu(x, approximate="tanh")}
_NAMES = {"none": ("none", ""), "silu": ("swish", ""), "gelu": ("gelu", "tanh")}    # oneDNN's


def has_packing(device: torch.device | str = "cpu") -> bool:
    """Whether this torch can lay weights on such a device out beforehand."""
    return (torch.device(device).type == "cpu" and torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, "_linear_pointwise")
            and hasattr(torch.ops.mkldnn, "_reorder_linear_weight"))


class PackedLinear:
    """activation(x Wᵀ + b). Shapes: W (M, K), b (M,), x (…, K) → (…, M).

    activation: "none", "silu" or "gelu" (with tanh). The weights are copied.
    """

    def __init__(self, weight: Tensor, bias: Tensor, activation: str = "none"):
        self.bias, self.activation = bias.detach().clone(), activation
        weight = weight.detach().contiguous()
        self.packed = has_packing(weight.device) and weight.dtype == torch.float32
        self.weight = (torch.ops.mkldnn._reorder_linear_weight(weight) if self.packed
                       else weight.T.contiguous())

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed:
            name, kind = _NAMES[self.activation]
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, name, [], kind)
        flat = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return ACTIVATIONS[self.activation](flat).view(*x.shape[:-1], -1)


class TokenConv:
    """activation(convolution) of an n×n map that is given as tokens: (B, n², C) → (B, m², C').

    On a map of at most 2×2 every place sees every other, so that a 3×3 convolution is one linear
    map of all places and channels, with less than half of the products: none with the padding.
    before: what is done with the map first, such as an `nn.Upsample`.
    """

    def __init__(self, conv: Any, n: int, activation: str = "none",
                 before: nn.Module | None = None):
        self.n, self.activation, self.before = n, activation, before
        self.options: Any = (conv.stride, conv.padding)
        self.weight = conv.weight.detach().clone(memory_format=torch.channels_last)
        self.bias = conv.bias.detach().clone()
        self.linear = self._as_linear() if n <= 2 and before is None else None

    def _as_linear(self) -> PackedLinear:
        places = self.n**2 * self.weight.shape[1]
        each = torch.eye(places).to(self.weight).view(places, self.n, self.n, -1)
        seen = F.conv2d(each.permute(0, 3, 1, 2), self.weight, None, *self.options)
        seen = seen.permute(0, 2, 3, 1).flatten(1)                          # (n²·C, m²·C')
        return PackedLinear(seen.T, self.bias.repeat(seen.shape[1] // len(self.bias)),
                            self.activation)

    def __call__(self, x: Tensor) -> Tensor:
        if self.linear is not None:
            return self.linear(x.reshape(len(x), -1)).view(len(x), -1, len(self.bias))
        h = x.view(len(x), self.n, self.n, -1).permute(0, 3, 1, 2)          # a map, not copied
        if self.before is not None:
            h = self.before(h)
        h = F.conv2d(h, self.weight, self.bias, *self.options)
        h = h.permute(0, 2, 3, 1).reshape(len(x), -1, len(self.bias))
        return ACTIVATIONS[self.activation](h)
