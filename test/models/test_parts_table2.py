"""PARTS and its ablations: every choice changes what it should, and the rows of Table 2 are what the table says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_models import action_for, pictures, small, warm

from object_centric_ros.errors import InputError
from object_centric_ros.models.parts import Parts, PartsBelief, PartsConfig
from object_centric_ros.models.registry import build_model
from object_centric_ros.models.unroll import unroll_static
from object_centric_ros.presets import load_preset

TABLE_2 = {  # slot attention, fixed prior, actions, transformer + LSTM
    'parts_s_iodine': (False, True, False, False),
    'parts_op3': (False, False, True, False),
    'parts_attention': (True, True, False, False),
    'parts_attention_op3': (True, False, True, False),
    'parts_predicted_prior': (True, False, True, True),
    'parts_interaction': (True, True, True, False),
    'parts_paper': (True, True, True, True),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(preset: str) -> Parts:
    model = build_model(load_preset(preset))
    assert isinstance(model, Parts)
    return model


def parts(variant: str, **changes: object) -> Parts:
    """A small model with other fields; same weights where they have the same shapes."""
    model = small('parts', variant)
    assert isinstance(model, Parts)
    if not changes:
        return model
    torch.manual_seed(0)
    other = Parts(replace(model.config, **changes))  # type: ignore[arg-type]
    own = other.state_dict()
    other.load_state_dict({k: v if v.shape == own[k].shape else own[k]
                           for k, v in model.state_dict().items() if k in own}, strict=False)
    return other.eval()


def sequence(model: Parts, frames: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    actions = [torch.zeros(1, model.config.action_size)] + [action_for(model, 1, t) for t in range(1, frames)]
    return pictures(model, frames)[None], torch.stack([a for a in actions if a is not None], 1)


@pytest.mark.parametrize('preset', TABLE_2)
def test_row_of_table_2(preset: str) -> None:
    model, (attention, fixed, actions, transformer) = built(preset), TABLE_2[preset]
    names = {n.split('.')[0] for n, _ in model.named_parameters()} | {type(m).__name__ for m in model.modules()}
    assert ('TopDownAttention' in names) == attention and ('RefinementNetwork' in names) == (not attention)
    assert ('TransformerLSTM' in names) == transformer
    assert model.plans == actions and ('InteractionDynamics' in names) == (actions and not transformer)
    belief = model.start(1, 2)
    assert (isinstance(belief, PartsBelief) and belief.prior.numel() > 0) == (not fixed)
    c = model.config  # what section 4 says of all of them
    assert (c.slots, c.iterations, c.beta, c.truncate, c.likelihood) == (7, 1, 0.5, 4, 'mixture')
    assert not belief.mean.any() and not belief.log_std.any() and not belief.memory.any()
    assert c.encoder_stride == (1 if attention else 2)


def test_rows_share_their_decoder() -> None:
    shapes = [{k: v.shape for k, v in built(p).decoder.state_dict().items()} for p in TABLE_2]
    assert all(s == shapes[0] for s in shapes)


def test_predicted_prior_is_the_prediction() -> None:
    model = parts('predicted_prior')
    image, action = pictures(model, 1), action_for(model, 1)
    guess = model.predict(warm(model, 1), action)
    noise = model.noise(guess, seeded())
    kl = model.loss(guess, model.scene(guess), image)[2]
    refined = model.refine(guess, image, action, noise)
    assert kl.abs().max() < 1e-5 and model.loss(refined, model.scene(refined), image)[2].min() > 1e-3
    fixed = parts('paper')
    guess = fixed.predict(warm(fixed, 1), action)
    assert torch.allclose(fixed.loss(guess, fixed.scene(guess), image)[2],
                          0.5 * (guess.mean ** 2 + guess.std ** 2 - 1 - 2 * guess.log_std).sum(-1))


def test_without_a_predictor_nothing_is_predicted() -> None:
    model = parts('s_iodine')
    belief = warm(model, 1)
    assert model.predict(belief) is belief and not model.predicts and not model.plans


def test_interaction_is_pairwise_and_without_memory() -> None:
    model = parts('interaction')
    belief, action = warm(model, 1, 4), action_for(model, 1)
    assert belief.memory.shape[-1] == 0
    two = model.predict(belief.select(torch.tensor([[0, 1]])), action)
    assert not torch.allclose(model.predict(belief, action).mean[:, :2], two.mean)


def test_transformer_remembers() -> None:
    model = parts('paper')
    belief, action = warm(model, 1), action_for(model, 1)
    forgetful = replace(belief, memory=torch.zeros_like(belief.memory))
    assert belief.memory.any()
    assert not torch.allclose(model.predict(belief, action).memory, model.predict(forgetful, action).memory)


@pytest.mark.parametrize('variant', ['paper', 'tabletop'])
def test_top_down_shapes_the_attention(variant: str) -> None:
    """Section 5.2: without it, the gradient leaves the attention as it is, but not the update."""
    def attended(model: Parts) -> tuple[torch.Tensor, torch.Tensor]:
        belief, image = warm(model, 1), pictures(model, 1, 3)
        found = model.evaluate(belief, image, None)
        assert found.gradient is not None
        both = [model.attend(belief, image, None, evaluation=replace(found, gradient=g))
                for g in (found.gradient, -found.gradient)]
        return (both[0][1] - both[1][1]).abs().max(), (both[0][0].mean - both[1][0].mean).abs().max()
    for top_down in (True, False):
        model = parts(variant, top_down=top_down)
        for layer in ('query_context', 'mlp_context'):
            if (part := getattr(model.refiner, layer, None)) is not None:
                torch.nn.init.normal_(part.weight, std=0.3)
        attention, update = attended(model)
        assert (attention > 1e-4) == top_down and update > 1e-5


def test_an_action_alone_does_not_shape_the_attention() -> None:
    """Eq. 4 adds the same to all queries, and eq. 5's softmax over slots takes it away again."""
    model = parts('paper')
    belief, image = warm(model, 1), pictures(model, 1, 3)
    a, b = (model.attend(belief, image, action_for(model, 1, s)) for s in (0, 1))
    assert torch.allclose(a[1], b[1], atol=1e-6) and not torch.allclose(a[0].mean, b[0].mean, atol=1e-4)


