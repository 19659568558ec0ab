"""`object-centric bench models`: what a frame and a training step cost each model, also beside the authors' code."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.beside_authors import PAIRS
from object_centric_ros.evaluation.models_table import example_action
from object_centric_ros.evaluation.reference import data_folder
from object_centric_ros.evaluation.tables import text_table
from object_centric_ros.evaluation.timing import Work, measure, peak_memory
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.models.registry import build_model
from object_centric_ros.presets import load_preset
from object_centric_ros.tracking.compiled import PRECISIONS, RecordedModel, precise
from object_centric_ros.tracking.tracker import choose_device

PRESETS = ('parts_tabletop', 'parts_paper', 'op3_paper', 'op3_released_pick_place', 'iodine', 'efficientmorl_tabletop',
           'efficientmorl_multi_dsprites', 'slot_attention_small', 'obai_tabletop', 'rnem_balls')
NOTE = """\
ms: median wall time of a call, and its quartiles; CPU ms: median processor time of all threads. Streaming frame:
predict (where the model does), refine, decode; random weights and images. Training step: loss, backward, Adam. MB: on a
GPU what torch allocated at most, weights included; on a CPU by how much resident memory grew over what was there
before."""
REFERENCE_NOTE = """\
ours, theirs ms: median wall times of calls in turn; ratio: median of theirs / ours of each turn, and its quartiles;
difference: root mean square of the composed images' difference as a share of their own, or of the norms of the gradient
of all parameters."""

def streaming(model: CycleModel, batch: int, refinements: int, seed: int, precision: str) -> Work:
    """A frame that follows another one. On a GPU its kernels are replayed from a CUDA graph."""
    device, size = next(model.parameters()).device, model.config.image_size
    generator = torch.Generator(device).manual_seed(seed)
    image = model.observe(torch.rand(batch, 3, size, size, generator=generator, device=device))
    action = _to(example_action(model, batch, seed), device)
    with torch.no_grad():
        belief = model.infer(image, generator=generator)
    recorded = RecordedModel(model, precision=precision)

    def work() -> Tensor:
        with torch.no_grad():
            return recorded.frame(image, belief, refinements, action, generator)[1].mask_logits
    return work


def first_frame(model: CycleModel, batch: int, seed: int, precision: str) -> Work:
    """A frame without one before."""
    device, size = next(model.parameters()).device, model.config.image_size
    generator = torch.Generator(device).manual_seed(seed)
    image = model.observe(torch.rand(batch, 3, size, size, generator=generator, device=device))

    def work() -> Tensor:
        with torch.no_grad(), precise(precision, device):
            return model.scene(model.infer(image, generator=generator)).mask_logits
    return work


def training_frames(model: CycleModel) -> int:
    """T of a training step: one for static models, else three or as many as the objective wants."""
    burn_in = getattr(model.config, 'burn_in', 0)
    return max(3, burn_in + getattr(model.config, 'rollout', 0) if burn_in else 0) if model.predicts else 1


def training_step(model: CycleModel, batch: int, seed: int, precision: str) -> Work:
    """Loss, backward and Adam, at the beginning of the training's curricula."""
    device, size, frames = next(model.parameters()).device, model.config.image_size, training_frames(model)
    generator = torch.Generator(device).manual_seed(seed)
    pixels = torch.rand(batch * frames, 3, size, size, generator=generator, device=device)
    images = model.observe(pixels).unflatten(0, (batch, frames))
    action = _to(example_action(model, batch * frames, seed), device)
    actions = None if action is None else action.unflatten(0, (batch, frames))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-5)

    def work() -> Tensor:
        optimiser.zero_grad()
        with precise(precision, device):
            loss, _ = model.episode_loss(images, actions, 0, generator)
        loss.backward()
        optimiser.step()
        return loss.detach()
    return work


def _to(x: Tensor | None, device: torch.device) -> Tensor | None:
    return None if x is None else x.to(device)


def rows(preset: str, args: argparse.Namespace, device: torch.device) -> Iterator[dict[str, Any]]:
    """The lines of a preset."""
    config = load_preset(preset)
    config = replace(config, slots=args.slots) if args.slots else config
    torch.manual_seed(args.seed)
    model = build_model(config).to(device)
    if args.compiler:
        for part in model.children():
            part.compile(backend=args.compiler)
    counts = args.refinements or [config.iterations]
    for precision in args.precision or PRECISIONS[:1]:
        model.eval().requires_grad_(False)
        works = [(f'streaming frame, {n} refinements', 1, streaming(model, args.batch, n, args.seed, precision))
                 for n in counts]
        works.append(('first frame', 1, first_frame(model, args.batch, args.seed, precision)))
        for what, frames, work in works:
            yield _row(preset, config.slots, args, device, precision, what, frames, work)
        model.train().requires_grad_(True)
        frames = training_frames(model)
        yield _row(preset, config.slots, args, device, precision, f'training step, T = {frames}', frames,
                   training_step(model, args.batch, args.seed, precision))


