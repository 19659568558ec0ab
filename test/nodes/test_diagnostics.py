"""Diagnostics: percentiles, shares and their limits, as the status message shows them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from object_centric_ros.nodes import diagnostics as module
from object_centric_ros.nodes.diagnostics import Diagnostics


@pytest.fixture(scope='module')
def node() -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=int.from_bytes(os.urandom(2), 'big') % 100 + 1)
    node = Node('probe', context=context, start_parameter_services=False)
    yield node
    node.destroy_node()
    context.try_shutdown()


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {v.key: v.value for v in status.values}


def test_a_duration_has_percentiles_and_limits(node):
    told = Diagnostics(node)
    for i in range(101):
        told.took('latency', i / 1000)
    status = told.status()
    assert {k: float(v) for k, v in values(status).items()} == pytest.approx(
        {'latency_p50_ms': 50, 'latency_p95_ms': 95, 'latency_p99_ms': 99})
    assert status.level == DiagnosticStatus.OK
    for warn, error, level in ((0.09, 0.2, DiagnosticStatus.WARN), (0.01, 0.09, DiagnosticStatus.ERROR),
                               (0.1, 0.2, DiagnosticStatus.OK)):
        told.limit('latency', warn, error)
        assert told.status().level == level
    told.limit('latency', 0.01, 0.2)
    assert told.status().message == 'latency is 95 ms (95th percentile)'


def test_a_share_is_in_per_cent_and_has_limits(node):
    told = Diagnostics(node)
    for i in range(10):
        told.share('drop_rate', i < 3)
    assert values(told.status()) == {'drop_rate_percent': '30.0'}
    told.limit('drop_rate', 0.2, 0.9)
    assert told.status().level == DiagnosticStatus.WARN and 'drop_rate is 30 %' in told.status().message


def test_what_is_long_ago_does_not_count(node, monkeypatch):
    told, now = Diagnostics(node), [1000.0]
    monkeypatch.setattr(module.time, 'monotonic', lambda: now[0])
    told.took('latency', 5.0)
    told.share('drop_rate', True)
    told.limit('latency', 1.0, 2.0)
    assert told.status().level == DiagnosticStatus.ERROR
    now[0] += 61
    status = told.status()
    assert status.level == DiagnosticStatus.OK
    assert values(status) == {'drop_rate_percent': '0.0', 'latency_p50_ms': 'nan', 'latency_p95_ms': 'nan',
                              'latency_p99_ms': 'nan'}
