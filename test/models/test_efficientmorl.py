"""EfficientMORL's own choices: priors, weights, curriculum, GECO, refinement, slots carried through time."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from object_centric_ros.errors import InputError
from object_centric_ros.models.belief import gaussian_kl_between
from object_centric_ros.models.deconvolution import slot_decoder
from object_centric_ros.models.efficientmorl import EfficientMORL, EfficientMORLConfig, HierarchyBelief
from object_centric_ros.models.geco import FLOOR, Geco
from object_centric_ros.models.registry import build_model
from object_centric_ros.models.scale import ScaleBelief, softplus_log_std, softplus_scale
from object_centric_ros.models.slots import PixelEncoder
from object_centric_ros.presets import load_preset

SMALL = {'image_size': 16, 'slots': 3, 'latent': 8, 'features': 8, 'decoder_channels': 8}


def build(**changes: Any) -> EfficientMORL:
    torch.manual_seed(0)
    return EfficientMORL(EfficientMORLConfig(**{**SMALL, **changes}))


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(model: EfficientMORL, iterations: int, batch: int = 2) -> torch.Tensor:
    c = model.config
    return torch.randn(2 * c.layers + iterations, batch, c.slots, c.latent, generator=seeded())


def test_scale_parameter_and_back() -> None:
    std = torch.tensor([0.01, 0.5, 1.0, 3.0], dtype=torch.float64)
    assert torch.allclose(softplus_log_std(softplus_scale(std)).exp(), std)
    assert torch.isfinite(softplus_log_std(torch.tensor([-1e4, -100.0, 0.0, 1e4]))).all()


@pytest.mark.parametrize(('weights', 'iterations', 'expected'), [
    ('released', 0, [3]), ('released', 1, [2, 1.5]), ('released', 3, [1.5, 1.25, 1, 0.75]),
    ('paper', 0, [1]), ('paper', 1, [1, 0.5]), ('paper', 3, [1, 0.75, 0.5, 0.25])])
def test_loss_weights(weights: str, iterations: int, expected: list[float]) -> None:
    assert EfficientMORLConfig(weights=weights).loss_weights(iterations) == pytest.approx(expected)


def test_curriculum() -> None:
    config = EfficientMORLConfig(curriculum_iterations=(3, 1, 0), curriculum_steps=(100, 200))
    assert [config.training_iterations(s) for s in (0, 99, 100, 199, 200, 10**6)] == [3, 3, 1, 1, 0, 0]
    images = torch.rand(2, 1, 3, 16, 16, generator=seeded(0))
    model = build(curriculum_iterations=(2, 0), curriculum_steps=(5,))
    assert [model.episode_loss(images, None, s, seeded())[1]['iterations'] for s in (4, 5)] == [2, 0]


def test_training_loss_is_the_weighted_sum_of_its_steps() -> None:
    model = build(weights='paper', curriculum_iterations=(2,), curriculum_steps=(), geco='off', kl_weight=0.3)
    image = torch.rand(2, 3, 16, 16, generator=seeded(0))
    loss, _ = model.episode_loss(image[:, None], None, 0, seeded())
    steps = model.two_stage(image, model.start(2), noise(model, 2).unbind())
    parts = [(s.nll + 0.3 * s.kl.sum((0, 2))).mean() for s in steps]
    assert loss.item() == pytest.approx((parts[0] + 2 / 3 * parts[1] + 1 / 3 * parts[2]).item(), rel=1e-5)


@pytest.mark.parametrize('prior', ['bottom-up', 'bottom-up++', 'reversed', 'reversed++'])
def test_hierarchical_kl(prior: str) -> None:
    """Each layer against the prior that its neighbour in the chain gives it; the prior of refined posteriors."""
    model = build(prior=prior)
    layers = [ScaleBelief.of(*torch.randn(2, 2, 3, 8, generator=seeded(l))) for l in range(3)]
    eps = torch.randn(2, 2, 3, 8, generator=seeded())
    kl, last = model.hierarchy_kl(layers, eps.unbind())
    chain = layers if prior.startswith('bottom-up') else layers[::-1]
    unit = ScaleBelief.of(torch.zeros(2, 3, 8), softplus_scale(torch.ones(2, 3, 8)))
    priors = [unit] + [ScaleBelief.of(*model.prior(q.mean + q.std * e)) for q, e in zip(chain, eps, strict=False)]
    for found, q, p in zip(kl, chain, priors, strict=True):
        assert torch.allclose(found, gaussian_kl_between(q, p), rtol=1e-4)
    assert torch.allclose(last.mean, (priors[-1] if prior.endswith('++') else unit).mean)


def test_gradient_of_the_first_refinement_is_that_of_the_whole_hierarchy() -> None:
    """In float64, against finite differences of eq. 5 (the shared tests do so for line 26)."""
    model = build(geco='off').double()
    image = torch.rand(1, 3, 16, 16, generator=seeded(0), dtype=torch.float64)
    eps = noise(model, 1, 1).double().unbind()
    layers, _ = model.bottom_up(model.encode(image), model.start(1), eps[:4])

    def loss(mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        top = ScaleBelief.of(mean, scale)
        kl, _ = model.hierarchy_kl([*layers[:-1], top], eps[4:6])
        nll = -model.likelihood(image, model.decode(top.sample(eps[3]))).sum()
        return nll + kl.sum()
    seen: list[tuple[torch.Tensor, ...]] = []
    model.refinement.register_forward_hook(lambda module, given, result: seen.append(given))
    model.two_stage(image, model.start(1), eps)
    mean, scale, d_mean, d_scale, _ = seen[0]
    for index in range(0, 24, 5):
        for x, gradient in ((mean, d_mean), (scale, d_scale)):
            step = torch.zeros_like(x)
            step.view(-1)[index] = 1e-6
            ends = [loss(mean + s * step if x is mean else mean, scale + s * step if x is scale else scale)
                    for s in (1, -1)]
            numeric = (ends[0] - ends[1]).item() / 2e-6
            assert numeric == pytest.approx(gradient.reshape(-1)[index].item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize('iterations', [1, 3])
def test_inference_is_what_is_trained(iterations: int) -> None:
    """`infer` without keeping graphs ends in the posterior that `two_stage` trains, whether gradients are on or off."""
    model = build()
    image = torch.rand(2, 3, 16, 16, generator=seeded(0))
    expected = model.two_stage(image, model.start(2), noise(model, iterations).unbind())[-1].belief
    model.requires_grad_(False)
    with torch.no_grad():
        found = model.infer(image, iterations=iterations, generator=seeded())
    assert torch.allclose(found.mean, expected.mean, atol=1e-5)
    assert torch.allclose(found.scale, expected.scale, atol=1e-5)


def test_recomputing_the_decoder_changes_no_gradient() -> None:
    image = torch.rand(2, 1, 3, 16, 16, generator=seeded(0))
    gradients = []
    for recompute in (False, True):
        model = build(recompute=recompute, curriculum_iterations=(1,), curriculum_steps=())
        model.episode_loss(image, None, 0, seeded())[0].backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_geco_grows_while_violated_and_shrinks_to_the_elbo() -> None:
    geco = Geco(target=10.0, step=1e-2, acceleration=4.0, decay=0.0)
    geco.update(torch.tensor(20.0))
    assert geco.average.item() == -10 and geco.multiplier.item() == pytest.approx(FLOOR)
    geco.update(torch.tensor(20.0), adapt=False)
    assert geco.multiplier.item() == pytest.approx(FLOOR)
    for _ in range(8):
        geco.update(torch.tensor(20.0))
    assert geco.multiplier.item() == pytest.approx(FLOOR + 0.8)
    assert geco.weight.item() == pytest.approx(math.log1p(math.exp(FLOOR + 0.8)))
    geco.update(torch.tensor(5.0))
    assert geco.multiplier.item() == pytest.approx(FLOOR + 0.8 - 4 * 0.05)
    for _ in range(10):
        geco.update(torch.tensor(5.0))
    assert geco.multiplier.item() == pytest.approx(FLOOR)


def test_geco_in_training() -> None:
    image = torch.rand(2, 1, 3, 16, 16, generator=seeded(0))
    model = build(geco='target', geco_target=-2.0, geco_step=1e-3, geco_warmup=2, curriculum_iterations=(0,),
                  curriculum_steps=())
    weights = [model.episode_loss(image, None, step, seeded(step))[1]['nll_weight'] for step in range(5)]
    assert weights[0] == weights[1] == weights[2] < weights[3] < weights[4]
    assert model.eval().episode_loss(image, None, 5, seeded())[1].keys().isdisjoint({'nll_weight'})
    auto = build(geco='auto', geco_error=0.044)
    assert auto.geco is not None and model.geco is not None
    per_value = auto.geco.target / (3 * 16 ** 2) - 0.5 * math.log(2 * math.pi)
    assert per_value == pytest.approx(-2.206, abs=1e-3)  # CLEVR6's target is a residual of 0.044
    assert 'geco.multiplier' in model.state_dict() and build(geco='off').geco is None


def test_a_later_frame_starts_from_the_belief_before_it() -> None:
    """It draws no noise, and slots keep their order whatever order they come in."""
    model = build().eval()
    a, b = torch.rand(2, 1, 3, 16, 16, generator=seeded(0))
    with torch.no_grad():
        before = model.infer(a, generator=seeded())
        after = model.infer(b, before, generator=seeded(2))
        again = model.infer(b, before, generator=seeded(3))
        order = torch.tensor([[2, 0, 1]])
        turned = model.infer(b, before.select(order), generator=seeded(4))
    assert isinstance(after, HierarchyBelief) and torch.equal(after.mean, again.mean)
    assert torch.allclose(turned.mean, after.mean[:, order[0]], atol=1e-5)
    assert not torch.allclose(after.mean, before.mean)


def test_training_on_sequences_carries_the_belief() -> None:
    model = build(curriculum_iterations=(1,), curriculum_steps=())
    images = torch.rand(2, 3, 3, 16, 16, generator=seeded(0))
    loss, _ = model.episode_loss(images, None, 0, seeded())
    generator, start, total = seeded(), model.start(2), 0.0
    for image in images.unbind(1):
        eps = torch.randn(7, 2, 3, 8, generator=generator)
        steps = model.two_stage(image, start, eps.unbind())
        assert model.geco is not None
        total += sum(w * (model.geco.weight * s.nll + s.kl.sum((0, 2))).mean().item()
                     for w, s in zip((2, 1.5), steps, strict=True)) / 3
        start = steps[-1].belief.detach()
    assert loss.item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize('changes', [{'prior': 'none'}, {'likelihood': 'none'}, {'weights': 'none'}, {'geco': 'none'},
                                     {'layers': 0}, {'curriculum_steps': (1, 2)}, {'curriculum_iterations': (3, -1)},
                                     {'decoder': 'none'}, {'decoder': 'big', 'image_size': 40},
                                     {'decoder': 'shuffle', 'decoder_grid': 5}, {'encoder_stride': 0}])
def test_impossible_choices_are_refused(changes: dict) -> None:
    with pytest.raises(InputError):
        build(**changes)


@pytest.mark.parametrize(('preset', 'parameters'), [
    ('efficientmorl_clevr6', 666_502), ('efficientmorl_tetrominoes', 666_502),
    ('efficientmorl_multi_dsprites', 666_500), ('slot_attention_small', 479_204), ('slot_attention_big', 890_180)])
def test_presets(preset: str, parameters: int) -> None:
    assert sum(p.numel() for p in build_model(load_preset(preset)).parameters()) == parameters


def test_decoders_take_any_size_they_can_make() -> None:
    for name, size in (('iodine', 35), ('small', 35), ('big', 48), ('shuffle', 35)):
        scene = slot_decoder(name, 4, size, 6, grid=7)(torch.randn(2, 3, 4))
        assert scene.colours.shape == (2, 3, 3, size, size) and scene.mask_logits.shape == (2, 3, size, size)
        assert scene.colours.min() >= 0 and scene.colours.max() <= 1


def test_a_coarse_grid_keeps_places() -> None:
    """With a stride, features are on a grid of ceil(H / stride), row by row, and see their own place alone."""
    torch.manual_seed(0)
    encoder = PixelEncoder(11, 6, layers=1, stride=5)
    image = torch.zeros(1, 3, 11, 11)
    image[:, :, 10, 5] = 1
    with torch.no_grad():
        changed = (encoder(image) != encoder(torch.zeros_like(image))).any(2)[0]
    assert encoder(image).shape == (1, 9, 6) and changed.nonzero().flatten().tolist() == [7]


def discs(frames: int, seed: int, size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Red, green and blue discs that cross a gray ground: images [T, 3, H, W] and labels [T, H, W], 0 = ground."""
    generator = seeded(seed)
    place, speed = size * torch.rand(3, 2, generator=generator), 4 * torch.rand(3, 2, generator=generator) - 2
    images, labels = torch.full((frames, 3, size, size), 0.4), torch.zeros(frames, size, size, dtype=torch.long)
    line = torch.arange(size)
    for t in range(frames):
        for k in range(3):
            u, v = (place[k] + t * speed[k]) % size
            inside = (line - u).square() + (line[:, None] - v).square() < 12
            images[t][:, inside] = torch.eye(3)[k][:, None]
            labels[t][inside] = k + 1
    return images, labels


