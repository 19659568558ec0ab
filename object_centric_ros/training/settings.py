"""What a training run is: model, data and stages, as read from config/train/*.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field

from object_centric_ros.errors import InputError
from object_centric_ros.models.cycle import ModelConfig
from object_centric_ros.models.parts import PartsConfig
from object_centric_ros.presets import load_preset as load_preset  # teaches `config` the model names

OBJECTIVES = ('frames', 'dynamics', 'sequences', 'paper')


@dataclass(frozen=True)
class Stage:
    """One stage of the schedule.

    Attributes:
        objective: 'paper' (the model's own, any model); for PARTS also 'frames' (single images), 'dynamics' (the
            predictor alone, on inferred beliefs) or 'sequences' (the whole cycle).
        share: part of the run's minutes.
        batch: sequences or images in a batch.
        lr: peak learning rate; warm-up over `warmup` steps, linear decay to 5 % over the last 30 % of the stage.
        half_life: instead of that decay, steps in which the rate halves; 0 = the linear decay.
        arm_fraction: part of the frames that are taken with the arm in view, where the data have such.
        rounds: 2 = slots are also put on what a first round leaves unexplained ('frames').
        still_fraction: part of the batches of sequences in which one frame is seen again and again, without an action:
            a still scene has to give a still belief.
        horizon: frames of a sequence.
        unobserved: part of the batches whose last frames are not observed (roll-out).
        episodes: how many episodes the dynamics stage infers beliefs of.
        likelihood: overrides the model's for this stage ('composed' or 'mixture'); empty = the model's.
        beta: overrides the model's KL weight; negative = the model's.
    """

    objective: str
    share: float
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

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError('stage.objective', f'one of {list(OBJECTIVES)}', self.objective)
        if min(self.batch, self.warmup, self.horizon) < 1 or min(self.share, self.lr) <= 0 or self.half_life < 0:
            raise InputError('stage', 'batch, warmup, horizon >= 1; share, lr > 0; half_life >= 0', self)


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
        object_height: height of the plane (m) on which pick and place points are projected into the image.
        validate_every, checkpoint_every: seconds.
        validation_episodes: how many held-out episodes a validation looks at.
    """

    model: ModelConfig = field(default_factory=PartsConfig)
    stages: tuple[Stage, ...] = (Stage('frames', 1.0),)
    seed: int = 0
    optimiser: str = 'adam'
    clip: float = 1.0
    precision: str = 'bfloat16'
    object_height: float = 0.03
    validate_every: float = 180.0
    checkpoint_every: float = 60.0
    validation_episodes: int = 100

    def __post_init__(self) -> None:
        if self.precision not in ('bfloat16', 'float32'):
            raise InputError('precision', 'bfloat16 or float32', self.precision)
        if self.optimiser not in ('adam', 'rmsprop'):
            raise InputError('optimiser', 'adam or rmsprop', self.optimiser)
        if not self.stages:
            raise InputError('stages', 'at least one', 'none')
        others = [s.objective for s in self.stages if s.objective != 'paper']
        if others and not isinstance(self.model, PartsConfig):
            raise InputError('stages', f"objective 'paper' for a model {self.model.name}", others[0])
        if isinstance(self.model, PartsConfig) and self.model.sampled and {'frames', 'dynamics'} & set(others):
            raise InputError('stages', 'objectives paper or sequences for PARTS that refines from samples', others)
