"""Excursion 4's low-rank adapter, checked: beside a weight, and merged into it."""

import math

import torch
from torch import Tensor

from minigen.checks import personal_answers as right
from minigen.checks.compare import Answer, Wrong, expect, value_of
from minigen.checks.text_cases import same_gradients

# inputs, outputs, rank, α, rows of x; in the first whatever is turned or exchanged fits
CASES = ((3, 3, 3, 7.0, (5,)), (5, 4, 2, 7.0, (2, 3)), (2, 6, 3, 8.0, ()))


def _drawn(case: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, float]:
    """x, W, b, A, B, α; in the second case of 64 bits."""
    inputs, outputs, rank, alpha, rows = CASES[case]
    dtype = torch.float64 if case == 1 else torch.float32
    x, weight, bias, down, up = (
        torch.randn(shape, dtype=dtype) for shape in
        ((*rows, inputs), (outputs, inputs), (outputs,), (rank, inputs), (outputs, rank)))
    return x, weight, bias, down, up, alpha


def _given(case: int) -> str:
    inputs, outputs, rank, alpha, _ = CASES[case]
    return f"{inputs} inputs, {outputs} outputs, rank {rank} and α = {alpha:g}"


def _scales(case: int) -> dict[str, float]:
    """Wrong factors before the update, by the sentence that names them."""
    inputs, outputs, r, alpha, _ = CASES[case]
    rank = "r is the number of A's rows, len(down): you divided α by the number of "
    scales = {
        "The scale α / r before the update is missing.": 1,
        "The scale is α / r: the division by r is missing.": alpha,
        "The scale is α / r: α is missing.": 1 / r,
        "The scale is α / r: you multiplied by r.": alpha * r,
        "The scale is α / r: you took r / α.": r / alpha,
        "The scale is α / r, without a root: you divided by √r.": alpha / math.sqrt(r),
        "The scale α / r is there twice.": (alpha / r) ** 2,
        "The update is added: you took it away.": -alpha / r,
    }
    if inputs != outputs:
        scales |= {rank + "inputs.": alpha / inputs, rank + "outputs.": alpha / outputs}
    if alpha // r:
        scales["The scale is α / r: // cuts the fraction off."] = alpha // r
    return scales


def lora_forward(answer: Answer) -> None:
    for case in range(len(CASES)):
        x, weight, bias, down, up, alpha = given = _drawn(case)
        want, mistakes = right.lora_forward(*given), _mistakes_beside(case, *given)
        got = answer(*given)
        expect(value_of(got), want, _given(case), mistakes)
        _same_type(got, x)
        learned, course = (_learned(function, weight, bias, alpha)
                           for function in (answer, right.lora_forward))
        same_gradients(learned, course, {
            "input x": x, "matrix A, down": down, "matrix B, up": up})


def _learned(answer: Answer, weight: Tensor, bias: Tensor, alpha: float) -> Answer:
    """The answer as a function of what a gradient has to reach."""
    return lambda x, down, up: answer(x, weight, bias, down, up, alpha)


def _same_type(got: Tensor, given: Tensor) -> None:
    if got.dtype != given.dtype:
        raise Wrong(f"The type is {got.dtype}; what was given has {given.dtype}: keep it.")


