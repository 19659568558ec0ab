"""How good a model is on held-out episodes: segmentation, reconstruction, open-loop prediction against copying."""

from __future__ import annotations

import numpy as np
import torch

from object_centric_ros.evaluation.metrics import adjusted_rand_index, foreground_ari
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.training.data import Episodes, as_image


def validate(model: CycleModel, data: Episodes, count: int, seed: int = 0, batch: int = 50,
             observed: int = 1) -> dict[str, float]:
    """Means over the first `count` episodes of what `episode_metrics` returns."""
    return {k: float(np.nanmean(v)) for k, v in episode_metrics(model, data, count, seed, batch, observed).items()}


@torch.no_grad()
def episode_metrics(model: CycleModel, data: Episodes, count: int, seed: int = 0, batch: int = 50,
                    observed: int = 1, refinements: int | None = None) -> dict[str, np.ndarray]:
    """Metrics of the filter and of open-loop roll-outs on each of the first `count` episodes.

    The filter sees all frames and refines each after the first `refinements` times (None: as in training); labels are
    read only to score its masks, and without them there are no `ari` values. The roll-out sees `observed` frames, then
    actions alone; `copy_h` is the error of the last observed frame taken for the frame h steps later.

    Returns:
        ari_f_first, ari_f_last, ari_first, ari_last, mse_first, mse_last, open_1.., copy_1..: [count] each; NaN where
        an episode has no value.
    """
    model.eval()
    device = next(model.parameters()).device
    labels = data.arrays.get('labels')
    values_of: dict[str, list[np.ndarray]] = {}

    def add(key: str, values: np.ndarray | torch.Tensor) -> None:
        values_of.setdefault(key, []).append(np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values))

    for begin in range(0, min(count, len(data)), batch):
        rows = slice(begin, min(begin + batch, count, len(data)))
        images = as_image(data.frames[rows]).to(device)
        images = model.observe(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        actions = torch.from_numpy(data.actions(rows)).to(device)
        generator = torch.Generator(device).manual_seed(seed + begin)
        belief = model.infer(images[:, 0], generator=generator)
        rolled = belief
        for t in range(images.shape[1]):
            if t:
                belief = model.predict(belief, actions[:, t - 1])
                belief = model.infer(images[:, t], belief, refinements, actions[:, t - 1])
                if t < observed:
                    rolled = belief
                else:
                    rolled = model.predict(rolled, actions[:, t - 1])
                    horizon = t - observed + 1
                    add(f'open_{horizon}', (model.scene(rolled).image - images[:, t]).square().mean((1, 2, 3)))
                    add(f'copy_{horizon}', (images[:, observed - 1] - images[:, t]).square().mean((1, 2, 3)))
            if t in (0, images.shape[1] - 1):
                scene = model.scene(belief)
                name = 'first' if t == 0 else 'last'
                segments = scene.masks.argmax(1).cpu().numpy()
                if labels is not None:
                    add(f'ari_f_{name}', foreground_ari(labels[rows, t], segments))
                    add(f'ari_{name}', adjusted_rand_index(labels[rows, t], segments))
                add(f'mse_{name}', (scene.image - images[:, t]).square().mean((1, 2, 3)))
        if labels is not None:
            alone = model.scene(model.infer(images[:, -1], generator=generator))
            add('ari_f_alone', foreground_ari(labels[rows, -1], alone.masks.argmax(1).cpu().numpy()))
    return {k: np.concatenate(v) for k, v in values_of.items()}

