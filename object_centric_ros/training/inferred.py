"""Beliefs of neighbouring frames, inferred once, for training the predictor of PARTS alone."""

from __future__ import annotations

import torch
from tqdm import tqdm

from object_centric_ros.datasets.held_out import as_image
from object_centric_ros.models.belief import Belief
from object_centric_ros.models.parts import Parts
from object_centric_ros.training.data import TrainingFiles
from object_centric_ros.training.objectives import Pairs


@torch.no_grad()
def inferred_pairs(model: Parts, data: TrainingFiles, episodes: int, autocast: torch.autocast, seed: int,
                   quiet: bool = False) -> Pairs:
    """Beliefs before and after each action [N, K, ...], each inferred on its own, and the actions [N, A].

    Args:
        episodes: use the first so many.
        seed: of the noise between slots: the same weights and seed give the same beliefs.
    """
    model.eval()
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    before, after, told = [], [], []
    count = min(episodes, len(data))
    with tqdm(total=count, desc='inferring beliefs', mininterval=5, disable=quiet) as bar:
        for frames, actions in data.read(count):
            images = as_image(frames.reshape(-1, *frames.shape[2:])).to(device)
            with autocast:
                belief = model.infer(images, generator=generator, feedback=False)
            films = belief.map(lambda x, shape=frames.shape[:2]: x.unflatten(0, shape))  # type: ignore[misc]
            before.append(films.map(lambda x: x[:, :-1].flatten(0, 1)))
            after.append(films.map(lambda x: x[:, 1:].flatten(0, 1)))
            told.append(torch.from_numpy(actions).flatten(0, 1).to(device))
            bar.update(len(frames))
    return _join(before), _join(after), torch.cat(told)


def _join(beliefs: list[Belief]) -> Belief:
    return Belief(*(torch.cat([getattr(b, k) for b in beliefs]) for k in ('mean', 'log_std', 'memory')))
