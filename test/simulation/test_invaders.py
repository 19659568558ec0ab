"""Space Invaders: pictures, labels, actions that act, and a player that plays."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.simulation.invaders import (
    ACTIONS,
    InvadersConfig,
    InvadersWorld,
    Player,
    _shrink,
    make_batch,
)


@pytest.fixture
def console() -> None:
    pytest.importorskip('ale_py', reason='Space Invaders needs the optional package ale-py')


@pytest.mark.usefixtures('console')
def test_episodes() -> None:
    out = make_batch(InvadersConfig(), [(0, i) for i in range(3)])
    assert out['frames'].shape == (3, 25, 84, 84, 1) and set(np.unique(out['frames'])) == {0, 255}
    np.testing.assert_array_equal(out['frames'][..., 0] > 0, out['labels'] > 0)
    assert out['actions'].shape == (3, 24, 6) and (out['actions'].sum(-1) == 1).all()
    assert {1, 2, 3, 4} <= set(np.unique(out['labels']))
    invaders, player = (out['labels'] == 3).any((0, 1, 3)), (out['labels'] == 1).any((0, 1, 3))
    assert invaders[:60].any() and not invaders[75:].any() and player[78:].any() and not player[:70].any()


@pytest.mark.usefixtures('console')
def test_actions_move_the_player() -> None:
    world = InvadersWorld(InvadersConfig(repeat=0.0))

    def where() -> float:
        return float(np.nonzero(world.render()['labels'] == 1)[1].mean())

    for action, name in enumerate(ACTIONS):
        world.reset(0)
        for _ in range(15):
            world.step(2)
        before = where()
        for _ in range(8):
            world.step(action)
        assert np.sign(round(where() - before)) == ('right' in name) - ('left' in name), name
    with pytest.raises(InputError, match='action'):
        world.step(6)


@pytest.mark.usefixtures('console')
def test_the_player_scores_more_than_chance() -> None:
    """Both lose all three lives, or play for 800 frames."""
    world = InvadersWorld()
    points = {}
    for whims in (0.1, 1.0):
        points[whims] = 0.0
        for game in range(3):
            world.reset((0, game))
            player, frames = Player(whims, world.rng), 0
            while not world.over and frames < 800:
                world.step(player.act(world.screen()))
                points[whims] += world.reward
                frames += 1
    assert points[0.1] > 1.5 * points[1.0] > 0, points


def test_shrinking_loses_no_dot_of_the_field() -> None:
    """A single pixel anywhere in the cut-out is seen, at its place."""
    for row, column in np.random.default_rng(0).integers([36, 0], [193, 160], (200, 2)):
        picture = np.zeros((210, 160), np.uint8)
        picture[row, column] = 7
        seen = np.argwhere(_shrink(picture) == 7)
        assert 1 <= len(seen) <= 4
        np.testing.assert_allclose((seen + 0.5).mean(0), [(row + 0.5) * 110 / 210 - 18, (column + 0.5) * 84 / 160],
                                   atol=0.8)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'ale_py', None)
    with pytest.raises(InputError, match=r'ale-py .*object_centric_ros\[atari\].*not installed'):
        InvadersWorld()


@pytest.mark.parametrize('changes', [{'steps': 0}, {'frame_skip': 0}, {'repeat': 1.0}, {'whims': 2.0}, {'lead_in': -1}])
def test_impossible_games(changes: dict) -> None:
    with pytest.raises(InputError, match='invaders: '):
        InvadersConfig(**changes)
