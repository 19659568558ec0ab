"""Start a node, spin it until it is told to stop, end it in order."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence

import cv2
import rclpy
from rclpy.executors import Executor, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from object_centric_ros.errors import InputError
from object_centric_ros.nodes.spinning import Spinner


def run_node(make: Callable[[], Node], name: str, threads: int = 1, argv: Sequence[str] | None = None) -> int:
    """Run one node until SIGINT or SIGTERM; to be called in the main thread.

    The executor has a thread of its own: a KeyboardInterrupt in the middle of a message would be an error there.

    Args:
        make: makes the node; an InputError from it is printed as one line. A node with threads of its own has a method
            stop() that ends them; tend() of a node is called several times a second. A node that comes to an end by
            itself has `ended`, an event, and `status`, its exit status then.
        name: of the program, for that line.
        threads: of the executor.
        argv: arguments, None for the process's own.

    Returns:
        The exit status: the node's (0 if it has none), 1 if the executor failed, 2 for bad parameters.
    """
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: signals.append(received))
    cv2.setNumThreads(1)  # pictures are small: waking a pool of threads costs more than it saves
    rclpy.init(args=None if argv is None else list(argv), signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make()
    except InputError as error:
        print(f'{name}: {error}', file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    executor: Executor = MultiThreadedExecutor(threads) if threads > 1 else SingleThreadedExecutor()
    executor.add_node(node)
    spinner = Spinner(executor)
    ended, tend = getattr(node, 'ended', threading.Event()), getattr(node, 'tend', lambda: None)
    while not (signals or ended.is_set()) and spinner.alive(0.1):
        tend()
    if hasattr(node, 'stop'):
        node.stop()
    spinner.end()
    node.destroy_node()
    rclpy.try_shutdown()
    return 1 if spinner.failure else getattr(node, 'status', 0)
