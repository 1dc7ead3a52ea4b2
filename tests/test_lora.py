"""LoRA: nothing at first, the same merged, and no gradient but its own."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minigen import lora
from minigen.common import evaluating
from minigen.prompts import tokenise
from minigen.text_to_image import TextFFTD


def small_model():
    torch.manual_seed(0)
    model = TextFFTD(dim=16, heads=2, text_width=8, text_depth=1, text_heads=2, prediction="v",
                     schedule="cosine")
    for p in model.parameters():
        nn.init.normal_(p, std=0.2)            # so that no gate is closed
    return model.eval()


def inputs():
    g = torch.Generator().manual_seed(1)
    return (torch.randn(3, 4, 4, 4, generator=g), torch.tensor([5, 400, 900]),
            tokenise(["a person with red hair", "a smiling face", "green shirt"]))


def filled(model):
    """A model whose updates are not zero."""
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, lora.LoRALinear):
                m.up.copy_(torch.randn(m.up.shape, generator=g))
    return model


@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("alpha", [None, 16.0])
def test_at_first_nothing_is_changed_exactly(rank, alpha):
    base = nn.Linear(20, 12)
    x = torch.randn(4, 5, 20)
    assert torch.equal(lora.LoRALinear(base, rank, alpha)(x), base(x))
    model = small_model()
    with evaluating(model):
        assert torch.equal(lora.with_lora(model, 2, alpha)(*inputs()), model(*inputs()))


def test_the_update_is_of_the_rank_and_of_the_formula():
    torch.manual_seed(1)
    base, x = nn.Linear(20, 12), torch.randn(7, 20)
    layer = filled(lora.LoRALinear(base, 3, 6.0))
    update = 6 / 3 * layer.up @ layer.down
    assert torch.linalg.matrix_rank(update) == 3
    assert torch.allclose(layer(x), x @ (base.weight + update).T + base.bias, atol=1e-5)
    no_bias = lora.LoRALinear(nn.Linear(20, 12, bias=False), 3)
    assert torch.equal(no_bias(x), F.linear(x, no_bias.base.weight))


def test_merging_is_the_same_as_not_merging():
    torch.manual_seed(2)
    layer = filled(lora.LoRALinear(nn.Linear(30, 40).double(), 4, 2.0)).double()
    x = torch.randn(9, 30, dtype=torch.float64)
    before = copy.deepcopy(layer.state_dict())
    assert torch.allclose(layer.merged()(x), layer(x), rtol=0, atol=1e-12)
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    single = layer.float()
    y = single(x.float())
    assert (single.merged()(x.float()) - y).abs().max() / y.abs().max() < 1e-6
    model = filled(lora.with_lora(small_model(), 2))
    one = lora.merged(model)
    assert not any(isinstance(m, lora.LoRALinear) for m in one.modules())
    with evaluating(model), evaluating(one):
        a, b = model(*inputs()), one(*inputs())
    assert (a - b).abs().max() / a.abs().max() < 1e-5      # rounding, of 50 layers after each other
    assert one.state_dict().keys() == small_model().state_dict().keys()


def test_only_its_parameters_have_gradients():
    model = lora.with_lora(small_model(), 2)
    learns = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learns and all(name.rpartition(".")[2] in ("down", "up") for name in learns)
    model(*inputs()).square().mean().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == learns
    ups = [p.grad for name, p in model.named_parameters() if name.endswith(".up")]
    assert all(g.abs().max() > 0 for g in ups)       # so no layer is passed by


def test_the_model_given_stays_as_it_was():
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    adapted = filled(lora.with_lora(model, 2))
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with evaluating(adapted):
        assert not torch.allclose(adapted(*inputs()), model(*inputs()))


def test_maps_that_nothing_is_gained_for_are_left():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    adapted = lora.with_lora(net, 2, within="")
    assert isinstance(adapted[0], lora.LoRALinear) and isinstance(adapted[1], nn.Linear)


def test_the_same_seed_draws_the_same_a():
    one, two = (lora.with_lora(small_model(), 2, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    other = lora.with_lora(small_model(), 2, seed=4).state_dict()
    assert not torch.equal(one["blocks.0.qkv.down"], other["blocks.0.qkv.down"])


@pytest.mark.parametrize(("act", "words"), [
    (lambda: lora.LoRALinear(nn.Linear(4, 3), 4), "rank"),
    (lambda: lora.LoRALinear(nn.Linear(4, 3), 0), "rank"),
    (lambda: lora.LoRALinear(nn.Linear(4, 3), 1.5), "rank"),
    (lambda: lora.LoRALinear(nn.Conv2d(4, 3, 1), 2), "nn.Linear"),
    (lambda: lora.LoRALinear(nn.Linear(4, 3), 2, alpha=0), "alpha"),
    (lambda: lora.LoRALinear(nn.Linear(4, 3), 2)(torch.zeros(2, 5)), "x must be"),
    (lambda: lora.with_lora(small_model(), 2, within="nowhere"), "within"),
    (lambda: lora.with_lora(small_model(), 64), "within"),
    (lambda: lora.with_lora(lora.with_lora(small_model(), 2), 2), "merge them first"),
])
def test_what_cannot_be_is_refused(act, words):
    with pytest.raises(ValueError, match=words):
        act()
