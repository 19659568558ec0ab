"""TFRecord files of tf.train.Example, without TensorFlow.

A record is its length (uint64), a checksum of the length, the data, and a checksum of the data; all little-endian. An
Example is a protobuf message that maps names to lists of bytes, float32 or int64.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError

Values = NDArray | list[bytes]
LARGEST = 1 << 30
"""Bytes of a record beyond which its length is taken for damage."""


def read_records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The records of a file, gzipped or not, each checked against its checksums."""
    where = os.fspath(path)
    try:
        with open(where, 'rb') as plain:
            zipped = plain.read(2) == b'\x1f\x8b'
        with gzip.open(where) if zipped else open(where, 'rb') as file:
            for number in range(1 << 62):
                head = file.read(12)
                if not head:
                    return
                what = f'{where}: record {number}'
                if len(head) < 12:
                    raise InputError(what, '12 bytes of length and checksum', f'{len(head)} bytes: the file is cut off')
                size, check = struct.unpack('<QI', head)
                if masked_crc(head[:8]) != check or size > LARGEST:
                    raise InputError(what, 'a length that fits its checksum', 'another: no TFRecord file, or damaged')
                data = file.read(size + 4)
                if len(data) < size + 4:
                    raise InputError(what, f'{size + 4} bytes', f'{len(data)} bytes: the file is cut off')
                if masked_crc(data[:-4]) != struct.unpack('<I', data[-4:])[0]:
                    raise InputError(what, 'data that fit their checksum', 'others: the file is damaged')
                yield data[:-4]
    except (OSError, EOFError, zlib.error) as e:
        raise InputError(where, 'a whole TFRecord file', e) from e


def parse_example(data: bytes) -> dict[str, Values]:
    """One tf.train.Example: name -> float32 [n], int64 [n], or bytes.

    A list of single bytes, as the Multi-Object Datasets hold images, and a list of one string become uint8 [n]; any
    other list of bytes stays a list.
    """
    out: dict[str, Values] = {}
    try:
        for _, features in _fields(data):
            for _, entry in _fields(features):
                parts = dict(_fields(entry))
                for kind, values in _fields(parts[2]):
                    out[bytes(parts[1]).decode()] = _list(kind, values)
    except (KeyError, IndexError, ValueError, struct.error) as e:
        raise InputError('record', 'a tf.train.Example', f'other data ({e})') from e
    return out


def _list(kind: int, data: memoryview) -> Values:
    if kind == 1:
        flat = np.frombuffer(data, np.uint8)
        if len(flat) % 3 == 0 and (flat[0::3] == 0x0a).all() and (flat[1::3] == 1).all():
            return flat[2::3].copy()
        strings = [bytes(value) for _, value in _fields(data)]
        return np.frombuffer(strings[0], np.uint8) if len(strings) == 1 else strings
    if kind == 2:
        return np.concatenate([np.frombuffer(value, '<f4') for _, value in _fields(data)] or [np.zeros(0, '<f4')])
    integers: list[int] = []
    for _, value in _fields(data):
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            integers.append(number - (1 << 64) if number >> 63 else number)
    return np.array(integers, np.int64)


def _fields(data: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """Field numbers and contents of a protobuf message; a number's content is its bytes."""
    view, at = memoryview(data), 0
    while at < len(view):
        start = at
        key, at = _varint(view, at)
        start, wire = at, key & 7
        if wire == 0:
            _, at = _varint(view, at)
        elif wire == 2:
            size, start = _varint(view, at)
            at = start + size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f'wire type {wire}')
        if at > len(view):
            raise ValueError('a field goes beyond the end')
        yield key >> 3, view[start:at]


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, and where it ends."""
    number = shift = 0
    while True:
        byte = view[at]
        number, shift, at = number | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return number, at


# ---- CRC-32C, many bytes at a time ----------------------------------------------------------------------------------

def masked_crc(data: bytes) -> int:
    """The checksum that TFRecord files hold."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff


def crc32c(data: bytes) -> int:
    """CRC-32 with Castagnoli's polynomial.

    The data are cut into lanes that go through the table together. A checksum is linear in the data: that of two lanes
    is that of the first, carried on over as many zero bytes as the second has, xor that of the second.
    """
    steps = 1 << max(2, (len(data) >> 3).bit_length() // 2)
    lanes = 1 << max(0, (len(data) + 3) // steps).bit_length()
    padded = np.zeros(lanes * steps, np.uint8)
    start = len(padded) - len(data)
    padded[start:] = np.frombuffer(data, np.uint8)
    head = min(4, len(data))
    padded[start:start + head] ^= 0xff  # stands for the initial value of all ones
    table = _table()
    crc = np.zeros(lanes, np.uint32)
    for column in np.ascontiguousarray(padded.reshape(lanes, steps).T):
        crc = table[(crc ^ column) & 0xff] ^ crc >> np.uint32(8)
    carry = _zero_byte()
    for _ in range(steps.bit_length() - 1):
        carry = _apply(carry, carry)
    while len(crc) > 1:
        crc = _apply(carry, crc[0::2]) ^ crc[1::2]
        carry = _apply(carry, carry)
    missing = 0xffffffff >> 8 * head if head < 4 else 0  # of the initial value, where the data are shorter than it
    return int(crc[0]) ^ missing ^ 0xffffffff


def _apply(images: NDArray[np.uint32], values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A linear map of 32 bits, given by the images of the single bits [32], of values [n]."""
    bits = values[:, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)
    return np.bitwise_xor.reduce(np.where(bits == 1, images, np.uint32(0)), axis=1)


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, np.uint32(0x82f63b78), np.uint32(0)) ^ table >> np.uint32(1)
    return table


@lru_cache(maxsize=1)
def _zero_byte() -> NDArray[np.uint32]:
    """What one zero byte does to each single bit of a checksum [32]."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    return _table()[bits & np.uint32(0xff)] ^ bits >> np.uint32(8)
