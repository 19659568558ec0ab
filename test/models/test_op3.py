"""OP3 and IODINE: what is theirs alone. The properties that all models share are in test_properties.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from object_centric_ros.cli import main
from object_centric_ros.errors import InputError
from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.importing import read_tensors
from object_centric_ros.models.checkpoint import load_model
from object_centric_ros.models.convert import OP3_NAMES
from object_centric_ros.models.interaction import InteractionDynamics
from object_centric_ros.models.iodine import PREDICT, REFINE, Iodine, IodineConfig
from object_centric_ros.models.op3 import OP3, OP3Config
from object_centric_ros.models.per_slot import PerSlot
from object_centric_ros.models.registry import build_model
from object_centric_ros.presets import load_preset
from object_centric_ros.tracking.tracker import EntityTracker

SMALL = {'image_size': 16, 'slots': 3, 'latent': 6, 'deterministic': 5, 'action_size': 4, 'decoder_channels': (8, 8),
         'refinement_channels': (8, 8), 'effect': 4, 'first_iterations': 2}


def small(**changes: object) -> OP3:
    torch.manual_seed(0)
    return OP3(OP3Config(**{**SMALL, **changes})).eval()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('preset', ['op3_paper', 'op3_unfactorised', 'op3_unshared', 'op3_released_stack',
                                    'op3_released_pick_place', 'op3_released_cloth', 'iodine'])
def test_presets_build(preset: str) -> None:
    config = load_preset(preset)
    model = build_model(config)
    belief = model.start(1)
    assert belief.mean.shape == (1, config.slots, 64)


def test_iodine_as_the_op3_code_has_it() -> None:
    """Sizes of IODINE in OP3's repository: every slot stochastic, no dynamics."""
    released = {'likelihood': 'released_mixture', 'decoder_channels': (32,) * 4, 'decoder_kernel': 5, 'hidden': 128,
                'recurrent': 128, 'refinement_kernel': 5, 'refinement_stride': 1,
                'sees_sample': True}
    for latent, parameters in ((128, 836_016), (64, 544_624)):
        model = Iodine(IodineConfig(latent=latent, refinement_channels=(32, 32, latent), **released))
        assert sum(p.numel() for p in model.parameters()) == parameters


def test_a_prediction_is_the_next_prior_and_forgets_the_refinement() -> None:
    model, image, action = small(), torch.rand(2, 3, 16, 16), torch.rand(2, 4)
    belief = model.infer(image, generator=seeded())
    assert belief.hidden.abs().max() > 0 and (belief.prior_mean == 0).all()
    guess = model.predict(belief, action)
    assert torch.equal(guess.prior_mean, guess.mean) and torch.equal(guess.prior_raw, guess.raw)
    assert (guess.hidden == 0).all() and (guess.cell == 0).all()
    assert not torch.allclose(guess.memory, belief.memory)
    assert torch.allclose(model.divergence(guess), torch.zeros(2, 3), atol=1e-5)
    refined = model.refine(guess, image, None, model.noise(guess, seeded()))
    assert torch.equal(refined.memory, guess.memory) and torch.equal(refined.prior_mean, guess.mean)
    assert model.divergence(refined).min() > 0


def test_without_an_action_a_model_of_actions_stays() -> None:
    model = small()
    belief = model.infer(torch.rand(1, 3, 16, 16), generator=seeded())
    assert torch.equal(model.predict(belief).mean, belief.mean)
    still = small(action_size=0)
    assert not torch.equal(still.predict(belief).mean, belief.mean)
    with pytest.raises(InputError, match='action'):
        model.predict(belief, torch.rand(1, 5))


def test_streaming_under_no_grad_equals_streaming_with_it() -> None:
    model, image = small(), torch.rand(1, 3, 16, 16)
    noise = model.noise(model.start(1), seeded())
    with torch.no_grad():
        quiet = model.refine(model.start(1), image, None, noise)
    loud = model.refine(model.start(1), image, None, noise)
    assert not quiet.mean.requires_grad and loud.mean.requires_grad
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(quiet.tensors().values(), loud.tensors().values(),
                                                               strict=True))


def test_released_gradients_depend_on_the_batch_and_ours_do_not() -> None:
    images = torch.rand(2, 3, 16, 16)
    for shared, same in ((False, True), (True, False)):
        model = small(batch_mean_gradients=shared)
        both = model.start(2)
        noise = model.noise(both, seeded())
        vectors = model.look(both, images, noise)[1][:1]
        alone = model.look(model.start(1), images[:1], noise[:1])[1]
        model.mean_norm.eps = model.raw_norm.eps = 1e3  # so that the scale of the gradient shows
        in_batch = model.look(both, images, noise)[1][:1]
        assert torch.allclose(in_batch, model.look(model.start(1), images[:1], noise[:1])[1], atol=1e-5) == same
        assert torch.allclose(vectors, alone, atol=1e-2)


