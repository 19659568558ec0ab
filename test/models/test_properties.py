"""The properties that every registered model has, whatever its paper. Configurations: test/small_models.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import SMALL, action_for, entry, every_model, log_normal, pictures, small, warm
from torch import Tensor

from object_centric_ros.models.belief import Belief, Scene
from object_centric_ros.models.checkpoint import load_model, save_model
from object_centric_ros.models.cycle import CycleModel
from object_centric_ros.models.registry import MODELS

each_model = pytest.mark.parametrize(('name', 'variant'), every_model())


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(belief: Belief, which: slice) -> Belief:
    return belief.map(lambda x: x[which])


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Equal within `tolerance` of the largest magnitude; infinities where the other's are."""
    finite = torch.isfinite(b)
    if not torch.equal(finite, torch.isfinite(a)):
        return False
    scale = b[finite].abs().max().item() if finite.any() else 0.0
    return bool(((a - b)[finite].abs() <= tolerance * max(scale, 1e-3)).all())


def assert_beliefs_close(a: Belief, b: Belief, tolerance: float = 1e-4) -> None:
    for key, value in b.tensors().items():
        assert close(a.tensors()[key], value, tolerance), key


def cycle(model: CycleModel, belief: Belief, image: Tensor, action: Tensor | None, noise: Tensor | None
          ) -> tuple[Belief, Scene, Tensor, Tensor]:
    """Predict, refine, decode, loss."""
    with torch.no_grad():
        belief = model.refine(model.predict(belief, action), image, action, noise)
        scene = model.scene(belief, noise)
        loss, _, kl = model.loss(belief, scene, image)
    return belief, scene, loss, kl


def test_every_model_is_tested() -> None:
    for name in MODELS:
        entry(name)
    assert set(SMALL) <= set(MODELS), 'SMALL in test/small_models.py names models that are not registered'


@each_model
def test_shapes(name: str, variant: str) -> None:
    model = small(name, variant)
    image = pictures(model, 2)
    belief = warm(model, 2)
    k = model.config.slots
    assert all(v.shape[:2] == (2, k) for v in belief.tensors().values())
    belief, scene, loss, kl = cycle(model, belief, image, action_for(model, 2), model.noise(belief, seeded()))
    assert all(v.shape[:2] == (2, k) for v in belief.tensors().values())
    assert scene.colours.shape == (2, k, *image.shape[1:]) and scene.mask_logits.shape == (2, k, *image.shape[2:])
    assert loss.shape == (2,) and kl.shape == (2, k)
    assert model.loss(belief, scene, image)[1].shape == (2, *image.shape[2:])


@each_model
def test_equivariant_under_permutation_of_slots(name: str, variant: str) -> None:
    model = small(name, variant)
    belief, image, action = warm(model, 2, 5), pictures(model, 2, 1), action_for(model, 2, 1)
    first = 1 if model.config.background_slot else 0
    order = torch.tensor([*range(first), *(first + np.random.default_rng(0).permutation(5 - first))])
    noise = model.noise(belief, seeded())
    a, scene_a, loss_a, _ = cycle(model, belief, image, action, noise)
    b, scene_b, loss_b, _ = cycle(model, belief.select(order.expand(2, -1)), image, action,
                                  None if noise is None else noise[:, order])
    assert_beliefs_close(b, a.select(order.expand(2, -1)), 1e-3)
    assert close(scene_b.masks, scene_a.masks[:, order], 1e-3)
    assert close(scene_b.colours, scene_a.colours[:, order], 1e-3)
    assert close(loss_a, loss_b)
    assert not close(a.mean[:, order], a.mean, 1e-5), 'the slots do not differ, so that this tests nothing'


@each_model
def test_an_image_does_not_know_its_batch(name: str, variant: str) -> None:
    model = small(name, variant)
    belief, image, action = warm(model, 3), pictures(model, 3, 1), action_for(model, 3, 1)
    noise = model.noise(belief, seeded())
    a, scene_a, loss_a, kl_a = cycle(model, belief, image, action, noise)
    one = slice(1, 2)
    b, scene_b, loss_b, kl_b = cycle(model, rows(belief, one), image[one], None if action is None else action[one],
                                     None if noise is None else noise[one])
    assert_beliefs_close(b, rows(a, one), 1e-3)
    assert close(scene_b.masks, scene_a.masks[one], 1e-3)
    assert close(loss_b, loss_a[one]) and close(kl_b, kl_a[one], 1e-3)


