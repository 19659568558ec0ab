"""entity_perception as a process: what goes in, what comes out, what it survives."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Point
from harness import FakeCamera, Nodes, Probe
from scripted import CAMERA
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from object_centric_ros.geometry import model_image
from object_centric_ros.msg import EntityArray, ExecutedAction
from object_centric_ros.nodes.images import labels_of, masks_of, to_rgb
from object_centric_ros.nodes.messages import nanoseconds

PICTURE = np.full((480, 640, 3), 130, np.uint8)
PICTURE[200:250, 300:350] = (230, 30, 30)
PICTURE[300:350, 200:250] = (30, 30, 230)
NODE = 'entity_perception'


@pytest.fixture(scope='module')
def camera(nodes: Nodes, probe: Probe) -> FakeCamera:
    nodes.start(NODE, scripted=True, image_timeout=0.5, overlay_rate=50.0)
    probe.listen(EntityArray, 'entities')
    probe.listen(Image, 'label_image')
    probe.listen(Image, 'overlay')
    probe.listen(MarkerArray, 'markers')
    camera = FakeCamera(probe, CAMERA)
    camera.ready()
    return camera


def of_image(camera: FakeCamera, probe: Probe, topic: str, stamp: Callable[[Any], Any] = lambda m: m.header.stamp,
             spoil: Callable[[Image], None] = lambda m: None):
    """(header of an image that was sent, what a topic said of it)."""
    sent: list[Header] = []

    def found():
        return next(((h, m) for m in reversed(probe.heard[topic]) for h in sent if stamp(m) == h.stamp), None)

    return probe.again(lambda: sent.append(camera.send(PICTURE, spoil)), found, 60, topic)


def seen(camera: FakeCamera, probe: Probe) -> EntityArray:
    """What is found in an image."""
    return of_image(camera, probe, 'entities')[1]


def test_no_camera_is_an_error_on_diagnostics_until_it_comes(camera, probe):
    probe.wait(lambda: 'no image on /image' in getattr(probe.statuses.get(NODE), 'message', ''), 60, 'complaint')
    assert probe.statuses[NODE].level == b'\x02'
    for _ in range(4):
        seen(camera, probe)
        probe.statuses.clear()
    probe.counted(NODE, 'images_processed', 4)


@pytest.mark.parametrize('reliable', [False, True])
def test_results_carry_stamp_and_frame_of_the_image(camera, probe, reliable):
    source = FakeCamera(probe, CAMERA, reliable)
    source.ready()
    header, result = of_image(source, probe, 'entities')
    assert result.header == header and header.frame_id == 'lens'
    assert result.work_frame == 'work_plane' and result.model_id == 'scripted-1'
    assert len(result.entities) == 2 and result.inference_time > 0
    red = next(e for e in result.entities if e.colour.r > e.colour.b)
    np.testing.assert_allclose(red.centroid, (324.5, 224.5), atol=1)
    expected = CAMERA.to_plane([[324.5, 224.5]], 0.035)[0, :2]
    np.testing.assert_allclose([red.position.x, red.position.y], expected, atol=2e-3)
    header, labels = of_image(source, probe, 'label_image')
    assert labels.header == header and set(np.unique(labels_of(labels))) == {0, *(e.id for e in result.entities)}


def test_pictures_for_people_carry_the_stamp_too(camera, probe):
    header, overlay = of_image(camera, probe, 'overlay')
    assert overlay.header == header and to_rgb(overlay).shape == (240, 320, 3)
    _, markers = of_image(camera, probe, 'markers', lambda m: m.markers[0].header.stamp)
    assert {m.header.frame_id for m in markers.markers} == {'work_plane'}
    assert sorted(m.ns for m in markers.markers) == ['', *['entities'] * 2, *['ids'] * 2, *['outlines'] * 2]


def test_predictions_and_soft_masks_are_made_for_those_who_listen(camera, probe):
    assert seen(camera, probe).background[0].latent_mean[0] == 0, 'nobody asked for a prediction'
    for topic in ('predicted_image', 'soft_masks'):
        probe.listen(Image, topic)
    header, predicted = of_image(camera, probe, 'predicted_image')
    assert predicted.header == header
    np.testing.assert_array_equal(to_rgb(predicted), model_image(PICTURE))
    header, message = of_image(camera, probe, 'soft_masks')
    result = probe.wait(lambda: next((m for m in probe.heard['entities'] if m.header == header), None), 60, 'entities')
    masks = masks_of(message)
    assert message.header == header and masks.shape == (2, 64, 64) and len(result.entities) == 2
    for entity in result.entities:
        v, u = np.nonzero(masks[entity.slot] > 0.5)
        at = 80 + 7.5 * (u.mean() + 0.5), 7.5 * (v.mean() + 0.5)
        np.testing.assert_allclose(at, entity.centroid, atol=8)
        assert masks[entity.slot].max() == pytest.approx(0.8, abs=1 / 255)


def set_to(**values):
    def spoil(message: Image) -> None:
        for name, value in values.items():
            setattr(message, name, value)
    return spoil


@pytest.mark.parametrize('counter, spoil', [
    ('images_rejected (image encoding)', set_to(encoding='bayer_rggb8')),
    ('images_rejected (image data)', lambda m: setattr(m, 'data', m.data[:100_000])),
    ('images_rejected (image data)', lambda m: setattr(m, 'data', m.data[:0])),
    ('images_rejected (image step)', set_to(step=3)),
    ('images_rejected (image size)', set_to(width=0, height=0)),
    ('images_rejected (image size)', set_to(width=320, step=960, height=240)),
    ('images_rejected (image size)', set_to(width=2**32 - 1, step=2**32 - 1))])
def test_bad_images_are_counted_and_survived(camera, probe, counter, spoil):
    seen(camera, probe)
    before, sent = probe.count(NODE, counter), []
    probe.again(lambda: sent.append(camera.send(PICTURE, spoil)), lambda: probe.count(NODE, counter) > before, 60,
                counter)
    assert probe.statuses[NODE].level != b'\x00' and 'expected' in probe.statuses[NODE].message
    assert all(m.header not in sent for m in probe.heard['entities'])
    assert len(seen(camera, probe).entities) == 2


def test_another_camera_in_mid_stream_is_counted(camera, probe):
    seen(camera, probe)
    other = FakeCamera(probe, CAMERA.square(64))
    probe.again(lambda: other.send(PICTURE), lambda: probe.count(NODE, 'camera_info_changed'), 60, 'complaint')


def moved(by: float) -> Callable[[Image], None]:
    """Sets an image's stamp so many seconds on, or back."""
    def spoil(message: Image) -> None:
        stamp = nanoseconds(message.header.stamp) + int(1e9 * by)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    return spoil


