"""Bags: MCAP files with every message definition inside, for `ros2 bag play`, Foxglove and `rosbags`."""

from __future__ import annotations

import os
import threading
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosidl_parser.definition import (
    AbstractGenericString,
    AbstractNestedType,
    Array,
    BasicType,
    BoundedSequence,
    NamespacedType,
    UnboundedSequence,
)

from object_centric_ros.errors import InputError

BASIC = {'float': 'float32', 'double': 'float64', 'boolean': 'bool', 'octet': 'byte', 'char': 'uint8'}
"""Names of IDL's basic types in message definitions, where they differ."""


def type_name(message: type) -> str:
    """Name of a message class, e.g. 'sensor_msgs/msg/Image'."""
    package, kind = message.__module__.split('.')[:2]
    return f'{package}/{kind}/{message.__name__}'


def _field(slot: Any, nested: set[str]) -> str:
    """A field's type as message definitions write it; the messages that it names are added to `nested`."""
    if isinstance(slot, AbstractNestedType):
        element = _field(slot.value_type, nested)
        if isinstance(slot, Array):
            return f'{element}[{slot.size}]'
        if isinstance(slot, BoundedSequence):
            return f'{element}[<={slot.maximum_size}]'
        assert isinstance(slot, UnboundedSequence)
        return f'{element}[]'
    if isinstance(slot, AbstractGenericString):
        return 'string'
    if isinstance(slot, BasicType):
        return BASIC.get(slot.typename, slot.typename)
    assert isinstance(slot, NamespacedType)
    name = '/'.join(slot.namespaced_name())
    nested.add(name)
    return name


def describe(message: type, texts: dict[str, str]) -> str:
    """Collect the definitions of a message class and of all that it contains: name -> text; returns its own name."""
    name = type_name(message)
    if name not in texts:
        nested: set[str] = set()
        names = message.get_fields_and_field_types()  # type: ignore[attr-defined]
        slots = message.SLOT_TYPES  # type: ignore[attr-defined]
        texts[name] = ''.join(f'{_field(slot, nested)} {field}\n' for field, slot in zip(names, slots, strict=True))
        for other in sorted(nested):
            package, kind, simple = other.split('/')
            describe(getattr(import_module(f'{package}.{kind}'), simple), texts)
    return name


def schema(message: type) -> tuple[str, str, str]:
    """A message class as a bag holds it: its name, its definition with all that it contains, and its RIHS01 hash.

    Raises:
        InputError: a part of a service or an action; readers know the definitions of messages alone.
    """
    texts: dict[str, str] = {}
    name = describe(message, texts)
    if '/msg/' not in name:
        raise InputError('type of a topic in a bag', 'a message', name)
    parts = [texts[name]] + [f'{"=" * 80}\nMSG: {other}\n{texts[other]}' for other in texts if other != name]
    definition = ''.join(parts).replace('/msg/', '/')
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(definition, name))
    return name, definition, store.hash_rihs01(name)


def _profile(reliable: bool, latched: bool) -> Qos:
    return Qos(QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
               QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE, QosTime(0, 0), QosTime(0, 0),
               QosLiveliness.AUTOMATIC, QosTime(0, 0), False)


class BagWriter:
    """Writes serialised messages into a new bag; may be called from several threads.

    Args:
        path: folder of the bag; must not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if Path(path).exists():
            raise InputError('bag', 'a folder that does not exist yet', os.fspath(path))
        self.path = Path(path)
        self.counts: dict[str, int] = {}
        self._connections: dict[str, Connection] = {}
        self._lock = threading.Lock()
        self._writer: Writer | None = Writer(self.path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()

    def add_topic(self, topic: str, message: type, reliable: bool = True, latched: bool = False) -> None:
        """Announce a topic and its message class."""
        with self._lock:
            if self._writer is None:
                return
            name, definition, digest = schema(message)
            self._connections[topic] = self._writer.add_connection(
                topic, name, msgdef=definition, rihs01=digest, offered_qos_profiles=[_profile(reliable, latched)])
            self.counts[topic] = 0

    def write(self, topic: str, stamp_ns: int, data: bytes) -> None:
        """Add one serialised message, received at `stamp_ns` (nanoseconds)."""
        with self._lock:
            if self._writer is not None:
                self._writer.write(self._connections[topic], stamp_ns, data)
                self.counts[topic] += 1

    def close(self) -> None:
        """Finish the bag; later messages are dropped."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
