"""Which models there are, by name. Checkpoints, configurations and tables go by this."""

from __future__ import annotations

from object_centric_ros.models.cycle import CycleModel, ModelConfig
from object_centric_ros.models.efficientmorl import EfficientMORL, EfficientMORLConfig
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.iodine import Iodine, IodineConfig
from object_centric_ros.models.obai import OBAI
from object_centric_ros.models.obai_config import OBAIConfig
from object_centric_ros.models.op3 import OP3, OP3Config
from object_centric_ros.models.parts import Parts, PartsConfig
from object_centric_ros.models.rnem import RNEM, RNEMConfig
from object_centric_ros.models.slot_attention import SlotAttention, SlotAttentionConfig

MODELS: dict[str, tuple[type[ModelConfig], type[CycleModel]]] = {
    'efficientmorl': (EfficientMORLConfig, EfficientMORL),
    'obai': (OBAIConfig, OBAI),
    'iodine': (IodineConfig, Iodine),
    'op3': (OP3Config, OP3),
    'parts': (PartsConfig, Parts),
    'rnem': (RNEMConfig, RNEM),
    'slot_attention': (SlotAttentionConfig, SlotAttention),
}


def config_type(name: str) -> type[ModelConfig]:
    """Configuration class of a model; an InputError that lists the models where there is none of that name."""
    if name not in MODELS:
        raise InputError('model name', f'one of {sorted(MODELS)}', name)
    return MODELS[name][0]


def build_model(config: ModelConfig) -> CycleModel:
    """A model with fresh weights (torch's global generator)."""
    return MODELS[config.name][1](config)
