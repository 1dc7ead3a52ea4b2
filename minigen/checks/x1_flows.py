"""Checks of excursion 1's exercises."""

import math

import torch
from torch import Tensor

from minigen.checks import flows_answers as right
from minigen.checks import flows_coupling, flows_paths, flows_steps
from minigen.checks.compare import Answer, expect, require_gradients, value_of
from minigen.checks.flows_answers import (  # noqa: F401  (found by name: minigen.checks.yours)
    bits_of,
    couple,
    euler,
    flow_loss,
    heun,
    log_of_density,
    uncouple,
)


def check_log_of_density(answer: Answer) -> None:
    for shape in ((4, 4), (3, 7), (1, 2)):  # rows as many as columns: a wrong axis fits there
        z, logdet = torch.randn(shape), torch.randn(shape[0]) + 0.5
        want = right.log_of_density(z, logdet)
        given = f"z of shape {shape}"
        expect(value_of(answer(z, logdet)), want, given, _mistakes_of_density(z, logdet))
        require_gradients(answer, {"z": z, "logdet": logdet})


def _mistakes_of_density(z: Tensor, logdet: Tensor) -> dict[str, Tensor]:
    D, log = z.shape[1], math.log(2 * math.pi)
    half = 0.5 * z**2
    normal = -(half + 0.5 * log).sum(1)
    mistakes = {
        "log|det| is missing.": normal,
        "log|det| is added: you took it off.": normal - logdet,
        "logdet is a logarithm already: add it as it is.": normal + logdet.abs().log(),
        "logdet is added as it is: you took its exp.": normal + logdet.exp(),
        "The normal density falls away from 0: −½ (z² + log 2π), with a minus.": logdet - normal,
        "Both signs are the wrong way round: that is −log p(x).": -normal - logdet,
        "The minus belongs to log 2π too.": (0.5 * log - half).sum(1) + logdet,
        "The minus belongs to z² too.": (half - 0.5 * log).sum(1) + logdet,
        "That is the density p(x): its logarithm is wanted.": (normal + logdet).exp(),
        "You took the mean over a row: a product of D densities becomes a sum.":
            normal / D + logdet,
        "2π is missing: −½ (z² + log 2π) for each number.": -half.sum(1) + logdet,
        "2π is there without its logarithm.": -(half + math.pi).sum(1) + logdet,
        "The logarithm is log 2π: the 2 is missing.":
            -(half + 0.5 * math.log(math.pi)).sum(1) + logdet,
        "The logarithm of 2π is to base 10: nats are natural logarithms.":
            -(half + 0.5 * math.log10(2 * math.pi)).sum(1) + logdet,
        "The logarithm of 2π is to base 2: nats are natural logarithms.":
            -(half + 0.5 * math.log2(2 * math.pi)).sum(1) + logdet,
        "The ½ is missing: −½ (z² + log 2π).": 2 * normal + logdet,
        "The ½ of log 2π is missing: it comes from the root, √2π.":
            -(half + log).sum(1) + logdet,
        "The ½ of z² is missing.": -(2 * half + 0.5 * log).sum(1) + logdet,
        "log 2π is counted once a row: it belongs to each of the D numbers.":
            -half.sum(1) - 0.5 * log + logdet,
        "z is not squared.": -0.5 * (z + log).sum(1) + logdet,
        "You took the root of the sum of squares: leave the squares.":
            -0.5 * (z.norm(dim=1) + D * log) + logdet,
        "logdet is added to every number: once a row, after the sum.": normal + D * logdet,
        "Nothing is summed: add up the numbers of each row, sum(1).":
            -(half + 0.5 * log) + logdet[:, None],
    }
    if len(z) > 1:
        mistakes |= {
            "You summed over all rows: each row has its own density, sum(1).":
                normal.sum() + logdet,
            "One value for all rows: each row has its own.": (normal + logdet).sum(),
            "You took the mean of all rows: each row has its own.": (normal + logdet).mean(),
            "You added the log|det| of all rows up: each row has its own.": normal + logdet.sum(),
        }
    if z.shape[0] == D:
        mistakes["You summed over the rows, sum(0): over the numbers of each row, sum(1)."] = (
            -(half + 0.5 * log).sum(0) + logdet)
    return mistakes


def check_couple(answer: Answer) -> None:
    flows_coupling.couple(answer)


def check_uncouple(answer: Answer) -> None:
    flows_coupling.uncouple(answer)


def check_bits_of(answer: Answer) -> None:
    for dims, levels in ((12, 32), (768, 256), (5, 7), (3, 1)):
        log_p = dims * (torch.randn(4) - 1.2)
        nats, bits = -log_p / dims, -log_p / (dims * math.log(2))
        room = math.log2(levels)
        mistakes = {} if levels == 1 else {
            "Nats are not turned into bits: divide by log 2.": nats + room,
            "You multiplied by log 2: divide, and mind that a / b * c multiplies by c.":
                nats * math.log(2) + room,
            "That is nats per dimension: divide by log 2, and take log₂ of the levels.":
                nats + math.log(levels),
            "The logarithm of the levels is to base 2: you took the natural one.":
                bits + math.log(levels),
            "The logarithm of the levels is to base 2: you took base 10.":
                bits + math.log10(levels),
            "You divided by log₁₀ 2: nats are natural logarithms.":
                nats / math.log10(2) + room,
            "Base 10 in both: divide by the natural log 2, and add log₂ of the levels.":
                nats / math.log10(2) + math.log10(levels),
            "log₂ of the levels is added: you took it off.": bits - room,
            "The minus is missing: a cost is −log p.": room - bits,
            "Both signs are the wrong way round.": -bits - room,
            "The levels are missing: + log₂ of them.": bits,
            "The levels are added without their logarithm.": bits + levels,
            "You divided by the levels: their log₂ is added.": bits / levels,
            "You divided by log₂ of the levels: it is added.": bits / room,
            "log₂ of the levels is added: you multiplied by it.": bits * room,
            "You took log₂ of the largest level: it is of their number.":
                bits + math.log2(levels - 1),
            "log₂ of the levels belongs to each number: it is not divided by dims.":
                bits + room / dims,
            "The division by dims is missing.": bits * dims + room,
            "That is bits of the whole picture: divide by dims.": (bits + room) * dims,
            "One value for each picture: take no mean.": (bits + room).mean(),
            "One value for each picture: take no sum.": (bits + room).sum(),
        }
        if levels not in (1, 256):
            mistakes["That is for 256 levels only: log₂ of the number that is given."] = bits + 8
        given = f"{dims} numbers of {levels} levels"
        expect(value_of(answer(log_p, dims, levels)), bits + room, given, mistakes)


def check_flow_loss(answer: Answer) -> None:
    flows_paths.flow_loss(answer)


def check_euler(answer: Answer) -> None:
    flows_steps.euler(answer)


def check_heun(answer: Answer) -> None:
    flows_steps.heun(answer)
