"""Nodes as child processes: started with logs of their own, watched, and ended with everything that they started."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from object_centric_ros.errors import InputError
from object_centric_ros.nodes import transport

Value = bool | int | float | str | tuple[float, ...]


class NodeFailed(RuntimeError):
    """A node ended or did not come; the message names it and shows the end of its log."""


def isolate() -> int:
    """Environment for a group of nodes on this machine that nobody else shall hear; returns the ROS domain.

    A random domain unless ROS_DOMAIN_ID is set, discovery on this machine only, DDS for large images, few threads.

    Raises:
        InputError: there is no ROS 2, or the package's interfaces are not built.
    """
    for module, remedy in (('rclpy', 'source a ROS 2, or say make setup'),
                           ('object_centric_ros.msg', 'build the interfaces: make setup, or colcon build')):
        if find_spec(module) is None:
            raise InputError(f'Python module {module}', f'to be installed ({remedy})', 'none')
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 101)))
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    transport.prepare()
    return int(os.environ['ROS_DOMAIN_ID'])


def _yaml(value: Value) -> str:
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, tuple):
        return '[' + ', '.join(map(repr, value)) + ']'
    return repr(value) if isinstance(value, float) else f"'{value}'" if value == '' else str(value)


class NodeProcess:
    """One node in a process (and process group) of its own.

    Args:
        name: module in object_centric_ros.nodes.
        parameters: ROS parameters.
        log: file that takes what it prints.
        threads: CPU threads of its numeric libraries.
        program: what Python runs; None: the module.
    """

    def __init__(self, name: str, parameters: Mapping[str, Value], log: Path, threads: int = 1,
                 program: Sequence[str] | None = None) -> None:
        self.name, self.log = name, log
        words = [sys.executable, *(program or ('-m', f'object_centric_ros.nodes.{name}')), '--ros-args']
        for key, value in parameters.items():
            words += ['-p', f'{key}:={_yaml(value)}']
        count = str(threads)
        environment = os.environ | {'OMP_NUM_THREADS': count, 'MKL_NUM_THREADS': count, 'OPENBLAS_NUM_THREADS': count,
                                    'OMP_WAIT_POLICY': 'PASSIVE', 'PYTHONUNBUFFERED': '1'}
        with log.open('wb') as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                            env=environment, start_new_session=True)

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors='replace').rstrip().splitlines()
        return '\n'.join(f'    {line}' for line in text[-lines:]) or '    (nothing)'

    def check(self) -> None:
        """Raise NodeFailed if the process has ended."""
        status = self.process.poll()
        if status is not None:
            raise NodeFailed(f'{self.name} ended with status {status}; the end of {self.log}:\n{self.tail()}')

    def interrupt(self) -> None:
        """Ask it to end (SIGINT to its group)."""
        self._signal(signal.SIGINT)

    def finish(self, patience: float = 6.0) -> None:
        """Wait until it has ended; ask with SIGTERM after `patience` seconds, end it with SIGKILL 3 s later."""
        for signal_number, seconds in ((None, patience), (signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
            if signal_number is not None:
                self._signal(signal_number)
            try:
                self.process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                continue
        self._signal(signal.SIGKILL)  # whatever is left of its group

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


class NodeGroup:
    """Several nodes that end together; a context manager. SIGTERM ends them like Ctrl-C does.

    Args:
        logs: folder for log files.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.nodes: dict[str, NodeProcess] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, parameters: Mapping[str, Value] | None = None, threads: int = 1,
              program: Sequence[str] | None = None) -> NodeProcess:
        """Start a node; one of the same name that has run before is ended first."""
        if name in self.nodes:
            self.nodes[name].interrupt()
            self.nodes[name].finish()
        self.nodes[name] = NodeProcess(name, parameters or {}, self.logs / f'{name}.log', threads, program)
        return self.nodes[name]

    def check(self) -> None:
        """Raise NodeFailed if any node has ended."""
        for node in self.nodes.values():
            node.check()

    def stop(self) -> None:
        """End all nodes; a second Ctrl-C ends them at once."""
        try:
            for node in self.nodes.values():
                node.interrupt()
            for node in self.nodes.values():
                node.finish()
        except KeyboardInterrupt:
            for node in self.nodes.values():
                node.finish(0.0)
            raise
        finally:
            self.nodes.clear()

    def __enter__(self) -> NodeGroup:
        self._before = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, _interrupted)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            self.stop()
        finally:
            if self._before is not None:
                signal.signal(signal.SIGTERM, self._before)


def _interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt
