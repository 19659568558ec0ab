"""Slot Attention against numbers of the reference with the same weights and noise (golden data, section B)."""

from __future__ import annotations

import torch
from torch import Tensor

from object_centric_ros.models.convert_emorl import slot_attention_tensors
from object_centric_ros.models.scale import softplus_log_std
from object_centric_ros.models.slot_attention import SlotAttention, SlotAttentionConfig
from object_centric_ros.models.slots import EPSILON
from test.golden import close, golden, needs_data, tensors, weights

WEIGHTS = 'golden/slotattn_weights.safetensors'


class Objective(torch.nn.Module):
    """Slots of each iteration and the loss; a function of the published tensors by `functional_call`."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SlotAttention(SlotAttentionConfig())

    def forward(self, d: dict[str, Tensor]) -> Tensor:
        model, image = self.model, (d['image'] + 1) / 2
        b, k = d['slots_iter'].shape[1:3]
        slots = model.initial_mean + softplus_log_std(model.initial_scale).exp() * d['eps'].view(b, k, -1)
        features = model.encode(image)
        close(slots, d['slots_iter'][0])
        for i in range(model.config.first_iterations):
            read, _ = model.reader(slots, features)
            close(read, d['updates'][i])
            slots, attention = model.attend(slots, features)
            weights = attention + EPSILON
            close((weights / weights.sum(2, keepdim=True)).view_as(d['attn_normalised'][i]), d['attn_normalised'][i])
            close(slots, d['slots_iter'][i + 1])
        belief = model.belief(slots)
        scene = model.scene(belief)
        close(scene.colours, d['rgb'])
        close(scene.log_masks, d['mask_logprobs'])
        return model.loss(belief, scene, image)[0].mean()


@needs_data
def test_slots_and_gradients() -> None:
    d, names = tensors('slotattn'), golden('slotattn')['param_names']
    theirs = {k: v.requires_grad_() for k, v in weights(WEIGHTS).items()}
    objective = Objective()
    ours = {f'model.{k}': v for k, v in slot_attention_tensors(theirs, objective.model).items()}
    assert set(ours) == {k for k, _ in objective.named_parameters()}
    loss = torch.func.functional_call(objective, ours, (d,))
    close(loss, d['loss'])
    gradients = torch.autograd.grad(loss, [theirs[str(n)] for n in names])
    largest = d['grad_norm'].max()
    for i, (name, g) in enumerate(zip(names, gradients, strict=True)):
        norm = d['grad_norm'][i]
        if norm < 1e-7 * largest:  # a shift of all queries changes nothing
            assert g.norm() < 1e-7 * largest, name
            continue
        close(g.norm(), norm)
        assert (g.sum() - d['grad_sum'][i]).abs() <= 1e-4 * norm * g.numel() ** 0.5, name


def test_parameters() -> None:
    for decoder, channels, count in (('small', 32, 479_204), ('big', 64, 890_180)):
        model = SlotAttention(SlotAttentionConfig(decoder=decoder, decoder_channels=channels))
        assert sum(p.numel() for p in model.parameters()) == count
