"""Chapter 3's loop that draws tokens, checked: what it asks, in which order, what it draws."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigen.checks import vqvae_answers as right
from minigen.checks.compare import Answer, Wrong, expect, unchanged


class _Prior(nn.Module):
    """Logits by the place, the token before it, and the label; every call is kept."""

    def __init__(self, grid: int, codes: int, sure: bool):
        super().__init__()
        self.grid, self.codes = grid, codes
        self.calls: list[Tensor] = []
        ranks = torch.rand(grid * grid, codes + 1, codes).argsort(-1)
        # a place left out stays 0: so code 0 is nowhere the likeliest
        ranks = torch.where(ranks[..., :1] == codes - 1, ranks.roll(1, -1), ranks)
        self.table = 12.0 * ranks if sure else torch.randn(ranks.shape)
        if not sure:
            self.table[0, -1] = torch.tensor([2.0, 0.0, 1.0])
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, codes: Any, y: Tensor | None = None) -> Tensor:
        g = self.grid
        if not isinstance(codes, Tensor) or codes.is_floating_point():
            raise Wrong("The model takes codes as a tensor of integers.")
        if codes.ndim != 3 or codes.shape[1:] != (g, g):
            raise Wrong(f"The model takes maps of codes, (n, {g}, {g}); it was given "
                        f"{tuple(codes.shape)}.")
        if codes.min() < 0 or codes.max() >= self.codes:
            raise Wrong(f"The model was given codes outside 0 … {self.codes - 1}: what is not "
                        "drawn yet holds any code there is, 0 say.")
        self.calls.append(codes.clone())
        flat = codes.flatten(1)
        before = torch.cat([torch.full((len(flat), 1), self.codes), flat[:, :-1]], 1)
        logits = self.table[torch.arange(g * g), before]             # (n, places, K)
        if y is not None:
            logits = logits + 50.0 * F.one_hot(y, self.codes)[:, None]
        return (self.weight * logits).movedim(-1, 1).reshape(len(codes), self.codes, g, g)


def draw_codes(answer: Answer) -> None:
    for known in (0, 3):
        _sure(answer, known)
    _labelled(answer)
    _drawn(answer)


def _call(answer: Answer, model: _Prior, given: Tensor, **more: Any) -> Any:
    model.eval()
    model.calls.clear()
    generator = torch.Generator().manual_seed(1)
    before = given.clone()
    got = answer(model, given, model.grid, more.get("y"), generator)
    unchanged({"given tokens": (given, before)})
    return got


def _sure(answer: Answer, known: int) -> None:
    """A model that leaves nothing to chance: only the order of things counts."""
    model, n, grid = _Prior(3, 6, sure=True), 5, 3
    given = torch.randint(6, (n, known))
    want = right.draw_codes(model, given, grid)
    ends = [c.flatten(1) for c in model.calls]
    got = _call(answer, model, given)
    asked = len(model.calls)
    words = f"a model of {grid}×{grid} places, {known} tokens given"
    with torch.no_grad():
        start = F.pad(given, (0, grid * grid - known)).view(n, grid, grid)
        once = model(start).argmax(1)
        fresh = right.draw_codes(model, given[:, :0], grid)
    first = once.flatten(1).clone()
    first[:, :known] = given
    mistakes = {
        "These are lists of tokens: give each its map, (n, grid, grid).": want.flatten(1),
        "Rows and columns are swapped in the maps.": want.transpose(1, 2).contiguous(),
        ("The model was asked once for all places: each token has to be put in before the next "
         "is predicted."): first.view(n, grid, grid)}
    if known:
        mistakes["The given tokens were either ignored or drawn anew: they are the first columns, "
                 "and the loop begins at place P."] = fresh
    mistakes["The first place is not drawn: the loop begins at place P, the number of given "
             "tokens."] = _walked(model, given, 0, range(known + 1, grid * grid))
    mistakes["The last place is not drawn: the loop ends too early."] = ends[-1].view_as(want)
    mistakes["Each token is drawn from the prediction at the place before its own."] = (
        _walked(model, given, -1))
    if not known:
        mistakes["You went column by column; the order is that of reading, row by row."] = (
            _walked(model, given, 0, [0, 3, 6, 1, 4, 7, 2, 5, 8]))
        mistakes["You began at the end: reading order begins at the upper left."] = (
            _walked(model, given, 0, range(8, -1, -1)))
    if isinstance(got, Tensor) and got.is_floating_point():
        raise Wrong("Tokens are whole numbers: start with torch.zeros(…, dtype=torch.long).")
    if isinstance(got, Tensor) and got.shape == want.shape and known and not torch.equal(
            got.flatten(1)[:, :known], given):
        for meaning, value in mistakes.items():
            if torch.equal(got, value):
                raise Wrong(meaning)
        raise Wrong("The given tokens did not stay: they are the first P in reading order.")
    try:
        expect(got, want, words, mistakes)
    except Wrong as e:
        if "the value is" not in str(e):
            raise
        if known and _alike(got.flatten(1)[:, known:]) and not _alike(want.flatten(1)[:, known:]):
            raise Wrong("The drawn tokens are the same in all maps, though the given ones differ: "
                        "each map draws its own, from its own prediction.") from None
        if not known:
            _drawn(answer)                         # is it the way in which tokens are drawn?
        raise
    wanted = grid * grid - known
    if asked != wanted:
        raise Wrong(f"The tokens are right, but the model was asked {asked} times for {wanted} "
                    "places: one pass for each place that is not given.")


def _alike(rows: Tensor) -> bool:
    return bool((rows == rows[0]).all())


@torch.no_grad()
def _walked(model: _Prior, given: Tensor, shift: int, order: Sequence[int] | None = None) -> Tensor:
    """The likeliest tokens, drawn in another order or read at another place."""
    known, places = given.shape[1], model.grid**2
    codes = F.pad(given, (0, places - known))
    for place in order or range(known, places):
        logits = model(codes.view(-1, model.grid, model.grid)).flatten(2)
        codes[:, place] = logits[:, :, place + shift].argmax(1)
    return codes.view(-1, model.grid, model.grid)


def _labelled(answer: Answer) -> None:
    model, y = _Prior(2, 4, sure=True), torch.tensor([0, 1, 2, 3, 1])
    given = torch.zeros(5, 0, dtype=torch.long)
    want = right.draw_codes(model, given, 2, y)
    expect(_call(answer, model, given, y=y), want, "a model with labels", {
        "The label y is not passed on: model(codes, y).": right.draw_codes(model, given, 2)})


def _drawn(answer: Answer) -> None:
    """A model that leaves much to chance: how often does each token come first?"""
    model, n = _Prior(2, 3, sure=False), 4000
    given = torch.zeros(n, 0, dtype=torch.long)
    try:
        got, again = _call(answer, model, given), _call(answer, model, given)
    except RuntimeError as e:
        if "probability" not in str(e):
            raise
        raise Wrong("The draw wants probabilities, none below 0: take the softmax of the logits "
                    "over the codes.") from None
    logits = model.table[0, -1]

    def shares(codes: Tensor) -> Tensor:
        return torch.bincount(codes.flatten(), minlength=3) / codes.numel()

    first = shares(got[:, 0, 0])
    if not torch.equal(got, again):
        raise Wrong("Twice with the same generator, two results: draw with generator=generator.")
    if first.max() > 0.999:
        if int(first.argmax()) == int(logits.argmax()):
            raise Wrong("Every map begins with the likeliest token: draw from the probabilities "
                        "(torch.multinomial), do not take the largest.")
        raise Wrong("Every map begins with one token: each map draws its own.")
    weights = {
        ("All tokens come alike often: either the prediction is not used in the draw, or the "
         "softmax runs over another axis than the codes."): torch.ones(3),
        "The draw goes by the logits themselves: a softmax makes probabilities of them.":
            logits.clamp_min(0),
        "The softmax was taken twice.": logits.softmax(0).exp(),
        "The signs of the logits are turned.": (-logits).exp()}
    p = logits.softmax(0)
    if (first - p).abs().max() < 0.04:
        with torch.no_grad():
            second = model(got).movedim(1, -1)[:, 0, 1].softmax(-1).mean(0)
        if (shares(got[:, 0, 1]) - second).abs().max() > 0.04:
            raise Wrong("The first tokens are right, but not those that follow: each is drawn from "
                        "the prediction at its own place, given those before it.")
        return
    for meaning, w in weights.items():
        if (first - w / w.sum()).abs().max() < 0.03:
            raise Wrong(meaning)
    told = ", ".join(f"{float(x):.2f}" for x in first)
    wanted = ", ".join(f"{float(x):.2f}" for x in p)
    raise Wrong(f"The first tokens come with the shares {told}; {wanted} are wanted.")
