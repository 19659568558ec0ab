"""OBAI section 3.3 in its world: all sprites of a scene are brought to a goal position that examples show.

The model sees pictures only: of the scene, and of single sprites near the goal, from which the preferred states are
learned. The judge alone reads the simulator.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros import __version__
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.benchmark_run import Job, Record, Result, table
from object_centric_ros.models.belief import Belief
from object_centric_ros.models.checkpoint import load_model
from object_centric_ros.models.obai import OBAI
from object_centric_ros.models.preferences import Preference
from object_centric_ros.planning.preferences import (
    PushConfig,
    Pushes,
    action_field,
    plan_pushes,
    preference_of_examples,
)
from object_centric_ros.simulation.sprites import PRESETS, SpritesConfig, SpritesWorld

PAPER_SIZE = 64
"""Pixels of the paper's images; lengths of the world scale with the model's."""


@dataclass(frozen=True)
class SpritesTask:
    """What is asked.

    Attributes:
        goal: (u, v) in image coordinates, edges at -1 and 1.
        spread: standard deviation of the examples' positions around it, image coordinates.
        examples: pictures of one sprite each that the goal is learned from.
        observed: frames of the scene that are seen before the first action.
        actions: number of actions.
        moving: whether sprites move at first, as in the training data; otherwise they rest.
        replan: look and plan anew after each action; otherwise one plan is carried out as it is.
        planner: 'closed' or 'cem'.
        limit: largest acceleration along an axis, image sides per frame squared.
    """

    goal: tuple[float, float] = (0.0, 0.0)
    spread: float = 0.1
    examples: int = 500
    observed: int = 2
    actions: int = 4
    moving: bool = False
    replan: bool = True
    planner: str = 'closed'
    limit: float = 1.0

    def __post_init__(self) -> None:
        if not all(-1 <= x <= 1 for x in self.goal) or self.spread <= 0 or min(self.examples, self.observed,
                                                                               self.actions) < 1:
            raise InputError('sprites', 'a goal in [-1, 1]; spread > 0; examples, observed, actions >= 1', self)


def sprites_jobs(checkpoint: str, tasks: Sequence[SpritesTask], episodes: int, seed: int, label: str) -> list[Job]:
    """One job for each scene and setting."""
    name = str(_model(checkpoint)[1])
    return [{'goal': f'{seed + i}', 'seed': seed + i, 'checkpoint': checkpoint, 'settings': {
        'label': f'{label} {task.planner}, {"one step" if task.replan else "whole horizon"}'.strip(), 'model': name,
        **json.loads(json.dumps(asdict(task)))}} for task in tasks for i in range(episodes)]


def sprites_work(job: Job) -> Result:
    """Push the sprites of one scene."""
    given: dict[str, Any] = {k: v for k, v in job['settings'].items() if k not in ('label', 'model')}
    task = SpritesTask(**{**given, 'goal': tuple(given['goal'])})
    record, pictures = push(_model(job['checkpoint'])[0], _preference(job['checkpoint'], _examples(task)), task,
                            job['seed'])
    return {**record, 'goal': job['goal'], 'seed': job['seed'], 'settings': job['settings']}, pictures


def world_config(size: int, moving: bool, sprites: int = 3) -> SpritesConfig:
    """Active-dSprites with images of another size than the paper's, everything in proportion."""
    paper, ratio = SpritesConfig(**PRESETS['active']), size / PAPER_SIZE
    return replace(paper, size=size, largest=ratio * paper.largest, speed=ratio * paper.speed * moving,
                   acceleration=ratio * paper.acceleration, min_sprites=sprites, max_sprites=sprites)


def push(model: OBAI, preference: Preference, task: SpritesTask, seed: int) -> Result:
    """The distances of a scene's sprites to the goal (pixels, mean) at first and after each action, and pictures."""
    size, began = model.config.image_size, time.perf_counter()
    world, generator = SpritesWorld(world_config(size, task.moving)), torch.Generator().manual_seed(seed)
    world.reset([[seed]])
    goal, rng = size / 2 * (1 + np.array(task.goal)), np.random.default_rng(seed)
    config = PushConfig(task.planner, 1 if task.replan else task.actions, task.limit * size)
    images, distances, fields = [_seen(world)], [], []
    belief = model.infer(as_tensor(images[0]), generator=generator)
    for _ in range(task.observed - 1):
        world.step()
        images.append(_seen(world))
        belief = _filtered(model, belief, None, images[-1], generator)
    distances.append(_distances(world, goal))
    plans: list[Pushes] = []
    planning, pushed = 0.0, 0
    for step in range(task.actions):
        if task.replan or not plans:
            plans.append(plan_pushes(model, belief, preference, config, rng))
            planning += plans[-1].seconds
        fields.append(action_field(model, belief, plans[-1].actions[0 if task.replan else step], config.certain))
        pushed += int((fields[-1] != 0).any(1).sum())
        world.step(fields[-1].numpy())
        images.append(_seen(world))
        distances.append(_distances(world, goal))
        with torch.no_grad():
            belief = model.predict(belief, fields[-1])
        if step == 0:
            imagined = _drawn(model, belief)
        if task.replan:
            belief = model.infer(as_tensor(images[-1]), belief, generator=generator)
    record = {'distances': [float(d.mean()) for d in distances], 'size': size,
              'within': [float((d <= size / 16).mean()) for d in distances],
              'final': {f'after {t} actions, px': float(d.mean()) for t, d in enumerate(distances)},
              'plans': len(plans), 'pushes': pushed, 'candidates': sum(p.candidates for p in plans),
              'planning_s': round(planning, 4), 'seconds': round(time.perf_counter() - began, 2),
              'reason': f'{pushed} pushes'}
    return record, {'start': images[task.observed - 1], 'imagined': imagined,
                    **{f'after {t}': image for t, image in enumerate(images[task.observed:], 1)}}


