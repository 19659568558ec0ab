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
from object_centric_ros.models.scale import softplus_log_std


@dataclass(frozen=True)
class Small:
    """What the shared tests need to know of a model.

    Attributes:
        variants: fields of small configurations, by a name for the test's id; each is tested.
        log_prior: of what the KL of `loss` is taken to, the log density [N, K] at samples [N, K, D] for a belief of
            batch 1; None for a model without a KL.
        gradient: refinement uses the gradient of `loss` with respect to the belief's mean.
        untrained: beginnings of the names of parameters that `episode_loss` gives no gradient.
        frames: T that `episode_loss` is tested with.
        half: float16 by autocast is stable.
        remembers_image: masks are also a matter of the last image, which a restored belief has not seen.
    """

    variants: dict[str, dict[str, Any]]
    log_prior: Callable[[CycleModel, Belief, Tensor], Tensor] | None = None
    gradient: bool = False
    untrained: tuple[str, ...] = ()
    frames: int = 3
    half: bool = True
    remembers_image: bool = False
    fields: dict[str, Any] = field(default_factory=dict)


def log_normal(belief: Belief, z: Tensor) -> Tensor:
    """log density of samples [N, K, D] under a belief of batch 1: [N, K]."""
    return Normal(belief.mean, belief.std).log_prob(z).sum(-1)


def standard(model: CycleModel, belief: Belief, z: Tensor) -> Tensor:
    """N(0, I)."""
    return Normal(0, 1).log_prob(z).sum(-1)


def own_prior(model: CycleModel, belief: Belief, z: Tensor) -> Tensor:
    """The Gaussian that a belief carries as its prior."""
    return log_normal(belief.prior, z)  # type: ignore[attr-defined]


def parts_prior(model: CycleModel, belief: Belief, z: Tensor) -> Tensor:
    """Fixed, or what the predictor said."""
    prior = belief.tensors().get('prior')
    if prior is None or not prior.numel():
        return standard(model, belief, z)
    return log_normal(Belief(*prior.chunk(2, -1), belief.memory), z)


def obai_prior(model: CycleModel, belief: Belief, z: Tensor) -> Tensor:
    """The linear dynamics, their mean drawn from the belief over the action before the frame, and that action's KL."""
    assert isinstance(model, OBAI) and isinstance(belief, OBAIBelief)
    actions = Normal(belief.action_mean, softplus_log_std(belief.action_scale).exp())
    generator = torch.Generator().manual_seed(7)
    a = belief.action_mean + actions.scale * torch.randn(len(z), *belief.action_mean.shape[1:], generator=generator)
    mean = model.dynamics.pushed(belief.prior_mean.expand(len(z), -1, -1), belief.acted * a)
    mean = mean + belief.prior_spread.sqrt() * torch.randn(mean.shape, generator=generator)
    (state, rate), (m, m_rate) = z.chunk(2, -1), mean.chunk(2, -1)
    found = Normal(torch.cat([m + belief.coupling * rate, m_rate], -1), belief.prior_variance.sqrt())
    told = Normal(belief.told, model.config.sigma_action)
    return found.log_prob(torch.cat([state, rate], -1)).sum(-1) + belief.acted[..., 0] * (
        told.log_prob(a) - actions.log_prob(a)).sum(-1)


_PARTS_PAPER = {'anchored': False, 'background_slot': False, 'refiner': 'attention', 'weighed_action': False,
                'decoder': 'broadcast', 'initial': 'zero', 'sampled': True, 'likelihood': 'mixture', 'beta': 0.5,
                'still': False, 'scored': 'predicted', 'truncate': 2, 'decoder_layers': 2, 'decoder_kernel': 3,
                'first_iterations': 0, 'encoder_stride': 1}

SMALL: dict[str, Small] = {
    'efficientmorl': Small(
        variants={'reversed_plus': {}, 'reversed': {'prior': 'reversed', 'likelihood': 'composed'},
                  'bottom_up': {'prior': 'bottom-up', 'weights': 'paper'},
                  'bottom_up_plus': {'prior': 'bottom-up++', 'geco': 'auto'},
                  'small': {'decoder': 'small', 'likelihood': 'mixture', 'geco': 'off', 'recompute': True},
                  'big': {'decoder': 'big', 'first_iterations': 2, 'iterations': 1},
                  'coarse': {'encoder_stride': 4, 'decoder': 'shuffle', 'decoder_grid': 4}},
        log_prior=own_prior, gradient=True, untrained=('geco.',),
        fields={'image_size': 16, 'slots': 3, 'latent': 8, 'features': 8, 'decoder_channels': 8}),
    'iodine': Small(
        variants={'paper': {}, 'replacing': {'additive': False, 'sees_sample': True},
                  'released': {'likelihood': 'released_mixture', 'sees_sample': True, 'additive': False}},
        log_prior=standard, gradient=True, frames=1,
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
        log_prior=own_prior, gradient=True,
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
        log_prior=parts_prior, gradient=True,
        fields={'image_size': 32, 'slots': 4, 'latent': 8, 'encoder_channels': (8, 16), 'attention_size': 16,
                'hidden': 16, 'decoder_channels': 8, 'decoder_layers': 1, 'decoder_grid': 8, 'dynamics_size': 16,
                'dynamics_heads': 2, 'dynamics_layers': 1}),
    'rnem': Small(
        variants={'r_nem': {}, 'no_attention': {'interaction': 'sum'}, 'rnn_em': {'interaction': 'none'},
                  'lstm': {'interaction': 'none', 'm_step': 'lstm'}, 'noisy': {'noisy_inference': True},
                  'actions': {'action_size': 4, 'image_size': 22}, 'gaussian': {'likelihood': 'gaussian'},
                  'nem': {'m_step': 'gradient', 'interaction': 'none'}},
        fields={'image_size': 16, 'slots': 3, 'latent': 12, 'attention_size': 8, 'hidden': 16, 'action_embedding': 4,
                'encoder_channels': (6, 8), 'decoder_channels': (8, 6)},
        remembers_image=True),
    'slot_attention': Small(
        variants={'small': {}, 'big': {'decoder': 'big'},
                  'coarse': {'encoder_stride': 4, 'decoder': 'shuffle', 'decoder_grid': 4}},
        fields={'image_size': 16, 'slots': 3, 'latent': 8, 'features': 8, 'decoder_channels': 8}),
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
