"""How good a model is on held-out episodes: segmentation, reconstruction, open-loop prediction against copying."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from object_centric_ros.datasets.held_out import Episodes, as_image
from object_centric_ros.evaluation.metrics import (
    adjusted_mutual_information,
    adjusted_rand_index,
    best_overlap,
    foreground_ari,
    mean_iou,
    persistence,
)
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.models.rnem import RNEM

Values = dict[str, np.ndarray]
SEGMENTATION: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    'ari_f': foreground_ari, 'ari': adjusted_rand_index, 'miou': mean_iou, 'mbo': best_overlap,
    'ami_f': lambda t, p: adjusted_mutual_information(t, p, (t != 0) & (t != 255))}


def validate(model: CycleModel, data: Episodes, count: int, seed: int = 0, batch: int = 50,
             observed: int = 1) -> dict[str, float]:
    """Means over the first `count` episodes of what `episode_metrics` returns."""
    return {k: float(np.nanmean(v)) for k, v in episode_metrics(model, data, count, seed, batch, observed).items()}


@torch.no_grad()
def episode_metrics(model: CycleModel, data: Episodes, count: int, seed: int = 0, batch: int = 50,
                    observed: int = 1, refinements: int | None = None, thorough: bool = False) -> Values:
    """Metrics of the filter and of open-loop roll-outs on each of the first `count` episodes.

    The filter sees all frames and refines each after the first `refinements` times (None: as in training); labels are
    read only to score its masks, and without them there are no values of segmentation. The roll-out sees `observed`
    frames, then actions alone; `copy_h` is the error of the last observed frame taken for the frame h steps later,
    `line_h` (two observed frames or more) that of the pixels' straight continuation.

    Args:
        thorough: also every score of every frame, persistence of slots, and R-NEM's own numbers.

    Returns:
        ari_f_first, ari_f_last, ari_first, ari_last, mse_first, mse_last, open_1.., copy_1..: [count] each; NaN where
        an episode has no value. Thorough: also ari_f, ari, ami_f, miou, mbo (means over the frames after the first, or
        of the only one), switches, misses (per visible thing and frame), mota; of R-NEM bce, bce_copy,
        relational_bce, relational_copy (nats an image, mean over frames; with ``_last``, of the last one).
    """
    model.eval()
    labels = data.arrays.get('labels')
    values_of: dict[str, list[np.ndarray]] = {}

    def add(key: str, values: np.ndarray | Tensor) -> None:
        values_of.setdefault(key, []).append(np.asarray(values.cpu() if isinstance(values, Tensor) else values))

    for rows, images, actions, generator in batches(model, data, count, seed, batch):
        belief = model.infer(images[:, 0], generator=generator)
        rolled, segments, last = belief, [], images.shape[1] - 1
        for t in range(last + 1):
            if t:
                belief = model.predict(belief, actions[:, t - 1])
                belief = model.infer(images[:, t], belief, refinements, actions[:, t - 1])
                if t < observed:
                    rolled = belief
                else:
                    rolled = model.predict(rolled, actions[:, t - 1])
                    horizon = t - observed + 1
                    add(f'open_{horizon}', error(model.scene(rolled).image, images[:, t]))
                    add(f'copy_{horizon}', error(images[:, observed - 1], images[:, t]))
                    if observed > 1:
                        line = images[:, observed - 1] + horizon * (images[:, observed - 1] - images[:, observed - 2])
                        add(f'line_{horizon}', error(line.clamp(0, 1), images[:, t]))
            if thorough or t in (0, last):
                scene = model.scene(belief)
                segments.append(scene.masks.argmax(1).cpu().numpy())
                name = {last: 'last', 0: 'first'}.get(t)
                if name and labels is not None:
                    add(f'ari_f_{name}', foreground_ari(labels[rows, t], segments[-1]))
                    add(f'ari_{name}', adjusted_rand_index(labels[rows, t], segments[-1]))
                if name:
                    add(f'mse_{name}', error(scene.image, images[:, t]))
        if labels is not None:
            alone = model.scene(model.infer(images[:, -1], generator=generator))
            add('ari_f_alone', foreground_ari(labels[rows, -1], alone.masks.argmax(1).cpu().numpy()))
        if thorough and labels is not None:
            for key, values in film_metrics(labels[rows], np.stack(segments, 1)).items():
                add(key, values)
        if thorough and isinstance(model, RNEM):
            for key, values in relational(model, data, rows, images, actions, generator).items():
                add(key, values)
    return {k: np.concatenate(v) for k, v in values_of.items()}


def batches(model: CycleModel, data: Episodes, count: int, seed: int, batch: int
            ) -> Iterator[tuple[slice, Tensor, Tensor, torch.Generator]]:
    """Rows, images [B, T, C, H, W] as the model takes them, actions [B, T - 1, ...], and noise of the first guess."""
    device = next(model.parameters()).device
    for begin in range(0, min(count, len(data)), batch):
        rows = slice(begin, min(begin + batch, count, len(data)))
        images = as_image(data.frames[rows]).to(device)
        images = model.observe(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        yield (rows, images, torch.from_numpy(data.actions(rows)).to(device),
               torch.Generator(device).manual_seed(seed + begin))


def error(image: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each image [B, C, H, W]: [B]."""
    return (image - target).square().mean((1, 2, 3))


def film_metrics(true: np.ndarray, segments: np.ndarray) -> Values:
    """Scores of films [B, T, H, W], see `episode_metrics`: [B] each."""
    later = slice(1 if true.shape[1] > 1 else 0, None)
    found: Values = {}
    for key, score in SEGMENTATION.items():
        scores = np.stack([score(t[later], s[later]) for t, s in zip(true, segments, strict=True)])
        seen = np.isfinite(scores)
        found[key] = np.where(seen, scores, 0).sum(1) / np.where(seen.any(1), seen.sum(1), np.nan)
    followed = [persistence(t, s) for t, s in zip(true, segments, strict=True)]
    for key in ('switches', 'misses'):
        found[key] = np.array([getattr(p, key) / p.things if p.things else np.nan for p in followed])
    found['mota'] = np.array([p.accuracy for p in followed])
    return found


def relational(model: RNEM, data: Episodes, rows: slice, images: Tensor, actions: Tensor, generator: torch.Generator
               ) -> Values:
    """R-NEM's binary cross-entropy and that of copying, of all pixels and of those of colliding balls: [B] each."""
    told = None
    if actions.numel():
        told = torch.cat([torch.zeros_like(actions[:, :1]), actions], 1)
    collisions = None
    if 'collisions' in data.store.fields:
        collisions = torch.from_numpy(data.store.read(rows, ['collisions'])['collisions']).to(images)
    names = {'nll': 'bce', 'copy': 'bce_copy', 'relational_nll': 'relational_bce', 'relational_copy': 'relational_copy'}
    found = model.measure(images, told, collisions, generator)
    means = {names[k]: v.mean(1).cpu().numpy() for k, v in found.items() if k in names}
    return means | {f'{names[k]}_last': v[:, -1].cpu().numpy() for k, v in found.items() if k in names}
