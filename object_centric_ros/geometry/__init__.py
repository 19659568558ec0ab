"""Camera geometry: image <-> work plane, lenses, what models see of an image."""

from object_centric_ros.geometry.camera import (
    PinholeCamera,
    model_image,
    model_to_table,
    normalised,
    table_to_model,
)
from object_centric_ros.geometry.homography import Homography, position_covariance
from object_centric_ros.geometry.preparation import Lens, Preparation, named_rectified

__all__ = ['Homography', 'Lens', 'PinholeCamera', 'Preparation', 'model_image', 'model_to_table', 'named_rectified',
           'normalised', 'position_covariance', 'table_to_model']
