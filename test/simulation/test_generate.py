"""Random play: the same bits for any number of workers, going on after a stop, and what the actions look like."""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from object_centric_ros.cli import main
from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.errors import InputError
from object_centric_ros.simulation import worlds
from object_centric_ros.simulation.balls import BallsConfig
from object_centric_ros.simulation.generate import add_arguments, declarations, generate, run
from object_centric_ros.simulation.sampling import sample_action, top_blocks
from object_centric_ros.simulation.tabletop_play import PlayConfig, make_batch

CASES = {'tabletop': (PlayConfig(steps=3, arm_frames=True), 5), 'balls': (BallsConfig(steps=4), 7)}
SEED = 3


def contents(path: Path) -> dict[str, np.ndarray]:
    with EpisodeStore(path) as store:
        return {**store.read(slice(None)), 'meta': np.array(str(store.meta))}


@pytest.fixture(scope='module')
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('episodes')
    for world, (config, episodes) in CASES.items():
        generate(folder / world, world, config, episodes=episodes, seed=SEED)
    return {world: folder / world for world in CASES}


def set_part(monkeypatch: pytest.MonkeyPatch, world: str, part: int) -> None:
    monkeypatch.setitem(worlds.WORLDS, world, dataclasses.replace(worlds.WORLDS[world], part=part))
    monkeypatch.setattr('object_centric_ros.simulation.generate.FEWEST_PARTS', 1)


def test_fields_agree_with_each_other(one_worker: dict[str, Path]) -> None:
    data = contents(one_worker['tabletop'])
    assert data['frames'].shape == (5, 3, 64, 64, 3) and data['actions'].shape == (5, 2, 4)
    for i, n in enumerate(data['n_blocks']):
        assert np.isnan(data['positions'][i, :, n:]).all() and np.isfinite(data['positions'][i, :, :n]).all()
        assert data['labels'][i].max() <= n
    assert (data['arm_labels'] == 255).any() and not (data['labels'] == 255).any()
    clear = (data['arm_labels'] == 0) & (data['labels'] == 0)
    assert np.abs(data['frames'][clear].astype(int) - data['arm_frames'][clear].astype(int)).mean() < 2
    assert np.abs(data['actions']).max() <= 0.2


@pytest.mark.parametrize('world', CASES)
def test_files_say_what_they_hold(one_worker: dict[str, Path], world: str) -> None:
    with EpisodeStore(one_worker[world]) as store:
        assert store.meta['generator'] == world and store.meta['seed'] == SEED and not list(store.verify())
        assert store.meta['config']['steps'] == store.steps == CASES[world][0].steps
        assert all(field.about for field in store.layout.values())
        assert store.action_format == ('pick_place_xy' if world == 'tabletop' else 'none')
    assert f'generator: {world}' in Path(f'{one_worker[world]}.md').read_text()


def assert_same(one: Path, other: Path) -> None:
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert np.array_equal(values, second[name], equal_nan=values.dtype.kind == 'f'), name


@pytest.mark.parametrize('world', worlds.WORLDS)
def test_every_world_says_what_its_fields_are(world: str) -> None:
    made = worlds.WORLDS[world]
    for name, text in made.fields.items():
        assert declarations(made, {name: np.zeros((1, 1, 1))})[name][2] and text
    for preset in made.presets.values():
        made.config(**preset)