def test_late_and_repeated_images_are_counted_and_dropped(camera, probe):
    last = seen(camera, probe).header.stamp
    probe.again(lambda: camera.send(PICTURE, lambda m: setattr(m.header, 'stamp', last)),
                lambda: probe.count(NODE, 'images_repeated'), 60, 'repeated image')

    def late(message: Image) -> None:
        message.header.stamp = seen(camera, probe).header.stamp
        moved(-0.1)(message)

    probe.again(lambda: camera.send(PICTURE, late), lambda: probe.count(NODE, 'images_out_of_order'), 60, 'late image')
    seen(camera, probe)


def test_an_image_that_is_too_old_is_not_used(camera, probe):
    sent: list[Header] = []
    probe.again(lambda: sent.append(camera.send(PICTURE, moved(-20))), lambda: probe.count(NODE, 'images_too_old'), 60,
                'old image')
    assert 'image age: expected at most 2 s, got 20.' in probe.statuses[NODE].message
    assert len(seen(camera, probe).entities) == 2
    assert all(m.header.stamp not in [h.stamp for h in sent] for m in probe.heard['entities'])
    assert not probe.count(NODE, 'clock_jumps')


def test_a_clock_that_jumps_is_survived_both_ways(camera, probe):
    """Stamps of another clock altogether are used, and a warning says so."""
    before = probe.count(NODE, 'clock_jumps')
    for by in (-3600.0, 3600.0):
        of_image(camera, probe, 'entities', spoil=moved(by))
    probe.counted(NODE, 'clock_jumps', before + 2, 60)
    probe.wait(lambda: 'another clock' in probe.statuses[NODE].message, 60, 'warning')
    ids = {e.id for e in seen(camera, probe).entities}
    probe.wait(lambda: 'another clock' not in probe.statuses[NODE].message, 60, 'end of the warning')
    assert ids == {1, 2}


