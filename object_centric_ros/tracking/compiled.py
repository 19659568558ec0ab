"""The streaming step recorded once and replayed: on a GPU as CUDA graphs, without the cost of launching its kernels.
Also where it is computed in reduced precision: beliefs and scenes that go in and come out are float32 in any case.

A recording has fixed shapes and reads from fixed buffers. A call copies its arguments there, replays, and returns
copies of the results, so that nothing a caller holds changes under it. Other shapes (another K, say) get a recording of
their own; what cannot be recorded, or gives other numbers when replayed, runs as it always did, and the log says why.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from object_centric_ros.errors import InputError
from object_centric_ros.models.belief import Belief, Scene
from object_centric_ros.models.cycle import CycleModel

log = logging.getLogger(__name__)
WARM_UP = 3
"""Runs on a side stream before a capture: libraries choose algorithms and allocate there."""
MOST = 16
"""Recordings that one function keeps; the one that was not used for the longest time goes first."""
TOLERANCE = 1e-2
"""Largest difference of a replay, as a share of the largest number of each result."""
PRECISIONS = ('float32', 'bfloat16')

Function = Callable[[], Any]
Result = TypeVar('Result')
Recorder = Callable[[Function, torch.Generator, Callable[[], None]], tuple[Any, Callable[[], None]]]
"""(function, its generator, what restores the generator) -> its results' buffers, and what fills them anew."""


class Unrecordable(RuntimeError):
    """Why a function is not replayed."""


def cuda_graph(function: Function, generator: torch.Generator, restore: Callable[[], None]
               ) -> tuple[Any, Callable[[], None]]:
    """Record a CUDA graph, backward passes inside of it included."""
    current, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            function()
    current.wait_stream(side)
    restore()
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        results = function()
    return results, graph.replay


def run_again(function: Function, generator: torch.Generator, restore: Callable[[], None]
              ) -> tuple[Any, Callable[[], None]]:
    """What a recording does, by running the function: for devices without graphs, and for tests."""
    results = function()
    restore()

    def replay() -> None:
        for into, value in zip(tensors(results), tensors(function()), strict=True):
            into.copy_(value)
    return results, replay


@dataclasses.dataclass
class Recording:
    """One recorded shape.

    Attributes:
        inputs: the buffers that arguments are copied to.
        results: as the function gave them, rewritten by each replay.
        replay: the recorded work; None where the function runs as it is.
    """

    inputs: list[Tensor]
    results: Any = None
    replay: Callable[[], None] | None = None