@each_model
@pytest.mark.parametrize(('batch', 'slots'), [(1, 2), (3, 6)])
def test_slots_and_batch_are_free_at_run_time(name: str, variant: str, batch: int, slots: int) -> None:
    model = small(name, variant)
    belief = warm(model, batch, slots)
    assert belief.mean.shape[:2] == (batch, slots)
    belief, scene, loss, _ = cycle(model, belief, pictures(model, batch), action_for(model, batch),
                                   model.noise(belief, seeded()))
    assert scene.mask_logits.shape[:2] == (batch, slots) and torch.isfinite(loss).all()


@each_model
def test_masks_sum_to_one(name: str, variant: str) -> None:
    model = small(name, variant)
    masks = model.scene(warm(model, 2)).masks
    assert torch.allclose(masks.sum(1), torch.ones_like(masks[:, 0]), atol=1e-5) and masks.min() >= 0


@each_model
def test_closed_form_kl_equals_monte_carlo(name: str, variant: str) -> None:
    model, known = small(name, variant), entry(name)
    belief = warm(model, 1)
    belief = model.refine(belief, pictures(model, 1, 1), action_for(model, 1, 1), model.noise(belief, seeded()))
    with torch.no_grad():
        kl = model.loss(belief, model.scene(belief), pictures(model, 1))[2][0]
        if known.log_prior is None:
            assert not kl.any(), f'{name} has a KL: name the density it is taken to in SMALL'
            return
        z = belief.mean + belief.std * torch.randn(100_000, *belief.mean.shape[1:], generator=seeded())
        terms = log_normal(belief, z) - known.log_prior(model, belief, z)
    error = 5 * terms.std(0) / len(terms) ** 0.5
    assert ((kl - terms.mean(0)).abs() <= error + 1e-3 * kl.abs() + 1e-4).all()


