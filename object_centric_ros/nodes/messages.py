"""Tracked frames and commands as messages, and back."""

from __future__ import annotations

from array import array

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA, Header

from object_centric_ros.errors import InputError
from object_centric_ros.msg import Entity as EntityMsg
from object_centric_ros.msg import EntityArray, EntityRelation
from object_centric_ros.planning.relations import Relation
from object_centric_ros.tracking.entities import Entity, SlotState, TrackedFrame

MAX_SLOTS, MAX_LATENT = 256, 4096


def seconds(stamp: Time) -> float:
    """A stamp in seconds."""
    return stamp.sec + 1e-9 * stamp.nanosec


def nanoseconds(stamp: Time) -> int:
    """A stamp in nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def point(xyz: tuple[float, ...]) -> Point:
    """A point (x, y) or (x, y, z), metres."""
    return Point(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]) if len(xyz) > 2 else 0.0)


def relation_from_message(message: EntityRelation) -> Relation:
    """A relation as the planner takes it; an InputError where it makes no sense."""
    region = tuple(map(float, message.region))
    return Relation(message.kind, int(message.entity_id), int(message.other_id) or None,
                    (region[0], region[1], region[2], region[3]) if any(region) else None)


def relation_to_message(relation: Relation) -> EntityRelation:
    """The same the other way round."""
    return EntityRelation(kind=relation.kind, entity_id=relation.entity, other_id=relation.other or EntityMsg.NONE,
                          region=list(relation.region or (0.0,) * 4))


def floats(values: NDArray[np.float32]) -> array:
    """Numbers [N] as what a float32[] field takes without iterating."""
    return array('f', np.ascontiguousarray(values, np.float32).tobytes())


def frame_to_message(frame: TrackedFrame, header: Header, work_frame: str, session: int = 0) -> EntityArray:
    """A tracked frame as a message with the header of its image; `session` tells trackers apart."""
    return EntityArray(header=header, session=session, model_id=frame.model_id, work_frame=work_frame,
                       entities=[_entity_to_message(e) for e in frame.entities],
                       background=[_state_to_message(s, EntityMsg()) for s in frame.background],
                       inference_time=float(frame.seconds))


def frame_from_message(message: EntityArray) -> TrackedFrame:
    """The frame of a message, with empty images: what planning needs of it.

    Raises:
        InputError: sizes that do not agree, numbers that are not finite, an id twice.
    """
    slots = [*message.entities, *message.background]
    if len(slots) > MAX_SLOTS:
        raise InputError('entities: number of slots', f'at most {MAX_SLOTS}', len(slots))
    sizes = {(len(s.latent_mean), len(s.latent_std), len(s.memory)) for s in slots}
    if len(sizes) > 1 or any(a != b or a > MAX_LATENT or m > MAX_LATENT for a, b, m in sizes):
        raise InputError('entities: sizes of latent mean, std and memory', 'the same for all slots', sorted(sizes))
    ids = [e.id for e in message.entities]
    if len(set(ids)) != len(ids) or EntityMsg.NONE in ids:
        raise InputError('entities: ids', f'different and not {EntityMsg.NONE}', ids)
    none = np.zeros((0, 1, 1), np.float32)
    return TrackedFrame(stamp=seconds(message.header.stamp), model_id=message.model_id,
                        entities=tuple(_entity_from_message(e) for e in message.entities),
                        background=tuple(_state_from_message(s) for s in message.background),
                        label_image=np.zeros((1, 1), np.uint16), masks=none, colours=none[:, None].repeat(3, 1),
                        reconstruction=np.zeros((3, 1, 1), np.float32), image=np.zeros((1, 1, 3), np.uint8),
                        seconds=float(message.inference_time))


def _state_to_message(state: SlotState, message: EntityMsg) -> EntityMsg:
    message.slot = int(state.slot)
    message.latent_mean, message.latent_std = floats(state.mean), floats(state.std)
    message.memory = floats(state.memory)
    return message


def _entity_to_message(entity: Entity) -> EntityMsg:
    r, g, b = (float(c) for c in entity.colour)
    message = EntityMsg(id=int(entity.id), confidence=float(entity.confidence), visible=bool(entity.visible),
                        position=point(entity.position), mask_area=float(entity.mask_area),
                        centroid=np.asarray(entity.centroid, np.float32), colour=ColorRGBA(r=r, g=g, b=b, a=1.0),
                        bounding_box=np.asarray(entity.box, np.float32),
                        position_covariance=np.asarray(entity.covariance, np.float64))
    return _state_to_message(entity.state, message)


def _state_from_message(message: EntityMsg) -> SlotState:
    parts = [np.frombuffer(x, np.float32).copy() if len(x) else np.zeros(0, np.float32)
             for x in (message.latent_mean, message.latent_std, message.memory)]
    if not all(np.isfinite(p).all() for p in parts):
        raise InputError('entities: belief', 'finite numbers', f'others in slot {message.slot}')
    return SlotState(int(message.slot), *parts)


def _entity_from_message(m: EntityMsg) -> Entity:
    place = (m.position.x, m.position.y, m.position.z)
    if not np.isfinite(place).all():
        raise InputError(f'entity {m.id}: position', 'finite numbers', place)
    u0, v0, u1, v1 = (float(x) for x in m.bounding_box)
    xx, xy, yx, yy = (float(x) for x in m.position_covariance)
    return Entity(id=int(m.id), state=_state_from_message(m), confidence=float(m.confidence), visible=bool(m.visible),
                  position=place, centroid=(float(m.centroid[0]), float(m.centroid[1])), box=(u0, v0, u1, v1),
                  mask_area=float(m.mask_area), colour=(float(m.colour.r), float(m.colour.g), float(m.colour.b)),
                  covariance=(xx, xy, yx, yy))
