import math

import pytest
import torch

from minigen import pixelcnn
from minigen.data import batches
from minigen.pixelcnn import MaskedConv2d, PixelCNN, causal_mask, sample_codes
from tests.conftest import defaults, layers, one_cycle, said, size_of


def busy(model):
    """An untrained model whose last layer is not zero."""
    torch.nn.init.normal_(model.head.weight, 0, 0.5)
    return model.eval()


def test_masks():
    assert causal_mask(3, "A").tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert causal_mask(3, "B").tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]
    assert causal_mask(1, "B").tolist() == [[1]] and causal_mask(7, "A").sum() == 24
    for size, kind, words in ((4, "A", "odd"), (3, "C", "'A' or 'B'")):
        with pytest.raises(ValueError, match=words):
            causal_mask(size, kind)


def test_no_position_sees_itself_or_a_later_one_and_each_sees_every_earlier_one():
    torch.manual_seed(0)
    model = busy(PixelCNN(12, dim=8, blocks=2))
    embedded = torch.randn(1, 8, 4, 4, requires_grad=True)
    logits = model.logits_of(embedded)[0].flatten(1)
    for n in range(16):
        loss = logits[:, n].square().sum()
        (slope,) = torch.autograd.grad(loss, embedded, retain_graph=True)
        slope = slope.abs().sum((0, 1)).flatten()
        assert (slope[n:] == 0).all()
        assert (slope[:n] > 0).all()


def test_changing_a_code_changes_only_what_comes_after():
    model = busy(PixelCNN(12, dim=8, blocks=2))
    codes = torch.randint(12, (2, 4, 4))
    changed = codes.clone()
    changed[:, 1, 2] = (codes[:, 1, 2] + 1) % 12
    a, b = (model(c).flatten(2) for c in (codes, changed))
    assert torch.equal(a[..., :7], b[..., :7]) and not torch.equal(a[..., 7], b[..., 7])


def test_a_new_model_knows_nothing():
    model, codes = PixelCNN(32, dim=8, num_classes=3), torch.randint(32, (5, 4, 4))
    logits = model(codes, torch.tensor([0, 1, 2, 0, 1]))
    assert pixelcnn.bits_per_image(logits, codes).item() == pytest.approx(16 * 5)


def test_bits_by_hand():
    logits = torch.zeros(1, 2, 1, 2)
    logits[0, 0, 0, 0] = math.log(3)                       # probabilities 3/4, 1/4 and 1/2, 1/2
    codes = torch.tensor([[[1, 0]]])
    assert pixelcnn.bits_per_image(logits, codes).item() == pytest.approx(2 + 1)


def test_a_fixed_prefix_gives_the_forward_logits():
    torch.manual_seed(0)
    model = busy(PixelCNN(12, dim=8, blocks=2))
    codes = torch.randint(12, (3, 4, 4))
    prefix = codes.flatten(1)[:, :9]
    drawn = sample_codes(model, 3, prefix=prefix, seed=5)
    assert torch.equal(drawn.flatten(1)[:, :9], prefix)
    want = model(codes).flatten(2)[:, :, 9]
    assert torch.equal(model(drawn).flatten(2)[:, :, 9], want)        # later codes do not matter
    expected = torch.multinomial(want.softmax(1), 1, generator=torch.Generator().manual_seed(5))
    assert torch.equal(drawn.flatten(1)[:, 9:10], expected)
    assert torch.equal(sample_codes(model, 3, prefix=codes.flatten(1)), codes)


def test_samples_follow_the_logits():
    model = PixelCNN(4, dim=8, blocks=1)
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([0.7, 0.2, 0.1, 1e-9]).log())
    share = torch.bincount(sample_codes(model, 2000).flatten(), minlength=4) / 32000
    assert torch.allclose(share, torch.tensor([0.7, 0.2, 0.1, 0.0]), atol=0.02)
    cold = torch.bincount(sample_codes(model, 500, temperature=0.1).flatten(), minlength=4) / 8000
    assert cold[0] > 0.99


