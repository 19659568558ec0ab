"""Bags whose recording was killed: an MCAP file without an end, and no metadata.yaml beside it."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from typing import Any, BinaryIO

from rosbags.highlevel import AnyReader
from rosbags.interfaces import ConnectionExtRosbag2
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from object_centric_ros.errors import InputError

MAGIC = b'\x89MCAP0\r\n'
CHUNK, DATA_END, FOOTER = 0x06, 0x0F, 0x02


def is_finished(bag: str | os.PathLike[str]) -> bool:
    """Whether the recording of a bag (its folder) was brought to an end."""
    return (Path(bag) / 'metadata.yaml').is_file()


def recover(bag: str | os.PathLike[str]) -> int:
    """Make a whole bag of one whose recording was killed; what had been written completely is kept.

    A kill during the recovery leaves either the old bag or the new one.

    Args:
        bag: its folder, with a file of the same name.

    Returns:
        How many messages there are; with none the folder is left as it is, as a bag has to have a topic.

    Raises:
        InputError: no such file, or one that is damaged before its end.
    """
    folder = Path(bag)
    path = folder / f'{folder.name}.mcap'
    if not path.is_file():
        raise InputError(f'{path}', 'the file of a recording that was killed', 'none')
    with path.open('r+b') as file:
        whole = _whole(file)
        if whole is None:
            return 0
        file.truncate(whole)
        file.seek(whole)
        file.write(struct.pack('<BQI', DATA_END, 4, 0) + struct.pack('<BQQQI', FOOTER, 20, 0, 0, 0) + MAGIC)
    copy = folder.with_name(f'{folder.name}.recovered')
    shutil.rmtree(copy, ignore_errors=True)
    try:
        count = _copy(path, copy / folder.name)
    except Exception as e:  # rosbags lets through what its parsers and decompressors raise
        raise InputError(f'{path}', 'whole chunks up to where the recording was killed', repr(e)) from e
    for name in (path.name, 'metadata.yaml'):  # with the metadata it is finished
        (copy / folder.name / name).replace(folder / name)
    shutil.rmtree(copy)
    return count


def _whole(file: BinaryIO) -> int | None:
    """Where the last record ends that was written completely and is no end of the data; None without any chunk."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        return None
    end, chunks = len(MAGIC), 0
    while len(head := file.read(9)) == 9:
        kind, length = struct.unpack('<BQ', head)
        if kind in (DATA_END, FOOTER) or end + 9 + length > size:
            break
        chunks += kind == CHUNK
        end += 9 + length
        file.seek(end)
    return end if chunks else None


def _copy(source: Path, target: Path) -> int:
    """Write the messages of an MCAP file into a new, indexed bag; returns how many."""
    count = 0
    target.parent.mkdir()
    writer = Writer(target, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with AnyReader([source]) as reader, writer:
        known: dict[int, Any] = {}
        for c in reader.connections:
            assert isinstance(c.ext, ConnectionExtRosbag2)
            known[c.id] = writer.add_connection(
                c.topic, c.msgtype, msgdef=c.msgdef.data, rihs01=reader.typestore.hash_rihs01(c.msgtype),
                serialization_format=c.ext.serialization_format, offered_qos_profiles=c.ext.offered_qos_profiles)
        for c, stamp, data in reader.messages():
            writer.write(known[c.id], stamp, data)
            count += 1
    return count
