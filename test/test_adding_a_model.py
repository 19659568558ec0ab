"""docs/ADDING_A_MODEL.md works: its code goes into a copy of the package, and is tested, trained and tracks there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from object_centric_ros.datasets.episodes import write_part
from object_centric_ros.geometry import PinholeCamera

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r'<!-- (.+?) -->\n```\w+\n(.*?)```', re.DOTALL)


def put(copy: Path, what: str, text: str) -> None:
    """One block of the page into the copy, as its comment says."""
    if what.startswith('new: '):
        (copy / what[5:]).write_text(text)
        return
    found = re.fullmatch(r'(before|after) "(.+)" in: (.+)', what)
    assert found, f'docs/ADDING_A_MODEL.md: what does {what!r} mean?'
    side, mark, name = found.groups()
    lines = (copy / name).read_text().splitlines(keepends=True)
    at = next((i for i, line in enumerate(lines) if line.startswith(mark)), None)
    assert at is not None, f'{name} has no line that starts with {mark!r}'
    lines.insert(at + (side == 'after'), text)
    (copy / name).write_text(''.join(lines))


@pytest.fixture(scope='module')
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with the page's model in it."""
    copy = tmp_path_factory.mktemp('package')
    for name in ('object_centric_ros', 'config', 'test'):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(ROOT / 'pyproject.toml', copy)
    (copy / 'runs').mkdir()
    for what, text in BLOCK.findall((ROOT / 'docs' / 'ADDING_A_MODEL.md').read_text()):
        if what == 'run':
            (copy / 'use.py').write_text(text)
        else:
            put(copy, what, text)
    return copy


def succeed(copy: Path, *command: str) -> str:
    environment = os.environ | {'PYTHONPATH': str(copy), 'PYTHONDONTWRITEBYTECODE': '1'}
    done = subprocess.run([sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True,
                          timeout=600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def command(copy: Path, *words: str) -> str:
    """Output of `object-centric WORDS` in the copy."""
    return succeed(copy, '-c', 'from object_centric_ros.cli import main; raise SystemExit(main())', *words)


def test_passes_the_shared_tests(copy: Path) -> None:
    said = succeed(copy, '-m', 'pytest', '-q', '-k', 'blobs', 'test/models/test_properties.py',
                   'test/tracking/test_every_model.py', 'test/training/test_training.py')
    assert int(re.findall(r'(\d+) passed', said)[0]) > 40 and 'skipped' not in said


def test_has_a_row_in_the_table(copy: Path) -> None:
    said = command(copy, 'models', '--preset', 'blobs')
    assert 'Marino et al. 2018' in said


def test_is_clean(copy: Path) -> None:
    succeed(copy, '-m', 'ruff', 'check', 'object_centric_ros/models/blobs.py', 'object_centric_ros/models/registry.py',
            'test/small_models.py')
    succeed(copy, '-m', 'mypy', 'object_centric_ros/models/blobs.py', '--follow-imports=silent')


def test_trains_and_tracks(copy: Path) -> None:
    camera = PinholeCamera.looking_at((0, -0.88, 1.0), (0, 0, 0.045), 23, 160, 120)
    rng = np.random.default_rng(0)
    for seed, name in enumerate(('train', 'validation')):
        frames, labels = np.full((8, 2, 64, 64, 3), 128, np.uint8), np.zeros((8, 2, 64, 64), np.uint8)
        for n, (u, v) in enumerate(rng.integers(0, 48, (8, 2))):
            frames[n, :, v:v + 16, u:u + 16], labels[n, :, v:v + 16, u:u + 16] = (220, 40, 30), 1
        write_part(copy / f'{name}.h5', {'generator': 'test', 'seed': seed, 'camera': camera.to_dict()},
                   {'frames': frames, 'labels': labels})
    said = command(copy, 'train', '--config', 'config/train/blobs.yaml', '--data', 'train.h5', '--validation',
                   'validation.h5', '--out', 'runs/blobs', '--minutes', '0.1', '--threads', '1', '--device', 'cpu')
    assert 'mse_first' in said
    assert re.match(r'blobs-\w+ \d+ entities \(6, 64, 64\)', succeed(copy, 'use.py'))
