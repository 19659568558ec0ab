"""Goals as preferred latent states, and the actions that lead there, in closed form (OBAI section 2.4).

Functions of beliefs over states s [B, K, L]; the halves of a belief in generalised coordinates are its s and s'.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from object_centric_ros.models.errors import InputError
from object_centric_ros.models.generalised import LinearDynamics


@dataclass(frozen=True)
class Preference:
    """p~(s) = N(mean, std^2), the states that are wanted (eq. 11).

    Attributes:
        mean, std: [L] for all slots alike, or [K, L] or [B, K, L] for slots that want different things.
    """

    mean: Tensor
    std: Tensor


def learn_preference(mean: Tensor, std: Tensor, weight: Tensor | None = None) -> Preference:
    """The preference that examples give: importance-weighted moments of their beliefs (eq. 9-12).

    Example j is a slot's belief q(s | o*_j) = N(mean_j, std_j^2) of an image of a true state drawn uniformly, and u_j
    how much that state is wanted. Slots that hold something else (the background) get the weight 0. The mixture of eq.
    9 is taken as the Gaussian of the same mean and variance (eq. 12). Where the paper's "object k" of an example is one
    slot of several is left to the caller, who matches slots to true states.

    Args:
        mean, std: [..., L]; all leading axes count examples.
        weight: u [...] >= 0; None = 1 for examples that were drawn from the wanted states (end of section 2.4.1).

    Raises:
        InputError: a negative weight, or none above zero.
    """
    u = mean.new_ones(mean.shape[:-1]) if weight is None else weight
    if bool((u < 0).any()) or not bool(u.sum() > 0):
        raise InputError('importance weights', 'none below zero, some above', u)
    share = (u / u.sum()).reshape(-1, 1)
    mean, std = mean.reshape(-1, mean.shape[-1]), std.reshape(-1, std.shape[-1])
    wanted = (share * mean).sum(0)
    return Preference(wanted, (share * ((wanted - mean) ** 2 + std ** 2)).sum(0).sqrt())


def roll_out(dynamics: LinearDynamics, mean: Tensor, std: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of s at each step ahead, q(s_tau | pi) [B, T, K, L].

    Args:
        mean, std: of the belief over (s, s') [B, K, 2L].
        actions: the policy pi [B, T, K, A], known exactly.
    """
    means, stds = [], []
    s, rate = mean.chunk(2, -1)
    v, v_rate = (std ** 2).chunk(2, -1)
    noise, cross = dynamics.sigma ** 2, torch.zeros_like(v)  # cross: covariance of s and s'
    for action in actions.unbind(1):
        rate = rate + action @ dynamics.effect.T
        s = s + rate
        v_rate = v_rate + noise
        v, cross = v + 2 * cross + v_rate + noise, cross + v_rate
        means.append(s)
        stds.append(v.sqrt())
    return torch.stack(means, 1), torch.stack(stds, 1)


def expected_free_energy(dynamics: LinearDynamics, mean: Tensor, std: Tensor, actions: Tensor, preference: Preference
                         ) -> Tensor:
    """G(pi) = sum_tau sum_k KL(q(s_tau | pi) || p~(s)) of each row [B], nats (eq. 13).

    Args:
        mean, std: of the belief over (s, s') [B, K, 2L].
        actions: [B, T, K, A].
    """
    m, s = roll_out(dynamics, mean, std, actions)
    wanted, width = preference.mean.expand_as(m[:, 0])[:, None], preference.std.expand_as(m[:, 0])[:, None]
    ratio = (s / width) ** 2
    return 0.5 * (ratio - 1 - ratio.log() + ((m - wanted) / width) ** 2).sum((1, 2, 3))


def plan_actions(effect: Tensor, mean: Tensor, preference: Preference, horizon: int = 1) -> Tensor:
    """The policy [B, T, K, A] of least expected free energy, for any horizon T.

    The means move by mu_tau = mu + tau mu' + D b_tau with b_tau = sum_{j < tau} (tau - j) a_j, whatever the actions
    before did to the variances: those do not depend on actions. Any b_1 .. b_T can be had, so eq. 13 falls apart into
    one weighted least-squares problem per step,

        b_tau = (D^T L D)^-1 D^T L (mu~ - mu - tau mu'),   L = diag(std~^-2),

    and the actions are second differences, a_tau = b_{tau+1} - 2 b_tau + b_{tau-1} with b_0 = b_{-1} = 0: accelerate to
    the goal, stop there, stay. For T = 1 and a resting thing this is eq. 14, which leaves out the rate mu'.

    Args:
        effect: D [L, A]. Directions in which it does nothing get no action (pseudo-inverse).
        mean: of the belief over (s, s') [B, K, 2L].

    Raises:
        InputError: a horizon below one.
    """
    if horizon < 1:
        raise InputError('horizon', 'at least one step', horizon)
    state, rate = mean.chunk(2, -1)
    ahead = torch.arange(1, horizon + 1, device=mean.device, dtype=mean.dtype)[:, None, None]
    wanted, width = preference.mean.expand_as(state), preference.std.expand_as(state)
    lacking = (wanted - state)[:, None] - ahead * rate[:, None]
    solve = torch.linalg.pinv((effect / width[..., None]).double()).to(mean.dtype)  # (D^T L D)^-1 D^T L^(1/2)
    reach = torch.einsum('bkal,btkl->btka', solve, lacking / width[:, None])
    before = torch.cat([torch.zeros_like(reach[:, :1]).expand(-1, 2, -1, -1), reach], 1)
    return before[:, 2:] - 2 * before[:, 1:-1] + before[:, :-2]
