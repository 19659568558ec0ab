"""Messages with something wrong in them, drawn by a seed."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
from geometry_msgs.msg import Point
from sensor_msgs.msg import CompressedImage, Image, JointState

from object_centric_ros.action import BuildGoal
from object_centric_ros.msg import EntityPlace, EntityRelation

ODD_SIZES = (0, 1, 2, 159, 161, 4096, 65_536, 2**31, 2**32 - 1)
ODD_NUMBERS = (float('nan'), float('inf'), -float('inf'), 1e308, -1e308, 0.0, 1e-320)
ENCODINGS = ('', 'rgb8', 'bgr8', 'rgba8', 'mono8', 'mono16', 'yuv422', 'yuv422_yuy2', '16UC1', '32FC1', 'bayer_rggb8',
             'jpeg', '8UC3', 'rgb8\0', 'x' * 10_000, '../../etc/passwd', 'ärgb8')


class Mutator:
    """Draws messages.

    Args:
        seed: the same seed gives the same messages.
        picture: RGB uint8 [H, W, 3], what they would show if nothing was wrong.
    """

    def __init__(self, seed: int, picture: np.ndarray) -> None:
        self._random, self._picture = np.random.default_rng(seed), picture
        self._jpeg = cv2.imencode('.jpg', picture[..., ::-1])[1].tobytes()
        self._png = cv2.imencode('.png', picture[..., ::-1])[1].tobytes()

    def _one(self, options: tuple) -> object:
        return options[self._random.integers(len(options))]

    def _bytes(self, data: bytes) -> bytes:
        """Cut, empty, longer, or with some bytes changed."""
        kind = self._random.integers(4)
        if kind == 0:
            return data[:self._random.integers(len(data))]
        if kind == 1:
            more = self._random.bytes(int(self._random.integers(1, 5000)))
            return b'' if self._random.random() < 0.2 else data + more
        changed = np.frombuffer(data, np.uint8).copy()
        where = len(changed) if kind == 2 else min(64, len(changed))
        at = self._random.integers(0, where, self._random.integers(1, 50))
        changed[at] = self._random.integers(0, 256, len(at))
        return changed.tobytes()

    def _stamp(self, message: Image | CompressedImage) -> None:
        if self._random.random() < 0.1:
            message.header.stamp.sec = int(self._one((0, -1, -2**31, 2**31 - 1, 1)))
            message.header.stamp.nanosec = int(self._one((0, 2**32 - 1, 999_999_999)))
        if self._random.random() < 0.05:
            message.header.frame_id = str(self._one(('', 'x' * 100_000, '/../x', 'ä')))

    def image(self) -> Image:
        """An image whose fields do not fit together, or that is no picture."""
        height, width = self._picture.shape[:2]
        message = Image(height=height, width=width, step=3 * width, encoding='rgb8')
        message.data = array('B', self._picture.tobytes())
        for _ in range(self._random.integers(1, 4)):
            kind = self._random.integers(6)
            if kind == 0:
                message.encoding = str(self._one(ENCODINGS))
            elif kind == 1:
                message.width = int(self._one(ODD_SIZES))
            elif kind == 2:
                message.height = int(self._one(ODD_SIZES))
            elif kind == 3:
                message.step = int(self._one((0, 1, 3, 479, 481, 2**32 - 1)))
            elif kind == 4:
                message.data = array('B', self._bytes(message.data.tobytes() or b'0'))
            else:
                message.is_bigendian = int(self._random.integers(256))
        self._stamp(message)
        return message

    def compressed(self) -> CompressedImage:
        """A compressed image that is damaged, or claims to be what it is not."""
        formats = ('jpeg', 'png', 'rgb8; jpeg compressed bgr8', '', 'gif', 'x' * 9999, '16UC1; compressedDepth png')
        message = CompressedImage(format=str(self._one(formats)))
        data = self._bytes(self._jpeg if self._random.random() < 0.5 else self._png)
        if self._random.random() < 0.1:  # a PNG that says it is very large
            data = self._png[:16] + self._random.bytes(8) + self._png[24:]
        message.data = array('B', data)
        self._stamp(message)
        return message

    def good_compressed(self) -> CompressedImage:
        """The picture as it is."""
        return CompressedImage(format='png', data=array('B', self._png))

    def joints(self) -> JointState:
        """Joint states with numbers that are none, and lists of other lengths."""
        n = int(self._one((0, 1, 6, 8, 5000)))
        message = JointState(name=[f'joint_{i}' for i in range(n)])
        for name in ('position', 'velocity', 'effort'):
            length = max(0, n + int(self._one((0, 0, 0, -1, 1, 50))))
            values = self._random.normal(size=length)
            values[self._random.random(length) < 0.3] = self._one(ODD_NUMBERS)
            setattr(message, name, array('d', values))
        message.header.stamp.sec = int(self._one((0, -1, 2**31 - 1, 1, 1_700_000_000)))
        return message

    def goal(self) -> BuildGoal.Goal:
        """A goal that cannot be built."""
        goal = BuildGoal.Goal(frame_id=str(self._one(('', 'work_plane', 'map', 'x' * 9999))),
                              max_plans=int(self._one((0, 1, 2**32 - 1))))
        number = (*ODD_NUMBERS, 0.1, -0.1)
        if self._random.random() < 0.5:
            goal.image = self.image()
        if self._random.random() < 0.3:
            goal.examples = [self.image() for _ in range(int(self._one((1, 2, 3, 17))))]
        if self._random.random() < 0.5:
            goal.places = [EntityPlace(entity_id=int(self._one((0, 1, 2, 2**32 - 1))),
                                       place=Point(x=float(self._one(number)), y=float(self._one(number))))
                           for _ in range(int(self._one((0, 1, 2, 300))))]
        if self._random.random() < 0.5:
            goal.relations = [EntityRelation(kind=str(self._one(('on', 'within', 'left_of', '', 'x' * 999))),
                                             entity_id=int(self._one((0, 1, 2**32 - 1))),
                                             other_id=int(self._one((0, 1, 7))),
                                             region=[float(self._one(number)) for _ in range(4)])
                              for _ in range(int(self._one((0, 1, 2, 300))))]
        return goal
