"""A tracker's state as plain data, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from object_centric_ros.errors import InputError

if TYPE_CHECKING:
    from object_centric_ros.tracking.tracker import EntityTracker


def taken(tracker: EntityTracker) -> dict[str, Any]:
    """A snapshot: arrays, and the ledger as JSON; empty before the first frame."""
    if tracker.belief is None:
        return {}
    tensors = {k: v.cpu().numpy() for k, v in tracker.belief.tensors().items()}
    places = {name: {str(i): np.asarray(where, float).tolist() for i, where in getattr(tracker, name).items()}
              for name in ('positions', 'expected')}
    ledger = {**tracker.identities.to_dict(), **places, 'unsettled': tracker.unsettled, 'usual': tracker.usual}
    return {**tensors, 'ledger': json.dumps(ledger), 'model_id': tracker.model_id}


def restore(tracker: EntityTracker, state: dict[str, Any]) -> None:
    """Make a tracker go on from a snapshot of the same weights.

    Raises:
        InputError: the snapshot is of another model or damaged.
    """
    if not state:
        tracker.reset()
        return
    if state.get('model_id') != tracker.model_id:
        raise InputError('tracker state', f'of model {tracker.model_id}', state.get('model_id'))
    try:
        like = tracker.model.start(1, None, torch.Generator(tracker.device).manual_seed(tracker.seed))
        for name, tensor in like.tensors().items():
            if np.shape(state[name]) != tuple(tensor.shape) or np.isnan(state[name]).any():
                raise ValueError(f'{name} is {np.shape(state[name])}, not {tuple(tensor.shape)}, or NaN')
        belief = replace(like, **{k: torch.from_numpy(np.array(state[k])).to(tracker.device)
                                  for k in like.tensors()})
        ledger = json.loads(state['ledger'])
        tracker.positions, tracker.expected = ({int(i): np.array(where, float) for i, where in ledger[name].items()}
                                               for name in ('positions', 'expected'))
        tracker.unsettled, tracker.usual = int(ledger['unsettled']), float(ledger['usual'])
        tracker.others = []  # guesses about another scene
        tracker.identities.from_dict(ledger)
    except (KeyError, TypeError, ValueError) as e:
        raise InputError('tracker state', 'the tensors of a belief and a ledger', e) from e
    with torch.no_grad():
        tracker.belief, tracker.scene = belief, tracker.model.scene(belief)
    states = tracker.states()
    tracker.snapshots = {r.id: states[r.slot if r.slot is not None else 0] for r in tracker.identities.records.values()}
