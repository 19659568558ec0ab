"""OP3 with its authors' weights on the authors' goal images and episodes, by our code and by theirs.

Refinements and predictions start from samples, as the authors' do. The released refinement goes by the gradient of the
mean over its batch, so that its results depend on how many images it is given: those of goals are printed one image at
a time, as a robot sees them, and all goals of a structure as one batch, as the authors ran it; episodes one at a time.
Of goal images the belief's mean is decoded, as the tracker does it; of episodes a sample.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.authors import AuthorsOP3
from object_centric_ros.evaluation.metrics import foreground_ari
from object_centric_ros.importing import read_tensors
from object_centric_ros.models.belief import Belief
from object_centric_ros.models.convert import OP3_NAMES, load_published
from object_centric_ros.models.op3 import OP3
from object_centric_ros.models.registry import build_model
from object_centric_ros.presets import load_preset

Array = NDArray[np.float64]
STEPS = 4
"""Refinements of a first frame: M of the paper."""
STACK, PICK_PLACE = 'stack_s64d64_v1.safetensors', 'pick_place_curriculum.safetensors'


@dataclass(frozen=True)
class Goals:
    """Results on the goal images of one structure.

    Attributes:
        structure: its name; blocks: of each goal; slots: K; batch: B, images at a time.
        mse: reconstruction after 1 to STEPS refinements [seeds, goals, STEPS].
        ari: foreground ARI after the last [seeds, goals].
        loss: negative ELBO after the last [seeds, goals], nats.
    """

    structure: str
    blocks: int
    slots: int
    batch: int
    mse: Array
    ari: Array
    loss: Array

    def likeliest(self, restarts: int) -> tuple[Array, Array]:
        """MSE and foreground ARI where the likeliest of so many seeds is kept, [seeds // restarts, goals]."""
        groups = len(self.loss) // restarts
        best = self.loss[:groups * restarts].reshape(groups, restarts, -1).argmin(1)[:, None]

        def kept(values: Array) -> Array:
            each = values[:groups * restarts].reshape(groups, restarts, -1)
            return np.take_along_axis(each, best, 1)[:, 0]
        return kept(self.mse[:, :, -1]), kept(self.ari)


def data_folder(path: str | None) -> Path:
    """The folder of the reference data: `path`, else $OBJECT_CENTRIC_DATA, else ../shared/data beside the checkout."""
    folder = Path(path or os.environ.get('OBJECT_CENTRIC_DATA') or Path(__file__).parents[3] / 'shared' / 'data')
    if not (folder / 'op3').is_dir():
        raise InputError('reference data', 'a folder with op3/ (--data or OBJECT_CENTRIC_DATA)', folder)
    return folder


def load_authors(preset: str, file: Path, device: torch.device) -> OP3:
    """A published model in eval mode."""
    model = build_model(load_preset(preset))
    assert isinstance(model, OP3)
    load_published(model, read_tensors(str(file)), OP3_NAMES, str(file))
    return model.eval().requires_grad_(False).to(device)


@torch.no_grad()
def refinements(model: OP3, image: Tensor, slots: int, generator: torch.Generator
                ) -> Iterator[tuple[Belief, Tensor]]:
    """Belief, and noise of a sample of it, after each of STEPS refinements of first frames [B, 3, H, W]."""
    belief: Belief = model.start(len(image), slots)
    noise = model.noise(belief, generator)
    for _ in range(STEPS):
        belief = model.refine(belief, image, None, noise)
        noise = model.noise(belief, generator)
        yield belief, noise


def stack_goals(folder: Path, goals: int | None) -> Iterator[tuple[str, int, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Of each structure its name, its blocks, and pictures and labels of so many settled goals."""
    for file in sorted((folder / 'op3' / 'stack_goals').glob('*.npz')):
        with np.load(file) as data:
            blocks = len(json.loads(bytes(data['blocks']))[0]['blocks'])
            yield file.stem, blocks, data['images'][:goals, 1], data['labels'][:goals, 1]


@torch.no_grad()
def goal_metrics(model: OP3, folder: Path, seeds: range, goals: int | None = None, together: bool = False
                 ) -> list[Goals]:
    """Reconstruction and segmentation of the settled structures of `stack_goals`, K = blocks + 2 as in planning.

    Args:
        goals: how many of each structure; None = all.
        together: all goals of a structure as one batch, instead of one image at a time.
    """
    results, device = [], model.initial_mean.device
    for structure, blocks, images, labels in stack_goals(folder, goals):
        mse = np.empty((len(seeds), len(images), STEPS))
        ari, loss = (np.empty((len(seeds), len(images))) for _ in range(2))
        batch = len(images) if together else 1
        for i, seed in enumerate(seeds):
            generator = torch.Generator(device).manual_seed(seed)
            for at in (slice(j, j + batch) for j in range(0, len(images), batch)):
                x = torch.from_numpy(images[at]).to(device).permute(0, 3, 1, 2).float() / 255
                for step, (belief, _) in enumerate(refinements(model, x, blocks + 2, generator)):
                    scene = model.scene(belief)
                    mse[i, at, step] = (scene.image - x).square().mean((1, 2, 3)).cpu()
                owner = scene.mask_logits.argmax(1).cpu().numpy()
                ari[i, at] = foreground_ari(labels[at], owner, 0, None)
                loss[i, at] = model.loss(belief, scene, x)[0].cpu()
        results.append(Goals(structure, blocks, blocks + 2, batch, mse, ari, loss))
    return results


def authors_goal_metrics(checkout: Path, folder: Path, seeds: range, goals: int | None = None
                         ) -> list[tuple[Array, Array]]:
    """The authors' code in a checkout on the same goals, one image at a time, with the noise of `goal_metrics`.

    Their last sample is made without noise, so that they too decode the belief's mean.

    Returns:
        of each structure MSE and foreground ARI after STEPS refinements [seeds, goals].
    """
    tensors, results = read_tensors(str(folder / 'op3' / STACK)), []
    for _, blocks, images, labels in stack_goals(folder, goals):
        theirs = AuthorsOP3(checkout, tensors, blocks + 2, 0)
        mse, ari = (np.empty((len(seeds), len(images))) for _ in range(2))
        for i, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed)
            for j, image in enumerate(images):
                x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
                noise = [torch.randn(1, blocks + 2, 64, generator=generator) for _ in range(STEPS + 1)]
                noise[-1].zero_()
                _, masks, composed, *_ = theirs.run(x[:, None], None, None, [0] * STEPS, noise)
                mse[i, j] = (composed[0] - x[0]).square().mean().item()
                ari[i, j] = foreground_ari(labels[j:j + 1], masks[:, -1, :, 0].argmax(1).numpy(), 0, None)[0]
        results.append((mse, ari))
    return results


@torch.no_grad()
def episode_metrics(model: OP3, folder: Path, seeds: range, episodes: int | None = None) -> dict[str, Array]:
    """MSE on the two-block episodes, [seeds, episodes, ...].

    Returns:
        'first': after STEPS refinements of the first frame; 'open': then predicted 1, 2, ... actions ahead; 'copy':
        of the first frame itself at those times; 'stream': with one refinement of each frame instead.
    """
    with np.load(folder / 'op3' / 'pick_place_two_blocks.npz') as data:
        frames, actions = data['frames'][:episodes], data['actions'][:episodes, :, [0, 1, 3, 4]]
    device, ahead = model.initial_mean.device, actions.shape[1]
    images = torch.from_numpy(frames).to(device).permute(0, 1, 4, 2, 3).float() / 255
    told = torch.from_numpy(actions).to(device)
    shape = (len(seeds), len(images))
    values = {'first': np.empty(shape), **{k: np.empty((*shape, ahead)) for k in ('open', 'stream', 'copy')}}
    for i, seed in enumerate(seeds):
        generator = torch.Generator(device).manual_seed(seed)
        for j, x in enumerate(images):
            def error(decoded: Tensor, t: int, x: Tensor = x) -> float:
                return float((decoded - x[t]).square().mean())
            *_, (belief, noise) = refinements(model, x[:1], model.config.slots, generator)
            values['first'][i, j] = error(model.scene(belief, noise).image[0], 0)
            beliefs, noises = {'open': belief, 'stream': belief}, {'open': noise, 'stream': noise}
            for t in range(ahead):
                values['copy'][i, j, t] = error(x[0], t + 1)
                for kind in beliefs:
                    belief = model.predict(beliefs[kind], told[j, t][None], noises[kind])
                    noise = model.noise(belief, generator)
                    if kind == 'stream':
                        belief = model.refine(belief, x[t + 1:t + 2], None, noise)
                        noise = model.noise(belief, generator)
                    beliefs[kind], noises[kind] = belief, noise
                    values[kind][i, j, t] = error(model.scene(belief, noise).image[0], t + 1)
    return values
