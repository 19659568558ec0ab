"""Whether a latent dimension means one thing: DCI (Eastwood and Williams 2018), activeness (Peebles et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.datasets.held_out import Episodes
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.metrics import object_ious
from object_centric_ros.evaluation.validate import batches
from object_centric_ros.models.cycle import CycleModel


@dataclass(frozen=True)
class DCI:
    """Scores between 0 and 1, more is better.

    Attributes:
        disentanglement: each dimension says something about one factor.
        completeness: each factor is in one dimension.
        informativeness: mean accuracy of predicting a factor of unseen things.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def dci(latents: NDArray[np.floating], factors: NDArray[np.integer], seed: int = 0) -> DCI:
    """DCI of latents [N, D] of things with discrete factors [N, F], such as shape and colour.

    A random forest for each factor is fitted to the first 80 % and scored on the others; its importances of the
    dimensions are R [D, F].

    Raises:
        InputError: fewer than ten things, or no scikit-learn.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as e:
        raise InputError('DCI', "scikit-learn (pip install '.[eval]')", 'none') from e
    if len(latents) < 10 or len(latents) != len(factors):
        raise InputError('things', 'at least ten, with factors', (len(latents), len(factors)))
    train = int(0.8 * len(latents))
    importance, scores = [], []
    for factor in factors.T:
        forest = RandomForestClassifier(100, max_features=None, random_state=seed).fit(latents[:train], factor[:train])
        importance.append(forest.feature_importances_)
        scores.append(forest.score(latents[train:], factor[train:]))
    disentanglement, completeness = importance_scores(np.stack(importance, 1))
    return DCI(disentanglement, completeness, float(np.mean(scores)))


def importance_scores(importance: NDArray[np.floating]) -> tuple[float, float]:
    """Disentanglement and completeness of importances R [D, F] >= 0.

    Of a dimension it is 1 - H(its share of each factor) with the logarithm to base F, of a factor the same over
    dimensions to base D; means weighted by what they hold of R.
    """
    def focus(rows: NDArray[np.floating]) -> float:
        weight = rows.sum(1)
        share = rows / np.maximum(weight[:, None], 1e-30)
        entropy = -(share * np.log(np.maximum(share, 1e-30))).sum(1) / np.log(max(rows.shape[1], 2))
        return float(((1 - entropy) * weight).sum() / max(weight.sum(), 1e-30))
    return focus(importance), focus(importance.T)


@torch.no_grad()
def activeness(model: CycleModel, images: Tensor, generator: torch.Generator, reach: float = 2.0, values: int = 7
               ) -> Tensor:
    """Mean variance over the picture when one dimension of one random slot is moved (EfficientMORL, section 4.3).

    Args:
        images: [N, C, H, W], as the model takes them; the paper uses 100 of the test set.
        reach: the dimension goes through `values` places from -reach to reach (the paper does not say how far).

    Returns:
        [D], mean over images.
    """
    z = model.latents(model.infer(images, generator=generator))
    n, k, d = z.shape
    slot = torch.randint(0, k, (n,), generator=generator, device=generator.device).to(z.device)
    found = []
    for dimension in range(d):
        pictures = torch.stack([model.decode(moved(z, slot, dimension, float(v))).image
                                for v in np.linspace(-reach, reach, values)])
        found.append(pictures.var(0, unbiased=False).mean())
    return torch.stack(found)


def moved(z: Tensor, slot: Tensor, dimension: int, value: float) -> Tensor:
    """Latents [N, K, D] with one dimension of each picture's `slot` [N] set to a value."""
    z = z.clone()
    z[torch.arange(len(z), device=z.device), slot, dimension] = value
    return z


BINS = 5
"""Classes that places and continuous colours are cut into: equally many things in each."""


def quantised(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """A factor [N] as classes: its values where they are few, else `BINS` with equally many things."""
    known, classes = np.unique(values, return_inverse=True)
    if len(known) <= 4 * BINS:
        return classes.ravel()
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, values, side='right')


@torch.no_grad()
def things(model: CycleModel, data: Episodes, count: int, seed: int = 0, enough: float = 0.5
           ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.int64]]]:
    """Latents of the slots that hold a thing in first frames, and what is known of the things.

    A thing goes with the slot whose segment has the largest IoU with it, if that is at least `enough`. (The paper's way
    of matching is in an appendix that is not among our sources.)

    Returns:
        [N, D], and the factors by name [N]: shape, red, green, blue, x, y, as far as the file has them.

    Raises:
        InputError: a file that says nothing of its things, or less than ten of them found.
    """
    names = [k for k in ('shapes', 'colours', 'positions') if k in data.store.fields]
    if not names or 'labels' not in data.arrays:
        raise InputError(f'{data.store.path}: fields', 'labels, and shapes, colours or positions', data.store.fields)
    latents: list[NDArray[np.float32]] = []
    found: dict[str, list[float]] = {}
    for rows, images, _, generator in batches(model, data, count, seed, 50):
        z = model.latents(model.infer(images[:, 0], generator=generator))
        segments = model.decode(z).masks.argmax(1).cpu().numpy()
        known = data.store.read(rows, names)
        for n, (true, predicted) in enumerate(zip(data.arrays['labels'][rows, 0], segments, strict=True)):
            iou, labels, slots = object_ious(true, predicted)
            for i, label in enumerate(labels):
                if iou[i].max() < enough:
                    continue
                latents.append(z[n, int(slots[iou[i].argmax()])].float().cpu().numpy())
                values = {'shapes': ('shape',), 'colours': ('red', 'green', 'blue'), 'positions': ('x', 'y', 'z')}
                for field in names:
                    row = np.atleast_1d(known[field][n, 0] if field == 'positions' else known[field][n])
                    for key, value in zip(values[field], np.atleast_1d(row[label - 1]), strict=False):
                        found.setdefault(key, []).append(float(value))
    if len(latents) < 10:
        raise InputError('things', f'ten or more that a slot holds with an IoU of {enough}', len(latents))
    return np.array(latents, np.float32), {k: quantised(np.array(v)) for k, v in found.items()}
