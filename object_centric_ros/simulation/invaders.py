"""Space Invaders (R-NEM section 4 and A.2) through the Arcade Learning Environment, played by a script.

The paper's player is a trained DQN; ours shoots at the nearest invader and steps aside for bombs. Pictures are prepared
as in Mnih et al. (2013): scaled to 110 x 84, cut to the 84 x 84 of the playing field, and then binarised. Needs the
optional package `ale-py`, which holds the game.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError

GENERATOR_VERSION = 1
SIZE = 84
ACTIONS = ('stay', 'fire', 'right', 'left', 'right and fire', 'left and fire')
COLOUR_PLAYER, COLOUR_SHIELD, COLOUR_INVADER, COLOUR_SHOT, COLOUR_COUNT = 196, 52, 20, 6, 246
"""Numbers of the console's colours."""
LABELS = {COLOUR_PLAYER: 1, COLOUR_SHIELD: 2, COLOUR_INVADER: 3, COLOUR_SHOT: 4, COLOUR_COUNT: 5}
FIELD = slice(31, 195)
"""Rows of the console's picture [210, 160] between the score and the ground."""
PLAYER_ROWS = slice(185, 195)
LEFT_END, RIGHT_END = 38, 119
"""Columns between which the middle of the player moves."""
WIDE = 6
"""A bomb so far from the middle of the player, or less, hits it (columns)."""
FIRED = 120
"""A shot that is first seen lower than so many rows below the top of the field is the player's."""
REMEMBERED = 3
"""Frames of ours that a shot which is out of sight is still reckoned with."""
OPENING = 130
"""Console frames after which a new game lets itself be played."""

FIELDS = {
    'frames': '[T, 84, 84, 1] 255 where there is something and 0 elsewhere',
    'labels': '[T, 84, 84] 0 background, 1 player, 2 shields, 3 invaders, 4 shots and bombs, 5 the number of lives, '
              'which shows for a while when one is lost',
    'actions': f'[T-1, {len(ACTIONS)}] one-hot: {", ".join(ACTIONS)}',
    'rewards': '[T-1] points won between frames t and t+1',
    'lives': '[T] lives left',
}
PRESETS: dict[str, dict[str, Any]] = {'rnem': {}}


@dataclass(frozen=True)
class InvadersConfig:
    """What is recorded.

    Attributes:
        steps: frames in an episode, T.
        frame_skip: console frames between two of ours. 3 as in Mnih et al. (2013): at 4 shots blink out of sight.
        repeat: probability that the console repeats the action before instead, drawn for each of its frames.
        whims: share of random actions of the player.
        lead_in: an episode starts after up to so many frames of ours of the game, drawn uniformly.
    """

    steps: int = 25
    frame_skip: int = 3
    repeat: float = 0.25
    whims: float = 0.1
    lead_in: int = 250

    def __post_init__(self) -> None:
        for name, low, high in (('steps', 1, 100_000), ('frame_skip', 1, 60), ('repeat', 0, 0.99), ('whims', 0, 1),
                                ('lead_in', 0, 100_000)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f'invaders: {name}', f'{low} to {high}', getattr(self, name))


class InvadersWorld:
    """One game.

    Attributes:
        reward: points won in the last step; lives: lives left; over: whether the game is over.

    Args:
        config: what is recorded.
    """

    def __init__(self, config: InvadersConfig | None = None) -> None:
        self.config = config or InvadersConfig()
        self._ale = _console()
        self._actions = self._ale.getMinimalActionSet()
        self._ale.reset_game()
        for _ in range(OPENING):
            self._ale.act(self._actions[0])
        self._opening = self._ale.cloneState()
        self.reset(0)

    def reset(self, seed: int | Sequence[int]) -> None:
        """Start a new game; the same seed and actions give the same game."""
        self.rng = np.random.default_rng(seed)
        self._ale.restoreState(self._opening)
        self._before = 0
        self.step(0)

    def step(self, action: int) -> None:
        """Play one frame of ours; `action` is an index into `ACTIONS`."""
        if not 0 <= action < len(ACTIONS):
            raise InputError('action', f'0 to {len(ACTIONS) - 1}', action)
        self.reward = 0.0
        for _ in range(self.config.frame_skip):
            if self.rng.random() >= self.config.repeat:
                self._before = action
            self.reward += float(self._ale.act(self._actions[self._before]))
        self.lives, self.over = int(self._ale.lives()), bool(self._ale.game_over())

    def screen(self) -> NDArray[np.uint8]:
        """The console's picture [210, 160] in its colour numbers."""
        return self._ale.getScreen()

    def render(self) -> dict[str, NDArray[np.uint8]]:
        """What is seen now: frames [84, 84, 1] and labels [84, 84]; see `FIELDS`."""
        screen = self.screen()
        labels = _shrink(_LABEL_OF[screen])
        return {'frames': (_shrink((screen != 0).view(np.uint8)) * np.uint8(255))[..., None], 'labels': labels}


