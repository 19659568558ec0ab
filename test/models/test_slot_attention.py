"""Slot Attention's own choices: iterations, deterministic slots, and slots that are carried through time."""

from __future__ import annotations

import torch

from object_centric_ros.models.slot_attention import SlotAttention, SlotAttentionConfig

SMALL = {'image_size': 16, 'slots': 3, 'latent': 8, 'features': 8, 'decoder_channels': 8}


def build() -> SlotAttention:
    torch.manual_seed(0)
    return SlotAttention(SlotAttentionConfig(**SMALL)).eval()


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rounds_of_attention_are_refinements() -> None:
    """Three on a first frame, one on a later one, which starts from the slots before it and draws no noise."""
    model, images = build(), torch.rand(2, 2, 3, 16, 16, generator=seeded(0))
    with torch.no_grad():
        first = model.infer(images[:, 0], generator=seeded())
        expected = model.start(2, None, seeded())
        for _ in range(3):
            expected = model.refine(expected, images[:, 0])
        assert torch.allclose(first.mean, expected.mean, atol=1e-6)
        later = model.infer(images[:, 1], first, generator=seeded(2))
        assert torch.allclose(later.mean, model.refine(first, images[:, 1]).mean, atol=1e-6)


def test_slots_are_certain() -> None:
    model = build()
    belief = model.infer(torch.rand(1, 3, 16, 16, generator=seeded(0)), generator=seeded())
    noise = torch.randn(belief.mean.shape, generator=seeded())
    assert (belief.log_std == -torch.inf).all() and torch.equal(belief.sample(noise), belief.mean)


def test_loss_is_the_squared_error_of_each_frame() -> None:
    model, images = build(), torch.rand(2, 2, 3, 16, 16, generator=seeded(0))
    loss, terms = model.episode_loss(images, None, 0, seeded())
    first = model.infer(images[:, 0], generator=seeded())
    later = model.infer(images[:, 1], first)
    errors = [(model.scene(b).image - x).square().sum((1, 2, 3)).mean() for b, x in zip(
        (first, later), images.unbind(1), strict=True)]
    assert torch.allclose(loss, (errors[0] + errors[1]) / 2, rtol=1e-5)
    assert abs(terms['mse'] - errors[1].item() / images[0, 0].numel()) < 1e-6
