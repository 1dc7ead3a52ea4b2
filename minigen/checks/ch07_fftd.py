"""Checks of chapter 7's exercises."""

import torch
import torch.nn.functional as F

from minigen.checks import fftd_block as blocks
from minigen.checks.compare import (
    Answer,
    Wrong,
    expect,
    require_gradient,
    require_gradients,
    value_of,
)
from minigen.checks.fftd_answers import (  # noqa: F401  (found by name: minigen.checks.yours)
    fftd_block,
    fused,
    levels_of,
    modulated,
    multi_head,
    patchify,
    pooled,
    standardise,
)
from minigen.inputs import is_whole


def check_standardise(answer: Answer) -> None:
    for shape in ((2, 4, 4, 4), (3, 4, 2, 5)):
        z, mean, std = torch.randn(shape), torch.randn(4), torch.rand(4) + 0.3
        std[1] = 0.01                                   # nothing may be added to it
        m, s = mean[:, None, None], std[:, None, None]
        mistakes = {
            "The mean is not taken off.": z / s,
            "The division by the deviation is missing.": z - m,
            "You multiplied by the deviation: divide.": (z - m) * s,
            "First the mean, then the deviation: the mean is not divided in yours.": z / s - m,
            "You divided by the variance.": (z - m) / s**2,
            "That is the way back: this goes the other way.": z * s + m,
        }
        if shape[-1] == 4:
            meaning = ("Mean and deviation were lined up with the last axis: they belong to the "
                       "channels, mean[:, None, None].")
            mistakes[meaning] = (z - mean) / std
        want = (z - m) / s
        expect(answer(z, mean, std), want, f"latents of shape {shape}", mistakes)


def check_patchify(answer: Answer) -> None:
    for shape, p in (((2, 3, 4, 6), 2), ((2, 4, 4, 4), 1), ((1, 2, 4, 4), 4)):
        z = torch.randn(shape)
        want = F.unfold(z, p, stride=p).transpose(1, 2)
        b, c, h, w = shape
        split = z.view(b, c, h // p, p, w // p, p)
        mistakes = {
            "Axes are in the wrong order: tokens first, then what is inside a token.":
                want.transpose(1, 2),
            "You only reshaped: a patch's rows lie apart in memory, so permute first.":
                z.reshape(b, -1, c * p * p),
            "Inside a token you put row and column before the channel.":
                split.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2),
            "The tokens go down the columns: reading order goes along the rows.":
                split.permute(0, 4, 2, 1, 3, 5).flatten(3).flatten(1, 2),
            "Inside a token row and column are swapped.":
                split.permute(0, 2, 4, 1, 5, 3).flatten(3).flatten(1, 2),
            "The patches overlap: from one to the next it is p pixels, stride=p.":
                F.unfold(z, p).transpose(1, 2),
            "You cut each channel by itself: a token holds all channels of its patch.":
                split.permute(0, 1, 2, 4, 3, 5).reshape(b, -1, p * p),
            "You averaged each patch: its pixels stand in the token side by side.":
                F.avg_pool2d(z, p).flatten(2).transpose(1, 2),
        }
        expect(answer(z, p), want, f"maps of shape {shape} and p = {p}", mistakes)


def check_modulated(answer: Answer) -> None:
    for shape in ((4, 4, 4), (2, 3, 8)):
        x = 3 * torch.randn(shape) + 1
        shift, scale = torch.randn(shape[0], shape[2]), torch.randn(shape[0], shape[2])
        n = F.layer_norm(x, x.shape[-1:], eps=1e-6)
        a, b = scale[:, None], shift[:, None]
        mistakes = {
            "The norm is missing.": x * (1 + a) + b,
            "The 1 is missing: a scale of 0 must leave the normalised token as it is.": n * a + b,
            "Shift and scale are swapped.": n * (1 + b) + a,
            "The shift is missing.": n * (1 + a),
            "Shift first, then scale, is another thing.": (n + b) * (1 + a),
            "You normalised over the tokens as well: each token by itself.":
                F.layer_norm(x, x.shape[1:]) * (1 + a) + b,
        }
        if shape[0] == shape[1]:
            meaning = "Shift and scale met the tokens: they belong to the image, shift[:, None]."
            mistakes[meaning] = n * (1 + scale) + shift
        want = n * (1 + a) + b
        expect(answer(x, shift, scale), want, f"tokens of shape {shape}", mistakes, tol=1e-3)
        require_gradients(answer, {"tokens": x, "shift": shift, "scale": scale})


def check_multi_head(answer: Answer) -> None:
    for shape, heads in (((2, 6, 12), 3), ((3, 4, 8), 1), ((1, 16, 16), 4)):
        q, k, v = (torch.randn(shape) for _ in range(3))
        want = multi_head(q, k, v, heads)
        mistakes = blocks.wrong_heads(q, k, v, heads)
        meant = f"tokens of shape {shape} and {heads} heads"
        expect(answer(q, k, v, heads), want, meant, mistakes)
        require_gradients(answer, {"queries": q, "keys": k, "values": v, "heads": heads})


def check_fftd_block(answer: Answer) -> None:
    for fusion in ("concat", "adaptive"):
        for images, told in ((3, 3), (2, 1)):
            block, x = blocks.woken(fusion), torch.randn(images, 4, blocks.DIM)
            modulation = torch.randn(told, 6, blocks.DIM)
            with torch.no_grad():
                want, mistakes = block(x, modulation), blocks.wrong_blocks(x, modulation, block)
            got = answer(x, modulation, block)
            if isinstance(got, tuple):
                raise Wrong("Both streams are returned: fuse them, block.fuse(x1, x2).")
            meant = f"{images} images of 4 tokens and a modulation of {tuple(modulation.shape)}"
            expect(value_of(got), want, meant, mistakes, 1e-3)
            require_gradients(answer, {"tokens": x, "modulation": modulation, "block": block})
            got = answer(x, modulation, block)
            names = [name for name, _ in block.named_parameters()]
            require_gradient(got, list(block.parameters()), names)


