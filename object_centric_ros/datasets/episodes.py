"""Episodes on disk: one HDF5 file of image sequences, the actions between the images and what is known about them.

Each field (see `layout`) is a dataset with the episodes along its first axis, cut into chunks that hold one long
episode, a part of it, or many short ones, compressed with gzip. The attribute ``meta`` is a JSON object: format,
fields, format of the actions, generator with its version and seed, and whatever else its maker records, e.g. the
camera. ``checksums`` [N, F] is a CRC-32 of each episode's array in each field, in the order of the metadata, and the
attribute ``meta_checksum`` that of the metadata's text.
"""

from object_centric_ros.datasets.parts import join, parts_folder, plain, same_meta, stack, write_part
from object_centric_ros.datasets.store import Arrays, EpisodeStore, checksum
from object_centric_ros.datasets.writer import EpisodeWriter

__all__ = ['Arrays', 'EpisodeStore', 'EpisodeWriter', 'checksum', 'join', 'parts_folder', 'plain', 'same_meta', 'stack',
           'write_part']
