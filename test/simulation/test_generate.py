"""Random play: the same bits for any number of workers, going on after a stop, and what the actions look like."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pytest

from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.errors import InputError
from object_centric_ros.simulation import generate as generate_module
from object_centric_ros.simulation.generate import GenerateConfig, add_arguments, generate, make_episode, run
from object_centric_ros.simulation.sampling import sample_action, top_blocks
from object_centric_ros.simulation.tabletop import TabletopWorld

CONFIG = GenerateConfig(episodes=5, steps=3, seed=3, arm_frames=True)


def contents(path: Path) -> dict[str, np.ndarray]:
    with EpisodeStore(path) as store:
        return {**store.read(slice(None)), 'meta': np.array(str(store.meta))}


@pytest.fixture(scope='module')
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('episodes') / 'one.h5'
    generate(path, CONFIG, workers=1)
    return path


def test_fields_agree_with_each_other(one_worker: Path) -> None:
    data = contents(one_worker)
    assert data['frames'].shape == (5, 3, 64, 64, 3) and data['actions'].shape == (5, 2, 4)
    for i, n in enumerate(data['n_blocks']):
        assert np.isnan(data['positions'][i, :, n:]).all() and np.isfinite(data['positions'][i, :, :n]).all()
        assert data['labels'][i].max() <= n
    assert (data['arm_labels'] == 255).any() and not (data['labels'] == 255).any()
    clear = (data['arm_labels'] == 0) & (data['labels'] == 0)
    assert np.abs(data['frames'][clear].astype(int) - data['arm_frames'][clear].astype(int)).mean() < 2
    assert np.abs(data['actions']).max() <= 0.2


def test_workers_do_not_change_a_bit(one_worker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_module, 'PART', 3)
    generate(tmp_path / 'two.h5', CONFIG, workers=2)
    one, two = contents(one_worker), contents(tmp_path / 'two.h5')
    assert one.keys() == two.keys()
    for name, values in one.items():
        assert np.array_equal(values, two[name], equal_nan=values.dtype.kind == 'f'), name


def test_a_stopped_run_goes_on(one_worker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_module, 'PART', 2)
    made: list[int] = []

    def stop_at_two(world: TabletopWorld, config: GenerateConfig, index: int) -> dict:
        if index == 3 and 'stopped' not in os.listdir(tmp_path):
            (tmp_path / 'stopped').touch()
            raise KeyboardInterrupt
        made.append(index)
        return make_episode(world, config, index)

    monkeypatch.setattr(generate_module, 'make_episode', stop_at_two)
    out = tmp_path / 'out.h5'
    with pytest.raises(KeyboardInterrupt):
        generate(out, CONFIG, workers=1)
    assert not out.exists()
    first = next((tmp_path / 'out.h5.parts').glob('0000000-*'))
    first.write_bytes(first.read_bytes()[:100])
    generate(out, CONFIG, workers=1)
    assert made == [0, 1, 2, 0, 1, 2, 3, 4]
    assert sorted(p.name for p in tmp_path.iterdir()) == ['out.h5', 'stopped']
    assert np.array_equal(contents(out)['frames'], contents(one_worker)['frames'])


def test_actions_are_of_three_kinds_and_keep_blocks_on_the_table(one_worker: Path) -> None:
    rng = np.random.default_rng(0)
    positions = np.array([[0.0, 0.0, 0.03], [0.0, 0.0, 0.09], [0.1, 0.1, 0.03], [-0.1, 0.1, 0.03]])
    assert top_blocks(positions) == [1, 2, 3]
    actions = np.array([sample_action(rng, positions, 0.17, 0.03) for _ in range(600)])
    on_block = (np.linalg.norm(actions[:, None, :2] - positions[None, 1:, :2], axis=-1) < 0.02).any(1)
    onto = (np.linalg.norm(actions[:, None, 2:] - positions[None, 1:, :2], axis=-1) < 0.015).any(1)
    assert 0.66 < on_block.mean() < 0.82 and 0.38 < (on_block & onto).mean() < 0.6
    assert np.nanmax(np.abs(contents(one_worker)['positions'][..., :2])) < 0.2


def test_the_arm_makes_episodes_too() -> None:
    episode = make_episode(TabletopWorld(), GenerateConfig(episodes=1, steps=2, execution='arm', seed=1), 0)
    assert episode['frames'].shape == (2, 64, 64, 3) and episode['success'].shape == (1,)


def test_command_line(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    out = tmp_path / 'new' / 'few.h5'
    assert run(parser.parse_args(['tabletop', '--out', str(out), '--episodes', '2', '--steps', '2', '--workers', '1',
                                  '--blocks', '3', '3'])) == 0
    with EpisodeStore(out) as store:
        assert len(store) == 2 and (store.read([0, 1])['n_blocks'] == 3).all() and 'arm_frames' not in store.fields


@pytest.mark.parametrize(('change', 'words'), [
    ({'episodes': 0}, 'episodes'), ({'min_blocks': 4, 'max_blocks': 3}, 'blocks'),
    ({'execution': 'magic'}, 'teleport or arm')])
def test_bad_settings(change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        GenerateConfig(**change)
