"""Mutated messages: no crash, no growth of memory, and each one counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from harness import FakeCamera, Goals, Nodes, Probe
from mutations import Mutator
from rclpy.qos import QoSProfile
from scripted import CAMERA
from sensor_msgs.msg import CompressedImage, Image, JointState
from usage import Usage

from object_centric_ros.geometry import PinholeCamera
from object_centric_ros.msg import EntityArray
from object_centric_ros.nodes.images import from_array

NODE, PLANNER = 'entity_perception', 'pick_place_planner'
SMALL = PinholeCamera(160, 120, CAMERA.fx / 4, CAMERA.fy / 4, CAMERA.cx / 4, CAMERA.cy / 4, CAMERA.rotation,
                      CAMERA.position)
PICTURE = np.full((120, 160, 3), 130, np.uint8)
PICTURE[50:62, 75:88] = (230, 30, 30)
ENDS = ('images_processed', 'images_replaced_by_newer', 'images_out_of_order', 'images_repeated', 'images_too_old',
        'images_waiting_for_camera_info', 'errors')


def accounted(probe: Probe) -> int:
    """Images that perception has told the end of."""
    status = probe.statuses.get(NODE)
    return sum(int(v.value) for v in status.values if v.key in ENDS or v.key.startswith('images_rejected')) if (
        status) else 0


@pytest.mark.parametrize('kind', ['raw', 'compressed'])
def test_images_and_joint_states(nodes: Nodes, probe: Probe, say: Callable[[str], None], request, kind):
    number = int(request.config.getoption('--messages') * 0.35)
    seed = request.config.getoption('--robust-seed')
    topic = '/image' if kind == 'raw' else '/image/compressed'
    process = nodes.start(NODE, scripted=True, image_transport=kind, **{
        f'qos_overrides.{topic}.subscription.reliability': 'reliable',
        f'qos_overrides.{topic}.subscription.depth': 100,
        'qos_overrides./joint_states.subscription.reliability': 'reliable'})
    mutator, camera = Mutator(seed, PICTURE), FakeCamera(probe, SMALL)
    message_type = Image if kind == 'raw' else CompressedImage
    images = probe.node.create_publisher(message_type, topic, QoSProfile(depth=100))
    joints = probe.node.create_publisher(JointState, 'joint_states', QoSProfile(depth=100))
    probe.listen(EntityArray, 'entities')
    for publisher in (images, joints):
        probe.wait(publisher.get_subscription_count, 60, 'subscriber')
    sent = 0

    def good() -> None:
        """A good image, sent until it is answered: by then what was sent before has been taken."""
        nonlocal sent
        stamps = []

        def send() -> None:
            nonlocal sent
            sent += 1
            header = camera.info_only()
            stamps.append(header.stamp)
            if kind == 'raw':
                images.publish(from_array(PICTURE, header, 'rgb8'))
            else:
                message = mutator.good_compressed()
                message.header = header
                images.publish(message)
        probe.again(send, lambda: any(m.header.stamp in stamps for m in probe.heard['entities']), 60, 'answer')

    good()
    first = None
    for i in range(number):
        images.publish(mutator.image() if kind == 'raw' else mutator.compressed())
        sent += 1
        if i % 4 == 0:
            joints.publish(mutator.joints())
        good()
        assert process.poll() is None
        if i == number // 4:
            first = Usage.of(process.pid)
    probe.wait(lambda: probe.count(NODE, 'images_received') == accounted(probe) == sent, 60, 'account of every image')
    last = Usage.of(process.pid)
    told = {v.key: v.value for v in probe.statuses[NODE].values}
    refused = {k: int(v) for k, v in told.items() if 'rejected' in k or k == 'joint_states_not_finite'}
    say(f'{kind}: {number} mutated images and {number // 4} joint states, {sent} images accounted for, '
        f'{told.get("images_replaced_by_newer", 0)} of them not looked at; errors {told.get("errors", 0)}; '
        f'{first} -> {last}; {refused}')
    assert first is not None and last.memory - first.memory < max(8.0, 0.03 * first.memory)
    assert (last.threads, last.files) == (first.threads, first.files)
    assert int(told.get('errors', 0)) == 0
    assert nodes.end() == [0]


def test_goals(nodes: Nodes, probe: Probe, say: Callable[[str], None], request):
    number = int(request.config.getoption('--messages') * 0.3)
    process = nodes.start(PLANNER, scripted=True, belief_timeout=0.1, server_timeout=0.1)
    goals, mutator = Goals(probe), Mutator(request.config.getoption('--robust-seed') + 1, PICTURE)
    first, reasons = None, 0
    for i in range(number):
        status, result = goals.run(mutator.goal())
        assert status == 'aborted' and not result.success and result.message
        reasons += 1
        if i == number // 4:
            first = Usage.of(process.pid)
        if i == number // 2:
            half = Usage.of(process.pid)
    last = Usage.of(process.pid)
    probe.wait(lambda: probe.count(PLANNER, 'goals_refused') + probe.count(PLANNER, 'goals_given_up') >= number, 60,
               'account of every goal')
    say(f'{number} mutated goals, {reasons} aborted with a reason, errors {probe.count(PLANNER, "errors")}; '
        f'{first} -> {half} at half -> {last}')
    assert first is not None and last.memory - first.memory < max(8.0, 0.03 * first.memory)
    assert last.threads == first.threads and probe.count(PLANNER, 'errors') == 0
    assert nodes.end() == [0]
