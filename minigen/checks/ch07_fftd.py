"""Checks of chapter 7's exercises."""

import torch
import torch.nn.functional as F

from minigen.checks.compare import Answer, Wrong, expect
from minigen.inputs import is_whole


def check_standardise(answer: Answer) -> None:
    for shape in ((2, 4, 4, 4), (3, 4, 2, 5)):
        z, mean, std = torch.randn(shape), torch.randn(4), torch.rand(4) + 0.3
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
        got = answer(z.clone(), mean.clone(), std.clone())
        expect(got, (z - m) / s, f"latents of shape {shape}", mistakes)


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
        }
        expect(answer(z.clone(), p), want, f"maps of shape {shape} and p = {p}", mistakes)


def check_modulated(answer: Answer) -> None:
    for shape in ((4, 4, 4), (2, 3, 8)):
        x = 3 * torch.randn(shape) + 1
        shift, scale = torch.randn(shape[0], shape[2]), torch.randn(shape[0], shape[2])
        n = F.layer_norm(x, x.shape[-1:])
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
        got = answer(x.clone(), shift.clone(), scale.clone())
        expect(got, want, f"tokens of shape {shape}", mistakes, tol=1e-3)


def check_levels_of(answer: Answer) -> None:
    for depth, levels in ((9, 2), (5, 2), (5, 3), (7, 3), (5, 1), (6, 2)):
        want = [min(i, depth - 1 - i, levels - 1) for i in range(depth)]
        got = answer(depth, levels)
        if got is None:
            raise Wrong("Your function returned None. Is there a `return`?")
        if not isinstance(got, list) or not all(map(is_whole, got)):
            raise Wrong("A list of integers is wanted.")
        if len(got) != depth:
            raise Wrong(f"For {depth} blocks your list has {len(got)} entries.")
        for meaning, value in {
            "You go down and never up again.": [min(i, levels - 1) for i in range(depth)],
            "You go one level too far: levels=1 is the full map only.":
                [min(i, depth - 1 - i, levels) for i in range(depth)],
            "Your U has no limit: at most levels - 1.":
                [min(i, depth - 1 - i) for i in range(depth)],
            "Levels are counted from 0.": [v + 1 for v in want],
            "Upside down: the outer blocks work at the full map, level 0.":
                [levels - 1 - v for v in want],
        }.items():
            if got == value and got != want:
                raise Wrong(meaning)
        if got != want:
            raise Wrong(f"For {depth} blocks and {levels} levels your list is {got}; {want} is "
                        "wanted.")


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
    expect(answer(x1.clone(), x2.clone()), want, "2 streams of 6 tokens", mistakes)


def check_fused(answer: Answer) -> None:
    for shape in ((4, 4, 4), (2, 3, 8)):
        n1, n2, linear = (torch.randn(shape) for _ in range(3))
        channel, place, s = torch.rand(shape[0], shape[2]), torch.rand(shape[0], shape[1]), 0.7
        c, w = channel[:, None], place[:, :, None]
        mistakes = {
            "The weights are swapped: channels weigh stream 1, places stream 2.":
                c * n2 + w * n1 + s * linear,
            "s is missing.": c * n1 + w * n2 + linear,
            "The linear part is missing.": c * n1 + w * n2,
            "s belongs to the linear part alone.": s * (c * n1 + w * n2 + linear),
            "The spatial weight is missing.": c * n1 + n2 + s * linear,
            "The channel weight is missing.": n1 + w * n2 + s * linear,
        }
        if shape[1] == shape[2]:
            meaning = ("Each weight met the wrong axis: w_channel[:, None, :] and "
                       "w_spatial[:, :, None].")
            mistakes[meaning] = channel[:, :, None] * n1 + place[:, None] * n2 + s * linear
        want = c * n1 + w * n2 + s * linear
        got = answer(*(t.clone() for t in (n1, n2, channel, place)), s, linear.clone())
        expect(got, want, f"streams of shape {shape}", mistakes)
