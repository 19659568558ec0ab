"""The refinement network and what it sees."""

from __future__ import annotations

import pytest
import torch

from object_centric_ros.errors import InputError
from object_centric_ros.models.belief import Scene
from object_centric_ros.models.likelihood import GaussianMixture, UnnormalisedMixture
from object_centric_ros.models.refinement import ImageFeedback, RefinementNetwork, StandardNorm

OP3 = {'images': 17, 'vectors': 20, 'parameters': (4, 4)}
OBAI = {'images': 16, 'vectors': 16, 'parameters': (8,), 'channels': (32, 32, 32), 'stride': 2, 'padding': 'valid',
        'pool': 'flatten', 'image_size': 64}
ACTION = {'images': 0, 'vectors': 10, 'parameters': (4,), 'channels': (), 'memory': 32, 'additive': True}


@pytest.mark.parametrize(('pixels', 'shape'), [(True, (2, 3, 4, 5, 6)), (False, (2, 3, 7))])
def test_norm_standardises_each_sample(pixels: bool, shape: tuple[int, ...]) -> None:
    norm = StandardNorm(shape[2], pixels, 1e-5)
    torch.nn.init.ones_(norm.gain)
    x = 5 + 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    y = norm(x).flatten(2)
    assert torch.allclose(y.mean(-1), torch.zeros(2, 3), atol=1e-5)
    assert torch.allclose(y.std(-1), torch.ones(2, 3), atol=1e-4)
    assert torch.allclose(norm(1e-9 * x), torch.zeros(shape), atol=1e-2)  # eps keeps nothing from becoming something


def scene_of(k: int = 3, size: int = 8) -> tuple[torch.Tensor, Scene]:
    g = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, size, size, generator=g), Scene(torch.rand(2, k, 3, size, size, generator=g),
                                                            torch.randn(2, k, size, size, generator=g))


@pytest.mark.parametrize('kind', [GaussianMixture, UnnormalisedMixture])
def test_closed_form_gradients_equal_autograd(kind: type[GaussianMixture]) -> None:
    image, scene = scene_of()
    likelihood = kind(0.2)
    image, colours = image.double(), scene.colours.double().requires_grad_()
    masks = scene.masks.double().requires_grad_()
    # mixing weights that are free, as the derivative by a mask takes them
    free = (masks * likelihood.components(image, Scene(colours, scene.mask_logits.double())).exp()).sum(1).log()
    expected = torch.autograd.grad(free.sum(), (colours, masks))
    scene = Scene(colours.detach(), masks.detach().log().requires_grad_())
    by_colours, by_logits, by_masks = likelihood.gradients(image, scene)
    assert torch.allclose(by_colours, expected[0], rtol=1e-6) and torch.allclose(by_masks, expected[1], rtol=1e-6)
    (logits,) = torch.autograd.grad(likelihood(image, scene).sum(), scene.mask_logits)
    assert torch.allclose(by_logits, logits, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize('kind', [GaussianMixture, UnnormalisedMixture])
def test_gradients_stay_finite_far_from_the_image(kind: type[GaussianMixture]) -> None:
    image, scene = scene_of()
    likelihood = kind(0.1)
    for colours, logits in ((scene.colours + 50, scene.mask_logits), (scene.colours, 300 * scene.mask_logits)):
        far = Scene(colours, logits)
        assert all(torch.isfinite(g).all() for g in likelihood.gradients(image, far))


def test_feedback_shows_what_it_says() -> None:
    image, scene = scene_of()
    likelihood = GaussianMixture(0.5)
    components = likelihood.components(image, scene)
    colour_gradient, _, mask_gradient = likelihood.gradients(image, scene)
    feedback = ImageFeedback(8)
    seen = feedback(image, scene, components, colour_gradient, mask_gradient)
    assert seen.shape == (2, 3, feedback.channels, 8, 8) and feedback.channels == 17
    assert torch.equal(seen[:, 1, :3], image) and torch.equal(seen[:, :, 3:6], scene.colours)
    p = components.exp()
    without = torch.stack([(scene.masks * p)[:, [j for j in range(3) if j != k]].sum(1) for k in range(3)], 1)
    assert torch.allclose(seen[:, :, 8], p / p.sum(1, keepdim=True), atol=1e-6)
    assert torch.allclose(seen[:, :, 11:12], feedback.leave_one_out_norm(without[:, :, None]), atol=1e-4)
    assert torch.equal(seen[0, 0, 15, 0], torch.linspace(-1, 1, 8)) and (seen[0, 0, 16, 0] == -1).all()
    assert ImageFeedback(8, leave_one_out=False).channels == 16


@pytest.mark.parametrize('sizes', [OP3, OBAI, ACTION])
@pytest.mark.parametrize('additive', [True, False])
def test_update_replaces_or_adds(sizes: dict, additive: bool) -> None:
    torch.manual_seed(0)
    network = RefinementNetwork(**{**sizes, 'additive': additive})
    images = torch.randn(2, 3, sizes['images'], 64, 64) if sizes['images'] else None
    vectors, parameters = torch.randn(2, 3, sizes['vectors']), torch.randn(2, 3, sum(sizes['parameters']))
    h = c = torch.zeros(2, 3, network.memory)
    out, h1, c1 = network(images, vectors, parameters, h, c)
    moved, _, _ = network(images, vectors, parameters + 1, h, c)
    assert out.shape == parameters.shape and h1.shape == c1.shape == h.shape
    assert torch.allclose(moved - out, torch.full_like(out, float(additive)), atol=1e-5)
    order = torch.tensor([2, 0, 1])
    swapped, _, _ = network(None if images is None else images[:, order], vectors[:, order], parameters[:, order], h, c)
    assert torch.allclose(swapped, out[:, order], atol=1e-5)


def test_flattened_size_is_that_of_the_obai_table() -> None:
    assert RefinementNetwork(**OBAI).layer.in_features == 800


@pytest.mark.parametrize('changes', [{'pool': 'max'}, {'padding': 'half'}, {'channels': ()}, {'images': 0},
                                     {'image_size': 8, 'stride': 4, 'padding': 'valid'}])
def test_impossible_sizes_are_refused(changes: dict) -> None:
    with pytest.raises(InputError, match='refinement'):
        RefinementNetwork(**{**OP3, **changes})
