"""Small episode files and training runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from small_models import SMALL, small

from object_centric_ros.datasets.episodes import write_part
from object_centric_ros.datasets.held_out import Episodes
from object_centric_ros.datasets.layout import TABLETOP
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models.cycle import ModelConfig
from object_centric_ros.models.parts import PartsConfig
from object_centric_ros.models.registry import build_model
from object_centric_ros.training.data import TrainingFiles
from object_centric_ros.training.settings import Stage, TrainingConfig
from object_centric_ros.training.trainer import Trainer

MODEL = PartsConfig(slots=3, latent=8, encoder_channels=(8, 16), attention_size=16, hidden=16, decoder_channels=8,
                    decoder_layers=1, dynamics_size=16, dynamics_heads=2)
STAGES = (Stage('frames', steps=4, batch=4, warmup=5), Stage('dynamics', steps=4, batch=4, episodes=4),
          Stage('sequences', steps=4, batch=2, horizon=3, unobserved=0.5, arm_fraction=0.5, still_fraction=0.5))
STORED = {'field': 'sparse_field', 'discrete': 'discrete'}


def write_episodes(path: Path, seed: int, size: int = 64, action_format: str = 'pick_place_xy', episodes: int = 6
                   ) -> Path:
    """Episodes of four frames of one red square here and there, with made-up actions."""
    rng = np.random.default_rng(seed)
    camera = PinholeCamera.looking_at((0, -0.88, 1.0), (0, 0, 0.045), 23, 640, 480)
    frames = np.full((episodes, 4, size, size, 3), 128, np.uint8)
    labels = np.zeros((episodes, 4, size, size), np.uint8)
    actions = rng.uniform(-0.1, 0.1, (episodes, 3, 4)).astype(np.float32)
    if action_format == 'sparse_field':
        actions = rng.uniform(0, size, (episodes, 3, 2, 4)).astype(np.float32)
    elif action_format == 'discrete':
        actions = np.eye(4, dtype=np.float32)[rng.integers(0, 4, (episodes, 3))]
    side = size // 8
    for n in range(episodes):
        for t in range(4):
            u, v = rng.integers(side, 6 * side, 2)
            frames[n, t, v:v + side, u:u + side] = 200, 20, 20
            labels[n, t, v:v + side, u:u + side] = 1
    meta = {'generator': 'test', 'generator_version': 3, 'seed': seed, 'camera': camera.to_dict(),
            'action_format': action_format, 'fields': {'arm_frames': TABLETOP['arm_frames']}}
    write_part(path, meta, {'frames': frames, 'labels': labels, 'actions': actions, 'arm_frames': 255 - frames})
    return path


def make_run(folder: Path, name: str = 'run', model: ModelConfig = MODEL, stages: tuple[Stage, ...] = STAGES,
             minutes: float = 1.0, **settings: Any) -> Trainer:
    """A run in folder/name on two files in `folder` that suit the model, which are written where they are missing."""
    action_format = build_model(model).action_format
    files = []
    for seed in (0, 1, 2):
        files.append(folder / f'{seed}-{model.image_size}-{action_format}.h5')
        if not files[-1].exists():
            write_episodes(files[-1], seed, model.image_size, STORED.get(action_format, 'pick_place_xy'))
    given = {'precision': 'float32', 'validate_every': 1e9, 'checkpoint_every': 1e9, 'validation_episodes': 2,
             'workers': 0}
    config = TrainingConfig(model, stages, **{**given, **settings})
    data = TrainingFiles([str(f) for f in files[:2]], action_format, 0.03)
    return Trainer(config, data, Episodes(str(files[2]), 0.03, None, action_format), str(folder / name), minutes)


def paper_run(folder: Path, name: str, variant: str, run: str = 'run', **stage: Any) -> Trainer:
    """A run of a small model by its paper's objective."""
    chosen = Stage('paper', steps=4, batch=4, warmup=1, lr=2e-3, horizon=max(SMALL[name].frames, 1))
    return make_run(folder, run, small(name, variant).config, (replace(chosen, **stage),), clip=5.0)


def take_steps(run: Trainer, count: int) -> list[float]:
    """So many steps of the first stage, at its full rate: their losses."""
    run._open(run.config.stages[0])
    return [run.step(run.config.stages[0], 0.0)[0] for _ in range(count)]
