"""The streaming engine: one frame in, entities with persistent ids out.

A frame goes through the model's cycle (predict after an executed action, refine, decode); the ledger of `identity` then
decides what each slot stands for. A slot whose thing is covered keeps its belief, so that entities outlive the arm.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from object_centric_ros.actions import pick_place_vector
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera, model_image, table_to_model
from object_centric_ros.models.belief import Belief, Scene
from object_centric_ros.models.checkpoint import load_model
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.models.initial import PARKED, parked, place_parked, seed_positions
from object_centric_ros.tracking.compiled import recorded
from object_centric_ros.tracking.entities import Entity, PickPlace, SlotState, TrackedFrame
from object_centric_ros.tracking.heights import position_spreads, stacked_positions
from object_centric_ros.tracking.hypotheses import Reading, guesses, likeliest, read
from object_centric_ros.tracking.identity import Identities
from object_centric_ros.tracking.observation import SlotViews, empty_pixels, scene_arrays, view_slots
from object_centric_ros.tracking.settings import TrackerConfig
from object_centric_ros.tracking.snapshots import restore, taken

SHIPPED = 'tabletop_parts.safetensors'


def choose_device(name: str) -> torch.device:
    """'auto', 'cpu', 'cuda' or 'cuda:N' as a torch device; an InputError where there is no such device."""
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    if name != 'cpu' and not (name.startswith('cuda') and torch.cuda.is_available()):
        raise InputError('device', 'auto, cpu or, on a machine with a GPU, cuda[:n]', name)
    return torch.device(name)


def load_weights(path: str | None, device: torch.device) -> tuple[CycleModel, dict[str, Any]]:
    """A model file, or the weights that the package ships when no path is given."""
    if path:
        return load_model(path, device)
    with as_file(files('object_centric_ros') / 'weights' / SHIPPED) as shipped:
        return load_model(shipped, device)


def recorded_camera(record: dict[str, Any]) -> PinholeCamera:
    """The camera that a model was trained with; an InputError where its record has none."""
    if 'camera' not in record:
        raise InputError('camera', 'one with the model file (object-centric import --camera), or given: to a node '
                         'by camera_info, camera_position and camera_orientation', 'none')
    return PinholeCamera.from_dict(record['camera'])


class EntityTracker:
    """Follows the things in a camera stream.

    Args:
        model: a trained model in eval mode.
        record: its training record; holds the camera it was trained with.
        camera: of the images to come; None = the record's. Its pose gives positions in metres.
        config: thresholds.
        device: where to run.
        seed: of the noise of the first guess.
        compiler: torch.compile backend for the model's parts, e.g. 'inductor'; empty = none. It costs a
            minute at the first frame and pays on a GPU; on a CPU the plain path was faster.
        graphs: on a GPU, record the model's work on a frame and replay it (see `compiled`).
        precision: 'float32' or 'bfloat16', in which the model works; beliefs stay float32.
    """

    def __init__(self, model: CycleModel, record: dict[str, Any], camera: PinholeCamera | None = None,
                 config: TrackerConfig | None = None, device: str = 'auto', seed: int = 0, compiler: str = '',
                 graphs: bool = True, precision: str = 'float32') -> None:
        self.device = choose_device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.model_id = str(record.get('model_id', 'unsaved'))
        self.camera = camera or recorded_camera(record)
        self.config = config or TrackerConfig()
        self.seed = seed
        self.size = model.config.image_size
        self.background = 0 if model.config.background_slot else None
        if compiler:
            for part in model.children():
                part.compile(backend=compiler)
        self.model = recorded(self.model, precision, graphs)
        self.reset()

    @classmethod
    def load(cls, path: str | None = None, camera: PinholeCamera | None = None, config: TrackerConfig | None = None,
             device: str = 'auto', threads: int = 0, seed: int = 0, compiler: str = '',
             precision: str = 'float32') -> EntityTracker:
        """A tracker from a model file (None: the shipped weights); `threads` > 0 sets torch's CPU threads."""
        if threads > 0:
            torch.set_num_threads(threads)
        model, record = load_weights(path, choose_device(device))
        return cls(model, record, camera, config, device, seed, compiler, precision=precision)

    def reset(self) -> None:
        """Forget everything; ids start anew."""
        self.belief: Belief | None = None
        self.scene: Scene | None = None
        self.identities = Identities(self.config)
        self.snapshots: dict[int, SlotState] = {}
        self.positions: dict[int, NDArray[np.float64]] = {}  # where each entity is or was last seen, metres
        self.expected: dict[int, NDArray[np.float64]] = {}  # where the last action may have put an entity [N, 2]
        self.others: list[tuple[Belief, Tensor | None]] = []  # guesses that are still to be read, and their action
        self.usual = -math.inf  # loss of the last frame of a scene that counted as known, nats
        self.unsettled = 0  # frames without the robot still to be seen until a changed scene counts as known
        self.generator = torch.Generator(self.device).manual_seed(self.seed)

    def step(self, image: NDArray[np.uint8], action: PickPlace | None = None, stamp: float = 0.0,
             robot_moving: bool = False) -> TrackedFrame:
        """Take one frame.

        Args:
            image: RGB uint8 [H, W, 3] of the camera's size.
            action: what was executed since the last frame.
            stamp: of the image, seconds.
            robot_moving: the arm may be in the picture: known things are followed, nothing new is believed.

        Raises:
            InputError: the image does not fit the camera, or the stamp is not finite.
        """
        if image.shape != (self.camera.height, self.camera.width, 3):
            raise InputError('image', f'uint8 [{self.camera.height}, {self.camera.width}, 3]',
                             f'{image.dtype} {list(image.shape)}')
        if not np.isfinite(stamp):
            raise InputError('stamp', 'finite seconds', stamp)
        small = model_image(image, self.size)
        # Far tails of masks make denormal gradients, several times slower; the flag belongs to the calling thread.
        torch.set_flush_denormal(True)
        began = time.perf_counter()
        rgb = torch.from_numpy(small).to(self.device).permute(2, 0, 1)[None].float() / 255
        x = self.model.observe(rgb)
        pixels = rgb[0].cpu().numpy()
        reading = self._infer(x, action, pixels, stamp, robot_moving)
        prior, belief, scene = reading.prior, reading.belief, reading.scene
        masks, colours = scene_arrays(scene)
        views = view_slots(masks, colours, pixels, self.background, empty_pixels(scene))
        good = self.identities.judge(views, moved=action is not None)
        inferred = belief
        if prior is not None and not good.all():
            belief = belief.where(torch.from_numpy(good).to(self.device), prior)
        free = self.identities.update(views, good, stamp, robot_moving, self.background, self.size,
                                      births=not self.unsettled)
        if not robot_moving:
            free += self.identities.duplicates(views, self.background)
            belief = self._rearrange(belief, free, x, scene.image)
        if belief is not inferred:
            with torch.no_grad():
                scene = self.model.scene(belief)
        self.scene = scene
        self.belief = belief
        seconds = time.perf_counter() - began
        reconstruction = (masks[:, None] * colours).sum(0)
        return self._frame(small, views, masks, colours, reconstruction, stamp, seconds)

    def predicted(self, action: PickPlace | None = None) -> NDArray[np.uint8] | None:
        """What the next image should show, before it is seen: RGB [S, S, 3], model image; None before the first frame.

        Args:
            action: what was executed since the last frame.
        """
        if self.belief is None or self.scene is None:
            return None
        scene = self.scene  # a model that says nothing of the time in between expects what it saw
        if action is not None or self.model.drifts:
            told = None if action is None else self.action_vector(action)
            with torch.no_grad():
                scene = self.model.scene(self.model.predict(self.belief, told))
        picture = scene.image[0].float().expand(3, -1, -1).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        return np.asarray(np.round(255 * picture), np.uint8)

    def _infer(self, x: Tensor, action: PickPlace | None, pixels: NDArray[np.float32], stamp: float,
               robot_moving: bool) -> Reading:
        """The frame's likeliest reading: from the last belief, from what the action makes of it, or from nothing."""
        model, c = self.model, self.config
        if self.belief is None or self.scene is None:
            return read(model, x, None, 0, None, self.generator)
        if action is None:
            with torch.no_grad():
                prior = model.predict(self.belief) if model.drifts else self.belief
                before = float(model.loss(self.belief, self.scene, x)[0])
            best = read(model, x, prior, model.config.iterations, None, self.generator)
            # A refinement that does not help is not taken: a still scene gives a still belief.
            if not model.drifts and before <= best.loss:
                best = Reading(self.belief, self.belief, self.scene, before)
            if self.others and not robot_moving and self.unsettled < c.settle_frames - 1:
                guess, told = self.others.pop(0)
                best = likeliest([best, read(model, x, guess, c.settle_iterations, told, self.generator)], 0.0)
        else:
            told, held = self.action_vector(action), self._picked(action)
            slot = None if held is None else self.identities.records[held].slot
            self.expected = {} if held is None else {held: self._model_pixels(action.place_xy)}
            self.unsettled = c.settle_frames
            first, *others = guesses(model, self.belief, told, slot)
            best, self.others = read(model, x, first, c.settle_iterations, told, self.generator), []
            if self._as_good_as_ever(best):
                self.others = [(guess, told) for guess in others]  # they can wait for the next frames
            else:
                best = likeliest([best, *(read(model, x, guess, c.settle_iterations, told, self.generator)
                                          for guess in others)], 0.0)
        if not (self.unsettled or robot_moving):
            self.usual = best.loss
        if self.unsettled and not robot_moving:
            tracked = best
            # Two of these frames are read from nothing in any case: the scene before may not have been understood.
            urgent = self.unsettled == c.settle_frames and not self._as_good_as_ever(best)
            if urgent or self.unsettled in (1, c.settle_frames - 1):
                anew = read(model, x, None, 0, None, torch.Generator(self.device).manual_seed(self.seed))
                best = likeliest([best, anew], c.restart_margin)
            views = view_slots(*scene_arrays(best.scene), pixels, self.background, empty_pixels(best.scene))
            self.identities.reassign(views, self.expected, best is tracked, stamp, self.background, self.size)
            best = replace(best, prior=None)
            self.unsettled -= 1
        return best

    def _as_good_as_ever(self, reading: Reading) -> bool:
        """Whether a changed scene is explained as well as the one before, so that other guesses are not urgent."""
        return reading.loss < self.usual + self.config.restart_margin

    def _picked(self, action: PickPlace) -> int | None:
        """Id of the uppermost entity at the place of the pick, of one with a slot first; None where none is known."""
        near = [(self.identities.records[i].slot is not None, position[2], i) for i, position in self.positions.items()
                if np.hypot(*np.subtract(position[:2], action.pick_xy)) < 1.5 * self.config.object_height]
        return max(near)[2] if near else None

    def _model_pixels(self, xy: tuple[float, float], levels: int = 3) -> NDArray[np.float64]:
        """Where a thing at xy (m, work_plane) may be seen [levels, 2]: on the table or on others; model pixels."""
        heights = self.config.object_height * (2 * np.arange(levels) + 1)
        uv = np.concatenate([table_to_model(self.camera, [xy], float(z)) for z in heights])
        return np.asarray((uv + 1) / 2 * self.size)

    def action_vector(self, action: PickPlace) -> Tensor | None:
        """The pick-and-place as the model takes it (see `cycle.ACTION_FORMATS`); None for a model of other actions."""
        vector = pick_place_vector(self.model.action_format, self.camera, [[*action.pick_xy, *action.place_xy]],
                                   self.config.object_height)
        return None if vector is None else torch.from_numpy(vector).to(self.device)

    def _rearrange(self, belief: Belief, free: list[int], x: Tensor, explained: Tensor) -> Belief:
        """Park slots that hold nothing; put parked ones where the picture is not explained."""
        if not self.model.parks:
            return belief
        if free:
            keep = torch.ones(belief.mean.shape[1], dtype=torch.bool, device=self.device)
            keep[sorted(set(free))] = False
            belief = belief.where(keep, self.model.start(1, len(keep), self.generator))
        waiting = int(parked(belief).sum())
        if waiting:
            where = seed_positions(x, explained, waiting, self.config.unexplained)
            if (where[..., 0] < PARKED).any():
                belief = place_parked(belief, where)
        return belief

    def _frame(self, small: NDArray[np.uint8], views: SlotViews, masks: NDArray[np.float32],
               colours: NDArray[np.float32], reconstruction: NDArray[np.float32], stamp: float, seconds: float
               ) -> TrackedFrame:
        states = self.states()
        side = min(self.camera.width, self.camera.height)
        scale = side / self.size
        offset = np.array([(self.camera.width - side) / 2, (self.camera.height - side) / 2])
        records = list(self.identities.records.values())
        centroids = np.array([r.centroid for r in records]).reshape(-1, 2) * scale + offset
        rows = np.array([r.rows for r in records]).reshape(-1, 2) * scale + offset[1]
        positions = stacked_positions(self.camera, centroids, rows, np.array([r.overlapped for r in records]),
                                      self.config.object_height)
        spreads = position_spreads(self.camera, positions, np.array([r.spread for r in records]).reshape(-1, 2, 2)
                                   * scale ** 2)
        labels = np.zeros((self.size, self.size), np.uint16)
        entities = []
        for record, centroid, position, spread in zip(records, centroids, positions, spreads, strict=True):
            slot = record.slot
            if slot is not None:
                self.snapshots[record.id] = states[slot]
            if slot is not None and record.visible:
                labels[views.owner == slot] = record.id
            sure = float(views.sharpness[slot] * views.fit[slot]) if slot is not None and record.visible else 0.0
            box = views.box[slot] if slot is not None and record.visible else np.tile(record.centroid, 2)
            u0, v0, u1, v1 = (box.reshape(2, 2) * scale + offset).reshape(-1)
            entities.append(Entity(
                record.id, self.snapshots[record.id], sure, record.visible, tuple(map(float, position)),  # type: ignore[arg-type]
                (float(centroid[0]), float(centroid[1])), (float(u0), float(v0), float(u1), float(v1)),
                float((views.area[slot] if slot is not None else 0) * scale ** 2), tuple(record.colour),  # type: ignore[arg-type]
                tuple(map(float, spread.ravel()))))  # type: ignore[arg-type]
        self.snapshots = {r.id: self.snapshots[r.id] for r in records}
        self.positions = {r.id: p for r, p in zip(records, positions, strict=True)}
        held = {r.slot for r in records}
        background = tuple(s for s in states if s.slot not in held)
        return TrackedFrame(stamp, self.model_id, tuple(entities), background, labels, masks, colours, reconstruction,
                            small, seconds)

    def states(self) -> list[SlotState]:
        """The belief over each slot; not before the first frame."""
        assert self.belief is not None
        mean, std, memory = (t[0].cpu().numpy() for t in (self.belief.mean, self.belief.std, self.belief.memory))
        return [SlotState(k, mean[k], std[k], memory[k]) for k in range(len(mean))]

    def state_dict(self) -> dict[str, Any]:
        """A snapshot (see `snapshots`); empty before the first frame."""
        return taken(self)

    def reconsider(self) -> None:
        """Take the next frames as those after an action: the scene may have changed unseen, or the snapshot be old."""
        self.unsettled, self.expected = self.config.settle_frames, {}

    def shift_clock(self, seconds: float) -> None:
        """The clock of the stamps was set by so many seconds: what was seen lately still was."""
        for record in self.identities.records.values():
            record.seen += seconds

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot of the same weights; an InputError where it is of another model or damaged."""
        restore(self, state)