def test_a_camera_that_stops_and_comes_back_is_counted(camera, probe):
    seen(camera, probe)
    probe.wait(lambda: 'no image on' in probe.statuses[NODE].message, 60, 'complaint')
    assert len(seen(camera, probe).entities) == 2
    probe.counted(NODE, 'camera_outages', 1, 60)


def test_times_and_drop_rate_are_told(camera, probe):
    for _ in range(3):
        seen(camera, probe)
    names = {f'{name}_{p}_ms' for name in ('latency', 'model', 'queue_age') for p in ('p50', 'p95', 'p99')}
    told = probe.wait(lambda: {v.key: float(v.value) for v in probe.statuses[NODE].values
                               if v.key in names | {'drop_rate_percent'}}, 60, 'diagnostics')
    assert set(told) == names | {'drop_rate_percent'}
    assert all(told[f'{n}_p50_ms'] <= told[f'{n}_p99_ms'] for n in ('latency', 'model', 'queue_age'))


def test_joint_states_with_nan_are_counted_and_motion_is_noticed(camera, probe):
    joints = probe.node.create_publisher(JointState, 'joint_states', 10)
    probe.wait(joints.get_subscription_count, 60, 'subscriber of joint_states')
    now = probe.node.get_clock().now().to_msg()
    nan = float('nan')
    for counter, values in (('joint_states_not_finite', {'position': [nan] * 2, 'velocity': [nan, 0.0]}),
                            ('joint_states_rejected', {'position': [0.0]})):
        message = JointState(header=Header(stamp=now), name=['a', 'b'], **values)
        probe.again(lambda m=message: joints.publish(m), lambda c=counter: probe.count(NODE, c), 60, counter)
    assert list(seen(camera, probe).background[0].memory) == [0.0, 0.0]

    def move() -> None:
        now = probe.node.get_clock().now().to_msg()
        joints.publish(JointState(header=Header(stamp=now), name=['a'], velocity=[0.7]))
        camera.send(PICTURE)

    probe.again(move, lambda: list(probe.heard['entities'][-1].background[0].memory) == [0.0, 1.0], 60,
                'frame of a moving robot')


def test_an_executed_action_goes_with_one_image(camera, probe):
    actions = probe.node.create_publisher(ExecutedAction, 'executed_actions', 10)
    probe.wait(actions.get_subscription_count, 60, 'subscriber of executed_actions')

    def publish(frame: str, success: bool, x: float = 0.1) -> None:
        now = probe.node.get_clock().now().to_msg()
        actions.publish(ExecutedAction(header=Header(stamp=now, frame_id=frame), success=success, started=now,
                                       finished=now, place=Point(x=x)))

    publish('map', True)
    probe.counted(NODE, 'executed_actions_rejected')
    publish('work_plane', True, float('nan'))
    probe.counted(NODE, 'executed_actions_rejected', 2)
    publish('work_plane', False)
    probe.counted(NODE, 'executed_actions')
    assert seen(camera, probe).background[0].memory[0] == 0
    publish('work_plane', True)
    probe.counted(NODE, 'executed_actions', 2)
    assert [seen(camera, probe).background[0].memory[0] for _ in range(2)] == [1, 0]


def test_killed_and_started_again_it_is_back(camera, nodes, probe):
    seen(camera, probe)
    nodes.kill(NODE)
    probe.heard['entities'] = []
    nodes.start(NODE, scripted=True)
    began = time.monotonic()
    probe.wait(lambda: camera.send(PICTURE) and probe.heard['entities'], 10, 'entities after the restart')
    assert len(probe.heard['entities'][-1].entities) == 2 and time.monotonic() - began < 10
    assert nodes.end() == [0]


def test_a_parameter_that_makes_no_sense_ends_it_with_one_line(nodes):
    process = nodes.start(NODE, scripted=True, label_image_size='huge')
    assert process.wait(60) == 2
    assert "parameter label_image_size: expected string out of 'model', 'input', got 'huge'" in nodes.log()


def test_terminated_it_ends_in_order(nodes, probe):
    process = nodes.start(NODE, scripted=True)
    probe.statuses.clear()
    probe.wait(lambda: NODE in probe.statuses, 60, 'diagnostics')
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
