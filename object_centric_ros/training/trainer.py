"""The training loop: stages under a time budget, checkpoints, resume, validation, TensorBoard."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from object_centric_ros import __version__
from object_centric_ros.config import to_mapping
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.validate import validate
from object_centric_ros.models.belief import Belief
from object_centric_ros.models.checkpoint import load_model, save_model
from object_centric_ros.models.cycle import Terms
from object_centric_ros.models.likelihood import LIKELIHOODS
from object_centric_ros.models.parts import Parts, PartsConfig
from object_centric_ros.models.registry import build_model
from object_centric_ros.training.data import Episodes, as_image
from object_centric_ros.training.objectives import dynamics_loss, frames_loss
from object_centric_ros.training.settings import Stage, TrainingConfig
from object_centric_ros.training.state import load_state, restore_optimiser, save_state

OPTIMISERS: dict[str, Any] = {'adam': torch.optim.Adam, 'rmsprop': torch.optim.RMSprop}


class Diverged(RuntimeError):
    """The loss or a gradient is not finite; the last good checkpoint stays."""


class Trainer:
    """One run in a folder: state.safetensors (to resume), model.safetensors (to use), log.jsonl, TensorBoard events.

    Args:
        config: the run.
        data: training episodes.
        held_out: validation episodes.
        folder: where the run lives; a state found there is resumed.
        minutes: budget of the whole run, all calls together.
        device: torch device.
        initial: a model file to start from instead of random weights (fine-tuning).
    """

    def __init__(self, config: TrainingConfig, data: Episodes, held_out: Episodes, folder: str, minutes: float,
                 device: str = 'cpu', initial: str | None = None) -> None:
        self.config, self.data, self.held_out, self.folder = config, data, held_out, folder
        self.budget = 60 * minutes
        for episodes in (data, held_out):
            size, wanted = episodes.frames.shape[2:4], config.model.image_size
            if size != (wanted, wanted):
                raise InputError(f'{episodes.store.path}: frames', f'{wanted}x{wanted} pixels, the image_size of the '
                                 'model', f'{size[0]}x{size[1]}')
        torch.set_flush_denormal(True)  # far tails of masks make denormal gradients, which are several times slower
        self.device = torch.device(device)
        os.makedirs(folder, exist_ok=True)
        torch.manual_seed(config.seed)
        self.model = build_model(config.model).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if initial:
            start, _ = load_model(initial)
            try:
                self.model.load_state_dict(start.state_dict())
            except RuntimeError as e:
                raise InputError(f'checkpoint {initial}', "the configuration's tensors", e) from e
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.rng = np.random.default_rng(config.seed)
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == 'bfloat16')
        self.progress: dict[str, Any] = {'stage': 0, 'step': 0, 'seconds': 0.0, 'stage_seconds': 0.0, 'steps': 0}
        self.optimiser = self._optimiser()
        self.state_path = os.path.join(folder, 'state.safetensors')
        if os.path.exists(self.state_path):
            entries, self.progress = load_state(self.state_path, self.model, self.generator, self.rng)
            restore_optimiser(self.optimiser, entries)
        self.pairs: tuple[Belief, Belief, Tensor] | None = None
        self.stop = False

    def _optimiser(self) -> torch.optim.Optimizer:
        return OPTIMISERS[self.config.optimiser](self.model.parameters(), lr=1e-4)

    def run(self) -> dict[str, float]:
        """Train until the budget is spent; returns the last validation, or nothing after `stop` was set."""
        total = sum(s.share for s in self.config.stages)
        with SummaryWriter(self.folder) as board:
            while self.progress['stage'] < len(self.config.stages):
                stage = self.config.stages[self.progress['stage']]
                self._stage(stage, self.budget * stage.share / total, board)
                if self.stop:
                    self._save()
                    return {}
                self.progress |= {'stage': self.progress['stage'] + 1, 'step': 0, 'stage_seconds': 0.0}
                self.optimiser = self._optimiser()
                self._save()
            result = self._validate(board, len(self.held_out))
        self._save(result)
        return result

    def _stage(self, stage: Stage, seconds: float, board: SummaryWriter) -> None:
        bar = tqdm(total=round(seconds), initial=round(self.progress['stage_seconds']), unit='s', desc=stage.objective,
                   mininterval=5)
        self._override(stage.likelihood, stage.beta)
        if stage.objective == 'dynamics':
            self._inferred_pairs(stage)  # before the clock of the stage starts
        last_save = last_validation = time.monotonic()
        while self.progress['stage_seconds'] < seconds and not self.stop:
            began = time.monotonic()
            self._rate(stage, self.progress['stage_seconds'] / seconds)
            self.model.train()
            loss, terms = self._loss(stage)
            self._step(loss, terms)
            spent = time.monotonic() - began
            for key in ('stage_seconds', 'seconds'):
                self.progress[key] += spent
            self.progress['step'] += 1
            self.progress['steps'] += 1
            bar.update(max(0, round(self.progress['stage_seconds']) - bar.n))
            if self.progress['step'] % 50 == 0:
                self._log(board, {'loss': loss.item(), **terms, 'seconds': self.progress['seconds']})
                bar.set_postfix({k: f'{v:.4g}' for k, v in list(terms.items())[:3]})
            if time.monotonic() - last_save > self.config.checkpoint_every:
                self._save()
                last_save = time.monotonic()
            if time.monotonic() - last_validation > self.config.validate_every:
                self._validate(board, self.config.validation_episodes)
                last_validation = time.monotonic()
        bar.close()
        self._override('', -1.0)

    def _override(self, likelihood: str, beta: float) -> None:
        """A likelihood and a KL weight for a stage of PARTS; '' and a negative number are the model's."""
        config = self.config.model
        if isinstance(self.model, Parts) and isinstance(config, PartsConfig):
            self.model.likelihood = LIKELIHOODS[likelihood or config.likelihood](config.sigma)
            self.model.config = replace(config, beta=beta) if beta >= 0 else config

    def _rate(self, stage: Stage, done: float) -> None:
        step = self.progress['step']
        fall = 0.5 ** (step / stage.half_life) if stage.half_life else min(1.0, max(0.05, (1 - done) / 0.3))
        rate = stage.lr * min(1.0, (step + 1) / stage.warmup) * fall
        for group in self.optimiser.param_groups:
            group['lr'] = rate

    def _loss(self, stage: Stage) -> tuple[Tensor, Terms]:
        if stage.objective == 'paper':
            rgb, actions = self.data.sequences(self.rng, stage.batch, stage.horizon, stage.arm_fraction,
                                               stage.still_fraction)
            images = self.model.observe(rgb.to(self.device).flatten(0, 1)).unflatten(0, rgb.shape[:2])
            told = actions.to(self.device) if actions.numel() else None
            with self.autocast:
                return self.model.episode_loss(images, told, self.progress['steps'], self.generator)
        assert isinstance(self.model, Parts)
        if stage.objective == 'frames':
            images = self.data.images(self.rng, stage.batch, stage.arm_fraction).to(self.device)
            images = images.contiguous(memory_format=torch.channels_last)
            return frames_loss(self.model, images, self.generator, self.autocast, stage.rounds)
        if stage.objective == 'dynamics':
            before, after, actions = self._inferred_pairs(stage)
            rows = torch.from_numpy(self.rng.integers(0, len(actions), stage.batch)).to(self.device)
            pick = [Belief(b.mean[rows], b.log_std[rows], b.memory[rows]) for b in (before, after)]
            return dynamics_loss(self.model, pick[0], pick[1], actions[rows])
        images, actions = self.data.sequences(self.rng, stage.batch, stage.horizon, stage.arm_fraction,
                                              stage.still_fraction)
        observed = images.shape[1]
        if self.rng.random() < stage.unobserved:
            observed = int(self.rng.integers(1, observed))
        with self.autocast:
            loss, terms = self.model.sequence_loss(images.to(self.device), actions.to(self.device), self.generator,
                                                   observed)
        return loss / images[0, 0, 0].numel(), terms

    @torch.no_grad()
    def _inferred_pairs(self, stage: Stage) -> tuple[Belief, Belief, Tensor]:
        """Beliefs of neighbouring frames, inferred once and kept: (before, after, action)."""
        if self.pairs is None:
            self.model.eval()
            n = min(stage.episodes, len(self.data))
            beliefs = []
            for begin in tqdm(range(0, n, 40), desc='inferring beliefs', mininterval=5):
                frames = self.data.frames[begin:min(begin + 40, n)]
                images = as_image(frames.reshape(-1, *frames.shape[2:])).to(self.device)
                with self.autocast:
                    belief = self.model.infer(images, generator=self.generator, feedback=False)
                beliefs.append(belief)
            t = self.data.frames.shape[1]

            def pairs(which: slice) -> Belief:
                parts = [torch.cat([getattr(b, k) for b in beliefs]).unflatten(0, (n, t))[:, which].flatten(0, 1)
                         for k in ('mean', 'log_std', 'memory')]
                return Belief(*parts)
            actions = torch.from_numpy(self.data.actions(slice(0, n))).flatten(0, 1).to(self.device)
            self.pairs = pairs(slice(0, t - 1)), pairs(slice(1, t)), actions
        return self.pairs

    def _step(self, loss: Tensor, terms: Terms) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if not (torch.isfinite(norm) and torch.isfinite(loss)):
            bad = [k for k, v in terms.items() if not np.isfinite(v)] or ['gradient']
            raise Diverged(f'stage {self.progress["stage"]}, step {self.progress["step"]}: {", ".join(bad)} not finite'
                           f'; the last good state is {self.state_path}')
        self.optimiser.step()

    def _log(self, board: SummaryWriter, values: dict[str, float], prefix: str = 'train') -> None:
        step = self.progress['steps']
        for key, value in values.items():
            board.add_scalar(f'{prefix}/{key}', value, step)
        with open(os.path.join(self.folder, 'log.jsonl'), 'a', encoding='utf-8') as f:
            f.write(json.dumps({'kind': prefix, 'stage': self.progress['stage'], 'step': step, **values}) + '\n')

    def _validate(self, board: SummaryWriter, episodes: int) -> dict[str, float]:
        with self.autocast:
            result = validate(self.model, self.held_out, episodes)
        self._log(board, {**result, 'seconds': self.progress['seconds']}, 'validation')
        images = as_image(self.held_out.frames[:4, 0]).to(self.device)
        with torch.no_grad():
            generator = torch.Generator(self.device).manual_seed(0)
            scene = self.model.scene(self.model.infer(self.model.observe(images), generator=generator))
        slots = (scene.masks[:, :, None] * scene.colours).clamp(0, 1)
        slots = torch.cat([scene.image[:, None].clamp(0, 1), slots], 1).expand(-1, -1, 3, -1, -1)
        rows = torch.cat([images[:, None], slots], 1).flatten(0, 1)
        board.add_images('slots', rows, self.progress['steps'])
        return result

    def record(self, result: dict[str, float] | None = None) -> dict[str, Any]:
        """How these weights came to be; written into the model file and beside it."""
        return {'version': __version__, 'training': to_mapping(self.config), 'steps': self.progress['steps'],
                'minutes': round(self.progress['seconds'] / 60, 1), 'device': self._device_name(),
                'threads': torch.get_num_threads(), 'torch': torch.__version__, 'episodes': len(self.data),
                'data': {k: v for k, v in self.data.store.meta.items()
                         if k in ('generator', 'version', 'seed', 'format')},
                'validation': result or {}} | ({'camera': self.data.camera.to_dict()} if self.data.camera else {})

    def _device_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == 'cuda' else f'CPU {platform.machine()}'

    def _save(self, result: dict[str, float] | None = None) -> None:
        save_state(self.state_path, self.model, self.optimiser, self.generator, self.rng, self.progress)
        record = self.record(result)
        save_model(os.path.join(self.folder, 'model.safetensors'), self.model, record)
        with open(os.path.join(self.folder, 'model.json'), 'w', encoding='utf-8') as f:
            json.dump(record, f, indent=1)
