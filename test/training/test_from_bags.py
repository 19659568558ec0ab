"""`object-centric train --bag`: from bags to weights in one command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from small_bags import recording, write

from object_centric_ros.cli import main
from object_centric_ros.datasets.episodes import EpisodeStore
from object_centric_ros.datasets.from_bags import pose_from_file, split
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.geometry.calibration import calibrate, quaternion, rotation_of
from object_centric_ros.models.checkpoint import load_model
from object_centric_ros.nodes.calibrate import write as write_camera

CAMERA = PinholeCamera.looking_at((0, -1, 1), (0, 0, 0), 40, 32, 24)
CONFIG = {'precision': 'float32', 'workers': 0, 'validation_episodes': 1,
          'model': {'slots': 3, 'latent': 8, 'encoder_channels': [8, 16], 'attention_size': 16, 'hidden': 16,
                    'decoder_channels': 8, 'decoder_layers': 1, 'dynamics_size': 16, 'dynamics_heads': 2},
          'stages': [{'objective': 'frames', 'steps': 2, 'batch': 2, 'warmup': 1},
                     {'objective': 'sequences', 'steps': 2, 'batch': 1, 'horizon': 4}]}


@pytest.fixture
def pose(tmp_path: Path) -> Path:
    """As `object-centric calibrate` writes it."""
    places = np.array([[-0.2, -0.2], [0.2, -0.2], [0.2, 0.2], [-0.2, 0.2]])
    found = calibrate(CAMERA.project(np.column_stack([places, np.zeros(4)])), places, (32, 24), CAMERA)
    write_camera(found, tmp_path / 'camera.yaml')
    return tmp_path / 'camera.yaml'


def test_from_bags_to_weights_and_on(tmp_path: Path, pose: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'bags').mkdir()
    for name in 'abc':
        write(tmp_path / 'bags' / name, recording())
    (tmp_path / 'run.yaml').write_text(yaml.safe_dump(CONFIG))
    words = ['train', '--config', str(tmp_path / 'run.yaml'), '--bag', str(tmp_path / 'bags'), '--pose', str(pose),
             '--out', str(tmp_path / 'run'), '--device', 'cpu', '--threads', '1']
    assert main(words) == 0
    said = capsys.readouterr().out
    assert 'train.h5: 2 episodes of a, b' in said and 'validation.h5: 1 episodes of c' in said
    with EpisodeStore(tmp_path / 'run' / 'data' / 'train.h5') as store:
        assert store.meta['source'] == ['a', 'b'] and store.meta['action_format'] == 'pick_place_xy'
        np.testing.assert_allclose(store.meta['camera']['position'], CAMERA.position, atol=1e-5)
    weights = tmp_path / 'run' / 'model.safetensors'
    model, record = load_model(weights)
    assert model.config.slots == 3 and 'camera' in record
    assert main(words) == 0  # the run is over: nothing is made again
    assert 'episodes of' not in capsys.readouterr().out
    write(tmp_path / 'bags' / 'd', recording())
    assert main(words) == 2
    assert "episodes of ['a', 'b', 'c']" in capsys.readouterr().err


def test_bags_are_held_out_whole(tmp_path: Path) -> None:
    folder = tmp_path / 'bags'
    folder.mkdir()
    for k in range(3):
        write(folder / f'{k}', recording(0.2, actions=False))
    write(folder / '2_entities', recording(0.2, actions=False))
    (folder / '2_entities' / 'metrics.json').write_text('{}')  # what replay makes of a bag is none to train on
    train, held = split([folder])
    assert [p.name for p in train] == ['0', '1'] and [p.name for p in held] == ['2']
    with pytest.raises(InputError, match='two bags or more'):
        split([folder / '0'])


def test_poses_of_both_kinds_of_file(tmp_path: Path, pose: Path) -> None:
    rotation, position = pose_from_file(pose)
    np.testing.assert_allclose(position, CAMERA.position, atol=1e-6)
    np.testing.assert_allclose(rotation, CAMERA.rotation, atol=1e-6)
    np.testing.assert_allclose(rotation_of(CAMERA.rotation.ravel()), rotation_of(quaternion(CAMERA.rotation)))
    (tmp_path / 'bad.yaml').write_text('a: 1')
    with pytest.raises(InputError, match='as object-centric calibrate writes it'):
        pose_from_file(tmp_path / 'bad.yaml')


@pytest.mark.parametrize('words', [[], ['--data', 'a.h5'], ['--data', 'a.h5', '--validation', 'b.h5', '--bag', 'c']])
def test_data_are_files_or_bags(words, capsys) -> None:
    assert main(['train', '--config', 'c.yaml', '--out', 'run', *words]) == 2
    assert '--data and --validation, or --bag' in capsys.readouterr().err
