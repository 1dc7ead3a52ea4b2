import pytest
import torch

from minigen import vae
from minigen.squares import SquareDecoder, SquareEncoder
from tests.conftest import defaults, layers, said, size_of


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_shapes(size):
    encoder, decoder = SquareEncoder(8, size, 5), SquareDecoder(8, size)
    h = encoder(torch.rand(2, 5, size, size))
    assert h.shape == (2, 16, 4, 4) and encoder.channels == decoder.channels == 16
    x = decoder(h)
    assert x.shape == (2, 3, size, size) and x.abs().max() <= 1


def test_a_square_becomes_one_place_and_comes_back_where_it_was():
    encoder, decoder = SquareEncoder(8, 32), SquareDecoder(8, 32)
    cut, joined = encoder[0], decoder[-2]
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(joined(cut(x)), x)
    places = cut(x)
    assert places.shape == (1, 48, 8, 8)
    square = x[0, :, 12:16, 20:24]                        # the square in row 3, column 5
    assert torch.equal(places[0, :, 3, 5], square.flatten())


def test_what_one_square_holds_reaches_its_neighbours_only():
    encoder = SquareEncoder(8, 32).eval()
    x = torch.zeros(1, 3, 32, 32, requires_grad=True)
    encoder[1](encoder[0](x))[0, :, 3, 5].sum().backward()
    seen = x.grad.abs().sum((0, 1)) > 0
    assert seen[8:20, 16:28].all() and int(seen.sum()) == 12 * 12


def test_every_convolution_works_on_eight_places_or_fewer():
    model, sides = vae.VAE(width=8, squares=True), []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda m, given, out: sides.append(given[0].shape[-1]))
    model(torch.zeros(1, 3, 32, 32))
    assert sides == [8, 8, 4, 8, 8]


def test_a_code_unlike_all_others_is_no_glare():
    """The first norm: ten times the code, nearly the same map."""
    decoder = SquareDecoder(8, 32)
    h = torch.randn(1, 16, 4, 4)
    assert torch.allclose(decoder[0](10 * h), decoder[0](h), atol=1e-3)


def test_a_vae_of_squares_learns_labels_and_is_rebuilt():
    torch.manual_seed(0)
    config = dict(latent_dim=4, width=8, size=16, num_classes=3, squares=True)
    model = vae.VAE(**config)
    assert model.config == config
    x, y = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    x_hat, mean, logvar = model(x, y)
    vae.vae_loss(x, x_hat, mean, logvar).loss.backward()
    for name, p in model.named_parameters():
        assert torch.isfinite(p.grad).all() and p.grad.abs().max() > 0, name


def test_what_is_refused_and_what_is_taken():
    for network in (SquareEncoder, SquareDecoder):
        with pytest.raises(ValueError, match="size must be a multiple of 8; got 12"):
            network(8, 12)
        with pytest.raises(ValueError, match="width must be a multiple of 8"):
            network(12, 16)
    with pytest.raises(ValueError, match="in_channels"):
        SquareEncoder(8, 16, 0)
    assert defaults(SquareEncoder) == dict(width=48, size=32, in_channels=3)
    assert defaults(SquareDecoder) == dict(width=48, size=32)


def test_architectures_layer_by_layer():
    assert layers(SquareEncoder(16, 32, 4)) == said("""
        PixelUnshuffle; Conv2d 64 16 3 1 1; GroupNorm 8 16; SiLU; Conv2d 16 32 3 2 1;
        GroupNorm 8 32; SiLU""")
    assert layers(SquareDecoder(16, 32)) == said("""
        GroupNorm 8 32; SiLU; Conv2d 32 64 3 1 1; PixelShuffle; GroupNorm 8 16; SiLU;
        Conv2d 16 16 3 1 1; GroupNorm 8 16; SiLU; Conv2d 16 48 3 1 1; PixelShuffle; Tanh""")
    # the network of chapter 2, whose size its text names
    assert size_of(lambda: vae.VAE(width=48, squares=True)) == 419_728