@each_model
def test_refinement_gradient_equals_finite_differences(name: str, variant: str, monkeypatch: pytest.MonkeyPatch
                                                       ) -> None:
    """The gradient that a refinement takes is that of the loss; caught where it is taken."""
    model, known = small(name, variant).double(), entry(name)
    image, action = pictures(model, 1, 1).double(), action_for(model, 1, 1)
    action = None if action is None else action.double()
    belief = warm(model, 1)
    noise = model.noise(belief, seeded())
    caught: list[Tensor] = []
    grad = torch.autograd.grad

    def watch(outputs: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        found = grad(outputs, inputs, *args, **options)
        of = [inputs] if isinstance(inputs, Tensor) else inputs
        caught.extend(g.detach() for x, g in zip(of, found, strict=True)
                      if g is not None and x.shape == belief.mean.shape and torch.equal(x, belief.mean))
        return found
    monkeypatch.setattr(torch.autograd, 'grad', watch)
    with torch.no_grad():
        model.refine(belief, image, action, noise)
    if not (known.gradient and getattr(model.config, 'gradient_feedback', True)):
        assert not caught, f'{name} refines by a gradient: say gradient=True in SMALL'
        return
    assert caught, f'{name} took no gradient of the loss with respect to the mean'

    def loss(mean: Tensor) -> float:
        with torch.no_grad():
            at = replace(belief, mean=mean)
            return model.loss(at, model.scene(at, noise), image)[0].sum().item()
    largest = caught[0].abs().max().item()
    for index in (i.tolist() for i in torch.randint(0, belief.mean.numel(), (6,), generator=seeded())):
        step = torch.zeros_like(belief.mean)
        step.view(-1)[index] = 1e-7  # short, since a ReLU somewhere bends within a longer one
        numeric = (loss(belief.mean + step) - loss(belief.mean - step)) / 2e-7
        assert numeric == pytest.approx(caught[0].reshape(-1)[index].item(), rel=1e-4, abs=1e-5 * largest)


@each_model
def test_a_slot_is_decoded_alone(name: str, variant: str) -> None:
    model = small(name, variant)
    z = model.latents(warm(model, 1, 4)).detach()
    other = z.clone()
    other[:, 2:] += 1 + torch.rand(other[:, 2:].shape, generator=seeded())
    with torch.no_grad():
        a, b = model.decode(z), model.decode(other)
    assert close(a.colours[:, :2], b.colours[:, :2], 1e-5) and close(a.mask_logits[:, :2], b.mask_logits[:, :2], 1e-5)
    assert not close(a.colours[:, 2:], b.colours[:, 2:], 1e-5)


@each_model
def test_same_seed_same_numbers(name: str, variant: str) -> None:
    model, image = small(name, variant), pictures(small(name, variant), 2)
    with torch.no_grad():
        runs = [model.infer(image, generator=seeded(s)) for s in (5, 5, 6)]
    assert all(torch.equal(v, runs[1].tensors()[k]) for k, v in runs[0].tensors().items())
    assert any(not torch.equal(v, runs[2].tensors()[k]) for k, v in runs[0].tensors().items())


@each_model
@pytest.mark.parametrize('precision', [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(name: str, variant: str, precision: torch.dtype) -> None:
    if precision == torch.float16 and not entry(name).half:
        pytest.skip(f'{name} is not stable in float16')
    model = small(name, variant)
    belief, image, action = warm(model, 1), pictures(model, 1, 1), action_for(model, 1, 1)
    noise = model.noise(belief, seeded())
    _, exact, loss, _ = cycle(model, belief, image, action, noise)
    with torch.autocast('cpu', precision):
        rough_belief, rough, rough_loss, _ = cycle(model, belief, image, action, noise)
    assert all(torch.isfinite(v).all() for k, v in rough_belief.tensors().items() if k != 'log_std')
    assert (exact.image - rough.image.float()).abs().mean() < 0.05
    assert torch.allclose(loss, rough_loss.float(), rtol=0.1)


@each_model
@pytest.mark.parametrize('value', [0.0, 0.3, 1.0])
def test_loss_is_finite_on_flat_images(name: str, variant: str, value: float) -> None:
    model = small(name, variant)
    image = model.observe(torch.full((1, 3, model.config.image_size, model.config.image_size), value))
    with torch.no_grad():
        belief = model.infer(image, generator=seeded())
        for _ in range(2):
            belief = model.infer(image, model.predict(belief, action_for(model, 1)), generator=seeded())
        loss, log_likelihood, kl = model.loss(belief, model.scene(belief), image)
    assert torch.isfinite(loss).all() and torch.isfinite(log_likelihood).all() and torch.isfinite(kl).all()


@each_model
def test_file_round_trip(name: str, variant: str, tmp_path: Path) -> None:
    model = small(name, variant)
    save_model(tmp_path / 'model.safetensors', model, {'minutes': 1})
    again, record = load_model(tmp_path / 'model.safetensors')
    assert again.config == model.config and record['model_id'].startswith(f'{name}-')
    image = pictures(model, 1)
    with torch.no_grad():
        assert_beliefs_close(again.infer(image, generator=seeded()), model.infer(image, generator=seeded()), 1e-6)


@each_model
def test_restored_belief_draws_the_same(name: str, variant: str) -> None:
    """What entity messages carry (mean, std, memory) is enough to draw the scene."""
    model = small(name, variant)
    belief = warm(model, 1)
    restored = model.restore(belief.mean, belief.std, belief.memory)
    assert set(restored.tensors()) == set(belief.tensors())
    with torch.no_grad():
        a, b = model.scene(belief), model.scene(restored)
    assert close(a.colours, b.colours, 1e-3)
    assert entry(name).remembers_image or close(a.masks, b.masks, 1e-3)


def episode(model: CycleModel, frames: int) -> tuple[Tensor, Tensor | None]:
    """Two sequences of `frames` images, and the actions before them."""
    images = pictures(model, 2 * frames).unflatten(0, (2, frames))
    actions = None
    if (one := action_for(model, 2)) is not None:
        actions = torch.stack([torch.zeros_like(one), *(action_for(model, 2, t) for t in range(1, frames))], 1)
    return images, actions


@each_model
def test_training_reaches_every_parameter(name: str, variant: str) -> None:
    model, known = small(name, variant).train(), entry(name)
    images, actions = episode(model, known.frames)
    loss, terms = model.episode_loss(images, actions, 0, seeded())
    loss.backward()
    assert loss.shape == () and torch.isfinite(loss) and terms and all(np.isfinite(v) for v in terms.values())
    unreached = {n for n, p in model.named_parameters() if p.numel() and (p.grad is None or not p.grad.any())}
    expected = {n for n, _ in model.named_parameters() if n.startswith(known.untrained)} if known.untrained else set()
    assert unreached == expected
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    again, _ = small(name, variant).train().episode_loss(images, actions, 0, seeded())
    assert again.item() == pytest.approx(loss.item(), rel=1e-5)


@each_model
def test_trains_in_bfloat16(name: str, variant: str) -> None:
    model = small(name, variant).train()
    images, actions = episode(model, entry(name).frames)
    exact, _ = small(name, variant).train().episode_loss(images, actions, 0, seeded())
    with torch.autocast('cpu', torch.bfloat16):
        loss, _ = model.episode_loss(images, actions, 0, seeded())
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
