"""The error of bad input, under the name that every room uses; models/ defines it and imports nothing else of ours."""

from object_centric_ros.models.errors import InputError

__all__ = ['InputError']
