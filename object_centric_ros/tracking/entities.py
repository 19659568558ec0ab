"""What tracking hands out: entities and frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.errors import InputError


@dataclass(frozen=True)
class PickPlace:
    """A pick-and-place that was executed, or is imagined.

    Attributes:
        pick_xy, place_xy: positions (x, y) in work_plane, metres.
    """

    pick_xy: tuple[float, float]
    place_xy: tuple[float, float]

    def __post_init__(self) -> None:
        if not np.isfinite([*self.pick_xy, *self.place_xy]).all():
            raise InputError('pick and place', 'finite positions in metres', f'{self.pick_xy} -> {self.place_xy}')


@dataclass(frozen=True)
class SlotState:
    """The belief over one slot, as it travels between processes.

    Attributes:
        slot: index k.
        mean, std: latent's mean and standard deviation [D].
        memory: recurrent state of the dynamics [M].
    """

    slot: int
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    memory: NDArray[np.float32]


@dataclass(frozen=True)
class Entity:
    """A persistent thing in the world.

    Attributes:
        id: persistent, > 0, never used twice by one tracker.
        state: the slot that holds it.
        confidence: [0, 1], how sharply its pixels are its own times how well they are explained.
        visible: False while something covers it or it has not been found again.
        position: centre (x, y, z) in work_plane, metres.
        centroid: (u, v) in pixels of the input image.
        box: (u0, v0, u1, v1) in pixels of the input image.
        mask_area: pixels^2 of the input image.
        colour: mean RGB in [0, 1].
        covariance: (xx, xy, yx, yy) of position's x and y, m^2: of the mask's centroid, carried to the work plane to
            first order. While the entity is not visible: of where it was last seen. NaN where it is not known.
    """

    id: int
    state: SlotState
    confidence: float
    visible: bool
    position: tuple[float, float, float]
    centroid: tuple[float, float]
    box: tuple[float, float, float, float]
    mask_area: float
    colour: tuple[float, float, float]
    covariance: tuple[float, float, float, float] = (np.nan,) * 4


@dataclass(frozen=True)
class TrackedFrame:
    """The result of one frame.

    Attributes:
        stamp: seconds, of the image.
        model_id: which weights made it.
        entities: objects, by id.
        background: slots that hold the background or nothing.
        label_image: entity id of each pixel of the model image, 0 = none, uint16 [S, S].
        masks: mixing weights [K, S, S]; colours: [K, 3, S, S]; reconstruction: [3, S, S] in [0, 1].
        image: the model image, uint8 [S, S, 3].
        seconds: time spent in the model.
    """

    stamp: float
    model_id: str
    entities: tuple[Entity, ...]
    background: tuple[SlotState, ...]
    label_image: NDArray[np.uint16]
    masks: NDArray[np.float32]
    colours: NDArray[np.float32]
    reconstruction: NDArray[np.float32]
    image: NDArray[np.uint8]
    seconds: float

    def entity(self, entity_id: int) -> Entity:
        """The entity with that id.

        Raises:
            InputError: there is none.
        """
        for e in self.entities:
            if e.id == entity_id:
                return e
        raise InputError('entity id', f'one of {[e.id for e in self.entities]}', entity_id)
