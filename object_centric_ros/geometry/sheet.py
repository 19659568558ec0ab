"""A sheet of paper with markers, to be printed, laid on the table and found in images (OpenCV's aruco)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError

KINDS = ('charuco', 'apriltag')
PAPER = {'a4': (297.0, 210.0), 'a3': (420.0, 297.0), 'letter': (279.4, 215.9)}  # mm, lying
DOTS = 300
"""Dots an inch of the printed sheet."""


@dataclass(frozen=True)
class Sheet:
    """A board of markers.

    Attributes:
        kind: 'charuco', a chessboard with markers in its white squares, whose inner corners count (the more exact one);
            or 'apriltag', a grid of AprilTags 36h11.
        columns, rows: squares or tags.
        square: side of a square, or from one tag to the next, metres.
    """

    kind: str = 'charuco'
    columns: int = 7
    rows: int = 5
    square: float = 0.036

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError('sheet: kind', f'one of {", ".join(KINDS)}', self.kind)
        if not (2 <= self.columns <= 20 and 2 <= self.rows <= 20 and 0 < self.square < 10):
            raise InputError('sheet', '2 to 20 columns and rows, a square of more than 0 m',
                             f'{self.columns}x{self.rows}, {self.square} m')
        if self.kind == 'charuco' and min(self.columns, self.rows) < 3:
            raise InputError('sheet', 'at least 3 columns and rows of squares', f'{self.columns}x{self.rows}')

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the board, metres."""
        gap = 0.0 if self.kind == 'charuco' else 0.25 * self.square
        return self.columns * self.square - gap, self.rows * self.square - gap

    def _board(self) -> Any:
        tags = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
        size = (self.columns, self.rows)
        if self.kind == 'charuco':
            return cv2.aruco.CharucoBoard(size, self.square, 0.75 * self.square, tags)
        return cv2.aruco.GridBoard(size, 0.75 * self.square, 0.25 * self.square, tags)

    def find(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """What of the sheet is seen in an image [H, W, 3].

        Returns:
            Numbers of the corners [N], pixels [N, 2] (centres at integer + 0.5), and places [N, 2] on the sheet, metres
            from its middle, x to the right and y up. N is 0 where nothing is found.
        """
        grey, board = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), self._board()
        fine = cv2.aruco.DetectorParameters()
        fine.cornerRefinementMethod = (cv2.aruco.CORNER_REFINE_SUBPIX if self.kind == 'charuco'
                                       else cv2.aruco.CORNER_REFINE_APRILTAG)
        corners: Any
        ids: Any
        if self.kind == 'charuco':
            corners, ids, _, _ = cv2.aruco.CharucoDetector(board, detectorParams=fine).detectBoard(grey)
        else:
            detector = cv2.aruco.ArucoDetector(board.getDictionary(), fine)
            corners, ids, _ = detector.detectMarkers(grey)
        nothing = np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros((0, 2))
        if ids is None or not len(ids):
            return nothing
        if self.kind == 'apriltag':
            known = np.ravel(ids) < self.columns * self.rows
            corners, ids = [c for c, k in zip(corners, known, strict=True) if k], ids[known.reshape(ids.shape)]
            if not len(ids):
                return nothing
        places, pixels = board.matchImagePoints(corners, ids)
        if places is None:
            return nothing
        numbers = np.ravel(ids).astype(np.int64)
        if self.kind == 'apriltag':
            numbers = (4 * numbers[:, None] + np.arange(4)).reshape(-1)
        width, height = self.extent
        xy = np.asarray(places, float).reshape(-1, 3)[:, :2]
        centre = 0.5 if self.kind == 'charuco' else 0.0  # the refinement of tags has centres at integer + 0.5 itself
        return (numbers, np.asarray(pixels, float).reshape(-1, 2) + centre,
                np.column_stack([xy[:, 0] - width / 2, height / 2 - xy[:, 1]]))

    def picture(self, paper: str = 'a4') -> NDArray[np.uint8]:
        """The page [H, W] to be printed, black on white at DOTS dots an inch, with a line to check the scale by.

        Raises:
            InputError: the board does not fit onto the paper.
        """
        if paper not in PAPER:
            raise InputError('paper', f'one of {", ".join(PAPER)}', paper)
        dots = DOTS / 0.0254  # a metre
        page_width, page_height = (round(mm * dots / 1000) for mm in PAPER[paper])
        width, height = (round(m * dots) for m in self.extent)
        if width + 2 * 0.005 * dots > page_width or height + 2 * 0.012 * dots > page_height:
            raise InputError('sheet', f'one that fits onto {paper} ({PAPER[paper][0]:g} x {PAPER[paper][1]:g} mm)',
                             f'{1000 * self.extent[0]:g} x {1000 * self.extent[1]:g} mm')
        page = np.full((page_height, page_width), 255, np.uint8)
        left, top = (page_width - width) // 2, (page_height - height) // 2
        page[top:top + height, left:left + width] = self._board().generateImage((width, height), None, 0, 1)
        base, line = page_height - round(0.006 * dots), round(0.1 * dots)
        cv2.line(page, (left, base), (left + line, base), 0, 4)
        for x in (left, left + line):
            cv2.line(page, (x, base - 30), (x, base + 30), 0, 4)
        text = (f'100 mm  |  {self.kind} {self.columns}x{self.rows}, {1000 * self.square:g} mm  |  print at 100 %, '
                'this edge towards you: x to the right, y up, origin in the middle')
        cv2.putText(page, text, (left + line + 40, base + 14), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 0, 2, cv2.LINE_AA)
        return page


def write_png(path: Path, page: NDArray[np.uint8]) -> None:
    """Write a page [H, W] as a PNG file that says how large it is, so that it prints at its size.

    Raises:
        InputError: another kind of file, or a folder that does not exist.
    """
    if path.suffix.lower() != '.png' or not path.parent.is_dir():
        raise InputError('sheet', 'a .png file in a folder that exists', path)
    data = cv2.imencode('.png', page)[1].tobytes()
    body = b'pHYs' + struct.pack('>IIB', round(DOTS / 0.0254), round(DOTS / 0.0254), 1)
    after = 8 + 25  # signature, IHDR
    path.write_bytes(data[:after] + struct.pack('>I', 9) + body + struct.pack('>I', zlib.crc32(body)) + data[after:])
