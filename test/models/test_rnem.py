"""R-NEM and its family: steps of EM, interaction, roll-out, training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from bouncing import bouncing_balls
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

from object_centric_ros.errors import InputError
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.models.normed import DoublingConv, NormedDecoder, NormedEncoder, halved
from object_centric_ros.models.recurrent import SigmoidCell
from object_centric_ros.models.registry import build_model
from object_centric_ros.models.relational import RelationalInteraction
from object_centric_ros.models.rnem import RNEM, RNEMBelief, RNEMConfig
from object_centric_ros.presets import load_preset

SIZES: dict[str, Any] = {'image_size': 16, 'slots': 3, 'latent': 12, 'attention_size': 8, 'hidden': 16,
                         'encoder_channels': (6, 8), 'decoder_channels': (8, 6)}
FAMILY: dict[str, dict[str, Any]] = {
    'R-NEM': {}, 'no attention': {'interaction': 'sum'}, 'RNN-EM': {'interaction': 'none'},
    'N-EM': {'interaction': 'none', 'm_step': 'gradient', 'step_size': 0.1},
    'RNN': {'interaction': 'none', 'slots': 1}, 'LSTM': {'interaction': 'none', 'm_step': 'lstm', 'slots': 1},
    'actions': {'action_size': 3, 'image_size': 22}, 'Gaussian': {'likelihood': 'gaussian'}}
PRESETS = {'rnem_balls': 'R-NEM', 'rnem_balls_no_attention': 'no attention', 'rnn_em_balls': 'RNN-EM',
           'nem_balls': 'N-EM', 'rnem_curtain': 'R-NEM', 'rnem_space_invaders': 'actions', 'rnn_balls': 'RNN',
           'lstm_balls': 'LSTM'}
each = pytest.mark.parametrize('kind', list(FAMILY))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(kind: str = 'R-NEM', **changes: Any) -> RNEM:
    torch.manual_seed(0)
    model = RNEM(RNEMConfig(**(SIZES | FAMILY[kind] | changes)))
    for p in model.parameters():  # biases and gains that start alike would hide errors in them
        if p.dim() == 1:
            torch.nn.init.normal_(p, float(p[0] == 1), 0.2)
    return model.eval()


def film(model: RNEM, batch: int = 2, frames: int = 5, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    """Frames with a square that goes right, and actions where the model takes them."""
    size, c = model.config.image_size, model.config.channels
    images = torch.zeros(batch, frames, c, size, size, dtype=next(model.parameters()).dtype)
    place = torch.randint(0, size - 8, (batch, c, 2), generator=seeded(seed))
    for b in range(batch):
        for t in range(frames):
            for j, (u, v) in enumerate(place[b].tolist()):
                images[b, t, j, v:v + 5, u + t:u + t + 5] = 1
    choice = torch.randint(0, max(model.config.action_size, 1), (batch, frames), generator=seeded(seed + 1))
    return images, torch.eye(model.config.action_size).to(images)[choice] if model.config.action_size else None


def differ(a: RNEMBelief, b: RNEMBelief) -> float:
    return max((x - b.tensors()[k]).abs().max().item() for k, x in a.tensors().items() if k != 'log_std' and x.numel())


@pytest.mark.parametrize('name', sorted(PRESETS))
def test_presets(name: str) -> None:
    config = load_preset(name)
    assert isinstance(config, RNEMConfig)
    model = build_model(config)
    assert isinstance(model, RNEM)
    family = RNEMConfig(**FAMILY[PRESETS[name]])
    assert (config.interaction, config.m_step) == (family.interaction, family.m_step)
    images = torch.zeros(1, 2, 1, config.image_size, config.image_size)
    actions = torch.zeros(1, 2, 6) if config.action_size else None
    with torch.no_grad():
        last = model.unroll(images, actions, seeded())[-1]
    assert last.parameters.shape == (1, config.slots, *images.shape[2:])


def test_layer_tables_of_the_paper() -> None:
    """Appendix A: 8x8x64 behind 64 pixels; 6x6 behind 84, and back."""
    balls, invaders = load_preset('rnem_balls'), load_preset('rnem_space_invaders')
    assert isinstance(balls, RNEMConfig) and isinstance(invaders, RNEMConfig)
    assert halved(64, 3) == [64, 32, 16, 8] and halved(84, 4) == [84, 42, 21, 11, 6]
    torch.manual_seed(0)
    for config, first in ((balls, 8 * 8 * 64), (invaders, 6 * 6 * 32)):
        encoder = NormedEncoder(config.image_size, 1, config.encoder_channels, config.hidden)
        decoder = NormedDecoder(config.latent, config.image_size, 1, config.hidden, config.decoder_channels)
        assert [m.in_features for m in encoder.layers if isinstance(m, torch.nn.Linear)] == [first]
        convolutions = [m for m in decoder.layers if isinstance(m, torch.nn.Conv2d)]
        assert [m.out_channels for m in convolutions] == [*config.decoder_channels[1:], 1]
        x = torch.rand(2, 3, 1, config.image_size, config.image_size, generator=seeded())
        assert encoder(x).shape == (2, 3, 512)
        assert decoder(torch.rand(2, 3, 250)).shape == x.shape


def test_doubling_convolution_is_the_one_over_the_doubled_map() -> None:
    torch.manual_seed(0)
    folded, x = DoublingConv(5, 3), torch.randn(2, 5, 7, 6, requires_grad=True)
    plain = nn.Sequential(nn.Upsample(scale_factor=2), nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(5, 3, 4))
    plain[2].load_state_dict(folded.state_dict())
    assert torch.allclose(folded(x), plain(x), atol=1e-5)
    slope = torch.randn(2, 3, 14, 12)
    ours = torch.autograd.grad((folded(x) * slope).sum(), (x, folded.weight))
    theirs = torch.autograd.grad((plain(x) * slope).sum(), (x, plain[2].weight))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize('attention', [0, 5])
def test_interaction_is_equation_5(attention: int) -> None:
    """Against a loop over pairs, with the networks applied to the concatenation of the pair."""
    torch.manual_seed(0)
    k, net = 4, RelationalInteraction(6, 7, attention).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.5)
    theta = torch.randn(2, k, 6, generator=seeded(), dtype=torch.float64)
    found, weights = net(theta)
    for b in range(2):
        encoded = [net.encode(theta[b, i]) for i in range(k)]
        for i in range(k):
            effect = torch.zeros(7, dtype=torch.float64)
            for j in range(k):
                pair = net.embed(net.pair(torch.cat([encoded[i], encoded[j]])))
                alpha = net.attention(pair).squeeze() if net.attention is not None else torch.ones(())
                effect = effect + (i != j) * alpha * net.effect(pair)
                assert weights[b, i, j].item() == pytest.approx(0 if i == j else alpha.item())
            assert torch.allclose(found[b, i], torch.cat([encoded[i], effect]))


def test_no_interaction_without_others() -> None:
    net = RelationalInteraction(6, 7, 5)
    theta = torch.randn(2, 3, 6, generator=seeded())
    alone, weights = net(theta[:, :1])
    assert not alone[..., 7:].any() and not weights.any()
    assert net(theta)[0][:, :1, 7:].abs().max() > 0


def test_attention_can_switch_an_object_off() -> None:
    """With attention zero the effects vanish; without attention they all count, and more objects mean a larger sum."""
    torch.manual_seed(0)
    net, plain = RelationalInteraction(6, 7, 5), RelationalInteraction(6, 7, 0)
    theta = torch.randn(1, 3, 6, generator=seeded())
    assert net.attention is not None and plain.attention is None
    torch.nn.init.constant_(net.attention[3].bias, -1e4)
    assert not net(theta)[0][..., 7:].any()
    twice = plain(torch.cat([theta[:, :1], theta[:, 1:], theta[:, 1:]], 1))[0]
    assert torch.allclose(twice[:, 0, 7:], 2 * plain(theta)[0][:, 0, 7:], atol=1e-5)


def test_cell_is_equation_4() -> None:
    """The recurrence reads sigmoid(W x + R u) as it is, the decoder with layer norm before the sigmoid."""
    torch.manual_seed(0)
    cell = SigmoidCell(3, 2, 4)
    x, context = torch.randn(1, 1, 3), torch.randn(1, 1, 2)
    mean, _ = cell(x, context, torch.zeros(1, 1, 4), torch.zeros(1, 1, 0))
    w, r = cell.linear.weight.split([3, 2], 1)
    raw = x @ w.T + context @ r.T + cell.linear.bias
    assert torch.allclose(cell.state(mean), raw.sigmoid())
    normed = (raw - raw.mean(-1, keepdim=True)) / (raw.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(cell.output(mean), normed.sigmoid(), atol=1e-6)


def test_first_frame_is_seen_through_the_random_gamma() -> None:
    model = make()
    image = film(model)[0][:, 0]
    start = model.start(2, 3, seeded())
    assert model.cell is not None and model.cell.state(start.mean).max() < 1e-8
    belief = model.expect(start, image)
    assert torch.equal(belief.log_gamma, start.log_gamma)
    assert torch.allclose(belief.error, start.log_gamma.exp()[:, :, None] * image[:, None], atol=1e-6)


@each
def test_a_later_frame_is_an_em_step(kind: str) -> None:
    """E-step on the prediction, input gamma (x - psi), M-step, decode."""
    model = make(kind).double()
    images, actions = film(model)
    with torch.no_grad():
        a, b = model.unroll(images, actions, seeded())[2:4]
    psi = a.parameters.sigmoid() if model.config.likelihood == 'bernoulli' else a.parameters
    p = model.pixels.log_prob(images[:, 2, None], a.parameters).sum(2).exp()
    gamma = p / p.sum(1, keepdim=True)
    assert torch.allclose(a.log_gamma.exp(), gamma)
    assert torch.allclose(a.error, gamma[:, :, None] * (images[:, 2, None] - psi))
    with torch.no_grad():
        step = model.maximise(a, None if actions is None else actions[:, 3])
        drawn = model.decode(step.mean).colours
    assert torch.equal(step.parameters, b.parameters)
    assert torch.allclose(drawn, model.pixels.mean(b.parameters))


@pytest.mark.parametrize('seen', [True, False])
def test_the_input_has_no_gradient_through_gamma(seen: bool) -> None:
    """d error_k / d a_k is that of gamma (x - psi) with gamma held fixed (appendix A.1); in roll-outs x is ours too."""
    model = make().double()
    images, _ = film(model)
    with torch.no_grad():
        belief = model.unroll(images, None, seeded())[2]
    a = belief.parameters.clone().requires_grad_()
    after = replace(belief, parameters=a)
    after = model.expect(after, images[:, 2]) if seen else model.imagine(after)
    gamma, weight = after.log_gamma.exp()[:, :, None], torch.randn(a.shape, generator=seeded(), dtype=a.dtype)
    frame = images[:, 2, None] if seen else (gamma * a.sigmoid()).sum(1, keepdim=True)
    (found,) = torch.autograd.grad((weight * after.error).sum(), a)
    (wanted,) = torch.autograd.grad((weight * gamma.detach() * (frame - a.sigmoid())).sum(), a)
    assert not after.log_gamma.requires_grad and torch.allclose(found, wanted)


@pytest.mark.parametrize('likelihood', ['bernoulli', 'gaussian'])
def test_the_m_step_of_n_em_climbs_q(likelihood: str) -> None:
    """Its direction is the gradient of eq. 2, by finite differences; a short step raises Q."""
    model = make('N-EM', likelihood=likelihood).double()
    image = film(model, 1)[0][:, 0].double()
    belief = model.expect(model.start(1, 3, seeded()), image)
    gamma = belief.log_gamma.exp()

    def q(mean: Tensor) -> float:
        with torch.no_grad():
            return (gamma * model.pixels.log_prob(image[:, None], model._draw(mean)).sum(2)).sum().item()
    after = model.maximise(belief)
    direction = (after.mean - belief.mean) / model.config.step_size
    for index in range(0, belief.mean.numel(), 7):
        step = torch.zeros_like(belief.mean)
        step.view(-1)[index] = 1e-6
        numeric = (q(belief.mean + step) - q(belief.mean - step)) / 2e-6
        assert numeric == pytest.approx(direction.flatten()[index].item(), rel=1e-4, abs=1e-5)
    assert q(belief.mean + 1e-4 * direction) > q(belief.mean)


@each
def test_stream_without_predict_is_the_same_filter(kind: str) -> None:
    """`infer` owes a belief that was not predicted its M-step, so that trackers may leave the prediction to it."""
    model = make(kind)
    images, actions = film(model)
    with torch.no_grad():
        belief = other = model.infer(images[:, 0], generator=seeded())
        for t in range(1, images.shape[1]):
            action = None if actions is None else actions[:, t]
            belief = model.infer(images[:, t], belief, 1, action)
            other = model.infer(images[:, t], model.predict(other, action), 1, action)
        last = model.unroll(images, actions, seeded())[-1]
    assert isinstance(belief, RNEMBelief) and isinstance(other, RNEMBelief)
    assert differ(belief, last) < 1e-5 and differ(other, last) < 1e-5


def test_nothing_is_predicted_before_the_first_frame() -> None:
    model = make()
    start = model.start(1, 3, seeded())
    with torch.no_grad():
        assert differ(model.predict(start), start) == 0  # type: ignore[arg-type]


@each
def test_roll_out_sees_no_future_frame(kind: str) -> None:
    model = make(kind)
    images, actions = film(model)
    changed = images.clone()
    changed[:, 2:] = 1 - images[:, 2:]
    with torch.no_grad():
        a, b = (model.unroll(x, actions, seeded(), observed=2) for x in (images, changed))
        seen = model.unroll(changed, actions, seeded())
        belief = a[1]
        for t in range(2, images.shape[1]):
            belief = model.predict(belief, None if actions is None else actions[:, t])  # type: ignore[assignment]
    assert all(differ(x, y) == 0 for x, y in zip(a, b, strict=True))
    assert differ(belief, a[-1]) < 1e-6
    assert differ(seen[-1], b[-1]) > 1e-3
    assert not a[-1].seen.any() and seen[-1].seen.all()


def test_roll_out_feeds_its_own_prediction() -> None:
    """gamma from max_k psi above 0.1, input gamma_k (sum_j gamma_j psi_j - psi_k): appendix A.1, Simulation."""
    model = make()
    images, _ = film(model)
    with torch.no_grad():
        belief = model.unroll(images, None, seeded(), observed=2)[-1]
    psi = belief.parameters.sigmoid()
    frame = (psi.amax(1) > 0.1).float()
    p = frame[:, None] * psi + (1 - frame[:, None]) * (1 - psi)
    gamma = (p / p.sum(1, keepdim=True))
    assert torch.allclose(belief.log_gamma.exp(), gamma[:, :, 0], atol=1e-5)
    assert torch.allclose(belief.error, gamma * ((gamma * psi).sum(1, keepdim=True) - psi), atol=1e-5)


@each
def test_slots_are_alike(kind: str) -> None:
    """A permutation of the first gamma permutes the whole film; another K works with the same weights."""
    model = make(kind).double()
    images, actions = film(model, 1)
    order = torch.tensor([2, 0, 1, 4, 3])
    start = model.start(1, 5, seeded())
    with torch.no_grad():
        beliefs = [start, start.select(order[None])]
        for t, image in enumerate(images.unbind(1)):
            action = None if actions is None else actions[:, t]
            beliefs = [model.refine(x, image, action) for x in beliefs]  # type: ignore[misc]
    assert differ(beliefs[0].select(order[None]), beliefs[1]) < 1e-9
    assert differ(beliefs[0].select(order[None]), beliefs[0]) > 1e-3


@each
def test_rows_of_a_batch_do_not_see_each_other(kind: str) -> None:
    model = make(kind).double()
    images, actions = film(model, 3)
    start = model.start(3, None, seeded())
    beliefs = [start, start.map(lambda x: x[1:2])]
    with torch.no_grad():
        for t, image in enumerate(images.unbind(1)):
            for i, rows in enumerate((slice(None), slice(1, 2))):
                action = None if actions is None else actions[rows, t]
                beliefs[i] = model.refine(beliefs[i], image[rows], action)  # type: ignore[assignment]
    assert differ(beliefs[0].map(lambda x: x[1:2]), beliefs[1]) < 1e-9


@each
def test_masks_sum_to_one_and_black_is_empty(kind: str) -> None:
    model = make(kind)
    images, actions = film(model)
    with torch.no_grad():
        for belief in model.unroll(images, actions, seeded(), observed=3):
            scene = model.scene(belief)
            assert torch.allclose(scene.masks.sum(1), torch.ones_like(scene.masks[:, 0]), atol=1e-5)
            assert torch.allclose(scene.masks, belief.log_gamma.exp(), atol=1e-6)
            assert scene.empty is not None
            owner = belief.log_gamma.argmax(1)
            for k in range(model.config.slots):
                assert torch.equal(scene.empty[owner == k], (scene.colours[:, k].abs() <= 0.1).all(1)[owner == k])
        first = model.scene(model.infer(images[:, 0], generator=seeded()))
    if kind != 'N-EM':  # which starts from what a state of zero draws
        assert first.empty is not None and first.empty.all() and first.image.max() < 1e-6


@each
def test_episode_loss_is_the_mean_over_predicted_frames(kind: str) -> None:
    model = make(kind)  # in eval mode: without noise
    images, actions = film(model)
    loss, terms = model.episode_loss(images, actions, 0, seeded())
    with torch.no_grad():
        beliefs = model.unroll(images, actions, seeded())
        by_hand = [model.loss(b, model.scene(b), x)[0] for b, x in zip(beliefs[1:], images.unbind(1)[1:], strict=True)]
        measured = model.measure(images, actions, generator=seeded())
    assert loss.item() == pytest.approx(torch.stack(by_hand).mean().item(), rel=1e-5)
    assert loss.item() == pytest.approx(terms['intra'] + terms['inter'], rel=1e-5)
    assert torch.allclose(measured['loss'], torch.stack(by_hand, 1), rtol=1e-5)
    assert terms['nll'] == pytest.approx(measured['nll'].mean().item(), rel=1e-5)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_trained_roll_outs_see_no_late_frame() -> None:
    model = make(rollout=1.0)
    images, _ = film(model, frames=6)
    generator = seeded(1)
    torch.rand((), generator=generator)  # whether
    observed = int(torch.randint(3, 6, (), generator=generator))
    with torch.no_grad():
        loss, terms = model.episode_loss(images, None, 0, seeded(1))
        measured = model.measure(images, generator=generator, observed=observed)
        seen = model.measure(images, generator=seeded(1))
    assert loss.item() == pytest.approx(measured['loss'].mean().item(), rel=1e-5)
    assert terms['nll'] == pytest.approx(measured['nll'].mean().item(), rel=1e-5)
    assert abs(seen['loss'].mean().item() - loss.item()) > 1e-3


@pytest.mark.parametrize('kind', ['RNN', 'LSTM'])
def test_baselines_are_next_frame_predictors(kind: str) -> None:
    """With one component gamma is one, and the loss is the cross-entropy of the next frame."""
    model = make(kind)
    images, _ = film(model)
    with torch.no_grad():
        loss, terms = model.episode_loss(images, None, 0, seeded())
        beliefs = model.unroll(images, None, seeded())
    predicted = torch.stack([b.parameters[:, 0].sigmoid() for b in beliefs[1:]], 1)
    wanted = binary_cross_entropy(predicted, images[:, 1:], reduction='sum') / predicted[:, :, 0, 0, 0].numel()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)
    assert terms['inter'] == 0 and torch.equal(beliefs[1].log_gamma, torch.zeros_like(beliefs[1].log_gamma))


def test_lstm_keeps_a_cell_state() -> None:
    model = make('LSTM')
    images, _ = film(model)
    with torch.no_grad():
        beliefs = model.unroll(images, None, seeded())
        changed = replace(beliefs[1], memory=torch.zeros_like(beliefs[1].memory))
        a, b = model.maximise(beliefs[1]), model.maximise(changed)
    assert beliefs[1].memory.abs().max() > 1e-3 and (a.mean - b.mean).abs().max() > 1e-3


def test_relational_loss_is_masked_by_the_frame_before() -> None:
    model = make()
    images, _ = film(model)
    collisions = torch.zeros(images[:, :, 0].shape, dtype=torch.bool)
    collisions[0, 2, :8] = True
    found = model.measure(images, None, collisions, seeded())
    assert found['relational_loss'].shape == (2, 4)
    assert (found['relational_loss'] > 0).nonzero().tolist() == [[0, 2]]  # of the frame 3
    upper = model.measure(images, None, torch.ones_like(collisions), seeded())
    assert torch.allclose(upper['relational_nll'], upper['nll']) and torch.allclose(upper['copy'], found['copy'])
    moved = (images[:, 1:] != images[:, :-1]).flatten(2).sum(2)
    assert torch.allclose(found['copy'], moved * 6 * math.log(10), rtol=1e-3)


def test_noise_flips_the_input_in_training_alone() -> None:
    model = make(noise=0.3, image_size=32)
    images, _ = film(model, 4)
    start = model.start(4, None, seeded())
    assert model.noise(start, seeded()) is None
    model.train()
    noise = model.noise(start, seeded())
    assert noise is not None and noise.shape == start.parameters.shape
    seen = model.expect(start, images[:, 0], noise).error.sum(1)  # sum_k gamma_k (x - 0)
    flipped = (seen - images[:, 0]).abs() > 0.5
    n = flipped.numel()
    assert flipped.double().mean().item() == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / n))
    assert torch.equal(model.expect(start, images[:, 0], noise).log_gamma, model.expect(start, images[:, 0]).log_gamma)
    assert make(noisy_inference=True).noise(start, seeded()) is not None


@each
def test_same_seed_same_numbers(kind: str) -> None:
    model = make(kind).train()
    images, actions = film(model)
    runs = [model.episode_loss(images, actions, 0, seeded(s))[0].item() for s in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


@each
@pytest.mark.parametrize('value', [0.0, 1.0])
def test_finite_on_black_and_white(kind: str, value: float) -> None:
    model = make(kind).train()
    images, actions = film(model)
    loss, _ = model.episode_loss(torch.full_like(images, value), actions, 0, seeded())
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@each
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_other_precisions(kind: str, dtype: torch.dtype) -> None:
    model = make(kind)
    images, actions = film(model)
    exact = model.measure(images, actions, generator=seeded())['loss']
    model = model.to(dtype)
    other = model.measure(images.to(dtype), None if actions is None else actions.to(dtype), generator=seeded())['loss']
    assert torch.allclose(other.to(exact), exact, rtol=1e-4 if dtype == torch.float64 else 0.1)


def test_an_action_is_told_to_every_slot() -> None:
    model = make('actions')
    images, actions = film(model)
    assert actions is not None and model.action_format == 'discrete'
    with torch.no_grad():
        belief = model.unroll(images, actions, seeded())[1]
        by_action = [model.maximise(belief, torch.eye(3)[[i, i]]).mean for i in range(3)]
        nothing = [model.maximise(belief, a).mean for a in (None, torch.zeros(2, 3))]
    assert torch.equal(*nothing)
    assert all((by_action[i] - x).abs().amax((0, 2)).min() > 1e-4
               for i, x in ((0, by_action[1]), (1, by_action[2]), (0, nothing[0])))


def test_restored_states_draw_their_prediction() -> None:
    model = make()
    images, _ = film(model)
    with torch.no_grad():
        belief = model.unroll(images, None, seeded(), observed=3)[-1]
        again = model.restore(belief.mean, belief.std, belief.memory)
    assert isinstance(again, RNEMBelief) and differ(again, belief) < 1e-5


def test_what_a_camera_image_becomes() -> None:
    rgb = torch.full((1, 3, 4, 4), 0.45)
    rgb[0, :, 0, 0] = torch.tensor([0.9, 0.1, 0.1])
    rgb[0, :, 0, 1] = torch.tensor([0.1, 0.1, 0.1])
    bright, unlike = make().observe(rgb), make(observed='unlike', threshold=0.2).observe(rgb)
    assert bright.shape == (1, 1, 4, 4)
    assert bright.flatten().nonzero().flatten().tolist() == [0]
    assert unlike.flatten().nonzero().flatten().tolist() == [0, 1]
    assert torch.equal(make('Gaussian').observe(rgb), rgb)
    balls = torch.from_numpy(bouncing_balls(0, 1, 1, 16)[0][0])
    assert torch.equal(make().observe(balls.expand(-1, 3, -1, -1)), balls)


@pytest.mark.parametrize(('changes', 'what'), [
    ({'m_step': 'adam'}, 'm_step'), ({'interaction': 'all'}, 'interaction'), ({'likelihood': 'poisson'}, 'likelihood'),
    ({'m_step': 'lstm'}, 'interaction'), ({'m_step': 'gradient', 'interaction': 'none', 'action_size': 2}, 'action'),
    ({'noise': 1.0}, 'noise'), ({'slots': 0}, 'slots'), ({'background_slot': True}, 'background_slot'),
    ({'encoder_channels': (4,)}, 'encoder_channels'), ({'observed': 'dark'}, 'observed')])
def test_impossible_configurations(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        RNEMConfig(**(SIZES | changes))


def test_images_and_actions_that_do_not_fit() -> None:
    model = make('actions')
    images, actions = film(model)
    assert actions is not None
    with pytest.raises(InputError, match='image'):
        model.infer(images[:, 0].expand(-1, 3, -1, -1))
    with pytest.raises(InputError, match='action'):
        model.unroll(images, actions[..., :2])


def test_is_a_model_of_the_house() -> None:
    model: CycleModel = make()
    assert (model.predicts, model.plans, model.parks, model.action_format) == (True, False, False, 'none')
    assert not make('N-EM').predicts
    assert torch.isneginf(model.start(1).log_std).all()


def test_learns_a_film() -> None:
    """After some steps on a film of two balls: better than the best still picture of it."""
    torch.manual_seed(1)
    images = torch.from_numpy(bouncing_balls(1, 1, 6, 16, speed=0.12)[0])
    model = RNEM(RNEMConfig(image_size=16, slots=2, latent=32, attention_size=16, hidden=64, noise=0.02,
                            encoder_channels=(8, 16), decoder_channels=(16, 8))).train()
    optimiser = torch.optim.Adam(model.parameters(), 8e-3)
    for step in range(80):
        loss, _ = model.episode_loss(images, None, step, seeded(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    predicted = model.eval().measure(images, generator=seeded())['nll'].mean().item()
    still = images[:, 1:].mean(1, keepdim=True).expand(-1, 5, -1, -1, -1)
    best_still = binary_cross_entropy(still, images[:, 1:], reduction='sum').item() / 5
    assert predicted < 0.75 * best_still, (predicted, best_still)
