"""The guard: what an answer changes beside its result is seen, named, and put second."""

import numpy as np
import pytest
import torch
from torch import nn

from minigen import checks, gan
from minigen.checks import chapters, compare, guard, vqvae_answers
from minigen.checks.ddpm_answers import noised
from minigen.checks.fftd_answers import fftd_block
from minigen.diffusion import Diffusion, linear_betas


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_HOME", str(tmp_path))
    monkeypatch.delenv("MINIGEN_STRICT", raising=False)
    torch.manual_seed(0)


def told(answer, *args, free=(), course=None, **kwargs):
    """What is said of one call that gave a right value."""
    watch = guard.Watch(answer, course, free)
    watch.function()(*args, **kwargs)
    return str(watch.verdict(None) or "")


def spoil(x):
    x += 1


def spoil_deep(x):
    x["a"][1].mul_(2)


def first_of(x):
    return x.pop(0)


def with_name(learned, other):
    other.zero_()


def resized(x):
    x.unsqueeze_(0)


@pytest.mark.parametrize(("answer", "args", "words"), [
    (spoil, [torch.ones(3)], "changed x, which it was given"),
    (spoil, [np.ones(3)], "changed x"),
    (spoil_deep, [{"a": (torch.ones(1), torch.ones(2))}], "changed x['a'][1]"),
    (first_of, [[3, 1, 2]], "make a new list"),
    (lambda d: d.update(a=2), [{"a": 1}], "make a new dict"),
    (with_name, [torch.ones(1), torch.ones(2)], "changed other"),
    (lambda *a: a[1].zero_(), [torch.ones(1), torch.ones(2)], "changed its second argument"),
    (resized, [torch.ones(2)], "changed x"),
    (lambda x: x.requires_grad_(), [torch.ones(2)], "requires_grad=True on x"),
    (lambda d: d.betas.mul_(2), [Diffusion(linear_betas(5))], "changed d.betas"),
    (lambda x: torch.set_default_dtype(torch.float64), [1], "default type at torch.float64"),
    (lambda x: torch.set_grad_enabled(False), [1], "gradients switched off"),
])
def test_what_is_changed_is_named(answer, args, words):
    assert words in told(answer, *args)
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()


def test_a_name_can_be_given_by_keyword_too():
    assert "changed x" in told(spoil, x=torch.ones(2))


def net():
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())


def evaluated(model, x):
    model.eval()
    return model(x)


def frozen(model, x):
    model.requires_grad_(False)


def half_evaluated(model, x):
    model[2].eval()


def weights_moved(model, x):
    with torch.no_grad():
        model[0].weight.add_(1)


@pytest.mark.parametrize(("answer", "words"), [
    (evaluated, "leaves model in eval mode; it came in train mode"),
    (half_evaluated, "leaves 2 of model in eval mode"),
    (frozen, "requires_grad=False on the weights of model"),
    (weights_moved, "changed 0.weight of model"),
    (lambda model, x: model(x), "of model"),          # batch norm's buffers move in train mode
])
def test_a_module_is_given_back_as_it_came(answer, words):
    assert words in told(answer, net(), torch.randn(4, 2))


def trained(model, optimiser, x):
    loss = model(x).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def test_what_an_optimiser_holds_may_move_but_not_its_mode():
    model, x = net(), torch.randn(4, 2)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    assert told(trained, model, optimiser, x) == ""
    assert told(lambda m, o, x: trained(m, o[0], x), model, [optimiser], x) == ""
    assert "leaves m in eval mode" in told(
        lambda m, o, x: (trained(m, o, x), m.eval()), model, optimiser, x)
    other = nn.Linear(2, 2)
    assert "weight of other" in told(
        lambda o, m, other: weights_moved([other], None), optimiser, model, other)


def gan_step(generator, discriminator, optimiser, x, z, penalty=None):
    loss = gan.discriminator_loss(discriminator(x), discriminator(generator(z).detach()))
    total = loss if penalty is None else loss + penalty(discriminator, x)
    optimiser.zero_grad()
    total.backward()
    optimiser.step()
    return loss.item()


@pytest.mark.parametrize(("harm", "words"), [
    (lambda g: g.eval(), "leaves generator in eval mode"),
    (lambda g: g.requires_grad_(False), "requires_grad=False on the weights of generator"),
])
def test_the_other_network_of_a_step_is_left_as_it_was(harm, words, monkeypatch):
    def discriminator_step(generator, discriminator, optimiser, x, z, penalty=None):
        loss = gan_step(generator, discriminator, optimiser, x, z, penalty)
        harm(generator)
        return loss

    said = checks.examine(discriminator_step)[1]
    assert words in said and " And: " not in said  # told once
    monkeypatch.setattr(gan_step, "__name__", "discriminator_step")
    assert checks.examine(gan_step) == (True, "discriminator_step: passed.")


