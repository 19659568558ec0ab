"""Tensors of EfficientMORL's and its Slot Attention baseline's published checkpoints under our names.

Their recurrent unit for mean and scale keeps gates and candidates apart and is filled into block matrices; here each of
the two is a plain GRU whose rows are (reset, update, candidate). Conversions are differentiable.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from object_centric_ros.models.errors import InputError

ENCODER = {**{f'encoder_pt_1.{i}': f'encoder.convolutions.{i}' for i in (0, 2, 4, 6)},
           'pos_embed_projection': 'encoder.position', 'encoder_pt_2.0': 'encoder.norm',
           'encoder_pt_2.1': 'encoder.mix.0', 'encoder_pt_2.3': 'encoder.mix.2'}
READER = {'norm_slots': 'reader.norm', 'to_q': 'reader.query', 'to_k': 'reader.key', 'to_v': 'reader.value'}
DECODER = {'image_decoder.pos_embed_projection': 'decoder.project',
           **{f'image_decoder.decode.{2 * i}': f'decoder.layers.{i}' for i in range(5)}}
EFFICIENTMORL = {
    **ENCODER, **DECODER, **{k: f'layer.{v}' for k, v in READER.items()},
    'norm_mu_pre_ff': 'layer.mean.0', 'mlp_mu.0': 'layer.mean.1', 'mlp_mu.2': 'layer.mean.3',
    'norm_softplus_pre_ff': 'layer.scale.0', 'mlp_softplus.0': 'layer.scale.1', 'mlp_softplus.2': 'layer.scale.3',
    'indep_prior.z_linear.0': 'prior.hidden.0', 'indep_prior.z_mu': 'prior.mean',
    'indep_prior.z_softplus': 'prior.scale',
    'refinenet.encoding.0': 'refinement.encode.0', 'refinenet.encoding.2': 'refinement.encode.2',
    'refinenet.loc': 'refinement.mean', 'refinenet.softplus': 'refinement.scale'}
SLOT_ATTENTION = {**ENCODER, **DECODER, **READER, 'norm_pre_ff': 'mlp.0', 'mlp.0': 'mlp.1', 'mlp.2': 'mlp.3'}


DUAL_GRU = [f'gru.cell.{x}' for side in 'ih' for gate in 'hn'
            for x in (f'weight_{side}{gate}_1', f'weight_{side}{gate}_2', f'bias_{side}{gate}')]


def efficientmorl_tensors(published: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """A published EfficientMORL ('iodine' or 'small' decoder) as the state of `model`, an `EfficientMORL`.

    Theirs holds GECO's state whether it was used or not; ours takes it where it is configured.

    Raises:
        InputError: names are unknown or missing.
    """
    ours, rest = _rename(published, EFFICIENTMORL, 'hvae_networks.',
                         ['init_posterior', 'geco_C_ema', 'geco_beta', *DUAL_GRU, *_gru('refinenet.recurrence')])
    for half, part in enumerate(('mean', 'scale')):
        for side in 'ih':
            weights = [rest[f'gru.cell.weight_{side}{gate}_{half + 1}'] for gate in 'hn']
            biases = [rest[f'gru.cell.bias_{side}{gate}'].chunk(2)[half] for gate in 'hn']
            ours[f'layer.gru.{part}.weight_{side}h'] = torch.cat(weights)
            ours[f'layer.gru.{part}.bias_{side}h'] = torch.cat(biases)
    for name in _gru('refinenet.recurrence'):
        ours[name.replace('refinenet.recurrence', 'refinement.gru').removesuffix('_l0')] = rest[name]
    if getattr(model, 'geco', None) is not None:
        ours |= {'geco.average': rest['geco_C_ema'], 'geco.multiplier': rest['geco_beta']}
    ours['initial_mean'], ours['initial_scale'] = rest['init_posterior'].flatten().chunk(2)
    return ours


def slot_attention_tensors(published: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Their Slot Attention ('small' decoder) as the state of `model`, a `SlotAttention`.

    Raises:
        InputError: names are unknown or missing.
    """
    ours, rest = _rename(published, SLOT_ATTENTION, '', ['init_slots', *_gru('gru')])
    for name in _gru('gru'):
        ours[name.removesuffix('_l0')] = rest[name]
    ours['initial_mean'], ours['initial_scale'] = rest['init_slots'].flatten().chunk(2)
    return ours


def _gru(name: str) -> list[str]:
    return [f'{name}.{kind}_{side}_l0' for kind in ('weight', 'bias') for side in ('ih', 'hh')]


def _rename(published: Mapping[str, Tensor], table: Mapping[str, str], prefix: str, special: list[str]
            ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Layers of the table under our names, and the tensors of the names in `special`."""
    ours, rest, unknown = {}, {}, []
    for full, tensor in published.items():
        name = full.removeprefix('module.').removeprefix(prefix)
        layer, _, kind = name.rpartition('.')
        if name in special:
            rest[name] = tensor
        elif layer in table:
            ours[f'{table[layer]}.{kind}'] = tensor
        else:
            unknown.append(f'unknown {full}')
    wrong = [f'missing {name}' for name in special if name not in rest] + unknown
    if wrong:
        raise InputError('published tensors', 'the names of the published model', '; '.join(wrong))
    return ours, rest