def colour_clustering() -> EfficientMORL:
    """Weights under which a slot is the colour that it read and asks for that colour: k-means by attention."""
    model = build(image_size=24, slots=4, latent=3, features=3, decoder='small').requires_grad_(False)
    model.encoder = torch.nn.Flatten(2)  # features are the pixels, with channels in front
    model.encoder.register_forward_hook(lambda module, given, result: result.transpose(1, 2))
    layer = model.layer
    layer.reader.norm = torch.nn.Identity()
    for p in layer.parameters():
        p.zero_()
    layer.reader.query.weight.copy_(20 * torch.eye(3))
    layer.reader.key.weight.copy_(torch.eye(3))
    layer.reader.value.weight.copy_(torch.eye(3))
    layer.gru.mean.weight_ih[6:].copy_(torch.eye(3))
    layer.gru.mean.bias_ih[3:6].fill_(-20)  # nothing is kept but what was read
    model.initial_mean.zero_()
    return model.eval()


def test_slots_stay_on_their_objects_better_than_with_a_restart() -> None:
    model = colour_clustering()
    stayed = {'carried': [], 'restarted': []}
    for seed in range(10):
        images, labels = discs(8, seed)
        for how, kept in stayed.items():
            belief, owners, generator = None, [], seeded(seed)
            for image, label in zip(images, labels, strict=True):
                belief = model.infer(image[None], belief if how == 'carried' else None, generator=generator)
                _, attention = model.layer.reader(belief.mean, model.encode(image[None]))
                owner = attention[0].argmax(0).view_as(label)
                owners.append([owner[label == k].mode().values.item() if (label == k).any() else None
                               for k in (1, 2, 3)])
            for before, after in pairwise(owners):
                kept += [a == b for a, b in zip(before, after, strict=True) if None not in (a, b)]
    share = {how: sum(kept) / len(kept) for how, kept in stayed.items()}
    assert share['carried'] > 0.95 and share['restarted'] < 0.6, share


def test_a_long_still_video_comes_to_rest() -> None:
    model = build().eval().requires_grad_(False)
    for p in model.layer.parameters():
        p.mul_(2)  # so that layers do something
    image, belief, changes = torch.rand(1, 3, 16, 16, generator=seeded(0)), None, []
    for _ in range(50):
        before, belief = belief, model.infer(image, belief, generator=seeded())
        if before is not None:
            changes.append((belief.mean - before.mean).norm().item())
    assert max(changes[-5:]) < 0.01 * changes[0]