def check_levels_of(answer: Answer) -> None:
    cases = [(9, 2), (5, 2), (5, 3), (7, 3), (5, 1), (6, 2), (8, 3)]
    wanted = {case: levels_of(*case) for case in cases}
    got = {}
    for depth, levels in cases:
        value = answer(depth, levels)
        if value is None:
            raise Wrong("Your function returned None. Is there a `return`?")
        if not isinstance(value, list) or not all(map(is_whole, value)):
            raise Wrong("A list of integers is wanted.")
        if len(value) != depth:
            raise Wrong(f"For {depth} blocks your list has {len(value)} entries.")
        got[depth, levels] = value
    for meaning, mistake in {
        "You go down and never up again.": lambda d, n: [min(i, n - 1) for i in range(d)],
        "You go one level too far: levels=1 is the full map only.":
            lambda d, n: [min(i, d - 1 - i, n) for i in range(d)],
        "Your U has no limit: at most levels - 1.":
            lambda d, n: [min(i, d - 1 - i) for i in range(d)],
        "Levels are counted from 0.": lambda d, n: [v + 1 for v in levels_of(d, n)],
        "Upside down: the outer blocks work at the full map, level 0.":
            lambda d, n: [n - 1 - v for v in levels_of(d, n)],
        "Only the two ends are at the full map: every block farther in is one level deeper, up to "
        "levels - 1.": lambda d, n: [(n - 1) * (0 < i < d - 1) for i in range(d)],
    }.items():
        if got != wanted and got == {case: mistake(*case) for case in cases}:
            raise Wrong(meaning)
    wrong = [case for case in cases if got[case] != wanted[case]]
    if wrong and all(depth % 2 == 0 for depth, _ in wrong):
        depth, levels = wrong[0]
        raise Wrong("For an odd number of blocks your list is right, for an even one it is not: "
                    f"{depth} blocks and {levels} levels are {wanted[wrong[0]]}.")
    for depth, levels in wrong:
        raise Wrong(f"For {depth} blocks and {levels} levels your list is {got[depth, levels]}; "
                    f"{wanted[depth, levels]} is wanted.")


def check_pooled(answer: Answer) -> None:
    x1, x2 = torch.randn(3, 6, 4), torch.randn(3, 6, 4)
    both = torch.cat([x1, x2], -1)
    mean, top = both.mean(1), both.amax(1)
    mistakes = {
        "That is the mean twice, as the paper prints it; the second is to be the maximum.":
            torch.cat([mean, mean], -1),
        "The maximum comes first in yours.": torch.cat([top, mean], -1),
        "You pooled over the features: pool over the tokens, dim=1.":
            torch.cat([both.mean(2), both.amax(2)], -1),
        "You pooled each stream by itself, which puts the parts in another order.":
            torch.cat([x1.mean(1), x1.amax(1), x2.mean(1), x2.amax(1)], -1),
        "That is the sum, not the mean.": torch.cat([both.sum(1), top], -1),
        "Only the mean is there.": mean,
        "Only the maximum is there.": top,
        "You added the streams: put them side by side, torch.cat.":
            torch.cat([(x1 + x2).mean(1), (x1 + x2).amax(1)], -1),
    }
    want = torch.cat([mean, top], -1)
    expect(answer(x1, x2), want, "2 streams of 6 tokens", mistakes)
    require_gradients(answer, {"first stream": x1, "second stream": x2})


def check_fused(answer: Answer) -> None:
    for shape, s in (((4, 4, 4), 0.7), ((2, 3, 8), -1.3), ((1, 16, 4), 1.0)):
        n1, n2, linear = (torch.randn(shape) for _ in range(3))
        channel, place = torch.rand(shape[0], shape[2]), torch.rand(shape[0], shape[1])
        c, w = channel[:, None], place[:, :, None]
        mistakes = {
            "The weights are swapped: channels weigh stream 1, places stream 2.":
                c * n2 + w * n1 + s * linear,
            "s is missing.": c * n1 + w * n2 + (linear if s != 1 else 2 * linear),
            "The linear part is missing.": c * n1 + w * n2,
            "s belongs to the linear part alone.": s * (c * n1 + w * n2 + linear),
            "The spatial weight is missing.": c * n1 + n2 + s * linear,
            "The channel weight is missing.": n1 + w * n2 + s * linear,
            "Both norms are to be added: yours subtracts one.": c * n1 - w * n2 + s * linear,
            "The linear part is to be added.": c * n1 + w * n2 - s * linear,
        }
        if shape[1] == shape[2]:
            meaning = ("Each weight met the wrong axis: w_channel[:, None, :] and "
                       "w_spatial[:, :, None].")
            mistakes[meaning] = channel[:, :, None] * n1 + place[:, None] * n2 + s * linear
        want = c * n1 + w * n2 + s * linear
        expect(answer(n1, n2, channel, place, s, linear), want, f"streams of shape {shape}",
               mistakes)
        require_gradients(answer, {
            "first norm": n1, "second norm": n2, "channel weights": channel,
            "spatial weights": place, "s": s, "linear part": linear})
