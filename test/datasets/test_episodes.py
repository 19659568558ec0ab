"""The episode file: written piecewise, read in any order, kept over kills, and clear errors for what is not right."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest

from object_centric_ros.datasets.episodes import EpisodeStore, EpisodeWriter, join, parts_folder, write_part
from object_centric_ros.datasets.layout import ACTION_FORMATS, FORMAT, FORMAT_1
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.models import cycle
from object_centric_ros.simulation.worlds import WORLDS

CAMERA = PinholeCamera.looking_at((0, -1, 1), (0, 0, 0), 30, 640, 480)
META = {'generator': 'test', 'seed': 1, 'camera': CAMERA.to_dict()}


def episodes(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {'frames': rng.integers(0, 255, (n, 3, 16, 16, 3), np.uint8), 'actions': rng.random((n, 2, 4), np.float32),
            'success': rng.random((n, 2)) > 0.5}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with EpisodeWriter(tmp_path / 'e.h5', META) as writer:
        writer.append(episodes(4))
    return tmp_path / 'e.h5'


def test_round_trip_and_any_order(path: Path) -> None:
    data = episodes(4)
    with EpisodeStore(path) as store:
        assert len(store) == 4 and store.steps == 3 and store.image_shape == (16, 16, 3) and store.meta['seed'] == 1
        assert store.camera.to_dict() == CAMERA.to_dict() and store.action_format == 'pick_place_xy'
        for which in ([2, 0, 2, -1], np.array([3, 1]), slice(1, 3), slice(None, None, -1), 2):
            got = store.read(which)
            expected = np.arange(4)[which] if isinstance(which, slice) else np.atleast_1d(which)
            assert got.keys() == data.keys()
            for name, values in got.items():
                assert values.dtype == data[name].dtype and np.array_equal(values, data[name][expected]), name
        assert list(store.read([0], ['actions'])) == ['actions']


@pytest.mark.parametrize(('frame', 'actions', 'action_format'), [
    ((20, 30, 1), None, 'none'), ((16, 16, 3), (2, 16, 16), 'field'), ((8, 8, 1), (6,), 'discrete'),
    ((480, 640, 3), (7,), 'joint_command')])
def test_any_image_and_action(tmp_path: Path, frame: tuple, actions: tuple | None, action_format: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {'frames': rng.integers(0, 255, (2, 5, *frame), np.uint8), 'depth': rng.random((2, 5, 3), np.float32),
              'name': np.array([3, 4], np.int16)}
    if actions is not None:
        arrays['actions'] = rng.random((2, 4, *actions)).astype(np.float32)
    meta = {'action_format': action_format, 'fields': {'depth': ['float32', 'N T 3', 'metres'],
                                                       'name': ['int16', 'N', 'which']}}
    with EpisodeWriter(tmp_path / 'e.h5', meta) as writer:
        writer.append(arrays)
    with EpisodeStore(tmp_path / 'e.h5') as store:
        assert store.action_format == action_format and store.image_shape == frame
        for name, values in store.read(slice(None)).items():
            assert np.array_equal(values, arrays[name]), name
        window = store.read_window(1, 1, 5, 2)
        assert np.array_equal(window['frames'], arrays['frames'][1, 1:5:2])
        assert np.array_equal(window['depth'], arrays['depth'][1, 1:5:2]) and window['name'] == 4
        if actions is not None:
            assert np.array_equal(window['actions'], arrays['actions'][1, 1:4])
        assert not list(store.verify())
    assert 'metres' in (tmp_path / 'e.h5.md').read_text()


def test_appending(path: Path) -> None:
    with EpisodeWriter(path, META, append=True) as writer:
        assert len(writer) == 4
        writer.append(episodes(2, seed=1))
    with EpisodeStore(path) as store:
        assert len(store) == 6
        assert np.array_equal(store.read([5])['frames'][0], episodes(2, seed=1)['frames'][1])
        assert np.array_equal(store.read([2])['actions'][0], episodes(4)['actions'][2])
    with pytest.raises(InputError, match='meta'):
        EpisodeWriter(path, {**META, 'seed': 2}, append=True)


def write_and_die(path: Path, parts: int) -> None:
    writer = EpisodeWriter(path, META, append=True)
    for i in range(parts):
        writer.append(episodes(2, seed=10 + i))
    (writer.parts / '00000099-00000101.h5.new').write_bytes(b'half')
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_loses_nothing_that_was_appended(path: Path) -> None:
    for _ in range(2):
        child = multiprocessing.get_context('fork').Process(target=write_and_die, args=(path, 2))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        with EpisodeStore(path) as store:
            assert len(store) == 4 and not list(store.verify())
    with EpisodeWriter(path, META, append=True) as writer:
        assert len(writer) == 12
        writer.append(episodes(1, seed=5))
    assert not parts_folder(path).exists()
    with EpisodeStore(path) as store:
        assert len(store) == 13 and not list(store.verify())
        for start, count, seed in ((0, 4, 0), (4, 2, 10), (6, 2, 11), (8, 2, 10), (10, 2, 11), (12, 1, 5)):
            assert np.array_equal(store.read(slice(start, start + count))['frames'], episodes(count, seed)['frames'])


def test_a_writer_left_by_an_error_keeps_the_old_file(path: Path) -> None:
    with pytest.raises(RuntimeError), EpisodeWriter(path, META) as writer:
        writer.append(episodes(1))
        raise RuntimeError
    with EpisodeStore(path) as store:
        assert len(store) == 4


def test_verify_names_what_is_damaged(path: Path) -> None:
    with h5py.File(path, 'r+') as file:
        frame = file['frames'][2]
        frame[1, 3, 4] ^= 1
        file['frames'][2] = frame
    with EpisodeStore(path) as store:
        assert list(store.verify()) == [(2, 'frames')]
    with h5py.File(path) as file:
        offset = file['actions'].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 20] ^= 0xff
    path.write_bytes(data)
    with EpisodeStore(path) as store:
        damaged = list(store.verify())
        assert (2, 'frames') in damaged and {name for _, name in damaged} == {'frames', 'actions'}
        with pytest.raises(InputError, match=r'actions: expected intact data'):
            store.read([0])


def test_no_changed_byte_goes_unseen(path: Path) -> None:
    """One changed byte: the file is refused, `verify` finds it, or it was in none of the data."""
    whole, data, rng = path.read_bytes(), episodes(4), np.random.default_rng(0)
    seen = {'refused': 0, 'found': 0, 'no matter': 0}
    for i in range(100):
        changed = bytearray(whole)
        changed[int(rng.integers(len(whole)))] ^= int(rng.integers(1, 256))
        path.with_name(f'{i}.h5').write_bytes(changed)
        try:
            with EpisodeStore(path.with_name(f'{i}.h5')) as store:
                found = list(store.verify())
                if not found:
                    assert store.meta['seed'] == META['seed']
                    assert all(np.array_equal(v, data[k]) for k, v in store.read(slice(None)).items())
            seen['found' if found else 'no matter'] += 1
        except InputError:
            seen['refused'] += 1
    assert all(seen.values()), seen


def test_workers_read_a_store_that_was_opened_before(path: Path) -> None:
    expected = episodes(4)['frames']
    with EpisodeStore(path) as store:
        again = pickle.loads(pickle.dumps(store))
        assert np.array_equal(again.read([3])['frames'][0], expected[3])
        again.close()
        with multiprocessing.get_context('fork').Pool(2) as pool:
            for i, got in enumerate(pool.map(store.read, [[0], [1], [2], [3]])):
                assert np.array_equal(got['frames'][0], expected[i])


def test_files_of_the_first_format(tmp_path: Path) -> None:
    data = {**episodes(2), 'n_blocks': np.array([2, 3], np.uint8), 'positions': np.zeros((2, 3, 5, 3), np.float32)}
    with h5py.File(tmp_path / 'old.h5', 'w') as file:
        file.attrs['meta'] = json.dumps({**META, 'format': FORMAT_1})
        for name, values in data.items():
            file.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]))
    with EpisodeStore(tmp_path / 'old.h5') as store:
        assert set(store.fields) == set(data) and store.action_format == 'pick_place_xy' and not list(store.verify())
        for name, values in store.read(slice(None)).items():
            assert np.array_equal(values, data[name])
    with EpisodeWriter(tmp_path / 'old.h5', META, append=True) as writer:
        writer.append({k: v[:1] for k, v in data.items()} | {'n_blocks': data['n_blocks'][:1]})
    with EpisodeStore(tmp_path / 'old.h5') as store:
        assert len(store) == 3 and store.meta['format'] == FORMAT and not list(store.verify())
        assert np.array_equal(store.read([2])['frames'], data['frames'][:1])


def test_wrong_arrays_are_refused(path: Path) -> None:
    good = episodes(2)
    with EpisodeWriter(path, META, append=True) as writer:
        for bad, words in (({**good, 'actions': good['actions'][:, :1]}, 'shape of actions'),
                           ({**good, 'frames': good['frames'].astype(np.float32)}, 'uint8'),
                           ({**good, 'frames': good['frames'][..., :2]}, 'shape of frames'),
                           ({k: good[k] for k in ('frames', 'actions')}, 'fields')):
            with pytest.raises(InputError, match=words):
                writer.append(bad)
        assert len(writer) == 4


@pytest.mark.parametrize(('change', 'meta', 'words'), [
    ({'frames': np.zeros((2, 3, 16, 16, 2), np.uint8)}, {}, 'channels'),
    ({'speed': np.zeros(2)}, {}, 'field speed'),
    ({'speed': np.zeros(2)}, {'fields': {'speed': 'fast'}}, 'declaration of speed'),
    ({'actions': np.zeros((2, 2, 6), np.float32)}, {}, 'action_format'),
    ({}, {'action_format': 'none'}, "what action_format 'none' says")])
def test_wrong_declarations_are_refused(tmp_path: Path, change: dict, meta: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        write_part(tmp_path / 'e.h5', meta, {**episodes(2), **change})
    assert not list(tmp_path.iterdir())


def test_bad_reads(path: Path) -> None:
    with EpisodeStore(path) as store:
        with pytest.raises(InputError, match='episode index'):
            store.read([4])
        with pytest.raises(InputError, match='fields'):
            store.read([0], ['labels'])
        with pytest.raises(InputError, match='window'):
            store.read_window(0, 1, 4)


def test_files_that_are_not_episodes(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='existing file'):
        EpisodeStore(tmp_path / 'none.h5')
    whole = path.read_bytes()
    cut = tmp_path / 'cut.h5'
    cut.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(InputError, match=r'cut\.h5'):
        EpisodeStore(cut)
    (tmp_path / 'text.h5').write_text('not HDF5')
    with pytest.raises(InputError, match=r'text\.h5'):
        EpisodeStore(tmp_path / 'text.h5')
    with h5py.File(path, 'r+') as file:
        del file['actions']
    with pytest.raises(InputError, match=r"e\.h5: fields: expected \['frames', 'actions', 'success'\]"):
        EpisodeStore(path)
    with h5py.File(path, 'r+') as file:
        del file.attrs['meta']
    with pytest.raises(InputError, match='meta'):
        EpisodeStore(path)


def test_files_models_and_worlds_agree_on_action_formats() -> None:
    assert set(ACTION_FORMATS) == {*cycle.ACTION_FORMATS, 'sparse_field'}
    for world in WORLDS.values():
        for preset in [{}, *world.presets.values()]:
            assert world.meta(world.config(**preset)).get('action_format', 'none') in ACTION_FORMATS


@pytest.mark.parametrize('counts', [(32, 32, 5), (16, 40, 32), (5, 32, 16), (3, 2, 1)])
def test_parts_of_any_length_are_joined(tmp_path: Path, counts: tuple[int, ...]) -> None:
    data = episodes(sum(counts))  # 16 actions and more share a chunk, frames too
    parts, start = [], 0
    for count in counts:
        parts.append(tmp_path / f'{start}.h5')
        write_part(parts[-1], META, {k: v[start:start + count] for k, v in data.items()})
        start += count
    join(parts, tmp_path / 'joined.h5')
    with h5py.File(tmp_path / 'joined.h5') as file:
        assert file['frames'].chunks[0] in (16, 32)
    with EpisodeStore(tmp_path / 'joined.h5') as store:
        assert not list(store.verify())
        for name, values in store.read(slice(None)).items():
            assert np.array_equal(values, data[name]), name