class Recorded:
    """A function of tensors, recorded for each shape of its arguments at its first call.

    Its arguments are tensors, dataclasses and tuples of them, and plain values, which are part of what is recorded; its
    results are tensors, or dataclasses and tuples of them. Everything runs without gradients to the outside.

    Args:
        function: what is called; takes a generator as its last argument, `generator`.
        device: where its tensors are.
        recorder: `cuda_graph`, or `run_again`.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device, recorder: Recorder) -> None:
        self.function, self.recorder = function, recorder
        self.name = getattr(function, '__name__', repr(function))
        self.generator = torch.Generator(device)  # a recording is bound to one generator; callers come with theirs
        self.recordings: OrderedDict[Any, Recording] = OrderedDict()
        self.reasons: list[str] = []

    @torch.no_grad()
    def __call__(self, *arguments: Any, generator: torch.Generator | None = None) -> Any:
        """function(*arguments, generator=generator), its results detached."""
        given, key = list(tensors(arguments)), shape_of(arguments)
        recording = self.recordings.get(key)
        if recording is None:
            recording = self._record(arguments, generator)
            self.recordings[key] = recording
            if len(self.recordings) > MOST:
                self.recordings.popitem(last=False)
        self.recordings.move_to_end(key)
        if recording.replay is None:
            return rebuilt(self.function(*arguments, generator=generator), Tensor.detach)
        for buffer, value in zip(recording.inputs, given, strict=True):
            buffer.copy_(value)
        if generator is not None:
            self.generator.set_state(generator.get_state())
        recording.replay()
        if generator is not None:
            generator.set_state(self.generator.get_state())
        return rebuilt(recording.results, Tensor.clone)

    def _record(self, arguments: tuple[Any, ...], generator: torch.Generator | None) -> Recording:
        fixed = rebuilt(arguments, lambda x: x.detach().clone())
        recording, state = Recording(list(tensors(fixed))), (generator or self.generator).get_state()

        def restore() -> None:
            self.generator.set_state(state)

        def function() -> Any:
            return rebuilt(self.function(*fixed, generator=None if generator is None else self.generator),
                           Tensor.detach)
        restore()
        try:
            recording.results, replay = self.recorder(function, self.generator, restore)
            self._check(recording, function, replay, restore)
            recording.replay = replay
        except (RuntimeError, TypeError, AttributeError) as e:  # what torch raises where it cannot capture
            reason = f'{self.name} runs without a recording: {str(e).splitlines()[0] if str(e) else type(e).__name__}'
            self.reasons.append(reason)
            log.warning(reason)
            recording.results = None
        return recording

    def _check(self, recording: Recording, function: Function, replay: Callable[[], None],
               restore: Callable[[], None]) -> None:
        """A replay must follow its inputs: it is held against the function itself, at inputs that are not recorded."""
        for buffer in recording.inputs:
            if buffer.is_floating_point():
                buffer.mul_(0.9)
        restore()
        replay()
        found = [x.clone() for x in tensors(recording.results)]
        restore()
        for got, expected in zip(found, tensors(function()), strict=True):
            size = expected[expected.isfinite()].double().abs()
            atol = TOLERANCE * float(size.max()) + 1e-6 if size.numel() else 0.0
            if not torch.allclose(got.double(), expected.double(), rtol=0, atol=atol, equal_nan=True):
                raise Unrecordable('a replay gives other numbers')


def precise(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """float32, or automatic mixed precision with bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == 'bfloat16')


def recorded(model: CycleModel, precision: str = 'float32', graphs: bool = True) -> CycleModel:
    """The model with its streaming methods in a precision and, with `graphs`, replayed on a GPU; itself where it is
    neither."""
    if precision not in PRECISIONS:
        raise InputError('precision', ' or '.join(PRECISIONS), precision)
    if precision == 'float32' and not (graphs and next(model.parameters()).device.type == 'cuda'):
        return model
    return cast(CycleModel, RecordedModel(model, None, precision, graphs))


