"""Undistortion, crop and letterbox."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import Lens, PinholeCamera, Preparation, model_image

CAMERA = PinholeCamera(160, 120, 130.0, 131.0, 83.0, 58.0, np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 1.0]))
LENSES = [Lens('plumb_bob', (-0.3, 0.1, 0.001, -0.002, 0.0)), Lens('plumb_bob', (-0.2, 0.05, 0.0, 0.0)),
          Lens('rational_polynomial', (0.2, -0.1, 0.001, 0.001, 0.02, 0.5, -0.1, 0.01)),
          Lens('equidistant', (0.05, -0.01, 0.002, 0.0)), Lens('fisheye', (-0.02, 0.01, 0.0, 0.0))]
K = np.array([[130.0, 0, 82.5], [0, 131.0, 57.5], [0, 0, 1]])  # the same camera as OpenCV counts pixels
IMAGE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8), (0, 0), 3)


@pytest.mark.parametrize('lens', LENSES, ids=lambda lens: f'{lens.model}-{len(lens.coefficients)}')
def test_undistortion_is_opencv_s_and_pixels_follow(lens):
    coefficients = np.array(lens.coefficients)
    expected = (cv2.fisheye.undistortImage(IMAGE, K, coefficients, Knew=K, new_size=(160, 120)) if lens.fisheye
                else cv2.undistort(IMAGE, K, coefficients))
    preparation = Preparation(CAMERA, lens)
    assert np.abs(preparation(IMAGE).astype(int) - expected).max() <= 1
    pixels = np.array([[80.0, 60.0], [20.0, 30.0], [140.0, 100.0]])
    np.testing.assert_allclose(lens.undistort(lens.distort(pixels, CAMERA), CAMERA), pixels, atol=1e-3)
    assert np.abs(lens.distort(pixels, CAMERA) - pixels).max() > 0.2
    np.testing.assert_allclose(preparation.to_source(pixels), lens.distort(pixels, CAMERA))


def test_a_point_of_the_world_is_seen_where_the_pinhole_camera_says():
    lens, spot = LENSES[0], np.array([[0.2, -0.15, 0.0]])
    image = np.zeros((120, 160, 3), np.uint8)
    u, v = lens.distort(CAMERA.project(spot), CAMERA)[0] - 0.5
    cv2.circle(image, (round(u), round(v)), 3, (255, 255, 255), -1)
    rows, columns = np.nonzero(Preparation(CAMERA, lens)(image)[..., 0] > 127)
    seen = np.array([columns.mean(), rows.mean()]) + 0.5
    assert np.linalg.norm(seen - CAMERA.project(spot)) < 1.0


@pytest.mark.parametrize('letterbox', [False, True])
@pytest.mark.parametrize('crop', [None, (30, 10, 100, 60), (10, 0, 40, 110)])
def test_crop_and_letterbox_move_the_camera_with_the_picture(crop, letterbox):
    preparation = Preparation(CAMERA, None, crop, letterbox)
    out, camera = preparation(IMAGE), preparation.camera
    assert out.shape == (camera.height, camera.width, 3)
    left, top, width, height = crop or (0, 0, 160, 120)
    assert (camera.height == camera.width == max(width, height)) if letterbox else (width, height) == out.shape[1::-1]
    point = CAMERA.to_plane([[left + width / 2 + 3, top + height / 2 - 5]])
    before, after = CAMERA.project(point)[0], camera.project(point)[0]
    np.testing.assert_allclose(preparation.to_source(after[None])[0], before)
    np.testing.assert_array_equal(out[int(after[1]), int(after[0])], IMAGE[int(before[1]), int(before[0])])
    np.testing.assert_allclose(preparation.box_to_source([*after, *after + 2]), [*before, *before + 2])
    # what the model sees of it, and the camera of that, belong together too
    assert model_image(out, 64).shape == (64, 64, 3) and camera.square(64).width == 64
    assert letterbox == (not out[0].any() or not out[:, 0].any()) or width == height


@pytest.mark.parametrize('lens', [None, LENSES[0]])
def test_labels_go_back_to_where_the_image_came_from(lens):
    preparation = Preparation(CAMERA, lens, (30, 10, 100, 60), letterbox=True)
    labels = np.zeros((100, 100), np.uint16)
    labels[40:50, 60:80] = 300
    back = preparation.labels_to_source(labels)
    assert back.shape == (120, 160) and set(np.unique(back)) == {0, 300}
    v, u = np.nonzero(back)
    u0, v0, u1, v1 = preparation.box_to_source((60, 40, 80, 50))
    np.testing.assert_allclose([u.min(), v.min(), u.max() + 1, v.max() + 1], [u0, v0, u1, v1], atol=1)
    same = np.ones((120, 160), np.uint16)
    assert Preparation(CAMERA).labels_to_source(same) is same


def test_nothing_to_do_copies_nothing_and_other_sizes_are_refused():
    assert Preparation(CAMERA)(IMAGE) is IMAGE
    with pytest.raises(InputError, match='160x120 of the camera'):
        Preparation(CAMERA)(IMAGE[:100])
    assert np.isnan(Preparation(CAMERA, LENSES[0]).to_source([[np.nan, 1.0]])).any()


@pytest.mark.parametrize('make, words', [
    (lambda: Lens('thin_prism', (0.0,) * 4), 'plumb_bob, rational_polynomial'),
    (lambda: Lens('plumb_bob', (0.1,)), '4 or 5 finite numbers'),
    (lambda: Lens('equidistant', (0.1, 0.0, np.nan, 0.0)), '4 finite numbers'),
    (lambda: Preparation(CAMERA, crop=(100, 0, 61, 10)), 'within 160x120'),
    (lambda: Preparation(CAMERA, crop=(-1, 0, 10, 10)), 'within 160x120')])
def test_what_makes_no_sense_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()
