"""The recipe of tools/pretrain_personal.py run from end to end, on a few steps."""

import pretrain_personal
import torch

from minigen import files, latents
from minigen.files import load_weights
from minigen.ivqvae import IVQVAE, Decoder


def test_the_decoder_and_what_was_measured_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_personal, "OUT", tmp_path)
    card = pretrain_personal.RECIPES["decoder_beard"](steps=2, batch_size=4, counted=130)
    decoder = files.load_weights(Decoder, tmp_path / "decoder_beard.safetensors")
    assert decoder.card == card
    old = load_weights(IVQVAE, "ivqvae")
    assert card["tokenizer"] == latents.fingerprint(old)
    assert card["before"]["bearded"] < 0.05 and card["before"]["frechet"] < 200
    assert card["after"].keys() == card["before"].keys()
    # of the weights as they are stored, in 8 bits
    old.latents_of, old.decoder = card["tokenizer"], decoder
    assert pretrain_personal._measured(old, 130) == card["after"]
    assert not torch.equal(decoder.body[0].weight, load_weights(IVQVAE, "ivqvae").decoder.body[
        0].weight)