@pytest.mark.parametrize('world', CASES)
def test_workers_do_not_change_a_bit(one_worker: dict[str, Path], world: str, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    set_part(monkeypatch, world, 3)
    config, episodes = CASES[world]
    generate(tmp_path / 'two.h5', world, config, episodes=episodes, seed=SEED, workers=2)
    assert_same(one_worker[world], tmp_path / 'two.h5')


@pytest.mark.parametrize('world', CASES)
def test_a_stopped_run_goes_on(one_worker: dict[str, Path], world: str, tmp_path: Path,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    config, episodes = CASES[world]
    made: list[int] = []
    usual = worlds.WORLDS[world]

    def stop_at_two(config: object, seeds: list) -> dict:
        if any(index == 3 for _, index in seeds) and 'stopped' not in os.listdir(tmp_path):
            (tmp_path / 'stopped').touch()
            raise KeyboardInterrupt
        made.extend(index for _, index in seeds)
        return usual.make_batch(config, seeds)

    set_part(monkeypatch, world, 2)
    monkeypatch.setitem(worlds.WORLDS, world, dataclasses.replace(worlds.WORLDS[world], make_batch=stop_at_two))
    out = tmp_path / 'out.h5'
    with pytest.raises(KeyboardInterrupt):
        generate(out, world, config, episodes=episodes, seed=SEED)
    assert not out.exists() and made == [0, 1]
    generate(out, world, config, episodes=episodes, seed=SEED)
    assert made == list(range(episodes))
    assert sorted(p.name for p in tmp_path.iterdir()) == ['out.h5', 'out.h5.md', 'stopped']
    assert_same(one_worker[world], out)


def test_a_damaged_part_is_made_again(one_worker: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                      ) -> None:
    set_part(monkeypatch, 'balls', 4)
    config, _ = CASES['balls']
    (tmp_path / 'out.h5.parts').mkdir()
    generate(tmp_path / 'part.h5', 'balls', config, episodes=4, seed=SEED)
    whole = (tmp_path / 'part.h5').read_bytes()
    (tmp_path / 'out.h5.parts' / '00000000-00000004.h5').write_bytes(whole[:len(whole) // 2])
    generate(tmp_path / 'out.h5', 'balls', config, episodes=7, seed=SEED)
    assert_same(one_worker['balls'], tmp_path / 'out.h5')


def test_a_killed_command_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, '-c', 'from object_centric_ros.cli import main; main()', 'generate', 'balls',
               '--out', str(tmp_path / 'k.h5'), '--episodes', '500', '--steps', '30', '--workers', '1']
    stopped = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    parts = tmp_path / 'k.h5.parts'
    while not (parts.exists() and list(parts.glob('*.h5'))):
        assert stopped.poll() is None, 'ended before it was killed'
        time.sleep(0.01)
    os.killpg(stopped.pid, signal.SIGKILL)
    stopped.wait()
    assert not (tmp_path / 'k.h5').exists() and len(list(parts.glob('*.h5'))) < 16
    kept = int(max(parts.glob('*.h5')).stem.partition('-')[2])
    generate(tmp_path / 'k.h5', 'balls', BallsConfig(steps=30), episodes=500, workers=2, progress=True)
    told = capsys.readouterr().err
    assert f'{kept} episodes of a run that was stopped are there' in told and 'MB in the end' in told
    size = (tmp_path / 'k.h5').stat().st_size / 1e6
    assert f'500 episodes, {500 - kept} of them made now in 0:0' in told and f', {size:.1f} MB' in told
    generate(tmp_path / 'whole.h5', 'balls', BallsConfig(steps=30), episodes=500)
    assert_same(tmp_path / 'k.h5', tmp_path / 'whole.h5')


def test_actions_are_of_three_kinds_and_keep_blocks_on_the_table(one_worker: dict[str, Path]) -> None:
    rng = np.random.default_rng(0)
    positions = np.array([[0.0, 0.0, 0.03], [0.0, 0.0, 0.09], [0.1, 0.1, 0.03], [-0.1, 0.1, 0.03]])
    assert top_blocks(positions) == [1, 2, 3]
    actions = np.array([sample_action(rng, positions, 0.17, 0.03) for _ in range(600)])
    on_block = (np.linalg.norm(actions[:, None, :2] - positions[None, 1:, :2], axis=-1) < 0.02).any(1)
    onto = (np.linalg.norm(actions[:, None, 2:] - positions[None, 1:, :2], axis=-1) < 0.015).any(1)
    assert 0.66 < on_block.mean() < 0.82 and 0.38 < (on_block & onto).mean() < 0.6
    assert np.nanmax(np.abs(contents(one_worker['tabletop'])['positions'][..., :2])) < 0.2


def test_the_arm_makes_episodes_too() -> None:
    episodes = make_batch(PlayConfig(steps=2, execution='arm'), [(1, 0)])
    assert episodes['frames'].shape == (1, 2, 64, 64, 3) and episodes['success'].shape == (1, 1)


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(words))


def test_command_line(tmp_path: Path) -> None:
    out = tmp_path / 'new' / 'few.h5'
    assert command('tabletop', '--out', str(out), '--episodes', '2', '--steps', '2', '--workers', '1', '--blocks', '3',
                   '3') == 0
    with EpisodeStore(out) as store:
        assert len(store) == 2 and (store.read([0, 1])['n_blocks'] == 3).all() and 'arm_frames' not in store.fields


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=r'b\.h5: expected a place that can be written'):
        command('balls', '--out', str(tmp_path / 'file' / 'b.h5'), '--episodes', '2')


def test_options_change_files_and_files_change_presets(tmp_path: Path) -> None:
    (tmp_path / 'balls.yaml').write_text('steps: 6\nsize: 48\n')
    command('balls', '--out', str(tmp_path / 'b.h5'), '--episodes', '2', '--preset', 'op3', '--config',
            str(tmp_path / 'balls.yaml'), '--steps', '3', '--no-equal-speeds', '--workers', '1')
    with EpisodeStore(tmp_path / 'b.h5') as store:
        config = store.meta['config']
        assert store.image_shape == (48, 48, 3) and store.steps == 3 and config['radius'] == 4.8
        assert config['equal_speeds'] is False


def test_bad_options(tmp_path: Path) -> None:
    out = str(tmp_path / 'b.h5')
    with pytest.raises(InputError, match='episodes: expected at least 1'):
        command('balls', '--out', out, '--episodes', '0')
    with pytest.raises(InputError, match=r'balls\.yaml: expected a YAML file'):
        command('balls', '--out', out, '--config', str(tmp_path / 'balls.yaml'))
    with pytest.raises(InputError, match='generate balls: balls: size'):
        command('balls', '--out', out, '--size', '2')
    with pytest.raises(InputError, match='world: expected one of'):
        generate(out, 'mars', episodes=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('change', 'words'), [
    ({'steps': 1}, 'steps'), ({'min_blocks': 4, 'max_blocks': 3}, 'blocks'),
    ({'execution': 'magic'}, 'teleport or arm')])
def test_bad_settings(change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        PlayConfig(**change)


def test_a_ray_cluster_makes_the_same_episodes(tmp_path: Path) -> None:
    pytest.importorskip('ray', reason='the extra `ray` is not installed')
    generate(tmp_path / 'here.h5', 'balls', episodes=40, seed=3)
    command = ['generate', 'balls', '--out', str(tmp_path / 'there.h5'), '--episodes', '40', '--seed', '3']
    assert main([*command, '--workers', '2', '--ray', 'local']) == 0
    with EpisodeStore(tmp_path / 'here.h5') as here, EpisodeStore(tmp_path / 'there.h5') as there:
        assert here.meta == there.meta
        for name, values in here.read(slice(None)).items():
            np.testing.assert_array_equal(values, there.read(slice(None))[name])


def test_without_ray_its_option_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, 'ray.util.multiprocessing', None)
    command = ['generate', 'balls', '--out', str(tmp_path / 'a.h5'), '--episodes', '40', '--ray', 'auto']
    assert main(command) == 2 and "Ray (pip install '.[ray]')" in capsys.readouterr().err