def _row(preset: str, slots: int, args: argparse.Namespace, device: torch.device, precision: str, what: str,
         frames: int, work: Work) -> dict[str, Any]:
    (timing,), _ = measure([work], args.repeats, device)
    return {'preset': preset, 'K': slots, 'batch': args.batch, 'device': str(device), 'precision': precision,
            'what': what, 'ms': timing.ms(), '25 %': timing.ms(25), '75 %': timing.ms(75), 'CPU ms': timing.cpu_ms(),
            'MB': peak_memory(work, device), 'images/s': 1000 * args.batch * frames / timing.ms(), 'n': args.repeats}


def reference_rows(name: str, checkout: Path, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The lines of one model beside its authors' code."""
    data, device = data_folder(args.data), torch.device('cpu')
    for precision in args.precision or PRECISIONS[:1]:
        for what, slots, batch, ours, theirs in PAIRS[name](checkout, data, args.seed, precision):
            (mine, other), (a, b) = measure([ours, theirs], args.repeats, device)
            ratio = np.array(other.wall) / np.array(mine.wall)
            yield {'model': name, 'what': what, 'K': slots, 'batch': batch, 'precision': precision,
                   'ours ms': mine.ms(), 'theirs ms': other.ms(), 'ratio': float(np.median(ratio)),
                   '25 %': float(np.percentile(ratio, 25)), '75 %': float(np.percentile(ratio, 75)),
                   'CPU ratio': other.cpu_ms() / mine.cpu_ms(), 'difference %': 100 * float((a - b).norm() / b.norm()),
                   'ours MB': peak_memory(ours, device), 'theirs MB': peak_memory(theirs, device),
                   'n': args.repeats}


def add_arguments(parser: argparse._ArgumentGroup) -> None:
    """The options of `object-centric bench models` besides those that it shares with the other parts."""
    parser.add_argument('--preset', action='append', help='configuration to measure, repeatable (default: ten of them)')
    parser.add_argument('--slots', type=int, help='K; default: of the configuration')
    parser.add_argument('--batch', type=int, default=1, help='images at a time')
    parser.add_argument('--refinements', type=int, action='append', metavar='N',
                        help='of a streaming frame, repeatable; default: of the configuration')
    parser.add_argument('--precision', choices=PRECISIONS, action='append', help='repeatable; default: float32')
    parser.add_argument('--compiler', default='', help="torch.compile backend, e.g. 'inductor'; default: none")
    parser.add_argument('--repeats', type=int, default=20, help='timed calls of each, after two to warm up')
    parser.add_argument('--reference', action='append', metavar='MODEL=DIR',
                        help=f"also the authors' code in DIR, MODEL one of {', '.join(PAIRS)}; repeatable")
    parser.add_argument('--data', help='folder of the reference data; default: $OBJECT_CENTRIC_DATA')
    parser.add_argument('--json', action='store_true', help='as JSON')


def run(args: argparse.Namespace) -> int:
    """Print the table, or with `--reference` that of the comparison."""
    references = [text.partition('=') for text in args.reference or []]
    for name, _, folder in references:
        if name not in PAIRS or not folder:
            raise InputError('--reference', f'MODEL=DIR with MODEL one of {", ".join(PAIRS)}', f'{name}={folder}')
    if min(args.batch, args.repeats, args.slots or 1) < 1 or min(args.refinements or [0]) < 0:
        raise InputError('--batch, --slots, --repeats', 'positive numbers', (args.batch, args.slots, args.repeats))
    device = choose_device('cpu' if references and args.device == 'auto' else args.device)
    if references and device.type != 'cpu':
        raise InputError('--device with --reference', 'cpu', device)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # as the tracker does
    facts = {'device': str(device), 'name': _name(device), 'threads': args.threads, 'torch': torch.__version__,
             'seed': args.seed, 'repeats': args.repeats, 'load': os.getloadavg()[0]}
    if not args.json:
        print(', '.join(f'{key} {value}' for key, value in facts.items()), flush=True)
    found: list[dict[str, Any]] = []
    if references:
        for name, _, folder in references:
            found += reference_rows(name, Path(folder), args)
    else:
        for preset in args.preset or PRESETS:
            found += rows(preset, args, device)
    if args.json:
        print(json.dumps({**facts, 'rows': found}, indent=1))
    else:
        print(text_table(list(found[0]), [list(row.values()) for row in found]))
        print(f'\n{REFERENCE_NOTE if references else NOTE}', flush=True)
    return 0


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.processor() or platform.machine()