@torch.no_grad()
def _filtered(model: OBAI, belief: Belief, field: Tensor | None, image: NDArray[np.uint8],
              generator: torch.Generator) -> Belief:
    return model.infer(as_tensor(image), model.predict(belief, field), generator=generator)


def as_tensor(image: NDArray[np.uint8]) -> Tensor:
    """[S, S, 3] -> [1, 3, S, S] in [0, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def _seen(world: SpritesWorld) -> NDArray[np.uint8]:
    return world.render()['frames'][0]


def _drawn(model: OBAI, belief: Belief) -> NDArray[np.uint8]:
    with torch.no_grad():
        image = model.scene(belief).image[0]
    return (255 * image.clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _distances(world: SpritesWorld, goal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the sprites' centres to the goal [K], pixels."""
    return np.linalg.norm(world.positions[0] - goal, axis=-1)


def example_pictures(task: SpritesTask, size: int) -> Tensor:
    """Pictures [N, 3, H, W] of one sprite each, drawn from where things are wanted (end of OBAI section 2.4.1)."""
    world = SpritesWorld(world_config(size, False, 1))
    world.reset([[0, 1, i] for i in range(task.examples)])
    drawn = np.random.default_rng([0, 2]).standard_normal((task.examples, 1, 2))
    world.positions = size / 2 * (1 + np.array(task.goal) + task.spread * drawn)
    return torch.from_numpy(world.render()['frames']).permute(0, 3, 1, 2).float() / 255


def _examples(task: SpritesTask) -> SpritesTask:
    """The task as far as its examples go."""
    return SpritesTask(goal=task.goal, spread=task.spread, examples=task.examples)


@cache
def _preference(checkpoint: str, task: SpritesTask) -> Preference:
    model = _model(checkpoint)[0]
    return preference_of_examples(model, example_pictures(task, model.config.image_size),
                                  torch.Generator().manual_seed(0))


@cache
def _model(checkpoint: str) -> tuple[OBAI, str]:
    """An OBAI that takes action fields, and its name; once for each process."""
    model, record = load_model(checkpoint)
    if not isinstance(model, OBAI) or not model.plans:
        raise InputError(f'checkpoint {checkpoint}', 'an OBAI with action fields', model.config.name)
    return model.eval().requires_grad_(False), record['model_id']


def sprites_table(records: Sequence[Record]) -> str:
    """Mean distance to the goal before and after each action, with standard errors over scenes."""
    rows, most = [], max(len(r['distances']) for r in records)
    for label in sorted({r['settings']['label'] for r in records}):
        some = [r for r in records if r['settings']['label'] == label]
        steps = range(len(some[0]['distances']))
        left = [_mean([r['distances'][t] for r in some]) for t in steps]
        rows.append((label, len(some), *left, *['-'] * (most - len(left)),
                     f'{100 * np.mean([r["within"][-1] for r in some]):.0f}',
                     round(1000 * sum(r['planning_s'] for r in some) / sum(r['plans'] for r in some), 1),
                     round(sum(r['candidates'] for r in some) / sum(r['plans'] for r in some))))
    after = [f'after {t}' if t else 'before, px' for t in range(most)]
    return table(('planner', 'scenes', *after, 'within a 16th %', 'plan ms', 'candidates'), rows)


def _mean(values: Sequence[float]) -> str:
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else float('nan')
    return f'{np.mean(values):.2f} ± {error:.2f}'


def write_sprites(records: Sequence[Record], folder: Path) -> list[Path]:
    """One JSON file for each setting, as `object-centric results` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for label in sorted({r['settings']['label'] for r in records}):
        some = [r for r in records if r['settings']['label'] == label]
        metrics = {}
        for t in range(len(some[0]['distances'])):
            for name in ('distances', 'within'):
                values = [r[name][t] for r in some]
                std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
                metrics[f'{name}_{t}'] = {'mean': float(np.mean(values)), 'std': std, 'error': std / len(values) ** 0.5,
                                          'count': len(values)}
        seeds = sorted(r['seed'] for r in some)
        content: dict[str, Any] = {
            'kind': 'benchmark', 'version': __version__, 'record': {'model_id': some[0]['settings']['model']},
            'data': {'episodes': len(some)},
            'settings': {**some[0]['settings'], 'seeds': f'{seeds[0]} to {seeds[-1]}'}, 'metrics': metrics}
        task = some[0]['settings']
        name = f'obai_sprites_{task["planner"]}_{"step" if task["replan"] else "whole"}{"_moving" * task["moving"]}'
        file = folder / f'{name}.json'
        file.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
        files.append(file)
    return files
