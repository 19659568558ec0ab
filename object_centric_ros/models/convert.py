"""Published checkpoints as ours: their parameter names, one by one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from object_centric_ros.models.errors import InputError

OP3_PARTS = {
    'dynamics_net.inertia_encoder': 'dynamics.encode',
    'dynamics_net.action_encoder': 'dynamics.encode_action',
    'dynamics_net.action_effect_network': 'dynamics.action_effect',
    'dynamics_net.action_attention_network': 'dynamics.action_attention',
    'dynamics_net.pairwise_encoder_network': 'dynamics.encode_pair',
    'dynamics_net.interaction_effect_network': 'dynamics.effect',
    'dynamics_net.interaction_attention_network': 'dynamics.attention',
    'dynamics_net.final_merge_network': 'dynamics.merge',
    'dynamics_net.det_output': 'dynamics.heads.0',
    'dynamics_net.lambdas1_output': 'dynamics.heads.1',
    'dynamics_net.lambdas2_output': 'dynamics.heads.2',
}
"""Perceptrons of one hidden layer."""

OP3_LAYERS = {
    **{f'decode_net.broadcast_net.conv_layers.{i}': f'decoder.layers.{i}' for i in range(5)},
    **{f'refinement_net.conv_layers.{i}': f'refinement.convolutions.{i}' for i in range(3)},
    'refinement_net.fc_layers.0': 'refinement.layer',
    'refinement_net.last_fc': 'refinement.heads.0',
    'refinement_net.last_fc2': 'refinement.heads.1',
    **{f'{theirs}.fcs.0': f'{ours}.0' for theirs, ours in OP3_PARTS.items()},
    **{f'{theirs}.last_fc': f'{ours}.2' for theirs, ours in OP3_PARTS.items()},
}
"""Layers of a weight and a bias."""

OP3_NAMES = {
    'initial_lambdas1': 'initial_mean',
    'initial_lambdas2': 'initial_raw',
    'inital_deter_state': 'initial_memory',  # so spelt in the published files
    **{f'{theirs}.{part}': f'{ours}.{part}' for theirs, ours in OP3_LAYERS.items() for part in ('weight', 'bias')},
    **{f'refinement_net.lstm.{kind}_{path}_l0': f'refinement.recurrence.{kind}_{path}'
       for kind in ('weight', 'bias') for path in ('ih', 'hh')},
    **{f'layer_norms_2d.{i}.{theirs}': f'feedback.{ours}_norm.{part}'
       for i, ours in enumerate(('mask', 'likelihood', 'leave_one_out', 'colour'))
       for theirs, part in (('gamma', 'gain'), ('beta', 'bias'))},
    **{f'layer_norms_1d.{i}.{theirs}': f'{ours}_norm.{part}'
       for i, ours in enumerate(('mean', 'raw'))
       for theirs, part in (('scale_param', 'gain'), ('center_param', 'bias'))},
}
"""Parameter names of the published OP3 code -> ours."""


def load_published(model: nn.Module, tensors: Mapping[str, Tensor], names: Mapping[str, str], where: str) -> None:
    """Fill a model from a published checkpoint; either every tensor finds its place, or nothing is changed.

    Args:
        model: of the architecture that was published.
        tensors: by the authors' names, with or without the prefix `module.`.
        names: the authors' names -> ours.
        where: names the source in errors.

    Raises:
        InputError: lists what is unknown, missing or misshaped.
    """
    given = {k.removeprefix('module.'): v for k, v in tensors.items()}
    expected = model.state_dict()
    theirs = {ours: k for k, ours in names.items()}
    wrong = [f'unknown {k}' for k in given if names.get(k) not in expected]
    wrong += [f'missing {theirs.get(k, k)}' for k in expected if theirs.get(k) not in given]
    wrong += [f'{k} is {list(v.shape)}, not {list(expected[names[k]].shape)}' for k, v in given.items()
              if names.get(k) in expected and v.shape != expected[names[k]].shape]
    if wrong:
        raise InputError(where, f'the {len(expected)} tensors of this model', '; '.join(wrong))
    model.load_state_dict({names[k]: v for k, v in given.items()})