def test_samples_repeat_with_the_seed_and_leave_the_mode():
    model = busy(PixelCNN(12, dim=8)).train()
    first = sample_codes(model, 4, seed=1)
    assert torch.equal(first, sample_codes(model, 4, seed=1)) and model.training
    assert not torch.equal(first, sample_codes(model, 4, seed=2))


def test_training_learns_a_rule_and_its_labels():
    torch.manual_seed(0)
    y = torch.randint(2, (512,))
    codes = (torch.arange(16).view(1, 4, 4) + torch.randint(4, (512, 1, 1))) % 4
    codes = codes + 4 * y[:, None, None]
    model = PixelCNN(8, dim=16, blocks=1, num_classes=2, dropout=0.0)
    data = batches(codes, y, batch_size=64)
    history = [s.bits for s in pixelcnn.train_pixelcnn(model, data, steps=300, lr=1e-2)]
    # two bits for the start; without its label one bit more
    assert history[0] == pytest.approx(48) and min(history[-20:]) == pytest.approx(2, abs=0.4)
    assert max(history[-20:]) == pytest.approx(3, abs=0.5)
    assert (sample_codes(model, 50, y=torch.ones(50, dtype=torch.long)) >= 4).float().mean() > 0.97


def test_every_parameter_gets_a_gradient():
    model = PixelCNN(12, dim=8, num_classes=2)
    codes, y = torch.randint(12, (64, 4, 4)), torch.randint(2, (64,))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for labels in (y, None):  # two steps: the last layer starts at zero
        pixelcnn.bits_per_image(model(codes, labels), codes).backward()
        optimiser.step()
    for name, p in model.named_parameters():
        assert torch.isfinite(p.grad).all() and p.grad.abs().max() > 0, name


def zeros(*shape):
    """Codes, all of them 0."""
    return torch.zeros(shape, dtype=torch.long)


@pytest.mark.parametrize(("make", "words"), [
    (lambda m: m(zeros(1, 3, 4)), r"codes must be \(B, 4, 4\)"),
    (lambda m: m(torch.full((1, 4, 4), 12)), "codes must be 0 to 11; got 12 to 12"),
    (lambda m: m(zeros(1, 4, 4), torch.tensor([2])), "labels must be 0 to 1"),
    (lambda m: m(zeros(1, 4, 4), torch.tensor([1, 1])), r"of the 1 maps is wanted; got \(2,\)"),
    (lambda m: sample_codes(m, 1, prefix=torch.full((1, 16), 99)), "must be 0 to 11; got 99 to 99"),
    (lambda m: sample_codes(m, 1, temperature=0), "temperature must be positive"),
    (lambda m: sample_codes(m, 2, prefix=zeros(1, 3)), r"prefix must be \(2, at most 16\)"),
    (lambda m: sample_codes(m, 1, prefix=zeros(1, 17)), "at most 16"),
])
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make(PixelCNN(12, dim=8, num_classes=2))


def test_another_grid():
    model = busy(PixelCNN(12, dim=8, grid=3))
    assert sample_codes(model, 2).shape == (2, 3, 3)


def test_the_architecture_layer_by_layer():
    assert layers(PixelCNN(12, dim=8, blocks=2, num_classes=2, dropout=0.3)) == said("""
        Embedding 12 8; Embedding 3 8; MaskedConv2d 8 8 7 1 3;
        LayerNorm 8; LayerNorm 8; MaskedConv2d 8 8 3 1 1; Conv2d 8 8 1 1 0; Dropout 0.3;
        LayerNorm 8; LayerNorm 8; MaskedConv2d 8 8 3 1 1; Conv2d 8 8 1 1 0; Dropout 0.3;
        LayerNorm 8; Conv2d 8 12 1 1 0""")
    model = PixelCNN(12, dim=64)
    assert not model.head.weight.any() and not model.head.bias.any()
    assert model.position.shape == (64, 4, 4) and float(
        model.position.detach().std()
    ) == pytest.approx(0.02, rel=0.1)
    assert model.first.mask.sum() == 24 and model.blocks[0].conv1.mask.sum() == 5
    # sizes of the prior of chapter 3 over 512 codes, without and with five labels
    assert [size_of(lambda: PixelCNN(512)), size_of(lambda: PixelCNN(512, num_classes=5))] == [
        433_408,
        433_728,
    ]


