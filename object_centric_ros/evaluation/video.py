"""Video files from frames that come at their own times."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from object_centric_ros.errors import InputError

CODECS: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ('libx264', 'yuv420p', '.mp4', {'crf': '24', 'preset': 'veryfast', 'threads': '1'}),
    ('mpeg4', 'yuv420p', '.mp4', {'q:v': '4'}),
    ('gif', 'rgb8', '.gif', {}))
"""Encoders in order of preference: codec, pixel format, file suffix, options."""


class VideoWriter:
    """Writes RGB frames with the best encoder at hand: H.264, else MPEG-4, else GIF (which changes the file's suffix).

    Args:
        path: file to write, ending in .mp4.
        width, height: size of the frames, even numbers.
        fps: frames a second at most; frames that come faster are dropped.
    """

    def __init__(self, path: str | os.PathLike[str], width: int, height: int, fps: int = 10) -> None:
        if width % 2 or height % 2:
            raise InputError('video size', 'even width and height', f'{width}x{height}')
        codec, pixels, suffix, options = next(c for c in CODECS if c[0] in av.codecs_available)
        self.path = Path(path).with_suffix(suffix)
        self.frames = 0
        self.size = (height, width)
        self._fps, self._last = fps, -1
        self._container = av.open(os.fspath(self.path), 'w')
        stream = cast(VideoStream, self._container.add_stream(codec, rate=fps, options=dict(options)))
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.time_base = Fraction(1, fps)
        self._stream = stream

    def due(self, seconds: float) -> bool:
        """Whether a frame of that time would be written."""
        return int(seconds * self._fps) > self._last

    def add(self, frame: NDArray[np.uint8], seconds: float) -> bool:
        """Add a frame [H, W, 3] that was seen at `seconds` since the start; False if it was dropped."""
        if frame.shape != (*self.size, 3):
            raise InputError('video frame', f'[{self.size[0]}, {self.size[1]}, 3]', list(frame.shape))
        if not self.due(seconds):
            return False
        self._last = int(seconds * self._fps)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), 'rgb24')
        picture.pts, picture.time_base = self._last, Fraction(1, self._fps)
        self._container.mux(self._stream.encode(picture))
        self.frames += 1
        return True

    def close(self) -> None:
        """Finish the file."""
        if self.frames:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
