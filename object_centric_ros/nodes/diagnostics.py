"""Counters and latencies of a node, published on /diagnostics; complaints that do not flood the log."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

LEVELS = {'ok': DiagnosticStatus.OK, 'warn': DiagnosticStatus.WARN, 'error': DiagnosticStatus.ERROR,
          'stale': DiagnosticStatus.STALE}
WINDOW = 60.0
"""Seconds that a duration or a share counts, of which the last 300 are kept."""


class Diagnostics:
    """Health of one node; every method may be called from any thread.

    Args:
        node: the node; publishes one status a `period` (s).
        hardware_id: what the status is about, e.g. the camera topic.
        quiet: seconds between two log lines about the same kind of problem.
    """

    def __init__(self, node: Node, hardware_id: str = '', period: float = 1.0, quiet: float = 5.0) -> None:
        self._node, self._hardware_id, self._quiet = node, hardware_id, quiet
        self._lock = threading.Lock()
        self._counters: Counter[str] = Counter()
        self._times: defaultdict[str, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=300))
        self._shares: defaultdict[str, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=300))
        self._limits: dict[str, tuple[float, float]] = {}
        self._facts: dict[str, str] = {}
        self._conditions: dict[str, tuple[str, str]] = {}
        self._rejections: dict[str, tuple[float, str]] = {}
        self._logged: dict[str, tuple[float, int]] = {}
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._timer = node.create_timer(period, self.publish)

    def count(self, name: str, n: int = 1) -> int:
        """Add to a counter; returns its value."""
        with self._lock:
            self._counters[name] += n
            return self._counters[name]

    def value(self, name: str) -> int:
        """The value of a counter."""
        with self._lock:
            return self._counters[name]

    def took(self, name: str, seconds: float) -> None:
        """Record a duration (s); the last of each name give its percentiles."""
        with self._lock:
            self._times[name].append((time.monotonic(), seconds))

    def share(self, name: str, happened: bool) -> None:
        """Record whether something happened; reported as per cent of the last times."""
        with self._lock:
            self._shares[name].append((time.monotonic(), float(happened)))

    def limit(self, name: str, warn: float, error: float) -> None:
        """Where the status becomes warn and error: the 95th percentile of a duration (s), or a share (0 to 1)."""
        with self._lock:
            self._limits[name] = (warn, error)

    def fact(self, name: str, value: object) -> None:
        """Set a value that is reported as it is."""
        with self._lock:
            self._facts[name] = str(value)

    def condition(self, name: str, level: str = 'ok', message: str = '') -> None:
        """A state of affairs that lasts until it is set again; level ok, warn or error."""
        with self._lock:
            if level == 'ok':
                self._conditions.pop(name, None)
            else:
                self._conditions[name] = (level, message)

    def reject(self, kind: str, reason: object) -> None:
        """Bad input: counted as `kind`, logged at most once in `quiet` seconds, status warn for that long."""
        now = time.monotonic()
        with self._lock:
            self._counters[kind] += 1
            total = self._counters[kind]
            self._rejections[kind] = (now, str(reason))
            last, seen = self._logged.get(kind, (-np.inf, 0))
            if now - last < self._quiet:
                return
            self._logged[kind] = (now, total)
        more = f' ({total - seen - 1} more since the last such line)' if total - seen > 1 else ''
        self._node.get_logger().warning(f'{kind}: {reason}{more}')

    def status(self) -> DiagnosticStatus:
        """The present status message."""
        now = time.monotonic()
        with self._lock:
            problems = list(self._conditions.values())
            problems += [('warn', f'{k}: {r}') for k, (t, r) in self._rejections.items() if now - t < self._quiet]
            values = {**self._facts, **{k: str(v) for k, v in self._counters.items()}}
            for name, entries in self._times.items():
                p50, p95, p99 = (1e3 * v for v in _percentiles(entries, now))
                values |= {f'{name}_{p}_ms': f'{v:.2f}' for p, v in (('p50', p50), ('p95', p95), ('p99', p99))}
                problems += self._beyond(name, p95 / 1e3, f'{name} is {p95:.0f} ms (95th percentile)')
            for name, entries in self._shares.items():
                share = _mean(entries, now)
                values[f'{name}_percent'] = f'{100 * share:.1f}'
                problems += self._beyond(name, share, f'{name} is {100 * share:.0f} %')
            level = max((p[0] for p in problems), key=lambda name: LEVELS[name], default='ok')
        return DiagnosticStatus(level=LEVELS[level], name=f'{self._node.get_fully_qualified_name().lstrip("/")}: state',
                                message='; '.join(m for _, m in problems) or 'running', hardware_id=self._hardware_id,
                                values=[KeyValue(key=k, value=v) for k, v in sorted(values.items())])

    def _beyond(self, name: str, value: float, text: str) -> list[tuple[str, str]]:
        warn, error = self._limits.get(name, (np.inf, np.inf))
        return [('error' if value > error else 'warn', text)] if value > min(warn, error) else []

    def publish(self) -> None:
        """Send the status."""
        message = DiagnosticArray(status=[self.status()])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


def _percentiles(entries: deque[tuple[float, float]], now: float) -> tuple[float, float, float]:
    """50th, 95th and 99th percentile of what is not too old, NaN if there is nothing."""
    values = [v for t, v in entries if now - t <= WINDOW]
    if not values:
        return np.nan, np.nan, np.nan
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return float(p50), float(p95), float(p99)


def _mean(entries: deque[tuple[float, float]], now: float) -> float:
    values = [v for t, v in entries if now - t <= WINDOW]
    return float(np.mean(values)) if values else 0.0
