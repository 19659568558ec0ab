"""Times and memory of repeated calls, on a machine that others use too."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

WARM_UP = 2
Work = Callable[[], Tensor]


@dataclass(frozen=True)
class Timing:
    """Repeated calls of one thing.

    Attributes:
        wall, cpu: seconds of each call.
    """

    wall: list[float]
    cpu: list[float]

    def ms(self, q: float = 50) -> float:
        """A percentile of the wall times, milliseconds."""
        return 1000 * float(np.percentile(self.wall, q))

    def cpu_ms(self) -> float:
        """Median processor time, milliseconds."""
        return 1000 * float(np.median(self.cpu))


def measure(works: list[Work], repeats: int, device: torch.device) -> tuple[list[Timing], list[Tensor]]:
    """Call several things in turn, so that other users of the machine disturb all of them alike.

    Returns:
        the times of each, and what each returned when it was called first.
    """
    for _ in range(WARM_UP):
        first = [work() for work in works]
    timings = [Timing([], []) for _ in works]
    for _ in range(repeats):
        for work, timing in zip(works, timings, strict=True):
            _wait(device)
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            _wait(device)
            timing.wall.append(time.perf_counter() - wall)
            timing.cpu.append(time.process_time() - cpu)
    return timings, first


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def peak_memory(work: Work, device: torch.device) -> float:
    """Memory that a call needs at most (MB); NaN where the system does not tell."""
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        with contextlib.suppress(OSError, AttributeError):  # what earlier calls left to the allocator is not counted
            ctypes.CDLL(None).malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')  # forgets the highest mark so far
        before = _status('VmRSS')
        work()
        return (_status('VmHWM') - before) / 1e3
    except (OSError, StopIteration):
        return float('nan')


def _status(key: str) -> float:
    """A line of this process's status, kB."""
    return next(float(line.split()[1]) for line in Path('/proc/self/status').read_text().splitlines()
                if line.startswith(key))
