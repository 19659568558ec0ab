"""`object-centric calibrate`: a known camera is found again, from a sheet and from marked points."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from small_bags import T, bags, camera_info, header, write

from object_centric_ros.cli import main
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import Homography, Lens, PinholeCamera
from object_centric_ros.geometry.calibration import calibrate, quaternion
from object_centric_ros.geometry.sheet import DOTS, Sheet
from object_centric_ros.nodes.cameras import pose_from_parameters, quaternion_matrix
from object_centric_ros.nodes.parameters import from_file
from object_centric_ros.nodes.perception_settings import PerceptionSettings

CAMERA = PinholeCamera.looking_at((0.08, -0.45, 0.5), (0.02, 0.0, 0.0), 38.0, 640, 480)
LENS = Lens('plumb_bob', (-0.12, 0.03, 0.0005, -0.0005, 0.0))
PLACES = np.array([[x, y] for x in (-0.12, 0.0, 0.12) for y in (-0.08, 0.08)])
K = [float(x) for x in (CAMERA.fx, 0, CAMERA.cx - 0.5, 0, CAMERA.fy, CAMERA.cy - 0.5, 0, 0, 1)]


def photograph(sheet: Sheet, camera: PinholeCamera = CAMERA, lens: Lens | None = None, finer: int = 3) -> np.ndarray:
    """The sheet in the middle of a gray table, as the camera sees it [H, W, 3]."""
    page, dots = sheet.picture(), DOTS / 0.0254
    height, width = page.shape
    to_plane = np.array([[1 / dots, 0, -width / 2 / dots], [0, -1 / dots, height / 2 / dots], [0, 0, 1]])
    to_pixels = np.linalg.inv(Homography.of_camera(camera).matrix) @ to_plane
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # warpPerspective counts pixel centres as integers
    matrix = np.linalg.inv(half) @ np.diag([finer, finer, 1]) @ to_pixels @ half
    size = (camera.width * finer, camera.height * finer)
    image = cv2.warpPerspective(cv2.GaussianBlur(page, (0, 0), 3), matrix, size, borderValue=150)
    image = cv2.resize(image, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    if lens is not None:
        grid = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), -1).reshape(-1, 2) + 0.5
        source = (lens.undistort(grid, camera) - 0.5).astype(np.float32).reshape(*image.shape, 2)
        image = cv2.remap(image, source, None, cv2.INTER_CUBIC, borderValue=150)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)


def info_file(path: Path, lens: Lens | None = None) -> Path:
    path.write_text(yaml.safe_dump({
        'image_width': CAMERA.width, 'image_height': CAMERA.height, 'distortion_model': 'plumb_bob',
        'camera_matrix': {'rows': 3, 'cols': 3, 'data': K},
        'distortion_coefficients': {'rows': 1, 'cols': 5, 'data': list(lens.coefficients) if lens else [0.0] * 5}}))
    return path


def pose_of(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """As the nodes read it."""
    settings = from_file(PerceptionSettings, file, ('entity_perception',), {})
    pose = pose_from_parameters(settings.camera_position, settings.camera_orientation)
    assert pose is not None
    return pose


@pytest.mark.parametrize('kind, options', [('charuco', []), ('apriltag', ['--kind', 'apriltag'])])
def test_a_printed_sheet_in_an_image(tmp_path: Path, kind: str, options: list[str],
                                     capsys: pytest.CaptureFixture[str]) -> None:
    sheet = Sheet() if kind == 'charuco' else Sheet('apriltag', 4, 3, 0.06)
    cv2.imwrite(str(tmp_path / 'view.png'), photograph(sheet)[..., ::-1])
    words = ['calibrate', str(tmp_path / 'view.png'), '--out', str(tmp_path / 'camera.yaml'), *options]
    assert main([*words, '--camera-info', str(info_file(tmp_path / 'info.yaml'))]) == 0
    said = capsys.readouterr().out
    error = float(said.split('reprojection error')[1].split()[0])
    assert 0 < error < 0.3, said
    rotation, position = pose_of(tmp_path / 'camera.yaml')
    assert np.linalg.norm(position - CAMERA.position) < 0.002
    assert np.degrees(np.arccos((np.trace(rotation @ CAMERA.rotation.T) - 1) / 2)) < 0.2
    assert not (tmp_path / 'camera_camera_info.yaml').exists()

    assert main([*words, '--origin', '0.1', '-0.2', '90', '--pose', str(tmp_path / 'pose.yaml')]) == 0
    told = yaml.safe_load((tmp_path / 'camera_camera_info.yaml').read_text())
    assert abs(told['camera_matrix']['data'][0] / CAMERA.fx - 1) < 0.02
    _, turned = pose_of(tmp_path / 'camera.yaml')
    expected = [0.1 - CAMERA.position[1], -0.2 + CAMERA.position[0], CAMERA.position[2]]
    assert np.linalg.norm(turned - expected) < 0.015  # the focal length is a guess now
    np.testing.assert_allclose(yaml.safe_load((tmp_path / 'pose.yaml').read_text())['position'], turned, atol=1e-7)


def test_a_bag_of_noisy_distorted_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, random = photograph(Sheet(), lens=LENS).astype(float), np.random.default_rng(0)
    info = camera_info(0.0)
    info.width, info.height, info.k, info.d = 640, 480, np.array(K), np.array(LENS.coefficients)
    messages = [('/camera/camera_info', 0.0, info)]
    for t in range(6):
        pixels = np.clip(clean + random.normal(0, 5, clean.shape), 0, 255).astype(np.uint8)
        messages.append(('/camera/image', t / 10, T[bags.IMAGE](
            header=header(t / 10), height=480, width=640, encoding='rgb8', is_bigendian=0, step=1920,
            data=pixels.reshape(-1))))
    bag = write(tmp_path / 'bag', messages)
    assert main(['calibrate', str(bag), '--out', str(tmp_path / 'camera.yaml'), '--frames', '3']) == 0
    assert float(capsys.readouterr().out.split('reprojection error')[1].split()[0]) < 0.3
    assert np.linalg.norm(pose_of(tmp_path / 'camera.yaml')[1] - CAMERA.position) < 0.003


def test_marked_points_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = CAMERA.project(np.column_stack([PLACES, np.zeros(6)])) - 0.5  # as image viewers count
    rows = np.column_stack([pixels, PLACES])
    words = ['calibrate', '--camera-info', str(info_file(tmp_path / 'info.yaml')), '--out', str(tmp_path / 'c.yaml')]
    for row in rows[:4]:
        words += ['--point', *(f'{x:.9f}' for x in row)]
    (tmp_path / 'more.yaml').write_text(yaml.safe_dump(rows[4:].tolist()))
    assert main([*words, '--points', str(tmp_path / 'more.yaml')]) == 0
    assert '6 points' in capsys.readouterr().out
    rotation, position = pose_of(tmp_path / 'c.yaml')
    np.testing.assert_allclose(position, CAMERA.position, atol=1e-6)
    np.testing.assert_allclose(rotation, CAMERA.rotation, atol=1e-6)


def test_noise_of_points_gives_the_spread_of_the_position() -> None:
    random, sure = np.random.default_rng(0), CAMERA.project(np.column_stack([PLACES, np.zeros(6)]))
    found = [calibrate(sure + random.normal(0, 0.5, sure.shape), PLACES, (640, 480), CAMERA) for _ in range(150)]
    told = np.sqrt(np.mean([c.position_std ** 2 for c in found], 0))
    there = np.std([c.camera.position for c in found], axis=0)
    assert (np.abs(told / there - 1) < 0.25).all(), (told, there)
    off = np.linalg.norm(np.mean([c.camera.position for c in found], 0) - CAMERA.position)
    assert off < 0.2 * np.linalg.norm(there)


def test_points_off_the_table_and_quaternions() -> None:
    points = np.array([[-0.1, -0.1, 0.0], [0.1, -0.1, 0.05], [0.1, 0.1, 0.0], [-0.1, 0.1, 0.08], [0.0, 0.02, 0.03],
                       [0.05, -0.05, 0.1]])
    found = calibrate(CAMERA.project(points), points, (640, 480), CAMERA)
    np.testing.assert_allclose(found.camera.position, CAMERA.position, atol=1e-5)
    np.testing.assert_allclose(quaternion_matrix(tuple(quaternion(CAMERA.rotation))), CAMERA.rotation, atol=1e-9)
    np.testing.assert_allclose(quaternion(np.eye(3)), [0, 0, 0, 1])


def test_a_sheet_is_printed_at_its_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['calibrate', '--sheet', str(tmp_path / 'sheet.png')]) == 0
    data = (tmp_path / 'sheet.png').read_bytes()
    at = data.index(b'pHYs') + 4
    dots = int.from_bytes(data[at:at + 4], 'big')
    page = cv2.imread(str(tmp_path / 'sheet.png'), cv2.IMREAD_GRAYSCALE)
    assert abs(page.shape[1] / dots - 0.297) < 1e-4 and abs(page.shape[0] / dots - 0.210) < 1e-4
    numbers, pixels, places = Sheet().find(cv2.cvtColor(page, cv2.COLOR_GRAY2RGB))
    assert len(numbers) == 24
    measured = (pixels - pixels[0]) * [1, -1] / dots
    np.testing.assert_allclose(measured, places - places[0], atol=2e-4)
    line = np.flatnonzero(page[page.shape[0] - round(0.006 * dots)] == 0)
    assert abs((np.flatnonzero(np.diff(line) > 1)[0] + 1) / dots - 0.1) < 0.002  # up to where the text begins


@pytest.mark.parametrize('words, expected', [
    ([], 'images of the sheet'), (['--point', '1', '2', '0', '0', '--size', '64', '48'], 'four or more pairs'),
    (['--sheet', 'no/such/folder.png'], 'folder that exists'),
    (['--sheet', 'x.png', '--square', '0.1'], 'fits onto a4'),
    (['--kind', 'apriltag', '--columns', '1'], '2 to 20'), (['nowhere.png'], 'a file')])
def test_what_cannot_be_used_is_one_clear_error(words, expected, capsys):
    assert main(['calibrate', *words]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count('\n') == 1


def test_no_sheet_no_focal_length_no_camera_below_the_table(tmp_path: Path, capsys) -> None:
    cv2.imwrite(str(tmp_path / 'gray.png'), np.full((48, 64, 3), 150, np.uint8))
    assert main(['calibrate', str(tmp_path / 'gray.png')]) == 2
    assert 'four or more corners of charuco 7x5' in capsys.readouterr().err
    above = PinholeCamera.looking_at((0.0, -0.001, 0.8), (0.0, 0.0, 0.0), 30.0, 640, 480)
    seen = above.project(np.column_stack([PLACES, np.zeros(6)])) + np.random.default_rng(0).normal(0, 0.3, (6, 2))
    with pytest.raises(InputError, match='oblique view'):
        calibrate(seen, PLACES, (640, 480))
    mirrored = CAMERA.project(np.column_stack([PLACES, np.zeros(6)]))
    with pytest.raises(InputError, match='right way round'):
        calibrate(mirrored, PLACES * [-1, 1], (640, 480), CAMERA)


@pytest.mark.parametrize('sheet', [Sheet(), Sheet('apriltag', 4, 3, 0.06)], ids=lambda sheet: sheet.kind)
def test_corners_are_where_the_camera_sees_them_without_an_offset(sheet: Sheet) -> None:
    numbers, pixels, places = sheet.find(photograph(sheet))
    off = pixels - CAMERA.project(np.column_stack([places, np.zeros(len(places))]))
    assert len(numbers) == (24 if sheet.kind == 'charuco' else 48)
    assert np.abs(off.mean(0)).max() < 0.2 and off.std(0).max() < 0.2