class Player:
    """Shoots at the nearest invader and steps aside for bombs; looks at the pictures only.

    Args:
        whims: share of random actions.
        rng: for them.
    """

    def __init__(self, whims: float, rng: np.random.Generator) -> None:
        self.whims, self._rng = whims, rng
        self._shots: dict[int, tuple[int, bool, int]] = {}  # column -> row, whether it falls, frames since seen

    def act(self, screen: NDArray[np.uint8]) -> int:
        """Index into `ACTIONS` for a picture [210, 160] in colour numbers, the next one of a game."""
        whim, random_action = self._rng.random(), int(self._rng.integers(len(ACTIONS)))
        bombs = self._falling(screen)
        player = np.flatnonzero((screen[PLAYER_ROWS] == COLOUR_PLAYER).any(0))
        if not len(player) or whim < self.whims:
            return random_action
        x, invaders = int(player[len(player) // 2]), np.flatnonzero((screen[FIELD] == COLOUR_INVADER).any(0))
        near = [bomb for bomb in bombs if abs(bomb - x) <= WIDE]
        if near:
            move = 1 if np.mean(near) <= x else -1
            if not LEFT_END <= x + WIDE * move <= RIGHT_END:
                move = -move
        else:
            gap = int(invaders[np.abs(invaders - x).argmin()]) - x if len(invaders) else 0
            step = int(np.sign(gap))
            move = step if abs(gap) > 1 and not any(abs(bomb - x - step) <= WIDE for bomb in bombs) else 0
        return {0: 1, 1: 4, -1: 5}[move]

    def _falling(self, screen: NDArray[np.uint8]) -> list[int]:
        """Columns of bombs: of shots that were higher before, or that begin high. Shots blink, so we remember them."""
        rows, columns = np.nonzero(screen[FIELD] == COLOUR_SHOT)
        self._shots = {c: (row, falls, age + 1) for c, (row, falls, age) in self._shots.items() if age < REMEMBERED}
        for c in np.unique(columns).tolist():
            row = int(rows[columns == c].max())
            before = self._shots.get(c)
            falls = row < FIRED if before is None else before[1] if row == before[0] else row > before[0]
            self._shots[c] = row, falls, 0
        return [c for c, (_, falls, _) in self._shots.items() if falls]


_LABEL_OF = np.zeros(256, np.uint8)
_LABEL_OF[list(LABELS)] = list(LABELS.values())


@cache
def _taps() -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """The two rows and the two columns of the console's picture that each of ours is interpolated from."""
    rows = (np.arange(18, 18 + SIZE) + 0.5) * 210 / 110 - 0.5
    columns = (np.arange(SIZE) + 0.5) * 160 / SIZE - 0.5
    return [np.floor(rows).astype(int), np.ceil(rows).astype(int)], [np.floor(columns).astype(int),
                                                                   np.ceil(columns).astype(int)]


def _shrink(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest of the four values [210, 160] that each pixel [84, 84] is interpolated from.

    A pixel that is interpolated from any that is not black is itself not black, and so above the paper's threshold of
    0.0001: binarising afterwards is the same as taking the largest binary value.
    """
    rows, columns = _taps()
    tall = np.maximum(picture[rows[0]], picture[rows[1]])
    return np.maximum(tall[:, columns[0]], tall[:, columns[1]])


def _console() -> Any:
    """The emulator with the game in it."""
    try:
        import ale_py
        from ale_py.roms import get_rom_path
    except ImportError as e:
        raise InputError('Space Invaders', 'the Python package ale-py (pip install "object_centric_ros[atari]")',
                         'it is not installed') from e
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    for name, value in (('random_seed', 0), ('frame_skip', 1)):
        ale.setInt(name, value)
    ale.setFloat('repeat_action_probability', 0.0)
    game = get_rom_path('space_invaders')
    if game is None:
        raise InputError('Space Invaders', 'ale-py with its games', f'ale-py {ale_py.__version__} without this one')
    ale.loadROM(game)
    return ale


def make_batch(config: InvadersConfig, seeds: Sequence[Sequence[int]]) -> dict[str, NDArray]:
    """Episodes with these seeds: field -> array [N, ...]; see `FIELDS`."""
    world = InvadersWorld(config)
    episodes = [_episode(world, seed) for seed in seeds]
    return {k: np.stack([e[k] for e in episodes]) for k in episodes[0]}


def _episode(world: InvadersWorld, seed: Sequence[int]) -> dict[str, NDArray]:
    """One episode from somewhere in a game; a game that ends first is begun again with other random numbers."""
    config, attempt = world.config, 0
    while True:
        world.reset([*seed, attempt])
        player = Player(config.whims, world.rng)
        for _ in range(int(world.rng.integers(config.lead_in + 1))):
            world.step(player.act(world.screen()))
        seen, actions, rewards, lives = [world.render()], [], [], [world.lives]
        while len(seen) < config.steps and not world.over:
            actions.append(player.act(world.screen()))
            world.step(actions[-1])
            seen.append(world.render())
            rewards.append(world.reward)
            lives.append(world.lives)
        if not world.over:
            break
        attempt += 1
    out = {k: np.stack([s[k] for s in seen]) for k in seen[0]}
    return {**out, 'actions': np.eye(len(ACTIONS), dtype=np.float32)[np.array(actions, int)],
            'rewards': np.array(rewards, np.float32), 'lives': np.array(lives, np.uint8)}


def meta(config: InvadersConfig) -> dict[str, Any]:
    """Facts for the episode file."""
    return {'generator': 'invaders', 'generator_version': GENERATOR_VERSION, 'action_format': 'discrete',
            'action_names': list(ACTIONS)}