@pytest.mark.parametrize(
    ("size", "kind", "taps"), [(3, "A", 4), (3, "B", 5), (7, "A", 24), (5, "B", 13), (1, "A", 1)]
)
def test_fewer_taps_start_larger_by_the_root_of_their_share(size, kind, taps):
    torch.manual_seed(3)
    plain = torch.nn.Conv2d(2, 4, size)
    torch.manual_seed(3)
    masked = MaskedConv2d(2, 4, size, kind)
    torch.testing.assert_close(masked.weight, plain.weight * math.sqrt(size * size / taps))
    assert torch.equal(masked.bias, plain.bias) and "mask" not in masked.state_dict()
    x = torch.randn(2, 2, 6, 5)
    seen = (masked.weight * causal_mask(size, kind)).detach()
    torch.testing.assert_close(
        masked(x), torch.nn.functional.conv2d(x, seen, masked.bias, padding=size // 2)
    )


def test_larger_masks():
    assert causal_mask(5, "A").tolist() == [[1] * 5, [1] * 5, [1, 1, 0, 0, 0], [0] * 5, [0] * 5]
    assert causal_mask(5, "B").tolist() == [[1] * 5, [1] * 5, [1, 1, 1, 0, 0], [0] * 5, [0] * 5]
    assert causal_mask(1, "A").tolist() == [[0]]


def test_a_pass_written_out():
    """Embedding, first layer and position; in a block norm, label, masked layer, norm, 1×1; norm
    and head at the end."""
    model = busy(PixelCNN(12, dim=8, blocks=2, num_classes=3))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    silu = torch.nn.functional.silu
    codes, y = torch.randint(12, (2, 4, 4)), torch.tensor([2, 0])

    def normed(norm, h):
        centred = h - h.mean(1, keepdim=True)
        h = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return h * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)

    def written(label):
        h = model.first(model.embedding.weight[codes].permute(0, 3, 1, 2)) + model.position
        for block in model.blocks:
            u = block.conv1(silu(normed(block.norm1, h) + label[:, :, None, None]))
            h = h + block.conv2(silu(normed(block.norm2, u)))
        return model.head(silu(normed(model.norm, h)))

    torch.testing.assert_close(model(codes, y), written(model.label.weight[y]))
    torch.testing.assert_close(
        model(codes), written(model.label.weight[[3, 3]])
    )  # no label is the last row


def test_samples_one_position_after_another_with_labels_and_temperature():
    model = busy(PixelCNN(12, dim=8, blocks=1, num_classes=3, dropout=0.5))
    torch.nn.init.normal_(model.label.weight)
    y = [2, 0, 1]
    got = sample_codes(model.train(), 3, y, temperature=0.7, seed=4)
    codes, generator = zeros(3, 16), torch.Generator().manual_seed(4)
    model.eval()
    with torch.no_grad():
        for n in range(16):
            p = torch.softmax(
                model(codes.view(3, 4, 4), torch.tensor(y)).flatten(2)[..., n] / 0.7, 1
            )
            codes[:, n] = torch.multinomial(p, 1, generator=generator)[:, 0]
    assert torch.equal(got, codes.view(3, 4, 4))


