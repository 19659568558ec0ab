"""Fixtures for tests over real DDS."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import Nodes, Probe

from object_centric_ros.nodes import transport

transport.prepare()  # before any test makes a participant: Fast DDS reads profiles once


@pytest.fixture(scope='module')
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Node processes; their logs are printed, which pytest shows when a test fails."""
    nodes = Nodes(tmp_path_factory.mktemp('nodes'))
    yield nodes
    nodes.end()
    print(nodes.log())


@pytest.fixture(scope='module')
def probe(nodes: Nodes) -> Iterator[Probe]:
    """The test's own node."""
    probe = Probe()
    yield probe
    probe.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """The nodes' logs beside a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and 'nodes' in getattr(item, 'funcargs', {}):
        report.sections.append(('logs of the nodes', item.funcargs['nodes'].log()))
