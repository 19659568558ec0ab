"""`object-centric calibrate`: where the camera is above the work plane, from marked points or a printed sheet."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from object_centric_ros.datasets import bag_reader as bags
from object_centric_ros.encodings import decode_picture, to_rgb
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.tables import text_table
from object_centric_ros.geometry import Lens, PinholeCamera
from object_centric_ros.geometry.calibration import Calibration, calibrate
from object_centric_ros.geometry.sheet import KINDS, PAPER, Sheet, write_png

Pairs = tuple[NDArray[np.float64], NDArray[np.float64]]
Intrinsics = tuple[PinholeCamera, Lens | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('images', nargs='*', type=Path, metavar='IMAGE_OR_BAG',
                        help='pictures (JPEG, PNG) or one bag in which the sheet lies still')
    sheet = parser.add_argument_group('the sheet')
    sheet.add_argument('--sheet', type=Path, metavar='FILE.png', help='write the page to print, and end')
    sheet.add_argument('--paper', choices=tuple(PAPER), default='a4', help='for --sheet')
    sheet.add_argument('--kind', choices=KINDS, default='charuco', help='chessboard with markers, or AprilTags 36h11')
    sheet.add_argument('--columns', type=int, help='of squares or tags; default 7, or 4 tags')
    sheet.add_argument('--rows', type=int, help='default 5, or 3 tags')
    sheet.add_argument('--square', type=float, help='side of a square, or from tag to tag, metres, as measured on the '
                       'paper; default 0.036, or 0.06 for tags')
    sheet.add_argument('--origin', type=float, nargs=3, default=(0.0, 0.0, 0.0), metavar=('X', 'Y', 'DEGREES'),
                       help='where its middle lies in the work plane, metres, and how it is turned')
    points = parser.add_argument_group('marked points instead of a sheet')
    points.add_argument('--point', type=float, nargs=4, action='append', default=[], metavar=('U', 'V', 'X', 'Y'),
                        help='pixel, as image viewers count, and place in the work plane, metres; four or more')
    points.add_argument('--points', type=Path, metavar='FILE', help='the same as a YAML list of [u, v, x, y] or '
                        '[u, v, x, y, z]')
    points.add_argument('--size', type=int, nargs=2, metavar=('WIDTH', 'HEIGHT'), help='of the images, where none is '
                        'given')
    lens = parser.add_argument_group('the lens')
    lens.add_argument('--camera-info', type=Path, metavar='FILE', help='intrinsics as camera_calibration writes them '
                      '(YAML); default: camera_info of the bag, else the focal length is found from the points')
    lens.add_argument('--rectified', action='store_true', help='the images are rectified (image_rect)')
    lens.add_argument('--image', default='', help='topic of the images in the bag')
    parser.add_argument('--out', type=Path, default=Path('camera.yaml'), help='parameter file to write')
    parser.add_argument('--pose', type=Path, metavar='FILE', help='also write the pose for `data convert --pose`')
    parser.add_argument('--frames', type=int, default=30, help='images of a bag to look at')


def run(args: argparse.Namespace) -> int:
    """The command."""
    tags = args.kind == 'apriltag'
    sheet = Sheet(args.kind, args.columns or (4 if tags else 7), args.rows or (3 if tags else 5),
                  args.square or (0.06 if tags else 0.036))
    if args.sheet:
        write_png(args.sheet, sheet.picture(args.paper))
        print(f'Written: {args.sheet}. Print it at 100 % on {args.paper} and check the line of 100 mm.')
        return 0
    told = intrinsics_from_file(args.camera_info, args.rectified) if args.camera_info else None
    views, info = look(args)
    told = told or info
    size = tuple(args.size) if args.size else None
    if views:
        size = (views[0].shape[1], views[0].shape[0])
    elif size is None and told is not None:
        size = (told[0].width, told[0].height)
    marked = marked_points(args)
    if marked is None and not views:
        raise InputError('calibrate', 'images of the sheet, --point four times, --points, or --sheet to print one',
                         'none of them')
    if size is None:
        raise InputError('calibrate', 'an image, --camera-info or --size', 'none of them')
    pixels, places = marked if marked is not None else on_table(*seen(sheet, views), tuple(args.origin))
    found = calibrate(pixels, places, (size[0], size[1]), *(told or (None, None)))
    print(summary(found))
    write(found, args.out)
    print(f'Written: {args.out}')
    if args.pose:
        args.pose.write_text(yaml.safe_dump({'rotation': found.camera.rotation.tolist(),
                                             'position': found.camera.position.tolist()}, default_flow_style=None))
        print(f'Written: {args.pose}')
    return 0


# ---- what is given --------------------------------------------------------------------------------------------------

def look(args: argparse.Namespace) -> tuple[list[NDArray[np.uint8]], Intrinsics | None]:
    """Images of the files or the bag, all of one size, and what the bag says of the camera."""
    bag = [path for path in args.images if path.is_dir() or path.suffix in ('.mcap', '.db3')]
    if bag and len(args.images) > 1:
        raise InputError('calibrate', 'pictures, or one bag', [str(path) for path in args.images])
    if bag:
        return look_into_bag(bag[0], args)
    views = []
    for path in args.images:
        try:
            views.append(decode_picture(path.read_bytes(), path.name))
        except OSError as e:
            raise InputError('image', 'a file', e) from e
        if views[-1].shape != views[0].shape:
            raise InputError(f'{path}: image size', f'{views[0].shape[1]}x{views[0].shape[0]} as of the first',
                             f'{views[-1].shape[1]}x{views[-1].shape[0]}')
    return views, None


def look_into_bag(path: Path, args: argparse.Namespace) -> tuple[list[NDArray[np.uint8]], Intrinsics | None]:
    """Up to `frames` images of a bag, evenly spread, and its camera."""
    with bags.open_bag(path) as reader, bags.readable(path):
        images = bags.find_topic(reader, args.image, (bags.IMAGE, bags.COMPRESSED), path, needed=True)
        assert images is not None
        infos = [c for c in reader.connections if c.msgtype == bags.INFO]
        info = next((bags.read_message(reader, data, c.msgtype) for c, _, data in reader.messages(infos)), None)
        every = max(1, images.msgcount // max(1, args.frames))
        views = [to_rgb(bags.read_message(reader, data, images.msgtype))
                 for i, (_, _, data) in enumerate(reader.messages([images])) if i % every == 0]
    if not views:
        raise InputError(f'{path}: {images.topic}', 'images', 'none')
    if info is None:
        return views, None
    return views, intrinsics(info.width, info.height, info.p if args.rectified else info.k,
                             '' if args.rectified else info.distortion_model, info.d)


def intrinsics_from_file(path: Path, rectified: bool) -> Intrinsics:
    """The camera of a file that camera_calibration or camera_info_manager has written."""
    try:
        content = yaml.safe_load(path.read_text())
        matrix = content['projection_matrix' if rectified else 'camera_matrix']['data']
        return intrinsics(content['image_width'], content['image_height'], matrix,
                          '' if rectified else content['distortion_model'], content['distortion_coefficients']['data'])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as e:
        raise InputError(f'{path}', 'a file with image_width, image_height, camera_matrix, distortion_model and '
                         'distortion_coefficients', repr(e)) from e


def intrinsics(width: int, height: int, matrix: Any, model: str, coefficients: Any) -> Intrinsics:
    """A camera without a pose, from K (3x3) or P (3x4) as CameraInfo has them; no model: no distortion."""
    k, d = [float(x) for x in matrix], tuple(float(x) for x in coefficients)
    fy, cy = (k[4], k[5]) if len(k) == 9 else (k[5], k[6])
    if not (k[0] > 0 and fy > 0 and width > 0 and height > 0):
        raise InputError('camera_info', 'a size and focal lengths above 0', f'{width}x{height}, fx {k[0]:g}, fy {fy:g}')
    camera = PinholeCamera(int(width), int(height), k[0], fy, k[2] + 0.5, cy + 0.5, np.eye(3), np.zeros(3))
    return camera, Lens(model, d) if model and any(d) else None


def marked_points(args: argparse.Namespace) -> Pairs | None:
    """Pixels [N, 2] and places [N, 3] that were marked by hand; None for none."""
    rows = list(args.point)
    if args.points:
        try:
            content = yaml.safe_load(args.points.read_text())
            rows += [[float(x) for x in row] for row in content]
        except (OSError, yaml.YAMLError, TypeError, ValueError) as e:
            raise InputError(f'{args.points}', 'a list of [u, v, x, y] or [u, v, x, y, z]', e) from e
    if not rows:
        return None
    if any(len(row) not in (4, 5) for row in rows):
        raise InputError('marked points', 'u, v, x, y or u, v, x, y, z', rows)
    table = np.array([row if len(row) == 5 else [*row, 0.0] for row in rows], float)
    return table[:, :2] + 0.5, table[:, 2:]


def seen(sheet: Sheet, views: list[NDArray[np.uint8]]) -> Pairs:
    """Corners of the sheet: pixels [N, 2], the median over the images, and places [N, 2] on the sheet."""
    pixels: dict[int, list[NDArray]] = {}
    places: dict[int, NDArray] = {}
    for view in views:
        for number, uv, xy in zip(*sheet.find(view), strict=True):
            pixels.setdefault(int(number), []).append(uv)
            places[int(number)] = xy
    numbers = sorted(n for n, found in pixels.items() if 2 * len(found) >= len(views))
    if len(numbers) < 4:
        most = max((len(found) for found in pixels.values()), default=0)
        raise InputError('sheet', f'four or more corners of {sheet.kind} {sheet.columns}x{sheet.rows} in at least half '
                         f'of {len(views)} images', f'{len(numbers)} corners; the best is in {most} images')
    return np.array([np.median(pixels[n], axis=0) for n in numbers]), np.array([places[n] for n in numbers])


def on_table(pixels: NDArray[np.float64], places: NDArray[np.float64], origin: tuple[float, float, float]) -> Pairs:
    """The same with places in the work plane, for a sheet at `origin` (m, m, degrees)."""
    x, y, turn = origin[0], origin[1], np.radians(origin[2])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return pixels, places @ rotation.T + [x, y]


# ---- what is said and written ---------------------------------------------------------------------------------------

def summary(found: Calibration) -> str:
    """The result for people."""
    camera, errors = found.camera, found.errors
    middle = np.array([[camera.width / 2, camera.height / 2]])
    plane = found.homography()
    on = plane.to_plane(middle)[0]
    pixel = 1000 * np.sqrt(np.linalg.eigvalsh(plane.covariance(middle, 1.0)[0]))
    off = np.linalg.norm(camera.to_plane(found.pixels, 0.0)[:, :2] - found.points[:, :2], axis=1)
    flat = not np.ptp(found.points[:, 2])
    rows = [('reprojection error', f'{found.rms:.3f} pixels rms, {errors.max():.3f} the largest, {len(errors)} points'),
            ('camera position', '({:.4f}, {:.4f}, {:.4f}) m'.format(*camera.position)
             + ', standard deviation ({:.1f}, {:.1f}, {:.1f}) mm'.format(*(1000 * found.position_std))),
            ('camera orientation', '({:.5f}, {:.5f}, {:.5f}, {:.5f}) x, y, z, w'.format(*found.quaternion)),
            ('focal length', f'{camera.fx:.1f}, {camera.fy:.1f} pixels'
             + (', found from the points' if found.estimated else '')),
            ('middle of the image', f'({on[0]:+.4f}, {on[1]:+.4f}) m on the table'),
            ('one pixel there', f'{pixel[0]:.2f} to {pixel[1]:.2f} mm')]
    if flat:
        rows.insert(1, ('on the table', f'{1000 * np.sqrt(np.mean(off ** 2)):.2f} mm rms, {1000 * off.max():.2f} mm '
                        'the largest'))
    return text_table(('what', 'found'), rows)


def write(found: Calibration, out: Path) -> None:
    """The parameter file of the nodes and, for a focal length that was found, camera_info beside it.

    Raises:
        InputError: the folder does not exist, or the file is no YAML file.
    """
    if out.suffix not in ('.yaml', '.yml') or not out.parent.is_dir():
        raise InputError('--out', 'a .yaml file in a folder that exists', out)
    camera = found.camera
    rows = '\n'.join('#   ' + ' '.join(f'{x:.9g}' for x in row) for row in found.homography().matrix)
    numbers = {'camera_position': camera.position, 'camera_orientation': found.quaternion}
    lines = '\n'.join(f'    {name}: [{", ".join(f"{x:.8f}" for x in values)}]' for name, values in numbers.items())
    out.write_text(
        f'# Written by object-centric calibrate: {len(found.pixels)} points, reprojection error {found.rms:.3f} pixels '
        f'rms.\n# Give it to entity_perception and pick_place_planner: --ros-args --params-file {out.name}\n'
        f'# Pixels (without distortion, centres at integer + 0.5) to the table, (x, y, 1) ~ H (u, v, 1), metres:\n'
        f'{rows}\n/**:\n  ros__parameters:\n{lines}\n')
    if found.estimated:
        beside = out.with_name(f'{out.stem}_camera_info.yaml')
        k = [camera.fx, 0.0, camera.cx - 0.5, 0.0, camera.fy, camera.cy - 0.5, 0.0, 0.0, 1.0]
        matrices = {'camera_matrix': (3, 3, k), 'distortion_coefficients': (1, 5, [0.0] * 5),
                    'rectification_matrix': (3, 3, np.eye(3).ravel().tolist()),
                    'projection_matrix': (3, 4, [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0])}
        content: dict[str, Any] = {'image_width': camera.width, 'image_height': camera.height,
                                   'camera_name': 'camera', 'distortion_model': 'plumb_bob'}
        content |= {name: {'rows': r, 'cols': c, 'data': [float(x) for x in data]}
                    for name, (r, c, data) in matrices.items()}
        beside.write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None))
        print(f'Written: {beside}, for the camera driver: the nodes take the focal length from camera_info')
