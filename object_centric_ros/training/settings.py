"""What a training run is: model, data and stages, as read from config/train/*.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from object_centric_ros.errors import InputError
from object_centric_ros.models.cycle import ModelConfig
from object_centric_ros.models.parts import PartsConfig
from object_centric_ros.presets import load_preset as load_preset  # teaches `config` the model names

OBJECTIVES = ('frames', 'dynamics', 'sequences', 'paper')
DECAYS = ('linear', 'cosine', 'none')


@dataclass(frozen=True)
class Stage:
    """One stage of the schedule.

    Attributes:
        objective: 'paper' (the model's own, any model); for PARTS also 'frames' (single images), 'dynamics' (the
            predictor alone, on inferred beliefs) or 'sequences' (the whole cycle).
        share: part of the run's minutes; only where `steps` is 0.
        steps: optimisation steps after which the stage ends. Such a stage does not depend on the clock: a run that was
            stopped and continued gives the same numbers as one that was not.
        batch: sequences or images that one process computes at once.
        accumulate: how many such batches a process adds up for one optimisation step.
        lr: peak learning rate, after a warm-up over `warmup` steps.
        decay: of the rate: 'linear' to 5 % over the last 30 % of the stage, 'cosine' to zero over all of it, 'none'.
        half_life: instead of that decay, steps in which the rate halves; 0 = `decay`.
        patience: validations without a lower held-out loss after which the stage ends, with the best weights; 0 =
            never.
        plateau: instead of ending the stage then, divide the rate by this; 0 = end it.
        arm_fraction: part of the frames that are taken with the arm in view, where the data have such.
        rounds: 2 = slots are also put on what a first round leaves unexplained ('frames').
        still_fraction: part of the batches of sequences in which one frame is seen again and again, without an action:
            a still scene has to give a still belief.
        horizon: frames of a sequence.
        stride: take every so manieth frame of the data; above 1 only without actions.
        unobserved: part of the batches whose last frames are not observed (roll-out).
        episodes: how many episodes the dynamics stage infers beliefs of.
        likelihood: overrides the model's for this stage ('composed' or 'mixture'); empty = the model's.
        beta: overrides the model's KL weight; negative = the model's.
        slots: overrides the model's K; 0 = the model's. With one slot a model of slots that compete learns to draw
            first.
    """

    objective: str
    share: float = 1.0
    batch: int = 16
    lr: float = 6e-4
    warmup: int = 200
    half_life: int = 0
    arm_fraction: float = 0.0
    still_fraction: float = 0.0
    rounds: int = 1
    horizon: int = 1
    unobserved: float = 0.0
    episodes: int = 2000
    likelihood: str = ''
    beta: float = -1.0
    slots: int = 0
    steps: int = 0
    accumulate: int = 1
    decay: str = 'linear'
    patience: int = 0
    plateau: float = 0.0
    stride: int = 1

    def __post_init__(self) -> None:
        for key, choices in (('objective', OBJECTIVES), ('decay', DECAYS)):
            if getattr(self, key) not in choices:
                raise InputError(f'stage.{key}', f'one of {list(choices)}', getattr(self, key))
        if min(self.batch, self.warmup, self.horizon, self.accumulate, self.stride) < 1 or \
                min(self.share, self.lr) <= 0 or min(self.half_life, self.steps, self.patience, self.slots) < 0:
            raise InputError('stage', 'batch, warmup, horizon, accumulate, stride >= 1; share, lr > 0; half_life, '
                             'steps, patience, slots >= 0', self)
        if self.plateau and (self.plateau <= 1 or not self.patience):
            raise InputError('stage.plateau', 'more than 1, with a patience', (self.plateau, self.patience))
        if self.patience and self.objective == 'dynamics':
            raise InputError('stage.patience', "0 for objective 'dynamics', which has no held-out loss", self.patience)


@dataclass(frozen=True)
class TrainingConfig:
    """A whole run.

    Attributes:
        model: the model's configuration.
        stages: in order.
        seed: of weights, noise and sampling.
        optimiser: 'adam' or 'rmsprop', with torch's default constants.
        clip: largest global gradient norm; .inf in YAML = none.
        precision: 'bfloat16' (autocast) or 'float32'.
        channels_last: memory layout of weights and images.
        compile: torch.compile of the model's parts; worth its minutes on a GPU, hardly on a CPU.
        compile_backend: of torch.compile; 'aot_eager' needs no compiler of C++ or for the GPU, and is no faster.
        workers: processes that read data ahead, for each training process; 0 = read when needed.
        object_height: height of the plane (m) on which pick and place points are projected into the image.
        validate_every, checkpoint_every: seconds.
        validate_steps: validate every so many steps instead; 0 = by seconds.
        validation_episodes: how many held-out episodes a validation looks at.
        diverged: a run has diverged when the loss of 50 steps lies this many times further above that of the first 50
            steps of its stage than those lie from zero.
    """

    model: ModelConfig = field(default_factory=PartsConfig)
    stages: tuple[Stage, ...] = (Stage('frames', 1.0),)
    seed: int = 0
    optimiser: str = 'adam'
    clip: float = 1.0
    precision: str = 'bfloat16'
    channels_last: bool = True
    compile: bool = False
    compile_backend: str = 'inductor'
    workers: int = 1
    object_height: float = 0.03
    validate_every: float = 180.0
    checkpoint_every: float = 60.0
    validate_steps: int = 0
    validation_episodes: int = 100
    diverged: float = 10.0

    def __post_init__(self) -> None:
        if self.precision not in ('bfloat16', 'float32'):
            raise InputError('precision', 'bfloat16 or float32', self.precision)
        if self.compile and self.compile_backend not in torch.compiler.list_backends(exclude_tags=()):
            raise InputError('compile_backend', f'one of {torch.compiler.list_backends(exclude_tags=())}',
                             self.compile_backend)
        if self.optimiser not in ('adam', 'rmsprop'):
            raise InputError('optimiser', 'adam or rmsprop', self.optimiser)
        if min(self.workers, self.validate_steps) < 0 or self.validation_episodes < 1 or self.diverged <= 0:
            raise InputError('workers, validate_steps, validation_episodes, diverged', '>= 0, >= 0, >= 1, > 0',
                             (self.workers, self.validate_steps, self.validation_episodes, self.diverged))
        if not self.stages:
            raise InputError('stages', 'at least one', 'none')
        others = [s.objective for s in self.stages if s.objective != 'paper']
        if others and not isinstance(self.model, PartsConfig):
            raise InputError('stages', f"objective 'paper' for a model {self.model.name}", others[0])
        if isinstance(self.model, PartsConfig) and self.model.sampled and {'frames', 'dynamics'} & set(others):
            raise InputError('stages', 'objectives paper or sequences for PARTS that refines from samples', others)
