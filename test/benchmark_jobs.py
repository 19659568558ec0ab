"""A benchmark's work that needs no model, where other processes can import it."""

from __future__ import annotations

from typing import Any

import numpy as np


def record(goal: str, seed: int = 0, **more: Any) -> dict[str, Any]:
    """What became of a goal."""
    return {'goal': goal, 'seed': seed, 'settings': {'label': 'a'}, 'final': {'strict': 1.0}, 'seconds': 1.0,
            'reason': 'done', **more}


def work(job: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Does nothing; the goal `stop` stops it."""
    if job['goal'] == 'stop':
        raise KeyboardInterrupt
    return record(job['goal'], job['seed']), {'result': np.zeros((64, 64, 3), np.uint8)}
