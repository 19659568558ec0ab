"""OP3 against its published code: every number that the golden arrays hold, with the authors' weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from object_centric_ros.models.belief import Scene
from object_centric_ros.models.convert import OP3_NAMES, load_published
from object_centric_ros.models.iodine import REFINE
from object_centric_ros.models.likelihood import UnnormalisedMixture
from object_centric_ros.models.op3 import OP3, OP3Belief, OP3Config
from object_centric_ros.models.refinement import StandardNorm
from object_centric_ros.models.registry import build_model
from object_centric_ros.models.scale import softplus_log_std
from object_centric_ros.presets import load_preset
from test.golden import close, golden, needs_data, tensors, weights

pytestmark = needs_data
FILES = {'stack': ('op3_released_stack', 'stack_s64d64_v1', 876_305),
         'pickplace': ('op3_released_pick_place', 'pick_place_curriculum', 938_930),
         'cloth': ('op3_released_cloth', 'cloth_real_world', 938_930)}
TASKS = list(FILES)
MODELS: dict[str, OP3] = {}


def model_of(task: str) -> OP3:
    """The released model with the authors' weights."""
    if task not in MODELS:
        preset, file, _ = FILES[task]
        MODELS[task] = build_model(load_preset(preset)).eval()
        load_published(MODELS[task], weights(f'op3/{file}.safetensors'), OP3_NAMES, file)
    return MODELS[task]


def belief_of(d: dict[str, torch.Tensor]) -> OP3Belief:
    """The belief that a `step` file starts from."""
    raw = d['lambdas2']
    return OP3Belief(d['lambdas1'], softplus_log_std(raw), d['deter'], raw, d['h0'], d['c0'], d['prior_lambdas1'],
                     d['prior_lambdas2'])


def consumed(actions: torch.Tensor) -> torch.Tensor:
    """The columns of recorded 6-D actions that the network reads: pick x, y and place x, y."""
    return actions[..., [0, 1, 3, 4]] if actions.shape[-1] == 6 else actions


@pytest.mark.parametrize('task', TASKS)
def test_parameter_count(task: str) -> None:
    assert sum(p.numel() for p in model_of(task).parameters()) == FILES[task][2]


@pytest.mark.parametrize('task', TASKS)
def test_decoder(task: str) -> None:
    d = tensors(f'op3_{task}_decoder')
    with torch.no_grad():
        scene = model_of(task).decode(d['latents'][None])
    close(scene.colours[0], d['decoded'][:, :3])
    close(scene.mask_logits[0], d['decoded'][:, 3])
    close(scene.masks[0], d['masks'])


@pytest.mark.parametrize('task', TASKS)
def test_dynamics(task: str) -> None:
    d, model = tensors(f'op3_{task}_dynamics'), model_of(task)
    actions = d.get('actions')
    with torch.no_grad():
        outputs, found = model.dynamics(d['state'], actions)
    for got, name in zip(outputs, ('det', 'lambdas1', 'lambdas2'), strict=True):
        close(got, d[name])
    names = {'encoding': 'state_encoding', 'pairs': 'pair_encoding', 'effects': 'pair_effect',
             'attention': 'interaction_attention', 'merged_from': 'merge_input', 'merged': 'merged'}
    if actions is not None:
        names |= {'action': 'action_encoding', 'action_effect': 'action_effect', 'action_attention': 'action_attention'}
    for ours, theirs in names.items():
        close(getattr(found, ours), d[theirs])
    if 'actions_raw' in d:
        assert torch.equal(consumed(d['actions_raw']), actions)


@pytest.mark.parametrize('slots', [1, 2])
@pytest.mark.parametrize('task', TASKS)
def test_dynamics_of_fewer_slots(task: str, slots: int) -> None:
    d, model = tensors(f'op3_{task}_dynamics'), model_of(task)
    with torch.no_grad():
        outputs, found = model.dynamics(d['state'][:, :slots], d.get('actions'))
    for got, name in zip(outputs, ('det', 'lambdas1', 'lambdas2'), strict=True):
        close(got, d[f'{name}_k{slots}'])
    if slots == 2:
        close(found.attention, d['interaction_attention_k2'])


