"""Images between messages and arrays."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from object_centric_ros.errors import InputError
from object_centric_ros.nodes.images import CHANNELS, from_array, labels_of, to_rgb

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]
ENCODED = {'rgb8': RGB, 'bgr8': RGB[..., ::-1], 'mono8': GREY,
           'rgba8': np.dstack([RGB, GREY]), 'bgra8': np.dstack([RGB[..., ::-1], GREY])}


def message(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    rows = pixels.reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=rows.shape[1],
                 data=array('B', rows.tobytes()))


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', sorted(CHANNELS))
def test_all_encodings_become_rgb_with_and_without_row_padding(encoding, padding):
    expected = np.repeat(GREY[..., None], 3, -1) if encoding == 'mono8' else RGB
    np.testing.assert_array_equal(to_rgb(message(ENCODED[encoding], encoding, padding)), expected)


def test_rgb8_is_a_view_and_there_and_back_is_the_same():
    there = from_array(RGB, Header(frame_id='camera'), 'rgb8')
    back = to_rgb(there)
    np.testing.assert_array_equal(back, RGB)
    assert there.header.frame_id == 'camera' and np.shares_memory(back, np.frombuffer(there.data, np.uint8))


def test_labels_there_and_back():
    labels = np.arange(300, 335, dtype=np.uint16).reshape(5, 7)
    there = from_array(labels, Header(), 'mono16')
    assert there.step == 14
    np.testing.assert_array_equal(labels_of(there), labels)
    there.is_bigendian, there.data = 1, array('B', labels.astype('>u2').tobytes())
    np.testing.assert_array_equal(labels_of(there), labels)


@pytest.mark.parametrize('field, value, words', [
    ('encoding', 'yuv422', 'one of rgb8'), ('encoding', '', 'got none'), ('width', 0, '0x5'),
    ('height', 2**31, 'pixels'), ('step', 20, 'at least 21 bytes'), ('height', 6, '126 bytes'),
    ('step', 22, '110 bytes')])
def test_what_does_not_fit_together_says_expected_and_got(field, value, words):
    bad = message(RGB, 'rgb8')
    setattr(bad, field, value)
    with pytest.raises(InputError, match=words):
        to_rgb(bad)


def test_truncated_data_is_refused():
    bad = message(RGB, 'rgb8')
    bad.data = bad.data[:-1]
    with pytest.raises(InputError, match=r'expected 105 bytes .* got 104 bytes'):
        to_rgb(bad)