def test_reused_scene_gives_the_same_training_gradient() -> None:
    model, images = small(), torch.rand(2, 1, 3, 16, 16)
    start = model.start(2)
    noise = model.noise(start, seeded())
    gradients = []
    for scene in (None, model.scene(start, noise)):
        refined = model.refine(start, images[:, 0], None, noise, scene)
        gradients.append(torch.autograd.grad(refined.mean.sum(), model.initial_mean, retain_graph=True)[0])
    assert gradients[0].abs().max() > 0 and torch.allclose(*gradients, atol=1e-6)


def test_curriculum() -> None:
    model = small(rollout=3, rollout_start=10, rollout_every=5)

    def ahead(step: int, frames: int = 9) -> set[int]:
        return {model.schedule(frames, step, seeded(s)).count(PREDICT) for s in range(40)}
    assert ahead(0) == ahead(14) == {1}
    assert ahead(15) == {1, 2} and ahead(20) == ahead(1000) == {1, 2, 3}
    assert ahead(1000, 3) == {1, 2} and ahead(1000, 1) == {0}
    assert model.schedule(2, 0, seeded()) == [REFINE, REFINE, PREDICT, REFINE]
    assert model.schedule(1, 0, seeded()) == [REFINE, REFINE]


def test_step_weights() -> None:
    images, noise = torch.rand(1, 1, 3, 16, 16), [torch.zeros(1, 3, 6)] * 3
    for growing, weights in ((True, (1, 2)), (False, (1, 1))):
        model = small(growing_weights=growing)
        belief, losses = model.start(1), []
        for _ in range(2):
            belief = model.refine(belief, images[:, 0], None, noise[0])
            losses.append(model.loss(belief, model.scene(belief, noise[0]), images[:, 0])[0].item())
        total, _ = model.schedule_loss(images, None, [REFINE, REFINE], noise)
        assert total.item() == pytest.approx(np.average(losses, weights=weights), rel=1e-5)


def test_training_lowers_the_loss() -> None:
    model = small(beta=0.01).train()
    images = torch.zeros(2, 3, 3, 16, 16)
    images[:, :, 0, 4:9, 4:9] = 1
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for step in range(25):
        loss, terms = model.episode_loss(images, torch.zeros(2, 3, 4), step, seeded(step))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 500 and set(terms) == {'nll', 'kl', 'mse'}


@pytest.mark.parametrize('kind', ['action', 'interaction'])
def test_entity_pick_finds_where_the_attention_is(kind: str) -> None:
    model = small(pick_attention=kind)
    low, high = torch.tensor([-2.5, 1.0, -2.5, 1.0]), torch.tensor([2.5, 4.0, 2.5, 4.0])
    belief = model.infer(torch.rand(2, 3, 16, 16), generator=seeded())
    plain = model.entity_pick(belief, low, high, seeded(1), 200)
    assert plain.shape == (2, 3, 2) and (plain > low[:2]).all() and (plain < high[:2]).all()
    assert torch.equal(plain, model.entity_pick(belief, low, high, seeded(1), 200))
    if kind == 'action':  # attention that grows with the pick's x pulls the pick there
        dynamics = model.dynamics
        for parameter in dynamics.action_attention.parameters():
            torch.nn.init.zeros_(parameter)
        for parameter in dynamics.encode_action.parameters():
            torch.nn.init.zeros_(parameter)
        dynamics.encode_action[0].weight.data[0, 0] = dynamics.encode_action[2].weight.data[0, 0] = 1
        dynamics.action_attention[0].weight.data[0, model.config.latent + model.config.deterministic] = 1
        dynamics.action_attention[2].weight.data[0, 0] = 3
        pulled = model.entity_pick(belief, low, high, seeded(1), 200)
        assert (pulled[..., 0] > 0.8).all() and (pulled[..., 1] - 2.5).abs().max() < 0.5
    with pytest.raises(InputError, match='entity_pick'):
        small(action_size=0).entity_pick(belief, low, high, seeded())


def test_the_others_of_a_slot_come_in_order() -> None:
    torch.manual_seed(0)
    dynamics = InteractionDynamics(6, 0, (2,), pair=0, effect=3)
    state = torch.randn(2, 4, 6)
    found = dynamics(state)[1]
    encoding = found.encoding
    assert torch.equal(found.pairs[:, 2, 1], torch.cat([encoding[:, 2], encoding[:, 1]], -1))
    assert torch.equal(found.pairs[:, 2, 2], torch.cat([encoding[:, 2], encoding[:, 3]], -1))
    total = sum(found.effects[:, 2, j] * found.attention[:, 2, j, None] for j in range(3))
    assert torch.allclose(found.merged_from[:, 2, 6:], total, atol=1e-6)


