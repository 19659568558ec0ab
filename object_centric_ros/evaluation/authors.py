"""The published code of OP3 and EfficientMORL, run from a checkout that the user names, beside ours.

None of it is part of this package. It dates from torch 1 and from packages of its time, so that it needs help at its
import: modules that only log, draw or configure are replaced by the stand-ins below, for as long as the import takes.
What the models compute is left alone, but for the noise, which both sides are given alike.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from object_centric_ros.errors import InputError

Noise = Iterable[Tensor]


@contextlib.contextmanager
def checkout(folder: Path, package: str, stubs: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Imports inside of it find `package` in `folder`, and the stand-ins instead of modules of those names.

    Afterwards the table of modules is as it was, so that a second checkout may have a package of the same name.
    """
    if not (folder / package).is_dir():
        raise InputError('--reference', f'a checkout with a folder {package}/', folder)

    def theirs(name: str) -> bool:
        return name in stubs or name.split('.')[0] == package
    before = {name: module for name, module in sys.modules.items() if theirs(name)}
    for name in before:
        del sys.modules[name]
    for name, attributes in stubs.items():
        module = ModuleType(name)
        module.__dict__.update(attributes)
        sys.modules[name] = module
    sys.path.insert(0, str(folder))
    try:
        yield
    except ImportError as e:
        raise InputError(f'--reference {folder}', f'the published code, whose {package}/ can be imported', e) from e
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if theirs(name)]:
            del sys.modules[name]
        sys.modules.update(before)


class AuthorsOP3:
    """The released OP3 model (op3/torch/op3_modules).

    Stand-ins: `op3.core` (its logger) and `op3.torch.op3_modules.visualizer` (pictures).

    Args:
        folder: the checkout.
        tensors: of the published checkpoint, by the authors' names.
        slots: K.
        action_size: A, 0 or 4.
    """

    def __init__(self, folder: Path, tensors: Mapping[str, Tensor], slots: int, action_size: int) -> None:
        stubs = {'op3.core': {'logger': None},
                 'op3.torch.op3_modules.visualizer': {'quicksave': None, 'visualize_state_info': None}}
        with checkout(folder, 'op3', stubs):
            found = importlib.import_module('op3.torch.op3_modules.op3_model')
        variant = {'refinement_model_type': 'size_dependent_conv', 'decoder_model_type': 'reg',
                   'dynamics_model_type': 'reg_ac32', 'K': slots,
                   'extra_args': {'beta': 0.01, 'deterministic_sampling': False}}
        self.model: Any = found.create_model_v2(variant, 64, 64, action_size)
        self.model.load_state_dict({name.removeprefix('module.'): tensor for name, tensor in tensors.items()})
        self.model.get_samples = self._sample
        self.noise: Iterator[Tensor] = iter(())

    def _sample(self, means: Tensor, scales: Tensor) -> Tensor:
        return next(self.noise) * self.model._softplus_to_std(scales) + means

    def run(self, images: Tensor, actions: Tensor | None, state: Any, schedule: list[int], noise: Noise,
            losses: bool = False) -> tuple[Any, ...]:
        """Their `run_schedule`, as their planner calls it (`eval_mode`, no losses, detached) or, with `losses`, as
        their trainer does.

        Args:
            images: [B, T, 3, H, W]; actions: [B, T, A] or None.
            state: of the frame before, or None.
            schedule: of 0 (refine) and 1 (predict).
            noise: [B, K, D] of each sample, of the first one too where `state` is None.
        """
        self.noise, self.model.eval_mode = iter(noise), not losses
        weights = [float(i + 1) if losses else 0.0 for i in range(len(schedule))]
        return self.model.run_schedule(images, actions, state, schedule, weights, should_detach=not losses)


class Ingredient:
    """Stand-in for sacred's: a function's arguments are filled in by name from the values of `settings`."""

    settings: dict[str, Any]

    def __init__(self, _: str) -> None:
        self.settings = {}

    def config(self, function: Callable[[], None]) -> Callable[[], None]:
        """Their defaults are not read: `settings` has them all."""
        return function

    def capture(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with those of its arguments that are not given taken from `settings`."""
        names = list(inspect.signature(function).parameters)

        def filled(*given: Any, **named: Any) -> Any:
            known = {name: self.settings[name] for name in names[len(given):] if name in self.settings}
            return function(*given, **known | named)
        return filled


class AuthorsEfficientMORL:
    """The released EfficientMORL model (lib/model.py): three layers, reversed prior++, mixture likelihood, no GECO.

    Stand-ins: `sacred`, whose `Ingredient` hands configuration to constructors, and `scipy.stats`, from which one
    initialisation is imported that is not used.

    Args:
        folder: the checkout.
        tensors: of a checkpoint of the 'iodine' decoder, by the authors' names.
        slots: K.
        batch: B, which their model is built for.
        iterations: I.
    """

    def __init__(self, folder: Path, tensors: Mapping[str, Tensor], slots: int, batch: int, iterations: int) -> None:
        with checkout(folder, 'lib', {'sacred': {'Ingredient': Ingredient}, 'scipy.stats': {'truncnorm': None}}):
            found = importlib.import_module('lib.model')
            self._normal: Any = importlib.import_module('lib.utils').torch.distributions.normal.Normal
        found.net.settings.update(
            input_size=[3, 64, 64], z_size=64, K=slots, stochastic_layers=3, refinement_iters=iterations,
            log_scale=math.log(0.1), geco_warm_start=1000, image_decoder='iodine', image_likelihood='GMM',
            use_DualGRU=True, bottom_up_prior=False, reverse_prior_plusplus=True, batch_size=batch)
        self.model: nn.Module = found.EfficientMORL(batch_size=batch)
        self.model.load_state_dict(dict(tensors))
        self.iterations = iterations

    def run(self, images: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Their forward pass.

        Args:
            images: [B, 3, H, W] in [0, 1].
            noise: [B, K, D] of each sample, in their order.

        Returns:
            the composed image [B, 3, H, W] of the last posterior, and the weighted loss.
        """
        drawn = iter(noise)

        def rsample(normal: Any, sample_shape: Any = ()) -> Tensor:
            return normal.loc + next(drawn).reshape(normal.loc.shape) * normal.scale
        before, self._normal.rsample = self._normal.rsample, rsample
        try:
            out = self.model(2 * images - 1, None, 0, 1.0)
        finally:
            self._normal.rsample = before
        last = 2 + self.iterations
        return (out[f'means_{last}'] * out[f'masks_{last}'].exp()).sum(1), out['total_loss']