def test_action_reaches_all_slots_alike_or_weighed() -> None:
    weighed = parts('paper', weighed_action=True)
    assert weighed.dynamics is not None and parts('paper').dynamics is not None
    belief, action = warm(weighed, 1), action_for(weighed, 1)
    assert weighed.dynamics(belief, action)[1].min() > 0
    assert not parts('paper').dynamics(belief, action)[1].any()  # type: ignore[misc]


def test_sampled_refinement_tells_equal_slots_apart() -> None:
    model, image = parts('paper'), pictures(small('parts', 'paper'), 1)
    belief = model.start(1, 3)
    apart = model.refine(belief, image, None, model.noise(belief, seeded()))
    alike = model.refine(belief, image)
    assert apart.mean.std(1).max() > 1e-3 and alike.mean.std(1).max() < 1e-5


def test_still_worlds_move_by_actions_alone() -> None:
    model = parts('paper', still=True)
    belief, nothing = warm(model, 2), torch.zeros(2, 5)
    action = nothing.clone()
    action[1] = 1
    guess = model.guess(belief, action)
    assert torch.equal(guess.mean[0], belief.mean[0]) and not torch.equal(guess.mean[1], belief.mean[1])
    assert not torch.equal(parts('paper').guess(belief, nothing).mean, belief.mean)


def test_scored_beliefs() -> None:
    """'predicted' scores as often as it refines, 'both' once more a frame."""
    counts = {}
    for scored in ('predicted', 'both'):
        model = parts('paper', scored=scored, iterations=2)
        decoded = []
        model.decode = lambda z, decode=model.decode, n=decoded: (n.append(1), decode(z))[1]  # type: ignore[method-assign]
        images, actions = sequence(model)
        model.episode_loss(images, actions, 0, seeded())
        counts[scored] = len(decoded)
    assert counts == {'predicted': 6, 'both': 9}


def test_roll_out_sees_no_later_frame() -> None:
    model = parts('rollout')
    images, actions = sequence(model)
    other = images.clone()
    other[:, 2] = 1 - other[:, 2]
    frames: list[torch.Tensor] = []
    refine = model.refine
    model.refine = lambda belief, image, *a, **k: (frames.append(image), refine(belief, image, *a, **k))[1]  # type: ignore[method-assign]
    _, terms = model.episode_loss(other, actions, 0, seeded())
    assert [any(torch.equal(f, other[:, t]) for f in frames) for t in range(3)] == [True, True, False]
    assert {'predicted_mse_1', 'predicted_mse_2'} <= set(terms)
    more = model.episode_loss(torch.cat([images, images], 1), torch.cat([actions, actions], 1), 0, seeded())[0]
    assert more.item() == pytest.approx(model.episode_loss(images, actions, 0, seeded())[0].item())
    with pytest.raises(InputError, match='burn_in'):
        model.episode_loss(images[:, :2], actions[:, :2], 0, seeded())


def test_truncation_stops_gradients() -> None:
    """With a cut at every frame, the first frame's gradient is that of its own loss."""
    def gradient(truncate: int, frames: int) -> torch.Tensor:
        model = parts('paper', truncate=truncate)
        images, actions = sequence(model)
        images = images[:, :frames].clone().requires_grad_()
        loss, _ = model.episode_loss(images, actions[:, :frames], 0, seeded())
        return frames * torch.autograd.grad(loss, images)[0][:, 0]
    alone = gradient(0, 1)
    assert torch.allclose(gradient(1, 3), alone, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(gradient(0, 3), alone, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('variant', ['paper', 'predicted_prior'])
def test_static_unroll(variant: str) -> None:
    model = parts(variant)
    belief, kl, mse = unroll_static(model, pictures(model, 2), 5, seeded())
    assert kl.shape == mse.shape == (5, 2) and torch.isfinite(kl).all() and (mse > 0).all()
    by_hand = model.infer(pictures(model, 2), generator=(same := seeded()))
    for _ in range(4):
        by_hand = model.infer(pictures(model, 2), model.predict(by_hand, torch.zeros(2, 5)), generator=same)
    assert torch.allclose(by_hand.mean, belief.mean, atol=1e-5)


@pytest.mark.parametrize(('changes', 'field'), [
    ({'refiner': 'magic'}, 'refiner'), ({'anchored': True}, 'for an anchored model'),
    ({'predictor': 'none', 'prior': 'predicted'}, 'predictor'), ({'sampled': False}, 'sampled'),
    ({'background_slot': True}, 'background_slot'), ({'burn_in': 4}, 'burn_in'),
    ({'refiner': 'iodine', 'likelihood': 'composed'}, 'likelihood')])
def test_impossible_choices(changes: dict, field: str) -> None:
    config = load_preset('parts_paper')
    assert isinstance(config, PartsConfig)
    with pytest.raises(InputError, match=field):
        replace(config, **changes)
