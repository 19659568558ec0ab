"""An OBAI whose states begin with a position: where slots start, what they draw and see, and that it trains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from obai_anchored import SIZE, anchored
from obai_squares import moving_squares, seeded

from object_centric_ros.errors import InputError
from object_centric_ros.models.obai_anchored import UNIT, Glimpse, seeds
from object_centric_ros.models.obai_config import OBAIConfig
from object_centric_ros.simulation.sprites import SpritesConfig, make_batch


def test_seeds_lie_on_sprites_one_on_each() -> None:
    config = SpritesConfig(size=SIZE, largest=11.0, steps=1)
    data = make_batch(config, [[7, i] for i in range(60)])
    image = torch.from_numpy(data['frames'][:, 0]).permute(0, 3, 1, 2).float() / 255
    ground = torch.from_numpy(data['background']).float()[:, :, None, None].expand_as(image) / 255
    where = seeds(image, ground, 3, 2.0) * UNIT
    pixels = ((where + 1) / 2 * SIZE).long().clamp(0, SIZE - 1).numpy()
    true = data['labels'][:, 0]
    hit = [{int(labels[v, u]) for u, v in p} - {0} for labels, p in zip(true, pixels, strict=True)]
    large = [set(np.flatnonzero(np.bincount(labels.ravel(), minlength=4) >= 10)) - {0} for labels in true]
    assert sum(len(h & s) for h, s in zip(hit, large, strict=True)) > 0.95 * sum(map(len, large))


def test_a_thing_is_drawn_where_it_is() -> None:
    """The middle of an untrained thing's mask follows its position, in pixels."""
    model, z = anchored(), torch.zeros(1, 3, 6)
    z[0, :, :2] = torch.tensor([[-0.5, 0.25], [0.0, 0.0], [0.25, -0.5]]) / UNIT
    with torch.no_grad():
        weight = (4 * model.decode_things(z).mask_logits[0]).flatten(1).softmax(1).unflatten(1, (SIZE, SIZE))
        background = model.decode(z).mask_logits[0]
    line = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
    middle = torch.stack([(weight.sum(1) * line).sum(1), (weight.sum(2) * line).sum(1)], 1)
    assert torch.allclose(middle, UNIT * z[0, :, :2], atol=0.1)
    assert background[0].std() < 1 < background[1].std()  # the first slot may fill the image


def test_a_glimpse_is_what_lies_around_a_thing() -> None:
    seen = torch.randn(1, 2, 3, SIZE, SIZE, generator=seeded())
    state = torch.zeros(1, 2, 6)
    state[0, 1, :2] = torch.tensor([4.0, -6.0]) * 2 / SIZE / UNIT  # 4 pixels to the right, 6 up
    got = Glimpse(16 / SIZE, 16)(seen, state)
    assert torch.allclose(got[0, 1], seen[0, 1, :, 16 - 8 - 6:16 + 8 - 6, 16 - 8 + 4:16 + 8 + 4], atol=1e-5)
    assert torch.allclose(got[0, 0, :, 4, 4], seen[0, 0, :, 8:10, 8:10].mean((1, 2)), atol=1e-5)  # all of the image


def test_the_background_slot_is_the_first_and_things_differ_from_the_start() -> None:
    model, images = anchored(), moving_squares(2, 1)[0][:, 0]
    with torch.no_grad():
        first = model.first(images, seeded())
    places = first.mean[:, 1:, :2]
    assert torch.cdist(places, places)[0].add(9 * torch.eye(3)).min() > 0.5
    assert torch.equal(first.mean[0, 1, 2:], first.mean[0, 2, 2:])
    assert not torch.equal(first.mean[0, 0, 2:], first.mean[0, 1, 2:])


@pytest.mark.parametrize('precision', [torch.float32, torch.bfloat16])
def test_trains_on_films(precision: torch.dtype) -> None:
    """The loss falls, every parameter takes part, in bfloat16 too."""
    model = anchored(seed_reach=2.0).train()
    images, fields = moving_squares(2, 3)
    optimiser, losses = torch.optim.Adam(model.parameters(), 3e-3), []
    for step in range(10):
        with torch.autocast('cpu', precision, enabled=precision != torch.float32):
            loss, terms = model.episode_loss(images, fields, step, seeded(step))
        optimiser.zero_grad()
        loss.backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()], terms
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2 * abs(losses[0])


def test_impossible_configurations() -> None:
    good = OBAIConfig(image_size=32, background_slot=True, anchored=True)
    for change in ({'background_slot': False}, {'decoder_grid': 5}, {'decoder_channels': (8, 16)}, {'slots': 1},
                   {'glimpse': 0.0}):
        with pytest.raises(InputError):
            replace(good, **change)
    with pytest.raises(InputError):
        OBAIConfig(background_slot=True)