def test_a_right_answer_is_left_alone():
    x = torch.tensor([1.0, float("nan")])
    assert told(lambda x: x.clone().add_(1), x) == ""
    assert told(lambda x: x.append, [torch.ones(2)]) == ""
    model = net()
    assert told(lambda m, x: m(x), model.eval(), torch.randn(4, 2)) == ""


def test_an_exercise_may_say_that_something_changes():
    def check(answer):
        pass

    assert guard.changes("counts", "books")(check) is check
    free = check.may_change
    assert told(lambda counts: counts.add_(1), torch.ones(2), free=free) == ""
    assert told(lambda counts: counts[0].add_(1), [torch.ones(2)], free=free) == ""

    def course(z, counts):
        return z

    assert told(lambda a, b: b.add_(1), 0, torch.ones(2), free=free, course=course) == ""
    assert "changed a" in told(lambda a, b: a.add_(1), torch.ones(2), 0, free=free, course=course)


def test_a_class_is_left_as_it_is():
    assert guard.Watch(nn.Linear).function() is nn.Linear


def verdict(fn, monkeypatch):
    monkeypatch.setattr(fn, "__name__", "noised")
    return checks.examine(fn)[1]


def test_a_wrong_value_is_named_first(monkeypatch):
    def swapped(x0, eps, ab):
        x0 += 0
        eps *= 2
        return noised(eps / 2, x0, ab)

    said = verdict(swapped, monkeypatch)
    assert said.startswith("noised: not yet. Signal and noise are swapped. And: your function chan")
    assert "changed eps" in said


def test_a_right_value_that_changes_its_input_is_refused(monkeypatch):
    def right(x0, eps, ab):
        return x0.copy_(noised(x0, eps, ab))

    assert verdict(right, monkeypatch) == (
        "noised: not yet. Your function changed x0, which it was given: work on a new tensor.")


def test_what_was_changed_is_said_once(monkeypatch):
    def ema_update(count, total, z, indices, decay):
        mean = vqvae_answers.ema_update(count, total, z, indices, decay)
        return count.copy_(mean[0]), total.copy_(mean[1]), mean[2]

    assert checks.examine(ema_update)[1] == (
        "ema_update: not yet. Your function changed the count it was given: work on a new tensor.")
    watch = guard.Watch(spoil)
    watch.function()(torch.zeros(2))
    watch.found.append((1, "Your function leaves gradients switched on."))
    said = str(watch.verdict(compare.Changed("Your function changed the x.")))
    assert said == "Your function changed the x. And: your function leaves gradients switched on."


def test_a_difference_that_may_come_of_the_change_gives_way():
    watch = guard.Watch(spoil)
    x = torch.zeros(2)
    watch.function()(x)
    unnamed = compare.Wrong("For this the value is 2; 1 is wanted.", named=False)
    assert "For this" in str(watch.verdict(unnamed))            # seen in the very call
    watch.function()(x)
    assert "For this" not in str(watch.verdict(unnamed))
    assert "Upside down" in str(watch.verdict(compare.Wrong("Upside down.")))


def test_gradients_are_asked_for_in_one_way():
    given = {"first": torch.randn(3), "count": 2, "second": torch.randn(3), "index": torch.ones(1)}
    right = {"x": lambda a, n, b, i: (a * b).sum() * n}["x"]
    compare.require_gradients(right, given, ["first", "second"])
    with pytest.raises(compare.Wrong, match=r"no gradient comes back: no detach, no \.item"):
        compare.require_gradients(lambda a, n, b, i: (a * b).sum().item(), given, ["first"])
    with pytest.raises(compare.Wrong, match="reaches the second"):
        compare.require_gradients(lambda a, n, b, i: (a * b.detach()).sum(), given,
                                  ["first", "second"])
    with pytest.raises(compare.Wrong, match="reaches the index"):
        compare.require_gradients(right, given)
    assert not given["first"].requires_grad


@pytest.mark.parametrize("name", ["d_loss", "noised", "fftd_block"])
def test_examining_writes_nothing(name, tmp_path, monkeypatch):
    checks.examine(fftd_block)
    assert not list(tmp_path.iterdir()) and chapters.chapter_of(name)