def test_no_weight_sharing_keeps_slots_and_images_apart() -> None:
    model = small(share_weights=False)
    images, action = torch.rand(3, 3, 16, 16), torch.rand(3, 4)
    noise = model.noise(model.start(3), seeded())
    with torch.no_grad():
        together = model.predict(model.refine(model.start(3), images, None, noise), action)
        alone = model.predict(model.refine(model.start(1), images[1:2], None, noise[1:2]), action[1:2])
        assert torch.allclose(together.mean[1], alone.mean[0], atol=1e-5)
        z = torch.randn(1, 1, 11).expand(2, 3, -1)
        colours = model.decode(z).colours
        assert torch.equal(colours[0], colours[1]) and not torch.allclose(colours[0, 0], colours[0, 1])
        assert torch.allclose(colours[:, 1], model.decoder.copies[1](z[:, :1]).colours[:, 0])
        with pytest.raises(InputError, match='without weight sharing'):
            model.decode(z[:, :2])
    assert isinstance(model.dynamics, PerSlot)
    loss, _ = model.episode_loss(torch.rand(1, 2, 3, 16, 16), torch.rand(1, 2, 4), 0, seeded())
    loss.backward()
    assert all(p.grad is not None for p in model.decoder.copies[2].parameters())


@pytest.mark.parametrize('changes', [{'action_size': 3}, {'likelihood': 'composed'}, {'pick_attention': 'none'},
                                     {'rollout': 0}, {'latent': 0}])
def test_impossible_choices_are_refused(changes: dict) -> None:
    with pytest.raises(InputError, match='model'):
        OP3Config(**changes)


@pytest.fixture(scope='module')
def published() -> dict[str, torch.Tensor]:
    """Random tensors under the published names."""
    torch.manual_seed(1)
    state = build_model(load_preset('op3_released_stack')).state_dict()
    return {theirs: torch.randn(state[ours].shape) for theirs, ours in OP3_NAMES.items() if ours in state}


@pytest.mark.parametrize('original', [True, False])
def test_import_of_a_published_checkpoint(published: dict[str, torch.Tensor], tmp_path: Path, original: bool,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / 'params', tmp_path / 'op3.safetensors'
    if original:
        torch.save({f'module.{k}': v for k, v in published.items()}, file)
    else:
        save_file(published, file)
    assert main(['import', 'op3', str(file), '--preset', 'op3_released_stack', '--out', str(out)]) == 0
    assert '876,305 parameters' in capsys.readouterr().out
    model, record = load_model(out)
    assert record['preset'] == 'op3_released_stack'
    for theirs, value in published.items():
        assert torch.equal(model.state_dict()[OP3_NAMES[theirs]], value)


def test_import_with_a_camera(published: dict[str, torch.Tensor], tmp_path: Path,
                              capsys: pytest.CaptureFixture[str]) -> None:
    file, out, told = tmp_path / 'params', tmp_path / 'op3.safetensors', tmp_path / 'camera.yaml'
    save_file(published, file)
    camera = PinholeCamera(64, 64, 60.0, 60.0, 32.0, 32.0, np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 1.0]))
    arguments = ['import', 'op3', str(file), '--preset', 'op3_released_stack', '--out', str(out)]
    assert main(arguments) == 0
    with pytest.raises(InputError, match='camera: expected one with the model file'):
        EntityTracker.load(str(out), device='cpu')
    told.write_text(json.dumps(camera.to_dict()))
    assert main([*arguments, '--camera', str(told)]) == 0
    assert EntityTracker.load(str(out), device='cpu').camera.to_dict() == camera.to_dict()
    told.write_text('fx: [')
    assert main([*arguments, '--camera', str(told)]) == 2 and '--camera: expected a YAML' in capsys.readouterr().err
    told.write_text('fx: 60')
    assert main([*arguments, '--camera', str(told)]) == 2 and 'camera: expected width' in capsys.readouterr().err


def test_import_lists_what_does_not_fit(published: dict[str, torch.Tensor], tmp_path: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / 'params'
    wrong = {k: v for k, v in published.items() if k != 'initial_lambdas1'}
    wrong |= {'stray': torch.zeros(1), 'initial_lambdas2': torch.zeros(3)}
    save_file(wrong, file)
    assert main(['import', 'op3', str(file), '--preset', 'op3_released_stack', '--out', str(tmp_path / 'x')]) == 2
    said = capsys.readouterr().err
    for part in ('unknown stray', 'missing initial_lambdas1', 'initial_lambdas2 is [3], not [64]'):
        assert part in said
    assert not (tmp_path / 'x').exists()
    assert main(['import', 'op3', str(file), '--preset', 'iodine', '--out', str(tmp_path / 'x')]) == 2
    assert main(['import', 'op3', '/nowhere', '--preset', 'op3_paper', '--out', str(tmp_path / 'x')]) == 2


class Trap:
    """What a pickle must not get to run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path('trap'),)


def test_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({'a': Trap()}, 'params')
    with pytest.raises(InputError, match='nothing but tensors'):
        read_tensors('params')
    assert not Path('trap').exists()
    torch.save([torch.zeros(1)], 'params')
    with pytest.raises(InputError, match='a mapping of names to tensors'):
        read_tensors('params')


def test_a_changed_belief_keeps_its_scale() -> None:
    """The scale that samples and the loss use is `raw`, whatever was done to the fields."""
    model = small()
    belief = model.infer(torch.rand(1, 3, 16, 16), generator=seeded())
    order = torch.tensor([[2, 0, 1]])
    assert torch.allclose(belief.select(order).std, belief.std[:, order[0]])
    other = replace(belief, raw=belief.raw + 1)
    assert (other.std > belief.std).all()
