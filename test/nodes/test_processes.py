"""Child processes: they end, with what they started, and say why they failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from object_centric_ros.nodes import processes
from object_centric_ros.nodes.processes import NodeFailed, NodeGroup, NodeProcess


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a node, start Python with the program that is given as the parameter `code`."""
    real = subprocess.Popen

    def popen(words: list[str], **options: object) -> subprocess.Popen:
        code = next(w.removeprefix('code:=') for w in words if w.startswith('code:='))
        return real([sys.executable, '-S', '-c', code], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(processes.subprocess, 'Popen', popen)


def wait_for_line(node: NodeProcess, line: str) -> None:
    """Wait until the log holds a line (the process is told by its end if it never comes)."""
    import threading
    for _ in range(200):
        if line in node.log.read_text():
            return
        threading.Event().wait(0.05)
    raise AssertionError(node.log.read_text())


@pytest.mark.usefixtures('fake')
def test_a_failed_node_is_named_with_its_log(tmp_path: Path) -> None:
    with NodeGroup(tmp_path) as group:
        node = group.start('broken', {'code': 'print("no camera here"); raise SystemExit(3)'})
        node.process.wait(20)
        with pytest.raises(NodeFailed, match=r'broken ended with status 3(.|\n)*no camera here'):
            group.check()


@pytest.mark.usefixtures('fake')
def test_a_group_ends_even_nodes_that_do_not_listen_and_their_children(tmp_path: Path) -> None:
    stubborn = ('import signal, subprocess, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); '
                'signal.signal(signal.SIGTERM, signal.SIG_IGN); '
                'c = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"]); '
                'print("child", c.pid, "ready", flush=True); signal.pause()')
    with NodeGroup(tmp_path) as group:
        node = group.start('stubborn', {'code': stubborn})
        wait_for_line(node, 'ready')
        child = int(node.log.read_text().split()[1])
        node.finish(patience=0.2)
    assert node.process.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while not has_ended(child):
        assert time.monotonic() < deadline, 'the child of the node goes on'
        threading.Event().wait(0.05)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or ended and not yet collected."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().split()[2] == 'Z'
    except FileNotFoundError:
        return True


@pytest.mark.usefixtures('fake')
def test_sigterm_ends_the_group_like_ctrl_c(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), NodeGroup(tmp_path) as group:
        node = group.start('patient', {'code': 'print("ready", flush=True); import signal; signal.pause()'})
        wait_for_line(node, 'ready')
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert node.process.poll() is not None
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_parameters_become_yaml() -> None:
    values = [processes._yaml(v) for v in (True, 2, 0.5, '', '/a/b', (1.0, 2.0))]
    assert values == ['true', '2', '0.5', "''", '/a/b', '[1.0, 2.0]']
