"""Long tests of the nodes as processes; not among the usual ones: `make test-robust`."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ['ROS_DOMAIN_ID'] = str(random.SystemRandom().randint(1, 101))
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / 'ros')]

from harness import Nodes, Probe  # noqa: E402

from object_centric_ros.nodes import transport  # noqa: E402

transport.prepare()


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much of each."""
    group = parser.getgroup('robust')
    group.addoption('--messages', type=int, default=10_000, help='mutated messages in all')
    group.addoption('--kills', type=int, default=20, help='kills of each node in the middle of a build')
    group.addoption('--camera-seconds', type=float, default=20.0, help='duration of each camera condition')
    group.addoption('--minutes', type=float, default=30.0, help='duration of the test of memory')
    group.addoption('--robust-seed', type=int, default=0, help='seed of mutations and scenes')


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Node processes."""
    nodes = Nodes(tmp_path)
    yield nodes
    nodes.end()
    print(nodes.log()[-20_000:])


@pytest.fixture
def probe() -> Iterator[Probe]:
    """The test's own node."""
    probe = Probe()
    yield probe
    probe.close()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a measured value whatever pytest captures."""
    def say(text: str) -> None:
        with capsys.disabled():
            print(f'\n    {text}', end='', flush=True)
    return say
