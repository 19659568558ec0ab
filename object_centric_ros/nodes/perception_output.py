"""What perception says of an image: results for nodes, and pictures for people who look."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from object_centric_ros.errors import InputError
from object_centric_ros.geometry import Preparation
from object_centric_ros.msg import EntityArray
from object_centric_ros.nodes.detections import detections, vision_messages
from object_centric_ros.nodes.drawing import draw_labels, draw_overlay
from object_centric_ros.nodes.images import from_array, masks_message
from object_centric_ros.nodes.intake import Processed
from object_centric_ros.nodes.managed import ManagedNode
from object_centric_ros.nodes.markers import markers
from object_centric_ros.nodes.messages import frame_to_message


class Output:
    """The publishers of perception.

    Args:
        node: whose publishers and parameters they are.
    """

    def __init__(self, node: ManagedNode[Any]) -> None:
        self._node = node
        self._entities = node.publish_on(EntityArray, 'entities', QoSProfile(depth=5))
        self._labels = node.publish_on(Image, 'label_image', QoSProfile(depth=2))
        self._overlay = node.publish_on(Image, 'overlay', QoSProfile(depth=2))
        self._markers = node.publish_on(MarkerArray, 'markers', QoSProfile(depth=2))
        self._predicted = node.publish_on(Image, 'predicted_image', QoSProfile(depth=2))
        self._masks = node.publish_on(Image, 'soft_masks', QoSProfile(depth=2))
        self._detections: Any = None
        self._kinds: Any = None
        self._next_drawing = -np.inf

    @property
    def wants_prediction(self) -> bool:
        """Whether somebody listens to what the model expects."""
        return bool(self._predicted.get_subscription_count())

    def offer_detections(self, wanted: bool) -> None:
        """Publish vision_msgs on `detections` from now on, or no longer; where they are not installed, say so."""
        if self._detections is not None:
            self._node.destroy_publisher(self._detections)
        self._detections, self._kinds = None, None
        if wanted:
            try:
                self._kinds = vision_messages()
            except InputError as error:
                self._node.diagnostics.reject('detections_not_published', error)
                return
            self._detections = self._node.publish_on(self._kinds.Detection2DArray, 'detections', QoSProfile(depth=5))

    def results(self, done: Processed, header: Header, session: int, preparation: Preparation) -> None:
        """Entities and label image of an image with that header; prediction and soft masks only for subscribers."""
        settings = self._node.settings
        self._entities.publish(frame_to_message(done.found, header, settings.work_frame, session))
        self._labels.publish(label_message(done, header, preparation, settings.label_image_size))
        if done.predicted is not None:
            self._predicted.publish(from_array(done.predicted, header, 'rgb8'))
        if self._detections is not None and self._detections.get_subscription_count():
            self._detections.publish(detections(self._kinds, done.found, header, preparation.camera))
        if self._masks.get_subscription_count():
            self._masks.publish(masks_message(done.frame.masks, header))

    def pictures(self, done: Processed, header: Header, preparation: Preparation) -> None:
        """Overlay and markers, at their own rate and only for subscribers."""
        settings, now = self._node.settings, time.monotonic()
        if not settings.publish_overlay or now < self._next_drawing:
            return
        self._next_drawing = now + 1 / settings.overlay_rate
        if self._overlay.get_subscription_count():
            picture = draw_overlay(done.image, done.frame, settings.overlay_width)
            self._overlay.publish(from_array(picture, header, 'rgb8'))
        if self._markers.get_subscription_count():
            self._markers.publish(markers(done.frame, header.stamp, settings.work_frame, preparation.camera))


def label_message(done: Processed, header: Header, preparation: Preparation, size: str) -> Image:
    """The label image as mono16, of the model's size or (`input`) of the image as it came."""
    labels = done.frame.label_image
    if size == 'input':
        camera = preparation.camera
        labels = preparation.labels_to_source(draw_labels(done.frame, camera.width, camera.height))
    return from_array(labels, header, 'mono16')
