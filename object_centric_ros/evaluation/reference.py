"""OP3 with its authors' weights on the authors' goal images and episodes (`object-centric evaluate reference`).

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
from object_centric_ros.evaluation.metrics import foreground_ari
from object_centric_ros.evaluation.tables import Spread, text_table, write_scores
from object_centric_ros.importing import read_tensors
from object_centric_ros.models.belief import Belief
from object_centric_ros.models.convert import OP3_NAMES, load_published
from object_centric_ros.models.op3 import OP3
from object_centric_ros.models.registry import build_model
from object_centric_ros.presets import load_preset

Array = NDArray[np.float64]
STEPS = 4
"""Refinements of a first frame: M of the paper."""
TITLES = {'open': 'predicted', 'stream': 'one refinement a frame', 'copy': 'first frame copied'}


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


@torch.no_grad()
def goal_metrics(model: OP3, folder: Path, seeds: range, goals: int | None = None, together: bool = False
                 ) -> list[Goals]:
    """Reconstruction and segmentation of the settled structures of `stack_goals`, K = blocks + 2 as in planning.

    Args:
        goals: how many of each structure; None = all.
        together: all goals of a structure as one batch, instead of one image at a time.
    """
    results = []
    for file in sorted((folder / 'op3' / 'stack_goals').glob('*.npz')):
        with np.load(file) as data:
            images, labels = data['images'][:goals, 1], data['labels'][:goals, 1]
            blocks = len(json.loads(bytes(data['blocks']))[0]['blocks'])
        device = model.initial_mean.device
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
        results.append(Goals(file.stem, blocks, blocks + 2, batch, mse, ari, loss))
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


def evaluate_reference(path: str | None, first_seed: int, seeds: int, count: int | None, device: torch.device,
                       out: str | None = None) -> int:
    """Print the tables; `count` limits goals per structure and episodes, `out` is a JSON file for all numbers."""
    folder, drawn = data_folder(path), range(first_seed, first_seed + seeds)
    stack = load_authors('op3_released_stack', folder / 'op3' / 'stack_s64d64_v1.safetensors', device)
    alone, batched = (goal_metrics(stack, folder, drawn, count, together) for together in (False, True))
    print_goals(alone, batched, drawn)
    pick = load_authors('op3_released_pick_place', folder / 'op3' / 'pick_place_curriculum.safetensors', device)
    values = episode_metrics(pick, folder, drawn, count)
    print_episodes(values, pick.config.slots)
    if out:
        found = goal_scores(alone, '') | goal_scores(batched, '_batch') | {'mse_first': values['first']}
        for key in TITLES:
            found |= {f'{key}_{t + 1}': values[key][:, :, t] for t in range(values[key].shape[2])}
        about = {'episodes': f'{values["first"].shape[1]} (or {found["mse_goals"].shape[1]} goals)'}
        setting = {'slots': f'blocks + 2 (goals) or {pick.config.slots} (episodes)', 'seeds': list(drawn),
                   'device': str(device)}
        write_scores(out, {'model_id': "OP3, authors' weights"}, about, setting,
                     [{k: v[i] for k, v in found.items() if i < len(v)} for i in range(len(drawn))])
    return 0


def restarts_of(seeds: int) -> list[int]:
    """1, 2, 4, ... up to the number of seeds."""
    return [2 ** i for i in range(seeds.bit_length())]


def print_goals(alone: list[Goals], batched: list[Goals], seeds: range) -> None:
    """Tables of each structure, and of restarts."""
    print(f'OP3, authors\' weights for stacking, goal images; seeds {seeds.start} to {seeds.stop - 1}; std: of the '
          f'seeds\' means; B: images at a time, all goals of a structure as the authors ran it\n')
    header = ('structure', 'blocks', 'K', 'goals', 'B', 'MSE M=1', 'M=2', f'M={STEPS}', 'std', 'median', 'ARI-F', 'std')
    rows = []
    for g in (g for pair in zip(alone, batched, strict=True) for g in pair):
        mse, ari = Spread.of(g.mse[:, :, -1].mean(1)), Spread.of(np.nanmean(g.ari, 1))
        rows.append((g.structure, g.blocks, g.slots, g.mse.shape[1], g.batch, g.mse[:, :, 0].mean(),
                     g.mse[:, :, 1].mean(), mse.mean, mse.std, np.median(g.mse[:, :, -1]), ari.mean, ari.std))
    print(text_table(header, rows), end='\n\n')
    print('The likeliest of several seeds kept (lowest negative ELBO), one image at a time; std: of groups\' means\n')
    table: list[tuple[object, ...]] = []
    for g in alone:
        for restarts in restarts_of(len(seeds)):
            kept = g.likeliest(restarts)
            mse, ari = Spread.of(kept[0].mean(1)), Spread.of(np.nanmean(kept[1], 1))
            table.append((g.structure, restarts, mse.count, mse.mean, mse.std, np.median(kept[0]), kept[0].max(),
                          ari.mean, ari.std))
    columns = ('structure', 'restarts', 'groups', 'MSE', 'std', 'median', 'worst', 'ARI-F', 'std')
    print(text_table(columns, table), end='\n\n')


def print_episodes(values: dict[str, Array], slots: int) -> None:
    """The table of `episode_metrics`."""
    episodes = values['first'].shape[1]
    print(f'OP3, authors\' weights for pick and place, {episodes} two-block episodes, K = {slots}; MSE\n')
    after = Spread.of(values['first'].mean(1))
    table: list[tuple[object, ...]] = [(f'{STEPS} refinements', 't', after.mean, after.std)]
    for key, title in TITLES.items():
        for t in range(values[key].shape[2]):
            s = Spread.of(values[key][:, :, t].mean(1))
            table.append((title, f't+{t + 1}', s.mean, s.std))
    print(text_table(('what', 'frame', 'mean', 'std'), table))


def goal_scores(goals: list[Goals], suffix: str) -> dict[str, Array]:
    """Metrics of all structures and of each, [seeds or groups of seeds, goals]."""
    found = {}
    for name, of in [('goals', goals), *((g.structure, [g]) for g in goals)]:
        for restarts in restarts_of(len(goals[0].loss)):
            best = f'_best_{restarts}' if restarts > 1 else ''
            kept = [g.likeliest(restarts) for g in of]
            for i, metric in enumerate(('mse', 'ari_f')):
                found[f'{metric}_{name}{suffix}{best}'] = np.concatenate([k[i] for k in kept], 1)
    return found
