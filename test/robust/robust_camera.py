"""Cameras of all rates, with loss, outages and clocks that jump: no queue, and latency that is the model's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from harness import FakeCamera, Nodes, Probe
from sensor_msgs.msg import Image

from object_centric_ros.msg import EntityArray
from object_centric_ros.nodes.messages import nanoseconds
from object_centric_ros.simulation.tabletop import TabletopWorld

NODE = 'entity_perception'
OUTAGE, JUMP = 2.0, -100.0


@pytest.mark.parametrize('rate, loss, trouble', [
    (0.0, 0.0, ''), (1.0, 0.0, ''), (15.0, 0.0, ''), (60.0, 0.0, ''), (15.0, 0.3, ''), (15.0, 0.0, 'outage'),
    (15.0, 0.0, 'jump')])
def test_camera(nodes: Nodes, probe: Probe, say: Callable[[str], None], request, rate, loss, trouble):
    seconds, seed = request.config.getoption('--camera-seconds'), request.config.getoption('--robust-seed')
    world, random = TabletopWorld(), np.random.default_rng(seed)
    world.reset(5, 3)
    picture = world.render()
    nodes.start(NODE, threads=1, image_timeout=1.5)
    probe.listen(EntityArray, 'entities')
    camera = FakeCamera(probe, world.camera)
    camera.ready(120)
    if not rate:
        probe.wait(lambda: 'no image on /image' in getattr(probe.statuses.get(NODE), 'message', ''), 60, 'complaint')
        assert nodes.end() == [0]
        return
    for answers in range(1, 11):  # the model is loaded and warm; one at a time, so that nothing waits
        probe.again(lambda: camera.send(picture), lambda n=answers: len(probe.heard['entities']) >= n, 120, 'entities')
    shift, answers = threading.Event(), []

    def answered(message: EntityArray, info: dict) -> None:
        age = 1e-9 * (info['source_timestamp'] - nanoseconds(message.header.stamp))  # until it was published
        answers.append((1e3 * (age + JUMP if age > -JUMP / 2 else age), 1e3 * message.inference_time))

    probe.node.create_subscription(EntityArray, 'entities', answered, 20)  # without the images of the warm-up

    def stamped(message: Image) -> None:
        if shift.is_set():
            stamp = nanoseconds(message.header.stamp) + int(JUMP * 1e9)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)

    waited, sent, due = threading.Event(), 0, time.monotonic()
    end, middle = due + seconds, due + seconds / 2
    while (now := time.monotonic()) < end:
        if trouble == 'outage' and middle <= now < middle + OUTAGE:
            due = middle + OUTAGE
        elif random.random() >= loss:
            if trouble == 'jump' and now > middle:
                shift.set()
            camera.send(picture, stamped)
            sent += 1
        due = max(due + 1 / rate, now)
        waited.wait(max(0.0, due - time.monotonic()))
    probe.statuses.clear()
    told = probe.wait(lambda: probe.statuses.get(NODE) and {v.key: v.value for v in probe.statuses[NODE].values}, 60,
                      'diagnostics')
    queue, overhead = (float(told[f'{name}_p95_ms']) for name in ('queue_age', 'node_overhead'))
    (half, p95), (model_half, model) = (np.percentile(values, (50, 95)) for values in zip(*answers, strict=True))
    say(f'{rate:g} Hz, {loss:.0%} lost, {trouble or "no trouble"}: {sent} sent, {len(answers)} answered; stamp to '
        f'publishing p50 {half:.1f} ms, p95 {p95:.1f} ms, model {model_half:.1f} and {model:.1f} ms; p95 of queue '
        f'age {queue:.1f} ms, node {overhead:.1f} ms; drop rate {told["drop_rate_percent"]} %; '
        f'outages {told.get("camera_outages", 0)}, jumps {told.get("clock_jumps", 0)}')
    assert queue < 1e3 / rate + model + 10  # never more than one image waits
    assert trouble != 'outage' or int(told.get('camera_outages', 0)) >= 1
    assert int(told.get('clock_jumps', 0)) == (trouble == 'jump')
    assert int(told.get('errors', 0)) == 0
    if model + overhead < 1e3 / rate:  # a camera that is faster than the model has an image waiting at all times
        assert p95 <= model + 10
    assert nodes.end() == [0]
