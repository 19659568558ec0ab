"""PARTS: the properties that every model of the house must have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from object_centric_ros.errors import InputError
from object_centric_ros.models.belief import Belief, Scene, gaussian_kl, gaussian_kl_between
from object_centric_ros.models.initial import PARKED, parked, place_parked, seed_positions
from object_centric_ros.models.likelihood import ComposedGaussian, GaussianMixture
from object_centric_ros.models.parts import Parts, PartsConfig

SMALL = {'image_size': 32, 'slots': 4, 'latent': 8, 'encoder_channels': (8, 16), 'attention_size': 16, 'hidden': 16,
         'decoder_channels': 8, 'decoder_layers': 1, 'decoder_grid': 8, 'dynamics_size': 16, 'dynamics_heads': 2}
VARIANTS = [{}, {'anchored': False, 'action_size': 3, 'background_slot': False}, {'update': 'additive'},
            {'gradient_feedback': False}, {'likelihood': 'mixture'}, {'top_down': False}]


def small(**changes: object) -> Parts:
    torch.manual_seed(0)
    model = Parts(PartsConfig(**{**SMALL, **changes}))
    for p in model.parameters():  # zero-initialised paths would hide errors in them
        if p.abs().sum() == 0:
            torch.nn.init.normal_(p, std=0.1)
    return model.eval()


def spread(model: Parts, batch: int, slots: int) -> Belief:
    """A belief with all slots inside of the image."""
    belief = model.start(batch, slots, torch.Generator().manual_seed(1))
    if model.config.anchored:
        belief = place_parked(belief, torch.linspace(-0.8, 0.8, 2 * slots).reshape(1, slots, 2).expand(batch, -1, -1))
    return belief


def action_of(model: Parts, batch: int) -> torch.Tensor:
    action = torch.rand(batch, model.config.action_size, generator=torch.Generator().manual_seed(3))
    action[:, 0] = 1
    return action


def cycle(model: Parts, belief: Belief, image: torch.Tensor, action: torch.Tensor) -> tuple[Belief, Scene]:
    belief = model.predict(belief, action)
    belief = model.refine(belief, image, action)
    return belief, model.decode(belief.mean)


@pytest.mark.parametrize('changes', VARIANTS)
def test_masks_and_attention_sum_to_one(changes: dict) -> None:
    model = small(**changes)
    belief, attention = model.attend(spread(model, 2, 4), torch.rand(2, 3, 32, 32))
    assert torch.allclose(attention.sum(1), torch.ones_like(attention[:, 0]), atol=1e-5)
    masks = model.decode(belief.mean).masks
    assert torch.allclose(masks.sum(1), torch.ones(2, 32, 32), atol=1e-5)


@pytest.mark.parametrize('changes', VARIANTS)
def test_equivariant_under_permutation_of_object_slots(changes: dict) -> None:
    model = small(**changes)
    first = 1 if model.config.background_slot else 0
    order = torch.tensor([*range(first), *(first + np.random.default_rng(0).permutation(5 - first))])
    belief, image, action = spread(model, 2, 5), torch.rand(2, 3, 32, 32), action_of(model, 2)
    a, scene_a = cycle(model, belief, image, action)
    b, scene_b = cycle(model, belief.select(order.expand(2, -1)), image, action)
    assert torch.allclose(a.mean[:, order], b.mean, atol=1e-4)
    assert torch.allclose(a.log_std[:, order], b.log_std, atol=1e-4)
    assert torch.allclose(scene_a.masks[:, order], scene_b.masks, atol=1e-4)


@pytest.mark.parametrize('changes', VARIANTS)
def test_an_image_does_not_know_its_batch(changes: dict) -> None:
    model = small(**changes)
    belief, image, action = spread(model, 3, 4), torch.rand(3, 3, 32, 32), action_of(model, 3)
    together, _ = cycle(model, belief, image, action)
    row = Belief(*(getattr(belief, k)[1:2] for k in ('mean', 'log_std', 'memory')))
    alone, _ = cycle(model, row, image[1:2], action[1:2])
    assert torch.allclose(together.mean[1], alone.mean[0], atol=1e-4)


@pytest.mark.parametrize('slots', [2, 7])
@pytest.mark.parametrize('batch', [1, 3])
def test_slots_and_batch_are_free_at_run_time(slots: int, batch: int) -> None:
    model = small()
    belief, scene = cycle(model, spread(model, batch, slots), torch.rand(batch, 3, 32, 32), action_of(model, batch))
    assert belief.mean.shape == (batch, slots, 8)
    assert scene.colours.shape == (batch, slots, 3, 32, 32)


def test_a_slot_is_decoded_alone() -> None:
    model = small()
    z = torch.randn(1, 4, 8)
    other = z.clone()
    other[:, 2:] += 1
    a, b = model.decode(z), model.decode(other)
    assert torch.allclose(a.colours[:, :2], b.colours[:, :2], atol=1e-6)
    assert torch.allclose(a.mask_logits[:, :2], b.mask_logits[:, :2], atol=1e-5)
    assert not torch.allclose(a.colours[:, 2:], b.colours[:, 2:], atol=1e-3)


def test_same_seed_same_numbers() -> None:
    model, image = small(), torch.rand(2, 3, 32, 32)
    runs = [model.infer(image, generator=torch.Generator().manual_seed(s)).mean for s in (5, 5, 6)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.allclose(runs[0], runs[2])


def test_closed_form_kl_equals_monte_carlo() -> None:
    generator = torch.Generator().manual_seed(0)

    def random_belief() -> Belief:
        mean, log_std = torch.randn(2, 1, 2, 3, generator=generator)
        return Belief(mean, 0.3 * log_std, torch.zeros(1, 2, 0))
    q, p = random_belief(), random_belief()
    z = q.mean + q.std * torch.randn(200_000, 2, 3, generator=generator)

    def log_density(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        return torch.distributions.Normal(mean, std).log_prob(z).sum(-1)
    standard = (log_density(q.mean, q.std) - log_density(torch.zeros(3), torch.ones(3))).mean(0)
    between = (log_density(q.mean, q.std) - log_density(p.mean, p.std)).mean(0)
    assert torch.allclose(gaussian_kl(q)[0], standard, rtol=0.02, atol=0.02)
    assert torch.allclose(gaussian_kl_between(q, p)[0], between, rtol=0.02, atol=0.02)


@pytest.mark.parametrize('likelihood', ['mixture', 'composed'])
def test_refinement_gradient_equals_finite_differences(likelihood: str) -> None:
    model = small(likelihood=likelihood, sigma=0.5).double()
    image = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    start = spread(model, 1, 3)
    belief = Belief(start.mean.double(), start.log_std.double(), start.memory.double())
    noise = torch.randn(belief.mean.shape, dtype=torch.float64)
    mean = belief.mean.clone().requires_grad_()

    def loss(m: torch.Tensor) -> torch.Tensor:
        b = Belief(m, belief.log_std, belief.memory)
        return model.loss(b, model.decode(b.sample(noise)), image)[0].sum()
    (gradient,) = torch.autograd.grad(loss(mean), mean)
    for index in [(0, 0, 3), (0, 1, 0), (0, 2, 5)]:
        step = torch.zeros_like(mean)
        step[index] = 1e-5
        numeric = (loss(belief.mean + step) - loss(belief.mean - step)) / 2e-5
        assert numeric.item() == pytest.approx(gradient[index].item(), rel=1e-5)


@pytest.mark.parametrize('value', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('likelihood', ['mixture', 'composed'])
def test_loss_is_finite_on_flat_images(value: float, likelihood: str) -> None:
    model = small(likelihood=likelihood)
    image = torch.full((1, 3, 32, 32), value)
    belief = model.infer(image, generator=torch.Generator().manual_seed(0))
    loss, log_likelihood, kl = model.loss(belief, model.decode(belief.mean), image)
    assert torch.isfinite(loss).all() and torch.isfinite(log_likelihood).all() and torch.isfinite(kl).all()


def test_bfloat16_stays_close() -> None:
    model, image = small(), torch.rand(1, 3, 32, 32)
    belief = spread(model, 1, 4)
    exact = model.refine(belief, image).mean
    with torch.autocast('cpu', torch.bfloat16):
        rough = model.refine(belief, image).mean
    assert torch.allclose(exact, rough.float(), atol=0.15)


def test_mixture_has_a_gradient_far_from_the_image() -> None:
    colours = torch.full((1, 2, 3, 4, 4), 9.0, requires_grad=True)
    scene = Scene(colours, torch.zeros(1, 2, 4, 4))
    (-GaussianMixture(0.1)(torch.zeros(1, 3, 4, 4), scene).sum()).backward()
    assert colours.grad is not None and colours.grad.abs().min() > 1


def test_likelihoods_agree_for_one_slot() -> None:
    scene = Scene(torch.rand(2, 1, 3, 4, 4), torch.randn(2, 1, 4, 4))
    image = torch.rand(2, 3, 4, 4)
    assert torch.allclose(GaussianMixture(0.2)(image, scene), ComposedGaussian(0.2)(image, scene), atol=1e-4)


def test_parked_slots_see_and_draw_nothing() -> None:
    model = small()
    belief = model.start(1, 4, torch.Generator().manual_seed(0))
    assert parked(belief)[0, 1:].all()
    refined = model.refine(belief, torch.rand(1, 3, 32, 32), feedback=False)
    assert torch.allclose(refined.mean[:, 1:, :2], torch.full((1, 3, 2), PARKED), atol=0.05)
    assert model.decode(refined.mean).masks[:, 1:].max() < 0.01


def test_seeds_find_each_spot_once() -> None:
    image = torch.full((1, 3, 64, 64), 0.5)
    image[:, :, 10:18, 10:18] = torch.tensor([0.9, 0.1, 0.1]).reshape(1, 3, 1, 1)
    image[:, :, 40:48, 50:58] = torch.tensor([0.1, 0.1, 0.9]).reshape(1, 3, 1, 1)
    seeds = seed_positions(image, torch.full_like(image, 0.5), 4)[0]
    placed = seeds[seeds[:, 0] < 2]
    pixels = ((placed + 1) * 32).numpy()
    assert len(pixels) == 2
    assert {(10 <= u < 18, 10 <= v < 18) for u, v in pixels} == {(True, True), (False, False)}
    assert any(50 <= u < 58 and 40 <= v < 48 for u, v in pixels)


def test_seeds_of_an_odd_image() -> None:
    image = torch.zeros(1, 3, 35, 35)
    image[:, 0, 5:10, 20:25] = 1.0
    seeds = seed_positions(image, torch.zeros_like(image), 2, reach=0.7)[0]
    u, v = ((seeds[0] + 1) * 17.5).tolist()
    assert 20 <= u < 25 and 5 <= v < 10
    assert seeds[1, 0] == PARKED
    assert seed_positions(image, torch.zeros_like(image), 2, reach=0.1)[0, 1, 0] < 1  # seen as two small things


def test_faint_spots_need_a_lower_threshold() -> None:
    image = torch.full((1, 3, 32, 32), 0.5)
    image[:, :, 8:16, 8:16] = 0.6  # a squared error of 0.03
    ground = torch.full_like(image, 0.5)
    assert seed_positions(image, ground, 1)[0, 0, 0] == PARKED
    assert seed_positions(image, ground, 1, 0.02)[0, 0, 0] < 0


def test_impossible_settings_name_the_field() -> None:
    with pytest.raises(InputError, match=r'decoder_grid: expected a divisor of image_size = 64, got 10'):
        PartsConfig(decoder_grid=10)
    with pytest.raises(InputError, match='likelihood'):
        PartsConfig(likelihood='poisson')
