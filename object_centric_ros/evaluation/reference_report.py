"""`object-centric evaluate reference`: tables and scores of OP3 with its authors' weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.reference import (
    PICK_PLACE,
    STACK,
    STEPS,
    Array,
    Goals,
    authors_goal_metrics,
    data_folder,
    episode_metrics,
    goal_metrics,
    load_authors,
)
from object_centric_ros.evaluation.tables import Spread, text_table, write_scores

TITLES = {'open': 'predicted', 'stream': 'one refinement a frame', 'copy': 'first frame copied'}


def evaluate_reference(path: str | None, first_seed: int, seeds: int, count: int | None, device: torch.device,
                       out: str | None = None, reference: str | None = None) -> int:
    """Print the tables.

    Args:
        path: folder of the reference data.
        count: of goals of a structure, and of episodes; None = all.
        out: JSON file for all numbers.
        reference: 'op3=DIR' with a checkout of the authors' code, whose results on the goals are put beside ours.
    """
    name, _, checkout = (reference or '').partition('=')
    if reference is not None and (name != 'op3' or not checkout or device.type != 'cpu'):
        raise InputError('--reference', 'op3=DIR, and --device cpu', f'{reference}, {device}')
    folder, drawn = data_folder(path), range(first_seed, first_seed + seeds)
    stack = load_authors('op3_released_stack', folder / 'op3' / STACK, device)
    alone, batched = (goal_metrics(stack, folder, drawn, count, together) for together in (False, True))
    print_goals(alone, batched, drawn)
    if checkout:
        print_beside(alone, authors_goal_metrics(Path(checkout), folder, drawn, count))
    pick = load_authors('op3_released_pick_place', folder / 'op3' / PICK_PLACE, device)
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


def print_beside(ours: list[Goals], theirs: list[tuple[Array, Array]]) -> None:
    """The authors' code on the same goals with the same noise."""
    print(f'The same with the authors\' code, one image at a time, MSE after {STEPS} refinements; poor: share of runs '
          'with more\nthan twice their median; apart: median over runs of |ours - theirs| / theirs, and the largest\n')
    rows = []
    for g, (other, other_ari) in zip(ours, theirs, strict=True):
        own, apart = g.mse[:, :, -1], np.abs(g.mse[:, :, -1] - other) / other
        poor = 2 * np.median(other)
        rows.append((g.structure, other.size, own.mean(), other.mean(), np.median(own), np.median(other), own.max(),
                     other.max(), (own > poor).mean(), (other > poor).mean(), np.nanmean(g.ari), np.nanmean(other_ari),
                     np.median(apart), apart.max()))
    print(text_table(('structure', 'runs', 'mean', 'theirs', 'median', 'theirs', 'worst', 'theirs', 'poor', 'theirs',
                      'ARI-F', 'theirs', 'apart', 'largest'), rows), end='\n\n')


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
