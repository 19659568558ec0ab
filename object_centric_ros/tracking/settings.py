"""Parameters of the tracker, all lengths in model pixels or metres as said."""

from __future__ import annotations

from dataclasses import dataclass

from object_centric_ros.errors import InputError


@dataclass(frozen=True)
class TrackerConfig:
    """How slots become entities.

    Attributes:
        min_area: smallest mask of an entity, model pixels.
        background_area: a slot that fills more than this part of the image is background.
        birth_frames: frames in a row that a new slot must hold still and be sure of its pixels to become an entity.
        birth_confidence: least confidence of a new entity.
        birth_contrast: least mean RGB distance of a new entity to the background behind it.
        birth_motion: how far it may move between those frames, model pixels.
        retire_after: seconds that an entity may stay unseen before its id is given up.
        colour_rate: how much of the colour that an entity shows is taken over at each frame: low, as a mask that spills
            over onto a neighbour for a while must not change what the entity is known by.
        colour_gate: largest change of mean colour (RGB distance) at which a slot still shows the same thing.
        area_gate: a slot whose mask shrinks below this part of its usual size is taken to be covered.
        jump_gate: farthest a thing moves between frames without an executed action, model pixels.
        match_colour, match_chromaticity: largest distance in RGB, or in chromaticity, at which a slot may be an entity
            that was not seen, or whose slot is not known any more.
        merge_distance: two slots closer than this (model pixels) with like colours are one thing;
        merge_colour: largest distance in chromaticity of like colours.
        unexplained: smoothed squared error above which a place is unexplained (see `seed_positions`).
        settle_iterations: refinements of the first frame after an executed action.
        settle_frames: frames without the robot after an executed action in which identities are told anew and nothing
            is born; the second and the last are also read from nothing, and so is the first where no guess explains it.
        restart_margin: nats by which a reading from nothing must beat the tracked one after an executed action, and by
            which a guess may explain the changed scene worse than the scene before, so that the other guesses are left
            to the frames that follow.
        object_height: height of an object's centre above what it stands on, metres.
    """

    min_area: float = 14.0
    background_area: float = 0.35
    birth_frames: int = 2
    birth_confidence: float = 0.25
    birth_contrast: float = 0.12
    birth_motion: float = 1.5
    retire_after: float = 10.0
    colour_rate: float = 0.03
    colour_gate: float = 0.25
    area_gate: float = 0.3
    jump_gate: float = 4.0
    match_colour: float = 0.3
    match_chromaticity: float = 0.15
    merge_distance: float = 5.5
    merge_colour: float = 0.11
    unexplained: float = 0.08
    settle_iterations: int = 3
    settle_frames: int = 4
    restart_margin: float = 60.0
    object_height: float = 0.03

    def __post_init__(self) -> None:
        counts = self.birth_frames, self.settle_iterations, self.settle_frames
        if min(counts) < 1 or self.retire_after <= 0 or self.object_height < 0:
            raise InputError('tracker', 'birth_frames, settle_iterations and settle_frames >= 1, retire_after > 0, '
                             'object_height >= 0', self)
