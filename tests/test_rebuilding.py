import json

import pytest
import torch

from minigen import fftd, files, gan, rebuilding
from minigen.errors import DataError
from minigen.packing import packed

NOT_TAKEN = "config that Generator does not take"
MISFIT = "does not fit its own config"
BAD = {
    "no config": (dict(config=None), "no readable config"),
    "torn config": (dict(config="{"), "no readable config"),
    "null config": (dict(config="null"), "no readable config"),
    "list config": (dict(config="[1]"), "no readable config"),
    "deep config": (dict(config="[" * 9999), "no readable config"),
    "no card": (dict(card=None), "no readable card"),
    "null card": (dict(card="null"), "no readable card"),
    "number card": (dict(card="5"), "no readable card"),
    "unknown field": (dict(config='{"widht": 8}'), NOT_TAKEN),
    "text for a number": (dict(config='{"width": "8"}'), NOT_TAKEN),
    "zero": (dict(config='{"width": 0}'), f"{NOT_TAKEN}|{MISFIT}"),
    "negative": (dict(config='{"width": -8}'), NOT_TAKEN),
    "fraction": (dict(config='{"width": 8.5}'), NOT_TAKEN),
    "huge": (dict(config='{"width": 1000000000}'),
             "width=1000000000 in its config, which its .* weights cannot be"),
    "larger": (dict(config='{"width": 9000}'), MISFIT),
    "other size": (dict(config='{"width": 16}'), f"{MISFIT}: .* should be .*, and is"),
    "one missing": (dict(drop="rest.0.weight"), "rest.0.weight should be .*, and is absent"),
    "one more": (dict(add={"more": torch.zeros(2)}), "more should be absent, and is 2"),
    "misshapen": (dict(add={"rest.0.weight": torch.zeros(3)}),
                  "rest.0.weight should be .*×.*, and is 3"),
    "empty": (dict(empty=True), MISFIT),
}


@pytest.mark.parametrize("case", BAD)
def test_weights_that_do_not_hold_together_name_their_file(tmp_path, case):
    change, words = BAD[case]
    model, path = gan.Generator(width=8), tmp_path / "bad.safetensors"
    meta = {"class": "Generator", "config": json.dumps(model.config), "card": "{}"} | {
        k: change[k] for k in ("config", "card") if k in change}
    state = {} if change.get("empty") else model.state_dict() | change.get("add", {})
    state.pop(change.get("drop"), None)
    files.save_tensors(path, state, **{k: v for k, v in meta.items() if v is not None})
    with pytest.raises(DataError, match=f"bad.safetensors.*({words})"):
        files.load_weights(gan.Generator, path)


def test_a_deep_config_is_refused_before_it_is_built(tmp_path):
    model = fftd.FFTD(dim=16, heads=2)
    config = json.dumps(model.config | dict(depth=100_000))
    meta = {"class": "FFTD", "config": config, "card": "{}"}
    files.save_tensors(tmp_path / "f.safetensors", model.state_dict(), **meta)
    with pytest.raises(DataError, match="depth=100000"):
        files.load_weights(fftd.FFTD, tmp_path / "f.safetensors")


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_another_type_are_refused(tmp_path, dtype):
    model, path = gan.Generator(width=8), tmp_path / "g.safetensors"
    state = {k: v.to(dtype) if k == "rest.0.weight" else v for k, v in model.state_dict().items()}
    meta = {"class": "Generator", "config": json.dumps(model.config), "card": "{}"}
    files.save_tensors(path, state, **meta)
    with pytest.raises(DataError, match=r"rest.0.weight"):
        files.load_weights(gan.Generator, path)


def a_scale(change):
    """The packed weights of a generator with one of their scales changed."""
    def broken(state):
        return state | {"rest.0.weight.scale": change(state["rest.0.weight.scale"])}
    return broken


def without(name):
    return lambda state: {k: v for k, v in state.items() if k != name}


FITS = r"rest.0.weight.scale must be one float32 for each row of rest.0.weight"
PACKED = {
    "no scale": (without("rest.0.weight.scale"),
                 r"rest.0.weight should be torch.float32, and is torch.int8"),
    "a scale alone": (without("rest.0.weight"), r"rest.0.weight should be .*, and is absent"),
    "a scale too few": (a_scale(lambda s: s[1:]), FITS),
    "one scale": (a_scale(lambda s: s[0]), FITS),
    "scales by column": (a_scale(lambda s: s[:, None]), FITS),
    "half a scale": (a_scale(torch.Tensor.half), FITS),
    "whole scales": (a_scale(torch.Tensor.long), FITS),
    "a scale of nothing known": (lambda s: s | {"more.scale": torch.ones(2)},
                                 "more.scale should be absent, and is 2"),
    "rows too few": (lambda s: s | {"rest.0.weight": s["rest.0.weight"][1:]}, FITS),
    "misshapen": (lambda s: s | {"rest.0.weight": s["rest.0.weight"].flatten(1)},
                  r"rest.0.weight should be .*×.*, and is .*×"),
    "a scale that is no number": (a_scale(lambda s: s * float("nan")),
                                  r"hold NaN or infinity .in rest.0.weight"),
    "a scale too large": (a_scale(lambda s: s.fill_(3e38)),
                          r"hold NaN or infinity .in rest.0.weight"),
    "a bias packed": (lambda s: s | {"rest.0.bias": torch.ones(8, dtype=torch.int8),
                                     "rest.0.bias.scale": torch.ones(8)},
                      r"rest.0.bias.scale must be one float32 for each row"),
}


@pytest.mark.parametrize("case", PACKED)
def test_packed_weights_that_do_not_hold_together_name_their_file(tmp_path, case):
    change, words = PACKED[case]
    model, path = gan.Generator(width=8), tmp_path / "bad.safetensors"
    meta = {"class": "Generator", "config": json.dumps(model.config), "card": "{}"}
    files.save_tensors(path, change(packed(model.state_dict())), **meta)
    with pytest.raises(DataError, match=f"bad.safetensors.*({words})"):
        files.load_weights(gan.Generator, path)


def test_a_model_is_what_its_file_says(tmp_path):
    model = gan.Generator(latent_dim=5, width=8, size=16)
    meta = {"config": json.dumps(model.config), "card": '{"steps": 3}'}
    before = torch.get_rng_state()
    back = rebuilding.rebuilt(gan.Generator, model.state_dict(), meta, tmp_path / "x")
    assert torch.equal(torch.get_rng_state(), before)
    assert back.config == model.config and back.card == {"steps": 3} and not back.training
    assert all(torch.equal(v, back.state_dict()[k]) for k, v in model.state_dict().items())


def test_what_is_not_finite_is_told_by_name():
    state = {"a": torch.zeros(2), "n": torch.tensor(3), "b": torch.tensor([1.0, float("inf")])}
    with pytest.raises(DataError, match=r"^These hold NaN or infinity .in b.: .*; so it is\."):
        rebuilding.require_finite(state, "These", "so it is")
    rebuilding.require_finite({"a": torch.zeros(2), "n": torch.tensor(3)}, "These", "so it is")
