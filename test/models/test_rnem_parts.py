"""R-NEM's parts: the layer tables, equations 4 and 5."""

from __future__ import annotations

import pytest
import torch
from rnem_family import seeded
from torch import nn

from object_centric_ros.models.normed import DoublingConv, NormedDecoder, NormedEncoder, halved
from object_centric_ros.models.recurrent import SigmoidCell
from object_centric_ros.models.relational import RelationalInteraction
from object_centric_ros.models.rnem import RNEMConfig
from object_centric_ros.presets import load_preset


def test_layer_tables_of_the_paper() -> None:
    """Appendix A: 8x8x64 behind 64 pixels; 6x6 behind 84, and back."""
    balls, invaders = load_preset('rnem_balls'), load_preset('rnem_space_invaders')
    assert isinstance(balls, RNEMConfig) and isinstance(invaders, RNEMConfig)
    assert halved(64, 3) == [64, 32, 16, 8] and halved(84, 4) == [84, 42, 21, 11, 6]
    torch.manual_seed(0)
    for config, first in ((balls, 8 * 8 * 64), (invaders, 6 * 6 * 32)):
        encoder = NormedEncoder(config.image_size, 1, config.encoder_channels, config.hidden)
        decoder = NormedDecoder(config.latent, config.image_size, 1, config.hidden, config.decoder_channels)
        assert [m.in_features for m in encoder.layers if isinstance(m, torch.nn.Linear)] == [first]
        convolutions = [m for m in decoder.layers if isinstance(m, torch.nn.Conv2d)]
        assert [m.out_channels for m in convolutions] == [*config.decoder_channels[1:], 1]
        x = torch.rand(2, 3, 1, config.image_size, config.image_size, generator=seeded())
        assert encoder(x).shape == (2, 3, 512)
        assert decoder(torch.rand(2, 3, 250)).shape == x.shape


def test_doubling_convolution_is_the_one_over_the_doubled_map() -> None:
    torch.manual_seed(0)
    folded, x = DoublingConv(5, 3), torch.randn(2, 5, 7, 6, requires_grad=True)
    plain = nn.Sequential(nn.Upsample(scale_factor=2), nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(5, 3, 4))
    plain[2].load_state_dict(folded.state_dict())
    assert torch.allclose(folded(x), plain(x), atol=1e-5)
    slope = torch.randn(2, 3, 14, 12)
    ours = torch.autograd.grad((folded(x) * slope).sum(), (x, folded.weight))
    theirs = torch.autograd.grad((plain(x) * slope).sum(), (x, plain[2].weight))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize('attention', [0, 5])
def test_interaction_is_equation_5(attention: int) -> None:
    """Against a loop over pairs, with the networks applied to the concatenation of the pair."""
    torch.manual_seed(0)
    k, net = 4, RelationalInteraction(6, 7, attention).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.5)
    theta = torch.randn(2, k, 6, generator=seeded(), dtype=torch.float64)
    found, weights = net(theta)
    for b in range(2):
        encoded = [net.encode(theta[b, i]) for i in range(k)]
        for i in range(k):
            effect = torch.zeros(7, dtype=torch.float64)
            for j in range(k):
                pair = net.embed(net.pair(torch.cat([encoded[i], encoded[j]])))
                alpha = net.attention(pair).squeeze() if net.attention is not None else torch.ones(())
                effect = effect + (i != j) * alpha * net.effect(pair)
                assert weights[b, i, j].item() == pytest.approx(0 if i == j else alpha.item())
            assert torch.allclose(found[b, i], torch.cat([encoded[i], effect]))


def test_no_interaction_without_others() -> None:
    net = RelationalInteraction(6, 7, 5)
    theta = torch.randn(2, 3, 6, generator=seeded())
    alone, weights = net(theta[:, :1])
    assert not alone[..., 7:].any() and not weights.any()
    assert net(theta)[0][:, :1, 7:].abs().max() > 0


def test_attention_can_switch_an_object_off() -> None:
    """With attention zero the effects vanish; without attention they all count, and more objects mean a larger sum."""
    torch.manual_seed(0)
    net, plain = RelationalInteraction(6, 7, 5), RelationalInteraction(6, 7, 0)
    theta = torch.randn(1, 3, 6, generator=seeded())
    assert net.attention is not None and plain.attention is None
    torch.nn.init.constant_(net.attention[3].bias, -1e4)
    assert not net(theta)[0][..., 7:].any()
    twice = plain(torch.cat([theta[:, :1], theta[:, 1:], theta[:, 1:]], 1))[0]
    assert torch.allclose(twice[:, 0, 7:], 2 * plain(theta)[0][:, 0, 7:], atol=1e-5)


def test_cell_is_equation_4() -> None:
    """The recurrence reads sigmoid(W x + R u) as it is, the decoder with layer norm before the sigmoid."""
    torch.manual_seed(0)
    cell = SigmoidCell(3, 2, 4)
    x, context = torch.randn(1, 1, 3), torch.randn(1, 1, 2)
    mean, _ = cell(x, context, torch.zeros(1, 1, 4), torch.zeros(1, 1, 0))
    w, r = cell.linear.weight.split([3, 2], 1)
    raw = x @ w.T + context @ r.T + cell.linear.bias
    assert torch.allclose(cell.state(mean), raw.sigmoid())
    normed = (raw - raw.mean(-1, keepdim=True)) / (raw.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(cell.output(mean), normed.sigmoid(), atol=1e-6)
