"""The objective of a stage on held-out episodes: what early stopping, plateaus and the best weights go by."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import default_collate

from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.training.data import TrainingFiles
from object_centric_ros.training.objectives import Draw, stage_loss
from object_centric_ros.training.settings import Stage, TrainingConfig
from object_centric_ros.training.state import HELD_OUT, stream_seed


def held_out_loss(model: CycleModel, stage: Stage, files: TrainingFiles, config: TrainingConfig, step: int,
                  autocast: torch.autocast) -> float:
    """The mean over the first window of each of `config.validation_episodes` episodes, with the same noise each time.

    Args:
        files: the held-out episodes.
        step: optimisation steps so far, for objectives that change with them.
    """
    single = stage.objective == 'frames'
    clips = files.clips(1 if single else stage.horizon, stage.stride, False, not single)
    windows = range(0, len(clips), len(clips) // len(files))[:config.validation_episodes]
    device = next(model.parameters()).device
    model.eval()
    losses, weights = [], []
    for begin in range(0, len(windows), stage.batch):
        items = [clips[window, 0] for window in windows[begin:begin + stage.batch]]
        seed = stream_seed(config.seed, HELD_OUT, begin)
        draw = Draw(default_collate(items), step, np.random.default_rng(seed),
                    torch.Generator(device).manual_seed(seed))
        losses.append(stage_loss(model, stage, draw, autocast)[0].item())
        weights.append(len(items))
    return float(np.average(losses, weights=weights))
