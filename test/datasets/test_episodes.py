"""The episode file: written piecewise, read in any order, and clear errors for files that are not right."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from object_centric_ros.datasets.episodes import EpisodeStore, EpisodeWriter
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera

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
        assert len(store) == 4 and store.steps == 3 and store.frame_size == 16 and store.meta['seed'] == 1
        assert store.camera.to_dict() == CAMERA.to_dict()
        for which in ([2, 0, 2, -1], np.array([3, 1]), slice(1, 3), slice(None, None, -1), 2):
            got = store.read(which)
            expected = np.arange(4)[which] if isinstance(which, slice) else np.atleast_1d(which)
            assert got.keys() == data.keys()
            for name, values in got.items():
                assert values.dtype == data[name].dtype and np.array_equal(values, data[name][expected]), name
        assert list(store.read([0], ['actions'])) == ['actions']


def test_appending(path: Path) -> None:
    with EpisodeWriter(path, META, append=True) as writer:
        assert len(writer) == 4
        writer.append(episodes(2, seed=1))
    with EpisodeStore(path) as store:
        assert len(store) == 6
        assert np.array_equal(store.read([5])['frames'][0], episodes(2, seed=1)['frames'][1])
    with pytest.raises(InputError, match='meta'):
        EpisodeWriter(path, {**META, 'seed': 2}, append=True)


def test_wrong_arrays_are_refused(path: Path) -> None:
    good = episodes(2)
    with EpisodeWriter(path, META, append=True) as writer:
        for bad, words in (({**good, 'actions': good['actions'][:, :1]}, 'shape of actions'),
                           ({**good, 'frames': good['frames'].astype(np.float32)}, 'uint8'),
                           ({k: good[k] for k in ('frames', 'actions')}, 'fields')):
            with pytest.raises(InputError, match=words):
                writer.append(bad)
        assert len(writer) == 4


def test_bad_reads(path: Path) -> None:
    with EpisodeStore(path) as store:
        with pytest.raises(InputError, match='episode index'):
            store.read([4])
        with pytest.raises(InputError, match='fields'):
            store.read([0], ['labels'])


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
    with pytest.raises(InputError, match='fields'):
        EpisodeStore(path)
    with h5py.File(path, 'r+') as file:
        del file.attrs['meta']
    with pytest.raises(InputError, match='meta'):
        EpisodeStore(path)