@pytest.mark.parametrize('task', TASKS)
def test_refinement_network(task: str) -> None:
    d, model = tensors(f'op3_{task}_refine_net'), model_of(task)
    rows = {k: v[:, None] for k, v in d.items()}
    with torch.no_grad():
        seen = model.refinement.look(rows['image_inputs'])
        new, h, c = model.refinement(rows['image_inputs'], rows['vector_inputs'], torch.zeros(3, 1, 128), rows['h0'],
                                     rows['c0'])
    close(seen[:, 0], d['fc_out'])
    close(new[:, 0], torch.cat([d['lambdas1'], d['lambdas2']], -1))
    close(h[:, 0], d['h1'])
    close(c[:, 0], d['c1'])


@pytest.mark.parametrize('name', ['step', 'step_b2'])
@pytest.mark.parametrize('task', TASKS)
def test_one_refinement(task: str, name: str) -> None:
    d, model = tensors(f'op3_{task}_{name}'), model_of(task)
    belief, image = belief_of(d), d['image']
    close(belief.sample(d['eps_in']), d['samples_in'])
    with torch.no_grad():
        scene = model.scene(belief, d['eps_in'])
        loss, log_likelihood, kl = model.loss(belief, scene, image)
        images, vectors = model.look(belief, image, d['eps_in'])
        new = model.refine(belief, image, None, d['eps_in'])
    close(loss.mean(), d['total_loss'], 1e-3)
    close(-log_likelihood.sum() / len(image), d['nll'])
    close(kl, d['kl_per_slot'], 1e-3)
    close(kl.sum() / len(image), d['kl'], 1e-3)
    close(vectors, d['vector_inputs'])
    close(new.mean, d['new_lambdas1'])
    close(new.raw, d['new_lambdas2'])
    close(new.sample(d['eps_out']), d['new_samples'])
    close(new.hidden, d['h1'])
    close(new.cell, d['c1'])
    if name == 'step':
        for got, expected in ((scene.colours, 'colors'), (scene.mask_logits, 'mask_logits'), (scene.masks, 'masks')):
            close(got, d[expected])
        p = model.likelihood.components(image, scene).exp()
        lik = (scene.masks * p).sum(1)
        close(p, d['color_prob'])
        close(lik, d['pixel_lik'])
        close(lik[:, None] - scene.masks * p, d['leave_one_out'])
        colours, _, masks = model.likelihood.gradients(image, scene)
        close(-colours, d['grad_colors'])
        close(-masks, d['grad_masks'])
        for channel in range(images.shape[2]):
            close(images[:, :, channel], d['image_inputs'][:, :, channel], 2e-4)


@pytest.mark.parametrize('name', ['run', 'run_stream'])
@pytest.mark.parametrize('task', TASKS)
def test_whole_runs(task: str, name: str) -> None:
    d, model = tensors(f'op3_{task}_{name}'), model_of(task)
    eps, actions = d['eps'][:, None], consumed(d['actions'])[:, None] if 'actions' in d else None
    belief, t = model.start(1, eps.shape[2]), 0
    with torch.no_grad():
        for row in range(len(eps)):
            if row and d['schedule'][row - 1] == REFINE:
                belief = model.refine(belief, d['images'][min(t, len(d['images']) - 1)][None], None, eps[row - 1])
            elif row:
                belief, t = model.predict(belief, None if actions is None else actions[t], eps[row - 1]), t + 1
            scene = model.scene(belief, eps[row])
            _, log_likelihood, kl = model.loss(belief, scene, d['images'][min(t, len(d['images']) - 1)][None])
            # The runs feed each step's rounding into the next: absolute, as the reference's own float64 run differs
            for got, key in ((belief.mean, 'lambdas1'), (belief.raw, 'lambdas2'), (belief.memory, 'deter')):
                scale = max(1.0, d[key][row].abs().max().item())
                assert (got[0] - d[key][row]).abs().max().item() < 4e-4 * scale, (row, key)
            close(-log_likelihood.sum(), d['nll'][row], 1e-4)
            assert kl.sum().item() == pytest.approx(d['kl'][row].item(), rel=1e-3, abs=1e-3)
            if 'recon' in d:
                assert (scene.image[0] - d['recon'][row]).abs().max() < 1e-3
                assert (scene.masks[0] - d['masks'][row]).abs().max() < 2e-3
    if 'recon_last' in d:
        close(scene.image, d['recon_last'], 4e-4)


