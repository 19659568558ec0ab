"""R-NEM in the tracker: what no slot draws is nobody's, and things of one colour keep their ids as they move."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.rnem import RNEM, RNEMBelief, RNEMConfig
from object_centric_ros.tracking.observation import view_slots
from object_centric_ros.tracking.settings import TrackerConfig
from object_centric_ros.tracking.tracker import EntityTracker

SIZE, RADIUS = 32, 4.5
CAMERA = PinholeCamera.looking_at((0.0, -0.6, 1.0), (0.0, 0.0, 0.0), 25, SIZE, SIZE)
PLACES = np.array([[8.0, 8.0], [22.0, 24.0]])  # (u, v) of the balls' centres, pixels
RATES = np.array([[1.0, 0.5], [-1.0, 0.0]])  # pixels a frame


class Discs(nn.Module):
    """States (u, v, ...) [B, K, 4] -> logits of white discs [B, K, 1, S, S]."""

    def forward(self, z: Tensor) -> Tensor:
        grid = torch.arange(SIZE) + 0.5
        across, down = grid - z[..., :1], grid - z[..., 1:2]
        inside = RADIUS ** 2 - (across[..., None, :] ** 2 + down[..., :, None] ** 2)
        return inside.clamp(-20, 6)[:, :, None]


class KnowsTheBalls(RNEM):
    """An R-NEM whose learned parts are written down: slots 0 and 2 are balls that fly on, slot 1 draws nothing."""

    def __init__(self) -> None:
        super().__init__(RNEMConfig(image_size=SIZE, slots=3, latent=4, hidden=4, attention_size=2,
                                    encoder_channels=(2, 2), decoder_channels=(2, 2)))
        self.decoder = Discs()  # type: ignore[assignment]

    def _draw(self, mean: Tensor) -> Tensor:
        return self.decoder(mean)

    def start(self, batch: int, slots: int | None = None, generator: torch.Generator | None = None) -> RNEMBelief:
        balls = np.concatenate([PLACES, RATES], 1)
        states = np.stack([balls[0], [-99.0, -99.0, 0.0, 0.0], balls[1]])
        mean = torch.from_numpy(states).float().expand(batch, -1, -1)
        return replace(super().start(batch, slots, generator), mean=mean, parameters=self._draw(mean))

    def maximise(self, belief: RNEMBelief, action: Tensor | None = None) -> RNEMBelief:
        place, rate = belief.mean.chunk(2, -1)
        mean = torch.cat([place + rate, rate], -1)
        return replace(belief, mean=mean, parameters=self._draw(mean))


def picture(t: int) -> NDArray[np.uint8]:
    """White balls on black, as the camera sees them at frame t."""
    grid = np.arange(SIZE) + 0.5
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    for u, v in PLACES + t * RATES:
        image[(grid - u) ** 2 + (grid[:, None] - v) ** 2 < RADIUS ** 2] = 255
    return image


def far_from_balls(t: int) -> NDArray[np.bool_]:
    """Pixels two or more outside of every ball, where softened edges have ended."""
    grid = np.arange(SIZE) + 0.5
    return np.all([(grid - u) ** 2 + (grid[:, None] - v) ** 2 > (RADIUS + 2) ** 2 for u, v in PLACES + t * RATES], 0)


def nearest_ball(t: int, centroid: tuple[float, float]) -> tuple[float, int]:
    """Distance to the nearest ball, pixels, and which it is."""
    distance = np.linalg.norm(PLACES + t * RATES - centroid, axis=1)
    return float(distance.min()), int(distance.argmin())


def test_balls_become_entities_and_black_does_not() -> None:
    tracker = EntityTracker(KnowsTheBalls(), {'camera': CAMERA.to_dict()}, config=TrackerConfig(birth_motion=3.0),
                            device='cpu')
    ids: list[set[int]] = []
    followed: set[tuple[int, int]] = set()
    for t in range(10):
        found = tracker.step(picture(t), stamp=0.1 * t)
        ids.append({e.id for e in found.entities if e.visible})
        assert np.allclose(found.masks.sum(0), 1, atol=1e-5)
        assert not found.label_image[far_from_balls(t)].any()
        for entity in found.entities:
            assert nearest_ball(t, entity.centroid)[0] < 0.5
            assert entity.mask_area == pytest.approx((picture(t)[..., 0] > 0).sum() / 2, rel=0.1)
        followed |= {(e.id, int(nearest_ball(t, e.centroid)[1])) for e in found.entities}
    assert len(ids[-1]) == 2 and ids[2:] == [ids[-1]] * 8  # a new slot is believed after three frames
    assert len(followed) == 2  # each id stays with its ball
    assert {s.slot for s in found.background} == {1}


def test_without_empty_pixels_a_ball_would_own_the_black() -> None:
    model = KnowsTheBalls()
    with torch.no_grad():
        image = model.observe(torch.from_numpy(picture(1)).permute(2, 0, 1)[None] / 255)
        scene = model.scene(model.infer(image, model.predict(model.infer(image))))
    assert scene.empty is not None
    masks, colours = scene.masks[0].numpy(), scene.colours[0].expand(-1, 3, -1, -1).numpy()
    seen = image[0].expand(3, -1, -1).numpy()
    empty = scene.empty[0].numpy()
    apart, together = (view_slots(masks, colours, seen, None, e) for e in (empty, None))
    assert (apart.owner[empty] == -1).all() and (apart.owner[~empty] == together.owner[~empty]).all()
    assert apart.area.sum() == (~empty).sum() and together.area.sum() == SIZE ** 2
    assert apart.area[1] == 0 and np.isnan(apart.centroid[1]).all()
    assert apart.area[0] == pytest.approx(np.pi * RADIUS ** 2, rel=0.1)
    assert apart.overlapped[0] == 0  # what is below it is nothing, not another thing


@pytest.mark.parametrize('changes', [{}, {'interaction': 'none', 'm_step': 'gradient'},
                                     {'interaction': 'none', 'm_step': 'lstm', 'slots': 1}, {'likelihood': 'gaussian'}])
def test_snapshot_goes_on_as_the_stream_does(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = RNEM(RNEMConfig(**({'image_size': SIZE, 'latent': 8, 'hidden': 8, 'attention_size': 4, 'slots': 3,
                                'encoder_channels': (4, 4), 'decoder_channels': (4, 4)} | changes)))
    record = {'camera': CAMERA.to_dict(), 'model_id': 'rnem-test'}
    tracker, other = (EntityTracker(model, record, device='cpu') for _ in range(2))
    for t in range(3):
        tracker.step(picture(t), stamp=0.1 * t)
    other.load_state_dict(tracker.state_dict())
    a, b = (x.step(picture(3), stamp=0.4) for x in (tracker, other))
    assert np.allclose(a.masks, b.masks, atol=1e-5) and np.allclose(a.colours, b.colours, atol=1e-5)
