"""The worlds that episodes can be generated in, and what each promises.

A world makes episodes from a frozen configuration and one seed for each episode. Episode i of a set with seed s has the
seed (s, i), so it holds the same bits whatever it is generated with: any number of workers, any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from object_centric_ros.simulation import (
    balls,
    blocks_pick_place,
    blocks_stack,
    clevr,
    invaders,
    sprites,
    tabletop_play,
    tetrominoes,
)

Seed = Sequence[int]
"""What `numpy.random.default_rng` takes: the seed of the set and the number of the episode."""


@dataclass(frozen=True)
class World:
    """A world that episodes can be generated in.

    Attributes:
        name: of the world, as on the command line.
        summary: one line for people.
        config: frozen dataclass with plain fields and defaults; refuses impossible values with InputError.
        make_batch: (config, N seeds) -> field -> array [N, ...]. Always `frames` uint8 [N, T, H, W, C], C is 1 or 3.
            Where the world has them: `actions` float32 [N, T-1, ...], row t between frames t and t+1; `labels` uint8
            [N, T, H, W], 0 background, i+1 object i, 255 where a world marks overlaps; `positions` and `velocities`
            float32 [N, T, K, 2 or 3], NaN for objects that are not there; and fields of its own.
        meta: config -> JSON-able facts for the file: `generator`, `generator_version` and what readers need.
        fields: field -> what it holds, with shape and units, for the data card.
        presets: name -> changed fields of the configuration, for the papers' data sets.
        part: episodes that are made together, and that a stopped run may lose; files are joined fastest where it is a
            multiple of the power of two of small episodes that share a chunk (see `datasets.parts`).
    """

    name: str
    summary: str
    config: type
    make_batch: Callable[[Any, Sequence[Seed]], dict[str, NDArray]]
    meta: Callable[[Any], dict[str, Any]]
    fields: Mapping[str, str]
    presets: Mapping[str, Mapping[str, Any]]
    part: int = 50


WORLDS: dict[str, World] = {world.name: world for world in (
    World('tabletop', 'random play with blocks on a table, with an arm', tabletop_play.PlayConfig,
          tabletop_play.make_batch, tabletop_play.meta, tabletop_play.FIELDS, {}),
    World('balls', 'bouncing balls (R-NEM A.1; the coloured ones of OP3)', balls.BallsConfig, balls.make_batch,
          balls.meta, balls.FIELDS, balls.PRESETS, part=100),
    World('sprites', 'active-dSprites (OBAI appendix A) and Multi-dSprites', sprites.SpritesConfig,
          sprites.make_batch, sprites.meta, sprites.FIELDS, sprites.PRESETS, part=512),
    World('tetrominoes', 'static pictures of three tetrominoes (Multi-Object Datasets)', tetrominoes.TetrominoesConfig,
          tetrominoes.make_batch, tetrominoes.meta, tetrominoes.FIELDS,
          tetrominoes.PRESETS, part=2048),
    World('invaders', 'Space Invaders played by a script (R-NEM A.2); needs ale-py', invaders.InvadersConfig,
          invaders.make_batch, invaders.meta, invaders.FIELDS, invaders.PRESETS),
    World('blocks_stack', 'a block dropped on others, before and after (OP3 6.5.1)', blocks_stack.StackConfig,
          blocks_stack.make_batch, blocks_stack.meta, blocks_stack.FIELDS, blocks_stack.PRESETS, part=200),
    World('blocks_pick_place', 'blind pick and place of cubes (OP3 6.5.2)', blocks_pick_place.PickPlaceConfig,
          blocks_pick_place.make_batch, blocks_pick_place.meta, blocks_pick_place.FIELDS, blocks_pick_place.PRESETS,
          part=100),
    World('clevr', 'cubes, spheres and cylinders: CLEVR-like pictures, CLEVRER-like videos', clevr.ClevrConfig,
          clevr.make_batch, clevr.meta, clevr.FIELDS, clevr.PRESETS),
)}
"""Name -> world."""
