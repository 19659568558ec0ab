"""Training data: several files as one, actions in the model's format, arms and still scenes put in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import write_episodes

from object_centric_ros.datasets.held_out import Episodes, as_image, dense_field
from object_centric_ros.datasets.sequences import SequenceLoader
from object_centric_ros.errors import InputError
from object_centric_ros.training.data import TrainingFiles, film, single_images


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return [str(write_episodes(tmp_path / f'{seed}.h5', seed)) for seed in (0, 1)]


def test_windows_of_all_files(files: list[str]) -> None:
    data = TrainingFiles(files, 'pick_place_uv', 0.03)
    clips = data.clips(3, arm=True)
    assert len(data) == 12 and len(clips) == 24
    for number, (file, episode, start) in ((0, (0, 0, 0)), (11, (0, 5, 1)), (12, (1, 0, 0)), (15, (1, 1, 1))):
        whole = Episodes(files[file], 0.03)
        item = clips[number, 0]
        assert torch.equal(item['images'], torch.from_numpy(
            whole.frames[episode, start:start + 3]).permute(0, 3, 1, 2))
        assert torch.equal(item['arm_frames'], 255 - item['images'])
        assert not item['actions'][0].any()
        assert item['actions'][1:].numpy() == pytest.approx(whole.actions(slice(None))[episode, start:start + 2])
    limited = TrainingFiles(files, 'none', 0.03, 8)
    assert len(limited) == 8 and len(limited.clips(4)) == 8 and 'actions' not in limited.clips(4)[7, 0]
    assert len(limited.clips(2, stride=3)) == 8
    seen = np.concatenate([f for f, _ in TrainingFiles(files, 'pick_place_xy', 0.03).read(8, at_once=4)])
    assert np.array_equal(seen, np.concatenate([Episodes(files[0], 0).frames, Episodes(files[1], 0).frames[:2]]))


def test_an_epoch_holds_every_window_once(files: list[str]) -> None:
    clips = TrainingFiles(files, 'none', 0.03).clips(1)
    loader = SequenceLoader(clips, 4, True, 0)
    first = [image.numpy().tobytes() for batch in loader for image in batch['images']]
    assert sorted(first) == sorted(clips[n, 0]['images'].numpy().tobytes() for n in range(len(clips)))


def test_files_must_fit_each_other(files: list[str], tmp_path: Path) -> None:
    small = str(write_episodes(tmp_path / 'small.h5', 5, 32))
    with pytest.raises(InputError, match=r'small\.h5: frames: expected \(64, 64, 3\)'):
        TrainingFiles([*files, small], 'none', 0.03)
    with pytest.raises(InputError, match='actions: expected what field can be made of, got pick_place_xy'):
        TrainingFiles(files, 'field', 0.03)


def test_actions_become_what_the_model_takes(files: list[str]) -> None:
    assert Episodes(files[0], 0.03, None, 'none').actions(slice(0, 2)).shape == (2, 3, 0)
    stored = Episodes(files[0], 0.03, None, 'pick_place_xy').actions(np.array([4, 1]))
    image = Episodes(files[0], 0.03).actions(np.array([4, 1]))
    assert stored.shape == (2, 3, 4) and image.shape == (2, 3, 5) and (image[..., 0] == 1).all()
    with pytest.raises(InputError, match='actions: expected what field can be made of, got pick_place_xy'):
        Episodes(files[0], 0.03, None, 'field')


def test_arm_and_still_frames_have_no_action(files: list[str]) -> None:
    clips = TrainingFiles(files, 'pick_place_uv', 0.03).clips(3, arm=True)
    batch = next(iter(SequenceLoader(clips, 5, True, 0)))
    images, actions = film(batch, np.random.default_rng(0))
    assert torch.equal(images, batch['images']) and actions is not None and torch.equal(actions, batch['actions'])
    images, actions = film(batch, np.random.default_rng(0), arm_fraction=1.0)
    assert images.shape[1] == 4 and actions is not None and actions.shape[1] == 4
    arm = next(t for t in range(4) if torch.equal(images[:, t], 255 - images[:, t - 1]))
    assert not actions[:, arm].any() and torch.equal(actions[:, arm + 1], batch['actions'][:, arm])
    images, actions = film(batch, np.random.default_rng(0), still_fraction=1.0)
    still = [t for t in range(1, 5) if torch.equal(images[:, t], images[:, t - 1])]
    assert images.shape[1] == 5 and len(still) == 2 and actions is not None and not actions[:, still].any()
    single = single_images(batch, 0.4)
    assert torch.equal(single[:2], batch['arm_frames'][:2, 0]) and torch.equal(single[2:], batch['images'][2:, 0])


def test_dense_field() -> None:
    sparse = np.array([[[2.5, 1.0, 0.1, 0.2], [2.0, 1.9, 0.3, 0.0], [0, 0, 0, 0]]], np.float32)
    field = dense_field(sparse, 4, 6)
    assert field.shape == (1, 2, 4, 6) and field[0, :, 1, 2] == pytest.approx([0.4, 0.2])
    assert np.count_nonzero(field) == 2


def test_gray_frames_become_colour() -> None:
    image = as_image(np.full((2, 3, 4, 5, 1), 51, np.uint8))
    assert image.shape == (2, 3, 3, 4, 5) and torch.allclose(image, torch.tensor(0.2))