def _mistakes_beside(case: int, x: Tensor, weight: Tensor, bias: Tensor, down: Tensor, up: Tensor,
                     alpha: float) -> dict[str, Tensor]:
    inputs, outputs, r, _, _ = CASES[case]
    scale = alpha / r
    base = x @ weight.T
    update = (x @ down.T) @ up.T
    want = base + bias + scale * update
    mistakes = {words: base + bias + wrong * update for words, wrong in _scales(case).items()}
    mistakes |= {
        "The update is missing: (α / r) · (x Aᵀ) Bᵀ is added.": base + bias,
        "x Wᵀ and the bias are missing: the frozen layer goes on as before, and the update is "
        "added to it.": scale * update,
        "x Wᵀ is missing: the frozen layer goes on as before, and the update is added to it.":
            bias + scale * update,
        "The bias is missing.": base + scale * update,
        "The bias is there twice.": want + bias,
        "The bias is added: you took it away.": want - 2 * bias,
        "The bias belongs to x Wᵀ: you scaled it with the update.":
            base + scale * (update + bias),
        "The bias is in the update too: it is added once, without the scale.":
            want + scale * bias,
        "Only the update has the scale α / r: you scaled the whole sum.": scale * (
            base + bias + update),
        "Only the update has the scale α / r: you scaled x Wᵀ in its place.":
            scale * base + bias + update,
        "Only the update has the scale α / r: you scaled x Wᵀ too.":
            scale * (base + update) + bias,
        "The update is added to x Wᵀ + b: you multiplied the two.":
            (base + bias) * scale * update,
        "That is the mean of layer and update: their sum is wanted.": want / 2,
    }
    if inputs == outputs:
        mistakes |= {
            "All three are turned: torch keeps a weight as (out, in), and a layer is x Wᵀ; so x Aᵀ "
            "and then Bᵀ.": x @ weight + bias + scale * x @ down @ up,
            "W is turned: torch keeps a weight as (out, in), and the layer is x Wᵀ.":
                x @ weight + bias + scale * update,
            "The update is turned, x B A: x goes through A first and then through B, "
            "(x Aᵀ) Bᵀ.": base + bias + scale * (x @ up) @ down,
            "The update reads x: you gave it what the frozen layer made of x.":
                base + bias + scale * ((base + bias) @ down.T) @ up.T,
            "The update reads x: you gave it x Wᵀ.": base + bias + scale * (base @ down.T) @ up.T,
            "Nothing stands between A and B: you cut off what is negative there.":
                base + bias + scale * (x @ down.T).relu() @ up.T,
            "The update has no tanh between A and B: it is linear.":
                base + bias + scale * (x @ down.T).tanh() @ up.T,
            "The update is not cut off at 0: add it as it is.":
                base + bias + scale * update.relu(),
            "x itself is added: x Wᵀ + b + (α / r) · (x Aᵀ) Bᵀ has no x alone.": want + x,
            "A and B are exchanged: x goes through A first, down to r numbers, then through B, "
            "up.": base + bias + scale * (x @ up.T) @ down.T,
            "Neither A nor B is transposed: (x Aᵀ) Bᵀ.": base + bias + scale * (x @ down) @ up,
            "B is not transposed: (x Aᵀ) Bᵀ.": base + bias + scale * (x @ down.T) @ up,
            "A is not transposed: (x Aᵀ) Bᵀ.": base + bias + scale * (x @ down) @ up.T,
            "B is missing in the update: (x Aᵀ) Bᵀ.": base + bias + scale * x @ down.T,
            "A is missing in the update: (x Aᵀ) Bᵀ.": base + bias + scale * x @ up.T,
        }
    return mistakes


def merged(answer: Answer) -> None:
    for case in range(len(CASES)):
        _, weight, _, down, up, alpha = _drawn(case)
        want = right.merged(weight, down, up, alpha)
        mistakes = _mistakes_within(case, weight, down, up, alpha)
        got = answer(weight, down, up, alpha)
        expect(value_of(got), want, _given(case), mistakes)
        _same_type(got, weight)


def _mistakes_within(case: int, weight: Tensor, down: Tensor, up: Tensor,
                     alpha: float) -> dict[str, Tensor]:
    inputs, outputs, r, _, _ = CASES[case]
    scale, update = alpha / r, up @ down
    want = weight + scale * update
    mistakes = {words: weight + wrong * update for words, wrong in _scales(case).items()}
    mistakes |= {
        "The update is missing: (α / r) B A is added to W.": weight.clone(),
        "W is missing: the update is added to it.": scale * update,
        "Only the update has the scale α / r: you scaled W too.": scale * (weight + update),
        "Only the update has the scale α / r: you scaled W in its place.": (
            scale * weight + update),
        "The update is added: you multiplied W by it, entry by entry.": weight * scale * update,
        "The update is added to W itself: W · (1 + …) makes it depend on W.":
            weight * (1 + scale * update),
        "That is the mean of W and its update: their sum is wanted.": want / 2,
        "W is there twice.": want + weight,
        "The result is turned: W's shape is (out, in), and so is the merged one's.": want.mT,
    }
    if inputs == outputs:
        mistakes |= {
            "The update is turned, (B A)ᵀ: B A is (out, in) as W is.": weight + scale * update.mT,
            "W is turned: it is (out, in) as B A is.": weight.mT + scale * update,
            "The update is added: you took the matrix product of W and the update.":
                weight @ (scale * update),
            "The update is added: you took the matrix product of the update and W.":
                scale * update @ weight,
            "The order is B A, (out, r) by (r, in): you took A B.": weight + scale * down @ up,
            "A and B are multiplied as matrices, up @ down: you took them entry by entry.":
                weight + scale * up * down,
            "A is not transposed here: B A.": weight + scale * up @ down.mT,
            "B is not transposed here: B A.": weight + scale * up.mT @ down,
            "The order is B A, and nothing is transposed: you took A Bᵀ.":
                weight + scale * down @ up.mT,
            "The order is B A, and nothing is transposed: you took Aᵀ B.":
                weight + scale * down.mT @ up,
            "The order is B A, and nothing is transposed: you took (A B)ᵀ.":
                weight + scale * (down @ up).mT,
            "B is missing: B A.": weight + scale * down,
            "A is missing: B A.": weight + scale * up,
            "A and B are multiplied: you added them.": weight + scale * (up + down),
        }
    return mistakes
