"""Executors in threads of their own: ended in the middle of traffic, and what ends them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import rclpy
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node

from object_centric_ros.nodes.spinning import Spinner


@pytest.fixture
def context() -> Iterator[rclpy.Context]:
    """A context of its own."""
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


class Watched(SingleThreadedExecutor):
    """Notes whether the thread that spins it is alive when it is shut down."""

    spinning: bool | None = None

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        self.spinning = any(thread.name == 'executor' and thread.is_alive() for thread in threading.enumerate())
        return super().shutdown(timeout_sec)


def test_the_thread_ends_before_the_executor(context: rclpy.Context) -> None:
    executor = Watched(context=context)
    executor.add_node(Node('watched', context=context))
    spinner = Spinner(executor)
    assert spinner.alive(0.2)
    assert spinner.end(60)
    assert executor.spinning is False


@pytest.mark.parametrize('threads', [1, 3])
def test_it_ends_in_the_middle_of_traffic(context: rclpy.Context, threads: int) -> None:
    for _ in range(25):
        node, busy = Node('busy', context=context), threading.Event()
        node.create_timer(1e-4, busy.set)
        executor = MultiThreadedExecutor(threads, context=context) if threads > 1 else SingleThreadedExecutor(
            context=context)
        executor.add_node(node)
        spinner = Spinner(executor)
        assert busy.wait(60)
        assert spinner.end(60)
        assert spinner.failure is None and not spinner.alive()
        node.destroy_node()


def test_it_ends_where_nothing_happens(context: rclpy.Context) -> None:
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(Node('idle', context=context))
    spinner = Spinner(executor)
    assert spinner.alive(0.2)
    assert spinner.end(60) and spinner.failure is None


def test_what_a_callback_raises_is_kept(context: rclpy.Context, capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ValueError('from a callback')

    node, executor = Node('failing', context=context), SingleThreadedExecutor(context=context)
    node.create_timer(0.01, fail)
    executor.add_node(node)
    spinner = Spinner(executor)
    assert not spinner.alive(60)
    assert isinstance(spinner.failure, ValueError) and 'from a callback' in capfd.readouterr().err
    assert spinner.end(60)


def test_it_ends_with_its_context(context: rclpy.Context) -> None:
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(Node('short', context=context))
    spinner = Spinner(executor)
    assert spinner.alive(0.2)
    context.shutdown()
    assert not spinner.alive(60) and spinner.failure is None
    assert spinner.end(60)
