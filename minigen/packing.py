"""Weights as they are stored, in 32, 16 or 8 bits: 8 are integers and a scale for each row.

The scale of a tensor NAME is kept beside it as NAME.scale. No parameter can have that name: a
module knows a word as a tensor or as a module, never as both, and NAME is a tensor already.
"""

import torch
from torch import Tensor

from minigen.inputs import described, refuse

SCALE = ".scale"
MOST = 127                                  # -128 has no counterpart and is not used
LEAST = torch.finfo(torch.float32).tiny     # the smallest scale: below it digits are lost


def kept(state: dict[str, Tensor], bits: int) -> dict[str, Tensor]:
    """A state as it is stored: as it is (32), its floats in 16 bits, or `packed` (8)."""
    if bits == 32:
        return state
    if bits == 16:
        return {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    if bits == 8:
        return packed(state)
    refuse("bits", "32, 16 or 8", described(bits))


def packed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Floats as whole numbers, row by row: q = round(w / s) with s = max |w| / 127.

    A row is what one index of the first axis holds: of most weights one output channel, of a
    codebook one code. |w - q s| ≤ s / 2, but for the rounding of float32 (some 10⁻⁵ s). No s is
    below 2⁻¹²⁶, so a row of zeros has one too, and comes back as zeros.

    Shapes: w (R, …) → q (R, …) int8 in [-127, 127] and s (R,) float32. Tensors of one axis or
    none (norms, biases), which are small, become 16 bits; integers stay as they are.
    NaN and infinity are the caller's to refuse: of their row nothing finite comes back.
    Source: Krishnamoorthi 2018 (arXiv:1806.08342), the symmetric quantizer, a scale per channel.
    """
    small = {}
    for name, v in state.items():
        if not v.is_floating_point():
            small[name] = v
        elif v.ndim < 2 or v.numel() == 0:
            small[name] = v.half()
        else:
            rows = v.float().flatten(1)
            scale = (rows.abs().amax(1) / MOST).clamp_min(LEAST)
            small[name] = (rows / scale[:, None]).round().to(torch.int8).reshape(v.shape)
            small[name + SCALE] = scale
    return small


def unpacked(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state that `packed` was given, in float32: w = q s. Floats of 16 bits become 32, too.

    What else there is stays as it is.
    Raises: ValueError for a scale that is not one float32 for each row of its integers.
    """
    whole = {}
    for name, v in state.items():
        if is_scale(name, state):
            continue
        if v.dtype is torch.int8 and name + SCALE in state:
            scale = state[name + SCALE]
            if v.ndim < 2 or scale.dtype is not torch.float32 or scale.shape != v.shape[:1]:
                wanted = f"one float32 for each row of {name}, which is {tuple(v.shape)}"
                refuse(name + SCALE, wanted, f"{scale.dtype} of shape {tuple(scale.shape)}")
            v = v * scale.reshape(-1, *[1] * (v.ndim - 1))
        whole[name] = v.float() if v.dtype is torch.float16 else v
    return whole


def is_scale(name: str, state: dict[str, Tensor]) -> bool:
    """Whether `name` is the scale of another tensor of the state."""
    of = state.get(name.removesuffix(SCALE))
    return name.endswith(SCALE) and of is not None and of.dtype is torch.int8
