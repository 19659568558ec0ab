"""Images between messages and arrays."""

from __future__ import annotations

import os
import sys
from array import array

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from object_centric_ros import encodings
from object_centric_ros.errors import InputError
from object_centric_ros.nodes import bridge
from object_centric_ros.nodes.images import from_array, labels_of, masks_message, masks_of, to_rgb

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
GREY = RGB[..., 0]
WIDE = np.random.default_rng(1).integers(0, 65536, (6, 8), dtype=np.uint16)
YUV = np.random.default_rng(2).integers(0, 256, (6, 8, 2), dtype=np.uint8)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, -1)


def from_yuv(luma: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """ITU-R BT.601 with limited range, in floating point."""
    y, u, v = 1.164 * (luma.astype(float) - 16).clip(0), u.astype(float) - 128, v.astype(float) - 128
    rgb = np.stack([y + 1.596 * v, y - 0.813 * v - 0.391 * u, y + 2.018 * u], -1)
    return np.asarray(rgb.round().clip(0, 255), np.uint8)


def pairs(values: np.ndarray) -> np.ndarray:
    """A colour value that two neighbours share, for each of them."""
    return np.repeat(values, 2, -1)


UYVY = from_yuv(YUV[..., 1], pairs(YUV[:, 0::2, 0]), pairs(YUV[:, 1::2, 0]))
YUYV = from_yuv(YUV[..., 0], pairs(YUV[:, 0::2, 1]), pairs(YUV[:, 1::2, 1]))
# encoding: what the message holds, what is expected by arithmetic, what OpenCV makes of it
CASES = {
    'rgb8': (RGB, RGB, RGB),
    'bgr8': (RGB[..., ::-1], RGB, RGB),
    'rgba8': (np.dstack([RGB, GREY]), RGB, cv2.cvtColor(np.dstack([RGB, GREY]), cv2.COLOR_RGBA2RGB)),
    'bgra8': (np.dstack([RGB[..., ::-1], GREY]), RGB,
              cv2.cvtColor(np.dstack([RGB[..., ::-1], GREY]), cv2.COLOR_BGRA2RGB)),
    'mono8': (GREY, grey(GREY), cv2.cvtColor(GREY, cv2.COLOR_GRAY2RGB)),
    'mono16': (WIDE, grey((WIDE / 257.0).round().astype(np.uint8)),
               grey(cv2.convertScaleAbs(WIDE, alpha=255.0 / 65535.0))),
    'yuv422': (YUV, UYVY, cv2.cvtColor(YUV, cv2.COLOR_YUV2RGB_UYVY)),
    'uyvy': (YUV, UYVY, cv2.cvtColor(YUV, cv2.COLOR_YUV2RGB_UYVY)),
    'yuv422_yuy2': (YUV, YUYV, cv2.cvtColor(YUV, cv2.COLOR_YUV2RGB_YUYV)),
    'yuyv': (YUV, YUYV, cv2.cvtColor(YUV, cv2.COLOR_YUV2RGB_YUYV)),
}


def message(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=rows.shape[1],
                 data=array('B', rows.tobytes()))


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('encoding', sorted(encodings.BYTES))
def test_all_encodings_become_rgb_with_and_without_row_padding(encoding, padding):
    held, arithmetic, opencv = CASES[encoding]
    found = to_rgb(message(held, encoding, padding))
    np.testing.assert_array_equal(found, opencv)
    assert found.dtype == np.uint8 and np.abs(found.astype(int) - arithmetic).max() <= (encoding.startswith('y') or
                                                                                       encoding == 'uyvy')


def test_every_value_of_mono16_is_scaled_as_opencv_does_in_both_byte_orders():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    little, big = message(values, 'mono16'), message(values.byteswap(), 'mono16')
    big.is_bigendian = 1
    expected = grey(cv2.convertScaleAbs(values, alpha=255.0 / 65535.0))
    np.testing.assert_array_equal(to_rgb(little), expected)
    np.testing.assert_array_equal(to_rgb(big), expected)


def test_rgb8_is_a_view_and_there_and_back_is_the_same():
    there = from_array(RGB, Header(frame_id='camera'), 'rgb8')
    back = to_rgb(there)
    np.testing.assert_array_equal(back, RGB)
    assert there.header.frame_id == 'camera' and np.shares_memory(back, np.frombuffer(there.data, np.uint8))
    with pytest.raises(ValueError, match='read-only'):
        back[0] = 0


def test_labels_there_and_back():
    labels = np.arange(300, 335, dtype=np.uint16).reshape(5, 7)
    there = from_array(labels, Header(), 'mono16')
    assert there.step == 14
    np.testing.assert_array_equal(labels_of(there), labels)
    there.is_bigendian, there.data = 1, array('B', labels.astype('>u2').tobytes())
    np.testing.assert_array_equal(labels_of(there), labels)


@pytest.mark.parametrize('field, value, words', [
    ('encoding', 'yuv420', 'one of rgb8'), ('encoding', '', 'got none'), ('width', 0, '0x6'),
    ('encoding', '16UC1', 'depth image.*colour camera'), ('encoding', '32FC1', 'depth image'),
    ('encoding', 'bayer_rggb8', 'one of rgb8'), ('height', 2**31, 'pixels'), ('step', 20, 'at least 24 bytes'),
    ('height', 7, '168 bytes'), ('step', 25, '150 bytes')])
def test_what_does_not_fit_together_says_expected_and_got(field, value, words):
    bad = message(RGB, 'rgb8')
    setattr(bad, field, value)
    with pytest.raises(InputError, match=words):
        to_rgb(bad)


def test_yuv_of_odd_width_and_truncated_data_are_refused():
    with pytest.raises(InputError, match='even number'):
        to_rgb(message(YUV[:, :7], 'yuyv'))
    bad = message(RGB, 'rgb8')
    bad.data = bad.data[:-1]
    with pytest.raises(InputError, match=r'expected 144 bytes .* got 143 bytes'):
        to_rgb(bad)


# ---- compressed -----------------------------------------------------------------------------------------------------

SMOOTH = np.dstack([np.tile(np.linspace(20, 220, 40), (30, 1)), np.full((30, 40), 90), np.full((30, 40), 160)]
                   ).astype(np.uint8)


def compressed(kind: str, pixels: np.ndarray = SMOOTH) -> CompressedImage:
    data = cv2.imencode(f'.{kind}', pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1]
    return CompressedImage(format=f'rgb8; {kind} compressed bgr8', data=array('B', data.tobytes()))


@pytest.mark.parametrize('kind, error', [('png', 0), ('jpeg', 5)])
def test_compressed_images(kind, error):
    found = to_rgb(compressed(kind))
    assert found.shape == (30, 40, 3) and np.abs(found.astype(int) - SMOOTH).max() <= error
    assert encodings.stored_size(bytes(compressed(kind).data)) == (40, 30)


def png_that_says(width: int, height: int) -> CompressedImage:
    bad = compressed('png')
    bad.data[16:24] = array('B', width.to_bytes(4, 'big') + height.to_bytes(4, 'big'))
    return bad


@pytest.mark.parametrize('bad, words', [
    (CompressedImage(format='jpeg'), 'JPEG or PNG'),
    (CompressedImage(format='jpeg', data=array('B', b'GIF89a' + bytes(40))), 'something else'),
    (CompressedImage(format='jpeg', data=compressed('png').data[:60]), 'whole|decoded'),
    (CompressedImage(format='jpeg', data=array('B', b'\xff\xd8\xff\xe0\x00\x00')), 'something else'),
    (CompressedImage(format='16UC1; compressedDepth png', data=compressed('png').data), 'depth image'),
    (png_that_says(100_000, 100_000), '100000x100000'), (png_that_says(8000, 8000), '8000x8000')])
def test_compressed_images_that_are_none_or_would_fill_the_memory_are_refused(bad, words):
    with pytest.raises(InputError, match=words):
        to_rgb(bad)


# ---- cv_bridge ------------------------------------------------------------------------------------------------------

STAND_IN = '''
import cv2, numpy as np
class CvBridge:
    def imgmsg_to_cv2(self, message, wanted):
        assert wanted == 'rgb8'
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        if message.encoding == 'bgr8':
            return rows.reshape(message.height, message.width, 3)[..., ::-1].copy()
        if message.encoding == 'bgra8':
            return rows.reshape(message.height, message.width, 4)[..., :3].copy()  # colours the wrong way round
        if message.encoding == 'bayer_rggb8':
            return cv2.cvtColor(rows, cv2.COLOR_BayerBG2RGB)
        raise RuntimeError('Unrecognized image encoding')
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put a cv_bridge onto the path of this process and of its children."""
    def put(text: str) -> None:
        (tmp_path / 'cv_bridge.py').write_text(text)
        monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')]))
        monkeypatch.syspath_prepend(str(tmp_path))
        bridge.usable.cache_clear()

    yield put
    bridge.usable.cache_clear()
    bridge._converter.cache_clear()
    sys.modules.pop('cv_bridge', None)


def test_a_cv_bridge_that_works_is_used_where_its_pixels_are_the_same(installed):
    installed(STAND_IN)
    assert bridge.usable() == {'bgr8', 'bayer_rggb8'}
    np.testing.assert_array_equal(to_rgb(message(RGB[..., ::-1], 'bgr8')), RGB)
    assert 'cv_bridge' in sys.modules  # it was asked
    np.testing.assert_array_equal(to_rgb(message(CASES['bgra8'][0], 'bgra8')), RGB)
    np.testing.assert_array_equal(to_rgb(message(GREY, 'bayer_rggb8')), cv2.cvtColor(GREY, cv2.COLOR_BayerBG2RGB))
    with pytest.raises(InputError, match='56 bytes'):
        bad = message(GREY, 'bayer_rggb8')
        bad.height = 7
        to_rgb(bad)


@pytest.mark.parametrize('text', [
    'import os; os.abort()', "raise ImportError('numpy.core.multiarray failed to import')",
    "raise AttributeError('_ARRAY_API not found')", 'class CvBridge: pass'])
def test_a_cv_bridge_that_crashes_or_fails_is_passed_over(installed, text):
    installed(text)
    assert bridge.usable() == frozenset()
    np.testing.assert_array_equal(to_rgb(message(RGB[..., ::-1], 'bgr8')), RGB)
    assert 'cv_bridge' not in sys.modules


def test_soft_masks_there_and_back():
    masks = np.random.default_rng(3).random((3, 8, 8)).astype(np.float32)
    message = masks_message(masks, Header(frame_id='lens'))
    assert (message.height, message.width, message.encoding, message.header.frame_id) == (24, 8, 'mono8', 'lens')
    np.testing.assert_allclose(masks_of(message), masks, atol=0.5 / 255 + 1e-6)
    for name, value in (('height', 23), ('width', 0), ('encoding', 'mono16'), ('data', message.data[:-1])):
        spoilt = masks_message(masks, Header())
        setattr(spoilt, name, value)
        with pytest.raises(InputError, match='soft masks'):
            masks_of(spoilt)
