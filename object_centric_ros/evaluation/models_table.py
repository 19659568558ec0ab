"""`object-centric models`: which models there are, what they are made of, and what one frame costs."""

from __future__ import annotations

import argparse
import json
import weakref
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from object_centric_ros.config import to_mapping
from object_centric_ros.evaluation.tables import text_table
from object_centric_ros.models.cycle import CycleModel, ModelConfig
from object_centric_ros.models.registry import MODELS, build_model
from object_centric_ros.presets import load_preset, preset_names

FORMULAS = {**flop_registry, torch.ops.aten._nnpack_spatial_convolution:
            lambda x, weight, *_, out_val: 2 * out_val.numel() * weight[0].numel()}
"""Arithmetic of operations: torch's, and that of one which inference on a CPU may convolve with."""
NOTE = """\
One step: predict (where the model does), the refinements of a later frame, decode; batch 1, float32, random weights.
GFLOP: convolutions (tap by tap) and matrix products, backward ones too; a multiply-add counts as two.
Step MB: the most that the tensors of the step hold at one time; weights MB come on top, and what libraries use
inside of an operation."""


@dataclass(frozen=True)
class ModelRow:
    """One line of the table.

    Attributes:
        preset: name of the configuration; `NAME (defaults)` for a model without a preset.
        model: name in the registry; paper: authors and year.
        parts: classes of the model's parts, by their names in it.
        parameters: their number; part_parameters: of each part.
        slots, image_size: K and H = W of the step.
        gflop, step_mb, weights_mb: cost of one streaming step, see NOTE.
        tracks, predicts, plans: what it can do (every cycle is a filter, so all track); actions: the format of what it
            is told.
        config: all fields.
    """

    preset: str
    model: str
    paper: str
    parts: dict[str, str]
    parameters: int
    part_parameters: dict[str, int]
    slots: int
    image_size: int
    gflop: float
    step_mb: float
    weights_mb: float
    tracks: bool
    predicts: bool
    plans: bool
    actions: str
    config: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `object-centric models`."""
    parser.add_argument('--preset', help='only this one, with its parts and fields: a name, or a YAML file')
    parser.add_argument('--slots', type=int, help='K of the step; default: of the configuration')
    parser.add_argument('--json', action='store_true', help='as JSON')


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    chosen = {args.preset: load_preset(args.preset)} if args.preset else all_configurations()
    rows = [model_row(name, replace(c, slots=args.slots) if args.slots else c) for name, c in chosen.items()]
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return 0
    print(text_table(('preset', 'paper', 'parameters', 'K', 'pixels', 'GFLOP', 'step MB', 'weights MB', 'track',
                      'predict', 'plan', 'actions'),
                     [(r.preset, r.paper, r.parameters, r.slots, r.image_size, r.gflop, r.step_mb, r.weights_mb,
                       r.tracks, r.predicts, r.plans, r.actions) for r in rows]))
    print(f'\n{NOTE}\n')
    if args.preset:
        print(text_table(('part', 'class', 'parameters'),
                         [(k, v, rows[0].part_parameters[k]) for k, v in rows[0].parts.items()]))
        print()
        print(text_table(('field', 'value'), [(k, str(v)) for k, v in rows[0].config.items()]))
    else:
        print(text_table(('preset', 'parts'), [(r.preset, ', '.join(dict.fromkeys(r.parts.values()))) for r in rows]))
    return 0


def all_configurations() -> dict[str, ModelConfig]:
    """Every preset, and the defaults of models that have none."""
    found = {name: load_preset(name) for name in preset_names()}
    named = {config.name for config in found.values()}
    return found | {f'{name} (defaults)': kind() for name, (kind, _) in MODELS.items() if name not in named}


def model_row(name: str, config: ModelConfig) -> ModelRow:
    """Build the model with random weights and measure one step."""
    model = build_model(config).eval().requires_grad_(False)
    parts = {k: type(v[0] if isinstance(v, nn.ModuleList) else v).__name__ for k, v in model.named_children()}
    sizes = {k: sum(p.numel() for p in v.parameters()) for k, v in model.named_children()}
    cost = step_cost(model)
    parameters = sum(p.numel() for p in model.parameters())
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    return ModelRow(name, config.name, model.paper, parts, parameters, sizes, config.slots, config.image_size,
                    cost.flop / 1e9, cost.peak / 2 ** 20, weights / 2 ** 20, True, model.predicts,
                    model.plans, model.action_format, to_mapping(config))


def example_action(model: CycleModel, batch: int, seed: int = 0) -> Tensor | None:
    """A random action [batch, ...] in the model's format; None for a model without actions."""
    generator = torch.Generator().manual_seed(seed)
    size, action_size = model.config.image_size, model.config.action_size
    if model.action_format == 'field':
        return 0.1 * torch.randn(batch, 2, size, size, generator=generator)
    if model.action_format == 'none' or not action_size:
        return None
    if model.action_format == 'discrete':
        return torch.eye(action_size)[torch.randint(0, action_size, (batch,), generator=generator)]
    action = 2 * torch.rand(batch, action_size, generator=generator) - 1
    if model.action_format == 'pick_place_uv':
        action[:, 0] = 1
    return action


def step_cost(model: CycleModel) -> Cost:
    """Cost of one frame that follows another."""
    size = model.config.image_size
    generator = torch.Generator().manual_seed(0)
    image = model.observe(torch.rand(1, 3, size, size, generator=generator))
    action = example_action(model, 1)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque operation, whose products would not be counted
    try:
        with torch.no_grad():
            belief = model.infer(image, generator=generator)
            with Cost([*model.parameters(), *model.buffers(), image, *belief.tensors().values()]) as cost:
                guess = model.predict(belief, action) if model.predicts else belief
                model.scene(model.infer(image, guess, None, action, generator))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return cost


class Cost(TorchDispatchMode):
    """Counts the arithmetic of all operations inside of it, and the bytes of the tensors that they leave alive.

    Args:
        known: tensors that are there before, which do not count.

    Attributes:
        flop: floating-point operations of convolutions and matrix products.
        peak: the most bytes that were alive at one time.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.flop = self.alive = self.peak = 0
        self.storages: dict[int, int] = {t.untyped_storage()._cdata: 0 for t in known}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it."""
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        if (formula := FORMULAS.get(function._overloadpacket)) is not None:
            self.flop += formula(*args, **kwargs, out_val=out)
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.storages:
            return
        self.storages[key] = storage.nbytes()
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.alive -= self.storages.pop(key)
