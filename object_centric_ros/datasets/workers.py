"""Processes that read and make episodes, on this machine or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.pool import Pool

from object_centric_ros.errors import InputError


def start_workers(count: int, ray: str = '') -> Pool:
    """Processes for episodes. None of them draws pictures with more than one thread.

    Args:
        ray: where they run: '' on this machine; the address of a Ray cluster, ``auto`` for that of this machine, or
            ``local`` for a new one on it. All machines of a cluster must see the folder that is written.

    Raises:
        InputError: no Ray, or no such cluster.
    """
    if ray:
        try:
            from ray.util.multiprocessing import Pool as RayPool
            return RayPool(count, _draw_with_one_thread, ray_address=ray)
        except ImportError as e:
            raise InputError('--ray', "Ray (pip install '.[ray]')", 'none') from e
        except (ConnectionError, ValueError) as e:
            raise InputError('--ray', 'the address of a Ray cluster, auto or local', ray) from e
    return multiprocessing.get_context('spawn').Pool(count, _draw_with_one_thread)


def _draw_with_one_thread() -> None:
    os.environ.setdefault('LP_NUM_THREADS', '0')  # of Mesa's software renderer
