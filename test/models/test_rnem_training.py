"""R-NEM and its family: roll-outs, losses, baselines, and that it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from bouncing import bouncing_balls
from rnem_family import differ, each, film, make, seeded
from torch.nn.functional import binary_cross_entropy

from object_centric_ros.models.rnem import RNEM, RNEMConfig


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