class RecordedModel:
    """A model whose streaming methods are recorded; everything else is the model's own. For one image at a time.

    Args:
        model: in eval mode, on its device.
        recorder: None = CUDA graphs on a GPU if `graphs`, and plain calls elsewhere.
        precision: 'float32' or 'bfloat16', of the model's work; results are float32.
    """

    def __init__(self, model: CycleModel, recorder: Recorder | None = None, precision: str = 'float32',
                 graphs: bool = True) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        if recorder is None and graphs and self.device.type == 'cuda':
            recorder = cuda_graph
        self.plain = plain = _Streaming(model, precision)
        functions: tuple[Callable[..., Any], ...] = (plain.frame, plain.infer, plain.scene, plain.loss, plain.predict)
        self._frame, self._infer, self._scene, self._loss, self._predict = (
            f if recorder is None else Recorded(f, self.device, recorder) for f in functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    @property
    def reasons(self) -> list[str]:
        """Why something is not recorded, if anything is not."""
        parts = (self._frame, self._infer, self._scene, self._loss, self._predict)
        return [reason for part in parts if isinstance(part, Recorded) for reason in part.reasons]

    def infer(self, image: Tensor, belief: Belief | None = None, iterations: int | None = None,
              action: Tensor | None = None, generator: torch.Generator | None = None) -> Belief:
        """As `CycleModel.infer`; first frames, which are rare, run as they are."""
        if belief is None:
            return self.plain.infer(image, None, iterations, action, generator)
        return cast(Belief, self._infer(image, belief, iterations, action, generator=generator))

    def predict(self, belief: Belief, action: Tensor | None = None) -> Belief:
        """As `CycleModel.predict`."""
        return cast(Belief, self._predict(belief, action, generator=None))

    def scene(self, belief: Belief, noise: Tensor | None = None) -> Scene:
        """As `CycleModel.scene`."""
        return cast(Scene, self._scene(belief, noise, generator=None))

    def loss(self, belief: Belief, scene: Scene, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `CycleModel.loss`."""
        return cast(tuple[Tensor, Tensor, Tensor], self._loss(belief, scene, image, generator=None))

    def frame(self, image: Tensor, belief: Belief, iterations: int | None = None, action: Tensor | None = None,
              generator: torch.Generator | None = None) -> tuple[Belief, Scene]:
        """A whole streaming step in one recording: predict (where the model does), refine, decode."""
        return cast(tuple[Belief, Scene], self._frame(image, belief, iterations, action, generator=generator))


class _Streaming:
    """The methods of a model with a generator at the end, as `Recorded` calls them, in a precision."""

    def __init__(self, model: CycleModel, precision: str) -> None:
        self.model, self.precision = model, precision

    def infer(self, image: Tensor, belief: Belief | None, iterations: int | None, action: Tensor | None,
              generator: torch.Generator | None) -> Belief:
        return self._run(self.model.infer, image, belief, iterations, action, generator)

    def predict(self, belief: Belief, action: Tensor | None, generator: torch.Generator | None) -> Belief:
        return self._run(self.model.predict, belief, action)

    def scene(self, belief: Belief, noise: Tensor | None, generator: torch.Generator | None) -> Scene:
        return self._run(self.model.scene, belief, noise)

    def loss(self, belief: Belief, scene: Scene, image: Tensor, generator: torch.Generator | None
             ) -> tuple[Tensor, Tensor, Tensor]:
        return self._run(self.model.loss, belief, scene, image)

    def frame(self, image: Tensor, belief: Belief, iterations: int | None, action: Tensor | None,
              generator: torch.Generator | None) -> tuple[Belief, Scene]:
        guess = self.predict(belief, action, generator) if self.model.predicts else belief
        found = self.infer(image, guess, iterations, action, generator)
        return found, self.scene(found, None, generator)

    def _run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        with precise(self.precision, next(self.model.parameters()).device):
            result = function(*arguments)
        return cast(Result, rebuilt(result, lambda x: x.float() if x.is_floating_point() else x))


def tensors(tree: Any) -> Iterator[Tensor]:
    """All tensors of a tree of dataclasses and tuples, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif dataclasses.is_dataclass(tree):
        for field in dataclasses.fields(tree):
            yield from tensors(getattr(tree, field.name))
    elif isinstance(tree, tuple):
        for item in tree:
            yield from tensors(item)


def rebuilt(tree: Any, f: Callable[[Tensor], Tensor]) -> Any:
    """The tree with f of each tensor; other values stay."""
    if isinstance(tree, Tensor):
        return f(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return dataclasses.replace(tree, **{field.name: rebuilt(getattr(tree, field.name), f)
                                            for field in dataclasses.fields(tree)})
    return tuple(rebuilt(item, f) for item in tree) if isinstance(tree, tuple) else tree


def shape_of(tree: Any) -> Any:
    """What two calls must share to share a recording: kinds, shapes and types of tensors, and other values."""
    if isinstance(tree, Tensor):
        return Tensor, tuple(tree.shape), tree.dtype, tree.device
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return type(tree), tuple(shape_of(getattr(tree, field.name)) for field in dataclasses.fields(tree))
    return tuple(shape_of(item) for item in tree) if isinstance(tree, tuple) else tree