@pytest.mark.parametrize("label_dropout", [0.0, 0.5, 1.0])
def test_the_loop_written_out(label_dropout):
    """The chance to go without labels is drawn first; bits become nats; AdamW with a hundredth of
    decay."""

    def fresh():
        torch.manual_seed(0)
        return PixelCNN(6, dim=8, blocks=1, num_classes=3, dropout=0.0)

    model, twin = fresh().eval(), fresh()
    data = [(torch.randint(6, (5, 4, 4)), torch.randint(3, (5,))) for _ in range(6)]
    training = pixelcnn.train_pixelcnn(
        model, iter(data), steps=6, lr=0.01, label_dropout=label_dropout, seed=2
    )
    got = list(training)
    generator, without = torch.Generator().manual_seed(2), []
    optimiser = torch.optim.AdamW(twin.parameters(), 0.01, weight_decay=0.01)
    for k, (codes, y) in enumerate(data):
        optimiser.param_groups[0].update(lr=one_cycle(0.01, 6)[k])
        without.append(float(torch.rand((), generator=generator)) < label_dropout)
        logits = twin(codes, None if without[-1] else y)
        nats = -logits.log_softmax(1).gather(1, codes[:, None]).sum() / 5
        optimiser.zero_grad()
        nats.backward()
        optimiser.step()
        assert got[k] == (k + 1, pytest.approx(nats.item() / math.log(2), rel=1e-5))
    assert model.training and sum(without) in {0.0: [0], 0.5: [2, 3, 4], 1.0: [6]}[label_dropout]
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_the_learning_rate_is_one_cycle(optimiser_steps):
    model, data = PixelCNN(4, dim=8, blocks=1), [(torch.randint(4, (2, 4, 4)),)] * 20
    assert (
        len(list(pixelcnn.train_pixelcnn(model, iter(data), steps=20, lr=0.01))) == 20
    )  # codes without labels
    assert [s["lr"] for _, s, _ in optimiser_steps] == pytest.approx(one_cycle(0.01, 20))
    assert {(name, s["weight_decay"]) for name, s, _ in optimiser_steps} == {("AdamW", 0.01)}


def test_what_is_taken_unless_told():
    assert defaults(PixelCNN) == dict(dim=64, blocks=4, grid=4, num_classes=0, dropout=0.1)
    assert defaults(sample_codes) == dict(y=None, prefix=None, temperature=1.0, seed=0)
    assert defaults(pixelcnn.train_pixelcnn) == dict(lr=2e-3, label_dropout=0.2, seed=0)


def test_a_model_is_rebuilt_from_its_config():
    config = dict(num_codes=6, dim=8, blocks=1, grid=3, num_classes=2, dropout=0.3)
    assert PixelCNN(**config).config == config


def test_the_limits_of_codes_labels_and_temperatures():
    model = PixelCNN(6, dim=8, blocks=1, num_classes=3)
    codes = torch.zeros(2, 4, 4, dtype=torch.long)
    codes[1, 3, 3] = 5
    assert model(codes, torch.tensor([0, 2])).shape == (2, 6, 4, 4)
    for y in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError):
            model(codes, torch.tensor(y))
    for wrong in (6, -1):
        codes[1, 3, 3] = wrong
        with pytest.raises(ValueError):
            model(codes)
    for temperature in (0.0, -1.0):
        with pytest.raises(ValueError):
            sample_codes(model, 1, temperature=temperature)
    for shape in ((2, 4, 5), (2, 5, 4), (2, 16)):
        with pytest.raises(ValueError):
            model(torch.zeros(shape, dtype=torch.long))
    for size in (0, -1, 2):
        with pytest.raises(ValueError):
            causal_mask(size, "A")


def test_what_is_lowered_is_counted_in_nats(optimiser_steps):
    """Adam's step does not depend on the unit; a gradient's length, and with it a limit on it,
    does."""
    model, codes = PixelCNN(6, dim=8, blocks=1, dropout=0.0), torch.randint(6, (5, 4, 4))
    nats = -model(codes).log_softmax(1).gather(1, codes[:, None]).sum() / 5
    grads = torch.autograd.grad(nats, list(model.parameters()), allow_unused=True)
    length = torch.cat([g.flatten() for g in grads if g is not None]).norm()
    next(pixelcnn.train_pixelcnn(model, iter([(codes,)]), steps=1))
    assert optimiser_steps[0][2] == pytest.approx(float(length), rel=1e-4)
