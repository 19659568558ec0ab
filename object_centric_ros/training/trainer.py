"""The training loop: stages by steps or by the clock, checkpoints, resume, validation, one process or many."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from object_centric_ros.datasets.held_out import Episodes, as_image
from object_centric_ros.datasets.sequences import Item, SequenceLoader
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.validate import validate
from object_centric_ros.models.checkpoint import load_model, save_model
from object_centric_ros.models.cycle import Terms
from object_centric_ros.models.parts import Parts
from object_centric_ros.models.registry import build_model
from object_centric_ros.training.data import TrainingFiles, endless
from object_centric_ros.training.held_out_loss import held_out_loss
from object_centric_ros.training.inferred import inferred_pairs
from object_centric_ros.training.objectives import Draw, Pairs, override, stage_loss
from object_centric_ros.training.processes import Processes
from object_centric_ros.training.record import run_record
from object_centric_ros.training.runlog import RunLog, slot_rows
from object_centric_ros.training.settings import Stage, TrainingConfig
from object_centric_ros.training.state import BELIEFS, CHOICES, NOISE, load_state, save_state, stream_seed
from object_centric_ros.training.watch import Diverged, StepClock, Watch, not_finite

OPTIMISERS: dict[str, Any] = {'adam': torch.optim.Adam, 'rmsprop': torch.optim.RMSprop}
LOG_EVERY = 50


class Trainer:
    """One run in a folder: state.safetensors (to resume), model.safetensors (to use), log.jsonl, TensorBoard events.

    Args:
        config: the run.
        data: training episodes.
        held_out: validation episodes.
        folder: where the run lives; a state found there is resumed.
        minutes: budget of the stages that have no number of steps, all calls together.
        device: torch device.
        initial: a model file to start from instead of random weights (fine-tuning).
        processes: of this run.
        pause: stop after so many minutes of this call, to be continued by another one.
    """

    def __init__(self, config: TrainingConfig, data: TrainingFiles, held_out: Episodes, folder: str, minutes: float,
                 device: str = 'cpu', initial: str | None = None, processes: Processes | None = None,
                 pause: float = math.inf) -> None:
        self.config, self.data, self.held_out, self.folder = config, data, held_out, folder
        self.processes = processes or Processes(device)
        self.budget, self.deadline = 60 * minutes, time.monotonic() + 60 * pause
        for store in (*data.stores, held_out.store):
            size, wanted = store.image_shape[:2], config.model.image_size
            if size != (wanted, wanted):
                raise InputError(f'{store.path}: frames', f'{wanted}x{wanted} pixels, the image_size of the model',
                                 f'{size[0]}x{size[1]}')
        torch.set_flush_denormal(True)  # far tails of masks make denormal gradients, which are several times slower
        self.device = torch.device(device)
        os.makedirs(folder, exist_ok=True)
        torch.manual_seed(config.seed)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model = build_model(config.model).to(self.device, memory_format=layout)  # type: ignore[call-overload]
        if initial:
            start, _ = load_model(initial)
            try:
                self.model.load_state_dict(start.state_dict())
            except RuntimeError as e:
                raise InputError(f'checkpoint {initial}', "the configuration's tensors", e) from e
        if config.compile:
            for part in self.model.children():
                part.compile(backend=config.compile_backend)
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == 'bfloat16')
        self.progress: dict[str, Any] = {'stage': 0, 'step': 0, 'seconds': 0.0, 'stage_seconds': 0.0, 'steps': 0,
                                         'cpu_seconds': 0.0, 'looked': -1}
        self.optimiser = self._optimiser()
        self.state_path, self.best_path = (os.path.join(folder, f'{n}.safetensors') for n in ('state', 'best'))
        if os.path.exists(self.state_path):
            self.progress |= load_state(self.state_path, self.model, self.optimiser)
        self.watch = Watch(**self.progress.get('watch', {}))
        self.loader: SequenceLoader | None = None
        self.batches: Iterator[Item] | None = None
        self.pairs: Pairs | None = None
        self.stop = False

    def _optimiser(self) -> torch.optim.Optimizer:
        return OPTIMISERS[self.config.optimiser]((p for p in self.model.parameters() if p.requires_grad), lr=1e-4)

    def _seed(self, stream: int, *numbers: int) -> int:
        return stream_seed(self.config.seed, stream, *numbers)

    def run(self) -> dict[str, float]:
        """Train to the end of the last stage; returns the last validation, or nothing after `stop` was set."""
        stages = self.config.stages
        with RunLog(self.folder, self.progress['steps'], self.processes.first) as self.log:
            while self.progress['stage'] < len(stages):
                stage = stages[self.progress['stage']]
                self._open(stage)
                self._stage(stage)
                override(self.model, self.config.model, None)
                if self.stop:
                    self._save()
                    return {}
                self._next_stage()
            result = self._validate(len(self.held_out))
        self._save(result)
        return result

    def _open(self, stage: Stage) -> None:
        """Get ready for a stage, or for what is left of it."""
        override(self.model, self.config.model, stage)
        self.loader = self.batches = self.pairs = None
        if stage.objective == 'dynamics':
            assert isinstance(self.model, Parts)
            self.pairs = inferred_pairs(self.model, self.data, stage.episodes, self.autocast, self._seed(BELIEFS),
                                        not self.processes.first)
            return
        single = stage.objective == 'frames'
        clips = self.data.clips(1 if single else stage.horizon, stage.stride, stage.arm_fraction > 0, not single)
        self.loader = SequenceLoader(clips, stage.batch * stage.accumulate, True, self.config.seed, self.config.workers,
                                     self.processes.rank, self.processes.count)
        if self.progress.get('loader'):
            self.loader.load_state_dict(self.progress['loader'])
        self.batches = endless(self.loader)

    def _next_stage(self) -> None:
        self.progress |= {'stage': self.progress['stage'] + 1, 'step': 0, 'stage_seconds': 0.0, 'loader': None}
        self.watch, self.loader = Watch(), None
        self.optimiser = self._optimiser()
        self._save()

    def _stage(self, stage: Stage) -> None:
        shares = sum(s.share for s in self.config.stages if not s.steps)
        seconds = math.inf if stage.steps else self.budget * stage.share / shares
        total, key = (stage.steps, 'step') if stage.steps else (seconds, 'stage_seconds')
        self.log.open_bar(stage.objective, total, self.progress[key], 'step' if stage.steps else 's')
        last_save = last_validation = last_log = time.monotonic()
        step_clock = StepClock()
        while True:
            # the first process's clock and anybody's wish to stop are everybody's
            clock = self.progress['stage_seconds'] / seconds if self.processes.first else 0.0
            asked = float(self.stop or time.monotonic() > self.deadline)
            save, look = (float(self.processes.first and time.monotonic() - last > every) for last, every in (
                (last_save, self.config.checkpoint_every), (last_validation, self.config.validate_every)))
            clock, asked, save, look = self.processes.agree([clock, asked, save, look], self.device)
            done = self.progress['step'] / stage.steps if stage.steps else clock
            self.stop = bool(asked)
            if done >= 1 or self.stop:
                break
            began, cpu = time.monotonic(), time.process_time()
            loss, terms = self.step(stage, done)
            spent = step_clock.take(time.monotonic() - began)
            self.progress['stage_seconds'] += spent
            self.progress['seconds'] += spent
            self.progress['cpu_seconds'] += time.process_time() - cpu
            self.log.advance(self.progress[key])
            if self.progress['step'] % LOG_EVERY == 0:
                now = time.monotonic()
                self._log({'loss': loss, **self._mean_terms(terms), 'rate': self.optimiser.param_groups[0]['lr'],
                           'steps_per_second': LOG_EVERY / (now - last_log), 'seconds': self.progress['seconds']})
                last_log = now
            if save:
                self._save()
                last_save = time.monotonic()
            every = self.config.validate_steps
            if self.progress['step'] % every == 0 if every else look:
                self._validate(self.config.validation_episodes)
                ended = self._held_out(stage)
                last_validation = time.monotonic()
                if ended:
                    break
        if not self.stop and self.progress['looked'] != self.progress['steps']:
            self._held_out(stage)
        self.log.close_bar()

    def _rate(self, stage: Stage, done: float) -> None:
        step = self.progress['step']
        falls = {'linear': min(1.0, max(0.05, (1 - done) / 0.3)), 'cosine': (1 + math.cos(math.pi * done)) / 2,
                 'none': 1.0}
        fall = 0.5 ** (step / stage.half_life) if stage.half_life else falls[stage.decay]
        rate = stage.lr * min(1.0, (step + 1) / stage.warmup) * fall * self.watch.factor
        for group in self.optimiser.param_groups:
            group['lr'] = rate

    def _item(self, stage: Stage) -> Item:
        return next(self.batches) if self.batches is not None else {}

    def step(self, stage: Stage, done: float) -> tuple[float, list[Terms]]:
        """One optimisation step, `done` of the way through the stage: its loss and the terms of each of its batches."""
        self._rate(stage, done)
        self.model.train()
        item, count = self._item(stage), stage.accumulate
        shards, number = count * self.processes.count, self.progress['steps']
        self.optimiser.zero_grad(set_to_none=True)
        # what changes without gradients, such as the multiplier of GECO, moves by the mean over the batches
        fixed = [p for p in self.model.parameters() if not p.requires_grad] if shards > 1 else []
        before, moved = [p.detach().clone() for p in fixed], [torch.zeros_like(p) for p in fixed]
        total, terms = torch.zeros((), device=self.device), []
        for i in range(count):
            part = {k: v[i * stage.batch:(i + 1) * stage.batch] for k, v in item.items()}
            shard = self.processes.rank * count + i
            generator = torch.Generator(self.device).manual_seed(self._seed(NOISE, number, shard))
            rng = np.random.default_rng(self._seed(CHOICES, number))
            loss, said = stage_loss(self.model, stage, Draw(part, number, rng, generator, shard, shards), self.autocast,
                                    self.pairs)
            (loss / count).backward()
            total += loss.detach() / count
            terms.append(said)
            with torch.no_grad():
                for p, old, move in zip(fixed, before, moved, strict=True):
                    move += (p - old) / count
                    p.copy_(old)
        total = self.processes.average_gradients(self.model, total)
        self.processes.average(moved)
        with torch.no_grad():
            for p, move in zip(fixed, moved, strict=True):
                p += move
        self._take(total, terms)
        return float(total), terms

    def _take(self, loss: torch.Tensor, terms: list[Terms]) -> None:
        """Clip and step, unless something is wrong."""
        try:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip, error_if_nonfinite=True)
            good = bool(torch.isfinite(loss))
        except RuntimeError:  # before any gradient was scaled
            good = False
        if not good:
            everyone = [t for given in self.processes.gather(terms) for t in given]
            self._give_up(f'{not_finite(self.model, loss, everyone)} not finite')
        if found := self.watch.step(float(loss), terms[-1], self.config.diverged):
            self._give_up(found)
        self.optimiser.step()
        self.progress['step'] += 1
        self.progress['steps'] += 1

    def _give_up(self, what: str) -> None:
        kept = 'the last good state is ' + self.state_path if os.path.exists(self.state_path) else 'no state was saved'
        raise Diverged(f'stage {self.progress["stage"]}, step {self.progress["step"]}: {what}; {kept}')

    def _mean_terms(self, terms: list[Terms]) -> Terms:
        everyone = [t for given in self.processes.gather(terms) for t in given]
        return {k: float(np.mean([t[k] for t in everyone if k in t])) for k in dict.fromkeys(
            k for t in everyone for k in t)}

    def _log(self, values: dict[str, float], kind: str = 'train') -> None:
        self.log.write(kind, self.progress['stage'], self.progress['steps'], values)
        if kind == 'train':
            self.log.show(values)

    def _validate(self, episodes: int) -> dict[str, float]:
        """Metrics of the first held-out episodes; {} in all processes but the first."""
        if not self.processes.first:
            return {}
        with self.autocast:
            result = validate(self.model, self.held_out, episodes)
            rows = slot_rows(self.model, as_image(self.held_out.frames[:4, 0]).to(self.device))
        self._log({**result, 'seconds': self.progress['seconds']}, 'validation')
        self.log.images('slots', rows.float(), self.progress['steps'])
        return result

    def _held_out(self, stage: Stage) -> bool:
        """Take the loss on held-out episodes, keep the best weights; whether the stage has to end, with those."""
        if stage.objective == 'dynamics':
            return False
        self.progress['looked'] = self.progress['steps']
        loss = self.processes.from_first(self.held_out_loss(stage) if self.processes.first else 0.0)
        best, ended = self.watch.validated(loss, stage.patience, stage.plateau)
        self._log({'loss': loss, 'best': self.watch.best}, 'held_out')
        if best and self.processes.first:
            self._save_model(self.best_path, self.record({'held_out_loss': loss}))
        self.processes.gather(None)  # now the file is there for all
        if ended:
            self.model.load_state_dict(load_model(self.best_path)[0].state_dict())
        return ended

    def held_out_loss(self, stage: Stage) -> float:
        """The objective of a stage on held-out episodes, with the same noise each time."""
        files = TrainingFiles([self.held_out.store.path], self.data.action_format, self.data.height)
        return held_out_loss(self.model, stage, files, self.config, self.progress['steps'], self.autocast)

    def record(self, result: dict[str, float] | None = None) -> dict[str, Any]:
        """How these weights came to be; written into the model file and beside it."""
        return run_record(self.config, self.progress, self.data, self.device, self.processes.count, result or {})

    def _save(self, result: dict[str, float] | None = None) -> None:
        """Keep the run as it is, unless the last losses are out of bounds."""
        if not self.processes.first or self.watch.suspicious(self.config.diverged, 5):
            return
        self.progress |= {'watch': self.watch.state(), 'loader': self.loader.state_dict() if self.loader else None}
        save_state(self.state_path, self.model, self.optimiser, self.progress)
        record = self.record(result)
        self._save_model(os.path.join(self.folder, 'model.safetensors'), record)
        with open(os.path.join(self.folder, 'model.json'), 'w', encoding='utf-8') as f:
            json.dump(record, f, indent=1)

    def _save_model(self, path: str, record: dict[str, Any]) -> None:
        """The weights with the model's own configuration, whatever the stage overrides."""
        of_stage, self.model.config = self.model.config, self.config.model
        save_model(path, self.model, record)
        self.model.config = of_stage
