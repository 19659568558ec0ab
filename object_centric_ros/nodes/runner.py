"""Start a node, spin it until it is told to stop, end it in order."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence

import cv2
import rclpy
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node

from object_centric_ros.errors import InputError


def run_node(make: Callable[[], Node], name: str, threads: int = 1, argv: Sequence[str] | None = None) -> int:
    """Run one node until SIGINT or SIGTERM.

    Args:
        make: makes the node; an InputError from it is printed as one line. A node with threads of its own has a method
            stop() that ends them.
        name: of the program, for that line.
        threads: of the executor.
        argv: arguments, None for the process's own.

    Returns:
        The exit status: 0, or 2 for bad parameters.
    """
    cv2.setNumThreads(1)  # pictures are small: waking a pool of threads costs more than it saves
    rclpy.init(args=None if argv is None else list(argv))
    try:
        node = make()
    except InputError as error:
        print(f'{name}: {error}', file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    executor = MultiThreadedExecutor(threads) if threads > 1 else SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # the two ways in which SIGINT and SIGTERM arrive
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever is impatient would leave half of it undone
        if hasattr(node, 'stop'):
            node.stop()
        executor.shutdown(timeout_sec=2.0)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
