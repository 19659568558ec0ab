"""`object-centric data`: what it prints, writes and returns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import h5py
import numpy as np
import pytest

from object_centric_ros.cli import main
from object_centric_ros.datasets.command import detect
from object_centric_ros.datasets.episodes import EpisodeStore, EpisodeWriter
from object_centric_ros.datasets.preview import tinted
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.pictures import entity_colour


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (3, 6, 16, 24, 3), np.uint8)
    labels = np.zeros((3, 6, 16, 24), np.uint8)
    labels[..., :8, :] = 1
    with EpisodeWriter(tmp_path / 'e.h5', {'generator': 'test', 'seed': 4}) as writer:
        writer.append({'frames': frames, 'labels': labels})
    return tmp_path / 'e.h5'


def test_info(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = Path(f'{path}.md')
    card.unlink()
    assert main(['data', 'info', str(path)]) == 0
    out = capsys.readouterr().out
    assert 'episodes         3' in out and '24 x 16 pixels, RGB' in out and 'labels' in out
    assert '| `frames` | uint8 | [3, 6, 16, 24, 3] |' in card.read_text()


def test_output_that_nobody_reads_is_no_error(path: Path) -> None:
    program = [sys.executable, '-c', 'from object_centric_ros.cli import main; raise SystemExit(main())']
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*program, 'data', 'info', str(path)], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == 141 and done.stderr == ''


def test_preview(path: Path, tmp_path: Path) -> None:
    assert main(['data', 'preview', str(path), '--out', str(tmp_path / 'p' / 'look'), '--frames', '3', '--labels']) == 0
    sheet = cv2.imread(str(tmp_path / 'p' / 'look.png'))
    assert sheet.shape == (3 * 98 + 2, 3 * 146 + 2, 3)
    with EpisodeStore(path) as store:
        data = store.read([0])
    pictures = tinted(data['frames'], data['labels'])
    assert np.array_equal(sheet[2:98:6, 2:146:6, ::-1], pictures[0, 0])
    assert np.array_equal(pictures[0, 0, 8:], data['frames'][0, 0, 8:])
    wanted = (data['frames'][0, 0, :8].mean(-1, keepdims=True).astype(int) + entity_colour(1)) // 2
    assert np.array_equal(pictures[0, 0, :8], wanted)
    with av.open(str(tmp_path / 'p' / 'look.gif')) as film:
        assert len(list(film.decode(video=0))) == 6


def test_verify(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['data', 'verify', str(path)]) == 0
    with h5py.File(path, 'r+') as file:
        file['labels'][1, 2, 3, 4] = 9
    assert main(['data', 'verify', str(path)]) == 1
    assert 'episode 1: labels is damaged' in capsys.readouterr().out


def test_convert_there_and_back(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip('pyarrow')
    assert main(['data', 'convert', str(path), '--out', str(tmp_path / 'set'), '--fps', '5']) == 0
    assert 'without labels' in capsys.readouterr().out
    assert main(['data', 'convert', str(tmp_path / 'set'), '--out', str(tmp_path / 'b.h5'), '--limit', '2', '--steps',
                 '2', '--crop', '0', '0', '16', '16', '--size', '8']) == 0
    with EpisodeStore(tmp_path / 'b.h5') as store:
        assert len(store) == 2 and store.steps == 2 and store.image_shape == (8, 8, 3)


def test_formats_are_found_out(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect(path) == 'episodes'
    with h5py.File(tmp_path / 'balls.h5', 'w') as file:
        file['training/features'] = np.zeros((3, 2, 8, 8, 1), np.float32)
    assert detect(tmp_path / 'balls.h5') == 'rnem'
    for name, made in (('lerobot', 'l/meta/info.json'), ('bag', 'b/metadata.yaml'), ('clevrer', 'c/x/video_00001.mp4'),
                       ('media', 'm/x.mp4')):
        (tmp_path / made).parent.mkdir(parents=True)
        (tmp_path / made).touch()
        assert detect(tmp_path / made.split('/')[0]) == name
    assert detect(tmp_path / 'x.mcap') == 'bag' and detect(tmp_path / 'clevr.tfrecords') == 'multi-object'
    with pytest.raises(InputError, match=r'none\.txt: expected a file or folder in one of'):
        detect(tmp_path / 'none.txt')
    assert main(['data', 'convert', str(tmp_path / 'balls.h5'), '--out', str(tmp_path / 'o.h5'), '--part', 'test']) == 2
    assert "expected test/features, got ['training']" in capsys.readouterr().err
