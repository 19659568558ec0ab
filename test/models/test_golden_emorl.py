"""EfficientMORL against numbers of the authors' code with the same weights and noise (golden data, section B)."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from object_centric_ros.cli import main
from object_centric_ros.errors import InputError
from object_centric_ros.models.belief import Scene
from object_centric_ros.models.checkpoint import load_model
from object_centric_ros.models.convert_emorl import efficientmorl_tensors
from object_centric_ros.models.efficientmorl import EfficientMORL, EfficientMORLConfig, Step
from object_centric_ros.models.geco import Geco
from object_centric_ros.models.likelihood import LIKELIHOODS
from object_centric_ros.models.slots import EPSILON
from test.golden import DATA, close, golden, needs_data, tensors, weights

pytestmark = needs_data
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)  # their likelihoods leave it out
LIKELIHOOD = {'GMM': 'channel_mixture', 'gmm': 'channel_mixture', 'Gaussian': 'composed', 'gaussian': 'composed'}


def published() -> dict[str, Tensor]:
    return weights('golden/emorl_weights.safetensors')


def build(**changes: Any) -> EfficientMORL:
    model = EfficientMORL(EfficientMORLConfig(**changes))
    model.load_state_dict(efficientmorl_tensors(published(), model))
    return model


@cache
def plain() -> EfficientMORL:
    return build().requires_grad_(False).eval()


def slots(x: Tensor, batch: int = 2) -> Tensor:
    """[..., B K, D] -> [..., B, K, D]."""
    return x.unflatten(-2, (batch, -1))


def test_parameters() -> None:
    assert sum(p.numel() for p in plain().parameters()) == 666_502 == sum(p.numel() for p in published().values())


def test_import(tmp_path: Path) -> None:
    out, file = tmp_path / 'model.safetensors', DATA / 'golden' / 'emorl_weights.safetensors'
    assert main(['import', 'efficientmorl', str(file), '--preset', 'efficientmorl_clevr6', '--out', str(out)]) == 0
    loaded, _ = load_model(out)
    assert all(torch.equal(v, plain().state_dict()[k]) for k, v in loaded.state_dict().items())
    other = ['--preset', 'efficientmorl_multi_dsprites', '--out', str(out)]  # without GECO
    assert main(['import', 'efficientmorl', str(file), *other]) == 0
    renamed = {('strange' if k == 'geco_beta' else k): v for k, v in published().items()}
    save_file(renamed, tmp_path / 'renamed.safetensors')
    with pytest.raises(InputError, match=r'missing geco_beta; unknown strange'):
        efficientmorl_tensors(renamed, plain())
    assert main(['import', 'efficientmorl', str(tmp_path / 'renamed.safetensors'), *other]) != 0


def test_encoder() -> None:
    d, model = tensors('emorl_encoder_attention'), plain()
    close(model.encoder.convolutions(d['image'])[:, :, ::8, ::8], d['conv_sub'])
    close(model.encoder.grid, d['pos_grid'])
    close(model.encoder(d['image']), d['features'])
    close(model.encode((d['image'] + 1) / 2), d['features'])


def test_layer() -> None:
    d, model = tensors('emorl_encoder_attention'), plain()
    b, k = d['slots_in_layer0'].shape[:2]
    start = model.start(b, k)
    z = start.sample(slots(d['eps'][0]))
    close(z, d['slots_in_layer0'])
    close(model.layer.reader.norm(z), d['slots_in_normed_layer0'])
    read, attention = model.layer.reader(z, d['features'])
    close(attention.view_as(d['attn_layer0']) + EPSILON, d['attn_layer0'])
    close(read, d['updates_layer0'])
    mean, scale = model.layer.gru(read, start.mean, start.scale)
    close(mean.flatten(0, 1), d['gru_mu_layer0'])
    close(scale.flatten(0, 1), d['gru_softplus_layer0'])
    layers, _ = model.bottom_up(d['features'], start, [slots(d['eps'][0]), *[slots(d['eps'][1])] * 3])
    close(layers[0].mean.flatten(0, 1), d['mu_layer0'])
    close(layers[0].scale.flatten(0, 1), d['softplus_layer0'])
    close(layers[0].std.flatten(0, 1), d['std_layer0'])
    close(layers[0].sample(slots(d['eps'][1])), d['slots_out_layer0'])


def test_bottom_up() -> None:
    d, model = tensors('emorl_stage1'), plain()
    features, noise = model.encode((d['image'] + 1) / 2), slots(d['eps'])
    layers, z = model.bottom_up(features, model.start(2, noise.shape[2]), noise)
    below = [model.start(2, noise.shape[2]), *layers[:-1]]
    for l, layer in enumerate(layers):
        close(layer.mean.flatten(0, 1), d['mu'][l])
        close(layer.scale.flatten(0, 1), d['softplus'][l])
        close(layer.std.flatten(0, 1), d['std'][l])
        close(below[l].sample(noise[l]), d['slots_in'][l])
        read, attention = model.layer.reader(below[l].sample(noise[l]), features)
        close(read, d['updates'][l])
        close(attention.view_as(d['attn'][l]), d['attn'][l])
    scene = model.decode(z)
    close(scene.colours, d['rgb'])
    close(scene.mask_logits, d['mask_logits'])


def test_decoder() -> None:
    d = tensors('emorl_decoder')
    scene = plain().decode(d['z'][None])
    close(scene.colours[0], d['rgb'])
    close(scene.mask_logits[0], d['mask_logits'])


def test_refinement_network_and_prior() -> None:
    d, model = tensors('emorl_refine'), plain()
    mean, scale = d['lamda'].chunk(2, -1)
    gradients = d['grad_lamda'].chunk(2, -1)
    for g, name in zip(gradients, ('grad_mu_normed', 'grad_softplus_normed'), strict=True):
        close(torch.nn.functional.layer_norm(g, g.shape[-1:]), d[name])
    *delta, state = model.refinement(mean, scale, *gradients, d['h0'][0])
    close(torch.cat(delta, -1), d['delta_lamda'])
    close(state, d['h1'][0])
    prior = model.prior(slots(mean))
    close(prior[0], d['prior_mu'])
    close(prior[1], d['prior_softplus'])


@pytest.mark.parametrize('kind', ['gmm', 'gaussian'])
@pytest.mark.parametrize('sigma', [0.1, 0.3])
def test_likelihoods(kind: str, sigma: float) -> None:
    d = tensors('emorl_nll')
    scene = Scene(d['rgb'], d['mask_logits'][:, :, 0])
    close(scene.log_masks, d['mask_logprobs'][:, :, 0])
    nll = -LIKELIHOODS[LIKELIHOOD[kind]](sigma)(d['target'], scene).sum((1, 2))
    close(nll - HALF_LOG_2PI * d['target'][0].numel(), d[f'nll_{kind}_s{round(10 * sigma):02}'])


def run(model: EfficientMORL, image: Tensor, eps: Tensor, iterations: int) -> list[Step]:
    noise = slots(eps[:2 * model.config.layers + iterations])
    return model.two_stage((image + 1) / 2, model.start(2, noise.shape[2]), noise.unbind())


def total(model: EfficientMORL, steps: list[Step]) -> Tensor:
    """Their total loss, which has no constants."""
    c = model.config
    loss = torch.zeros(())
    for weight, step in zip(c.loss_weights(len(steps) - 1), steps, strict=True):
        nll = step.nll - HALF_LOG_2PI * step.scene.image[0].numel()
        loss = loss + weight * (nll + c.kl_weight * step.kl.sum((0, 2))).mean()
    return loss


@pytest.mark.parametrize('v', range(14))
def test_total_loss(v: int) -> None:
    names, d = golden('emorl_total'), tensors('emorl_total')
    iterations = int(d['variant_I'][v])
    model = build(likelihood=LIKELIHOOD[str(names['variant_likelihood'][v])], prior=str(names['variant_prior'][v]),
                  kl_weight=float(d['variant_kl_beta'][v])).requires_grad_(iterations > 0)
    steps = run(model, d['image'], d['eps'], iterations)
    nll = [s.nll - HALF_LOG_2PI * d['image'][0].numel() for s in steps]
    close(torch.stack(nll), d['nll_calls'][v, :iterations + 1])
    close(nll[-1].mean(), d['nll'][v])
    kl = torch.cat([s.kl for s in steps])
    close(kl, d['kl_calls'][v, :len(kl)], rtol=1e-3)
    assert (d['kl_calls'][v, len(kl):] == 0).all()
    close(steps[-1].kl.sum((0, 2)).mean(), d['kl'][v], rtol=1e-3)
    close(total(model, steps), d['total_loss'][v], rtol=1e-3)


@pytest.mark.parametrize('kind', ['gmm', 'gaussian'])
def test_refinement_step(kind: str) -> None:
    d = tensors('emorl_total')
    model = build(likelihood=LIKELIHOOD[kind]).train()
    steps = run(model, d['image'], d['eps'], 1)
    first = steps[0]
    loss = (first.nll + first.kl.sum((0, 2))).mean()
    gradient = torch.autograd.grad(loss, (first.belief.mean, first.belief.scale), retain_graph=True)
    close(torch.cat(gradient, -1).flatten(0, 1), d[f'{kind}1_grad_lamda0'], rtol=1e-3)
    if kind == 'gmm':
        close(torch.cat([first.belief.mean, first.belief.scale], -1).flatten(0, 1), d['gmm1_lamda0'])
        last = steps[1]
        close(last.scene.colours, d['gmm1_rgb_final'])
        close(last.scene.log_masks, d['gmm1_mask_logprobs_final'])
        delta = torch.cat([last.belief.mean - first.belief.mean, last.belief.scale - first.belief.scale], -1)
        close(delta.norm(dim=-1).mean()[None], d['gmm1_mean_delta_norm'])


class Objective(torch.nn.Module):
    """The total loss as a function of the published tensors, so that its gradient has their names and shapes."""

    def __init__(self, model: EfficientMORL) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, eps: Tensor) -> Tensor:
        return total(self.model, run(self.model, image, eps, 1))


@pytest.mark.parametrize('kind', ['GMM', 'Gaussian'])
def test_parameter_gradients(kind: str) -> None:
    d, names = tensors('emorl_grad'), golden('emorl_grad')['param_names']
    theirs = {k: v.clone().requires_grad_() for k, v in published().items()}
    objective = Objective(build(likelihood=LIKELIHOOD[kind]))
    ours = {f'model.{k}': v for k, v in efficientmorl_tensors(theirs, objective.model).items()}
    assert set(ours) == {k for k, _ in objective.named_parameters()}
    loss = torch.func.functional_call(objective, ours, (d['image'], d['eps']))
    close(loss, d[f'total_loss_{kind}'], rtol=1e-3)
    gradients = torch.autograd.grad(loss, [theirs[str(n)] for n in names])
    largest = d[f'grad_norm_{kind}'].max()
    for i, (name, g) in enumerate(zip(names, gradients, strict=True)):
        norm = d[f'grad_norm_{kind}'][i]
        if norm < 1e-8 * largest:  # nothing but rounding: a shift of all queries; a state that starts at zero
            assert g.norm() < 1e-8 * largest, name
            continue
        close(g.norm(), norm, rtol=1e-3)
        head = torch.zeros(8)
        head[:g.numel()] = g.flatten()[:8]
        assert (head - d[f'grad_head_{kind}'][i]).abs().max() <= 1e-3 * norm, name
        assert (g.sum() - d[f'grad_sum_{kind}'][i]).abs() <= 1e-3 * norm * max(g.numel() ** 0.5, 1), name


def test_geco() -> None:
    d = tensors('emorl_geco')
    geco = Geco(float(d['target']), float(d['step']), float(d['acceleration']), float(d['alpha']))
    geco.multiplier.fill_(float(d['beta_start']))
    for i, nll in enumerate(d['nll']):
        close(geco.weight * geco.average, d['constraint'][i])
        geco.update(nll)
        close(geco.average.detach(), d['ema'][i])
        close(geco.multiplier.detach(), d['beta'][i])
