"""Whether a latent dimension means one thing: DCI (Eastwood and Williams 2018), activeness (Peebles et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.errors import InputError
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
