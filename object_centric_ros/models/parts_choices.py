"""Which part stands for each step of PARTS: the paper's, that of the shipped weights, or one of Table 2's ablations."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from object_centric_ros.models.attention import SlotAttentionRefiner, TopDownAttention
from object_centric_ros.models.broadcast import SpatialBroadcastDecoder
from object_centric_ros.models.decoder import BroadcastDecoder
from object_centric_ros.models.dynamics import InteractionPredictor, TransformerLSTM
from object_centric_ros.models.encoder import ConvEncoder
from object_centric_ros.models.initial import InitialBelief, ZeroBelief
from object_centric_ros.models.iodine_refiner import IodineRefiner
from object_centric_ros.models.likelihood import GaussianMixture, Likelihood
from object_centric_ros.models.parts_config import PartsConfig


def predictor_of(c: PartsConfig) -> TransformerLSTM | InteractionPredictor | None:
    """P (section 3.2.1): a transformer and an LSTM, OP3's interactions, or nothing (S-IODINE)."""
    if c.predictor == 'interaction':
        return InteractionPredictor(c.latent, c.action_size)
    if c.predictor == 'transformer_lstm':
        return TransformerLSTM(c.latent, c.action_size, c.dynamics_size, c.dynamics_heads, c.dynamics_layers,
                               c.anchored, c.weighed_action)
    return None


def initial_of(c: PartsConfig, memory: int) -> ZeroBelief | InitialBelief:
    """The belief before the first frame, with so much memory of the predictor: zeros (section 4) or learned."""
    if c.initial == 'zero':
        return ZeroBelief(c.latent, memory)
    return InitialBelief(c.latent, memory, c.background_slot, c.anchored)


def encoder_of(c: PartsConfig) -> ConvEncoder | None:
    """The bottom-up encoder (section 3.2.2); IODINE's refinement network has its own."""
    if c.refiner == 'iodine':
        return None
    encoder = ConvEncoder(4 if c.gradient_feedback else 3, c.encoder_channels, c.encoder_stride)
    if c.gradient_feedback and c.refiner == 'windowed':
        # Silent until a stage with feedback teaches it, as the context of the refiner is.
        nn.init.zeros_(cast(Tensor, encoder.convolutions[0].weight)[:, 3:])
    return encoder


def refiner_of(c: PartsConfig, likelihood: Likelihood) -> TopDownAttention | SlotAttentionRefiner | IodineRefiner:
    """E (section 3.2.3): slot attention, the windowed one, or IODINE's network, which needs the likelihood."""
    if c.refiner == 'iodine':
        return IodineRefiner(c.image_size, c.latent, c.encoder_channels, c.encoder_stride, c.hidden,
                             cast(GaussianMixture, likelihood))
    features, context = c.encoder_channels[-1], c.action_size + (2 * c.latent if c.gradient_feedback else 0)
    if c.refiner == 'attention':
        return TopDownAttention(c.latent, features, context, c.attention_size, c.hidden, c.top_down)
    return SlotAttentionRefiner(c.latent, features, context, c.attention_size, c.hidden, c.update, c.anchored,
                                c.top_down)


def decoder_of(c: PartsConfig) -> SpatialBroadcastDecoder | BroadcastDecoder:
    """D (section 3.1): at full resolution, or on a coarser grid with a pixel shuffle."""
    if c.decoder == 'broadcast':
        return SpatialBroadcastDecoder(c.latent, c.image_size, (c.decoder_channels,) * c.decoder_layers,
                                       c.decoder_kernel, position='project', activation='relu')
    return BroadcastDecoder(c.latent, c.image_size, c.decoder_channels, c.decoder_layers, c.decoder_grid, c.anchored)
