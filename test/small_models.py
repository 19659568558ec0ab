"""Small configurations of every registered model, for the tests that all models share.

A model that is registered must have an entry here; `test_properties.py` fails and says so where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from object_centric_ros.evaluation.models_table import example_action
from object_centric_ros.models.belief import Belief
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.models.errors import InputError
from object_centric_ros.models.obai import OBAI, OBAIBelief
from object_centric_ros.models.registry import MODELS, build_model


@dataclass(frozen=True)
class Small:
    """What the shared tests need to know of a model.

    Attributes:
        variants: fields of small configurations, by a name for the test's id; each is tested.
        prior: the diagonal Gaussian that the KL of `loss` is taken to, as a belief.
        log_prior: for any other prior, its log density [N, K] at samples [N, K, D]. A model without a KL has neither.
        gradient: refinement uses the gradient of `loss` with respect to the belief's mean.
        untrained: beginnings of the names of parameters that `episode_loss` gives no gradient.
        frames: T that `episode_loss` is tested with.
        half: float16 by autocast is stable.
    """

    variants: dict[str, dict[str, Any]]
    prior: Callable[[CycleModel, Belief], Belief] | None = None
    log_prior: Callable[[CycleModel, Belief, Tensor], Tensor] | None = None
    gradient: bool = False
    untrained: tuple[str, ...] = ()
    frames: int = 3
    half: bool = True
    fields: dict[str, Any] = field(default_factory=dict)


def standard_normal(model: CycleModel, belief: Belief) -> Belief:
    """N(0, I)."""
    return Belief(torch.zeros_like(belief.mean), torch.zeros_like(belief.mean), belief.memory)


def parts_prior(model: CycleModel, belief: Belief) -> Belief:
    """Fixed, or what the predictor said."""
    prior = belief.tensors().get('prior')
    if prior is None or not prior.numel():
        return standard_normal(model, belief)
    return Belief(*prior.chunk(2, -1), belief.memory)


def own_prior(model: CycleModel, belief: Belief) -> Belief:
    """What a belief itself carries as its prior."""
    return belief.prior  # type: ignore[attr-defined, no-any-return]


def obai_prior(model: CycleModel, belief: Belief, z: Tensor) -> Tensor:
    """Eq. 5-6 from a known past that is integrated out, and eq. 7 of the action, which is sampled."""
    assert isinstance(model, OBAI) and isinstance(belief, OBAIBelief)
    (s, rate), (v, v_rate) = z.chunk(2, -1), belief.prior_variance.sqrt().chunk(2, -1)
    before, speed = belief.prior_mean.chunk(2, -1)
    q = Normal(belief.action_mean, belief.action_log_std.exp())
    a = q.mean + q.stddev * torch.randn(len(z), *q.mean.shape[1:], generator=torch.Generator().manual_seed(9))
    action = (Normal(belief.told, model.config.sigma_action).log_prob(a) - q.log_prob(a)).sum(-1)
    pushed = speed + a @ model.dynamics.effect.T * belief.acted
    state = Normal(pushed, v_rate).log_prob(rate) + Normal(before + rate, v).log_prob(s)
    return state.sum(-1) + action * belief.acted[..., 0]


_PARTS_PAPER = {'anchored': False, 'background_slot': False, 'refiner': 'attention', 'weighed_action': False,
                'decoder': 'broadcast', 'initial': 'zero', 'sampled': True, 'likelihood': 'mixture', 'beta': 0.5,
                'still': False, 'scored': 'predicted', 'truncate': 2, 'decoder_layers': 2, 'decoder_kernel': 3,
                'first_iterations': 0, 'encoder_stride': 1}

SMALL: dict[str, Small] = {
    'iodine': Small(
        variants={'paper': {}, 'replacing': {'additive': False, 'sees_sample': True}},
        prior=standard_normal, gradient=True, frames=1,
        fields={'image_size': 16, 'slots': 3, 'latent': 6, 'decoder_channels': (8, 8), 'refinement_channels': (8, 8),
                'hidden': 16, 'recurrent': 16, 'first_iterations': 2, 'iterations': 1}),
    'obai': Small(
        variants={'paper': {}, 'table': {'decoder_reads': 'belief'}, 'stream': {'joint': False},
                  'no_actions': {'action_size': 0, 'joint': False}},
        log_prior=obai_prior, gradient=True,
        fields={'image_size': 32, 'slots': 3, 'latent': 4, 'decoder_channels': (8, 8), 'refine_channels': (8, 8, 8),
                'refine_hidden': 16, 'refine_size': 16, 'action_hidden': 8, 'first_iterations': 2, 'iterations': 2}),
    'op3': Small(
        variants={'paper': {}, 'released': {'likelihood': 'released_mixture', 'sees_sample': True, 'bounded': False,
                                            'pair': 8, 'effect': 4},
                  'no_actions': {'action_size': 0}},
        prior=own_prior, gradient=True,
        fields={'image_size': 16, 'slots': 3, 'action_size': 5, 'deterministic': 6, 'latent': 6, 'effect': 12,
                'decoder_channels': (8, 8), 'refinement_channels': (8, 8), 'first_iterations': 2}),
    'parts': Small(
        variants={
            'tabletop': {},
            'tabletop_mixture': {'likelihood': 'mixture', 'update': 'additive'},
            'no_feedback': {'gradient_feedback': False},
            'paper': _PARTS_PAPER,
            'predicted_prior': _PARTS_PAPER | {'prior': 'predicted'},
            's_iodine': _PARTS_PAPER | {'refiner': 'iodine', 'action_size': 0, 'predictor': 'none',
                                        'encoder_stride': 2, 'truncate': 0},
            'op3': _PARTS_PAPER | {'refiner': 'iodine', 'prior': 'predicted', 'predictor': 'interaction',
                                   'encoder_stride': 2, 'truncate': 0},
            'interaction': _PARTS_PAPER | {'predictor': 'interaction'},
            'rollout': _PARTS_PAPER | {'burn_in': 2, 'rollout': 1, 'truncate': 0, 'top_down': False},
            'attention': _PARTS_PAPER | {'action_size': 0, 'predictor': 'none'},
        },
        prior=parts_prior, gradient=True,
        fields={'image_size': 32, 'slots': 4, 'latent': 8, 'encoder_channels': (8, 16), 'attention_size': 16,
                'hidden': 16, 'decoder_channels': 8, 'decoder_layers': 1, 'decoder_grid': 8, 'dynamics_size': 16,
                'dynamics_heads': 2, 'dynamics_layers': 1}),
}


def every_model() -> list[Any]:
    """(model name, variant) of all registered models; a model without an entry appears with an empty variant."""
    return [pytest.param(name, variant, id=f'{name}-{variant or "MISSING"}')
            for name in MODELS for variant in (SMALL[name].variants if name in SMALL else [''])]


def entry(name: str) -> Small:
    """What is known of a model; the test fails where there is nothing."""
    if name not in SMALL:
        pytest.fail(f"model '{name}' is registered in models/registry.py, but has no small configuration: add an entry "
                    'to SMALL in test/small_models.py, so that the shared properties are tested for it')
    return SMALL[name]


def small(name: str, variant: str, seed: int = 0) -> CycleModel:
    """A small model with random weights, in eval mode."""
    known = entry(name)
    torch.manual_seed(seed)
    try:
        model = build_model(MODELS[name][0](**{**known.fields, **known.variants[variant]}))
    except (InputError, TypeError) as e:
        pytest.fail(f"SMALL['{name}'].variants['{variant}'] in test/small_models.py: {e}")
    for p in model.parameters():  # paths that start at zero would hide errors in them
        if p.dim() > 1 and not p.any():
            torch.nn.init.normal_(p, std=0.1)
    return model.eval()


def pictures(model: CycleModel, batch: int, seed: int = 0) -> Tensor:
    """Flat squares on a gray ground, as the model takes them: [batch, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    size = model.config.image_size
    rgb = torch.full((batch, 3, size, size), 0.5)
    for image in rgb:
        for _ in range(3):
            u, v = (int(torch.randint(0, size - size // 4, (), generator=generator)) for _ in range(2))
            image[:, v:v + size // 4, u:u + size // 4] = torch.rand(3, 1, 1, generator=generator)
    return model.observe(rgb)


def action_for(model: CycleModel, batch: int, seed: int = 0) -> Tensor | None:
    """An action [batch, ...] in the model's format; None for a model without actions."""
    return example_action(model, batch, seed)


def warm(model: CycleModel, batch: int, slots: int | None = None, seed: int = 0) -> Belief:
    """A belief whose slots differ: a first frame's, then predicted where the model predicts."""
    generator = torch.Generator().manual_seed(seed)
    changed = model.config
    try:
        if slots:
            model.config = replace(changed, slots=slots)
        with torch.no_grad():
            dtype, action = next(model.parameters()).dtype, action_for(model, batch, seed)
            belief = model.infer(pictures(model, batch, seed).to(dtype), generator=generator)
            return model.predict(belief, None if action is None else action.to(dtype)) if model.predicts else belief
    finally:
        model.config = changed