@pytest.mark.parametrize('task', TASKS)
def test_training_loss_and_gradients(task: str) -> None:
    d, model = tensors(f'op3_{task}_train'), model_of(task)
    names = golden(f'op3_{task}_train')['param_names']
    images, actions = d['images'], None
    if 'actions' in d:
        actions = torch.cat([torch.zeros(len(images), 1, 4), consumed(d['actions'])], 1)
    assert d['loss_weights'].tolist() == list(range(1, len(d['schedule']) + 1))
    model.zero_grad()
    loss, terms = model.schedule_loss(images, actions, d['schedule'].tolist(), list(d['eps']))
    loss.backward()
    close(loss.detach(), d['total_loss'])
    assert terms['nll'] == pytest.approx(d['nll_weighted'].item(), rel=1e-4)
    assert terms['kl'] == pytest.approx(d['kl_weighted'].item(), rel=1e-3)
    assert terms['mse'] == pytest.approx(d['mse_last'].item(), rel=1e-4)
    ours = dict(model.named_parameters())
    for i, name in enumerate(names):
        gradient = ours[OP3_NAMES[str(name)]].grad
        gradient = torch.zeros(1) if gradient is None else gradient
        norm, scale = d['grad_norm'][i].item(), max(d['grad_norm'][i].item(), 1e-3)
        assert gradient.norm().item() == pytest.approx(norm, rel=2e-3, abs=1e-3), name
        # A sum over n entries cancels: its error is that of the norm, not of what remains
        assert gradient.sum().item() == pytest.approx(d['grad_sum'][i].item(), abs=1e-3 * scale * len(
            gradient.flatten()) ** 0.5), name
        head = gradient.flatten()[:8]
        assert (head - d['grad_head'][i][:len(head)]).abs().max().item() <= 1e-3 * scale, name
    model.zero_grad()


def test_scale_parameter() -> None:
    d = tensors('op3_functions')
    x = d['sp_x'].requires_grad_()
    std = softplus_log_std(x).exp()
    (gradient,) = torch.autograd.grad(std.sum(), x)
    sure = d['sp_x'] > -10  # below, log(1 + exp(x)) of the reference loses digits
    close(std[sure].detach(), d['sp_std'][sure])
    close(std.detach(), d['sp_std'], 1e-4)
    apart = d['sp_x'] != 80  # where min(x, 80) has no derivative
    close(gradient[apart], d['sp_grad'][apart])


def test_likelihood_where_it_underflows() -> None:
    d = tensors('op3_functions')
    scene, likelihood = Scene(d['colors'], d['mask_logits']), UnnormalisedMixture(0.1)
    p = likelihood.components(d['image'], scene).exp()
    close(p, d['color_prob'])
    close((scene.masks * p).sum(1), d['pixel_lik'])
    close(-likelihood(d['image'], scene).sum() / 2, d['nll'])
    colours, _, masks = likelihood.gradients(d['image'], scene)
    close(-colours / 2, d['grad_colors'])
    close(-masks / 2, d['grad_masks'])


def test_kl_and_its_gradient() -> None:
    d, model = tensors('op3_functions'), model_of('pickplace')
    mean, raw = d['post_lambdas1'].requires_grad_(), d['post_lambdas2'].requires_grad_()
    zeros = torch.zeros(2, 3, 0)
    belief = OP3Belief(mean, softplus_log_std(raw), zeros, raw, zeros, zeros, d['prior_lambdas1'], d['prior_lambdas2'])
    loss, _, kl = model.loss(belief, Scene(d['colors'], d['mask_logits']), d['image'])
    close(kl.detach(), d['kl_per_slot'], 1e-3)
    close(loss.mean().detach(), d['total_loss'], 1e-3)
    by_mean, by_raw = torch.autograd.grad(loss.mean(), (mean, raw))
    close(by_mean, d['grad_post_lambdas1'], 1e-3)
    close(by_raw, d['grad_post_lambdas2'], 1e-3)


@pytest.mark.parametrize(('kind', 'pixels', 'eps'), [('ln2d', True, 1e-5), ('ln1d', False, 1e-6)])
def test_layer_norms(kind: str, pixels: bool, eps: float) -> None:
    d = tensors('op3_functions')
    norm = StandardNorm(len(d[f'{kind}_gain']), pixels, eps)
    norm.load_state_dict({'gain': d[f'{kind}_gain'], 'bias': d[f'{kind}_bias']})
    with torch.no_grad():
        out = norm(d[f'{kind}_in'])
    for row, expected in zip(out, d[f'{kind}_out'], strict=True):
        close(row, expected)


def test_released_is_not_the_default() -> None:
    defaults = OP3Config()
    assert defaults.likelihood == 'mixture' and not defaults.batch_mean_gradients
    assert np.isclose(load_preset('op3_paper').beta, 1.0)
