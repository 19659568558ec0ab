"""What a process holds, from /proc."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """Resident memory (MB), threads, open files, and mapped files of shared memory."""

    memory: float
    threads: int
    files: int
    shared: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Of a process."""
        status = dict(line.split(':', 1) for line in Path(f'/proc/{pid}/status').read_text().splitlines())
        return cls(int(status['VmRSS'].split()[0]) / 1024, int(status['Threads']),
                   len(list(Path(f'/proc/{pid}/fd').iterdir())),
                   len({line.split()[-1] for line in Path(f'/proc/{pid}/maps').read_text().splitlines()
                        if '/dev/shm/' in line}))

    def __str__(self) -> str:
        return f'{self.memory:.1f} MB, {self.threads} threads, {self.files} files'


class Awake:
    """Counts the seconds in which this process was not halted."""

    def __init__(self) -> None:
        self.seconds = 0.0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        last, never = time.monotonic(), threading.Event()
        while not never.wait(0.25):
            now = time.monotonic()
            self.seconds, last = self.seconds + min(1.0, now - last), now
