"""DeepMind's Multi-Object Datasets (Kabra et al., 2019): CLEVR, Multi-dSprites, Tetrominoes, Objects Room."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from object_centric_ros.datasets.episodes import Arrays
from object_centric_ros.datasets.sources import Source, View
from object_centric_ros.datasets.tfrecord import Values, parse_example, read_records
from object_centric_ros.errors import InputError

IMAGES = {240 * 320 * 3: (240, 320, 3), 64 * 64 * 3: (64, 64, 3), 64 * 64: (64, 64, 1), 35 * 35 * 3: (35, 35, 3)}
"""Number of bytes of an image -> its shape; the sets do not say it."""
PLACES = ('x', 'y', 'z')


def multi_object(path: str | os.PathLike[str], view: View | None = None, max_objects: int | None = None) -> Source:
    """The images of a TFRecord file as episodes of one frame.

    Labels are 0 for the background and i for object i. `positions` [1, K, 2 or 3] are in the set's own units, NaN for
    objects that are not there. All other facts keep their names, for the background and the K objects, in this order.

    Args:
        path: the file, gzipped as it is published, or not.
        view: what is kept of the images.
        max_objects: leave out images with more visible objects, e.g. 6 for CLEVR6.
    """
    where = os.fspath(path)
    first = next(_examples(where), None)
    if first is None:
        raise InputError(where, 'at least one record', 'none')
    fields = {name: (str(values.dtype), ' '.join(map(str, ('N', *values.shape))), f'{name}, as the set gives it')
              for name, values in _facts(first, where).items() if name != 'positions'}
    meta = {'generator': 'Multi-Object Datasets', 'source': os.path.basename(where), 'action_format': 'none',
            'fields': fields}
    return Source(meta, _read(where, view or View(), max_objects))


def _examples(where: str) -> Iterator[dict[str, Values]]:
    for number, record in enumerate(read_records(where)):
        try:
            yield parse_example(record)
        except InputError as e:
            raise InputError(f'{where}: record {number}', e.expected, e.got) from e


def _read(where: str, view: View, max_objects: int | None) -> Iterator[Arrays]:
    for example in _examples(where):
        image, labels = _pictures(example, where)
        facts = _facts(example, where)
        there = facts['visibility'][1:].sum() if 'visibility' in facts else labels.max()
        if max_objects is None or there <= max_objects:
            yield {'frames': view.image(image)[None], 'labels': view.labels(labels)[None], **facts}


def _pictures(example: dict[str, Values], where: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The image [H, W, C] and the labels [H, W]."""
    image, mask = (example.get(name) for name in ('image', 'mask'))
    if not isinstance(image, np.ndarray) or not isinstance(mask, np.ndarray):
        raise InputError(f'{where}: features', 'image and mask as bytes', sorted(example))
    if len(image) not in IMAGES:
        raise InputError(f'{where}: bytes of an image', f'one of {list(IMAGES)}', len(image))
    shape = IMAGES[len(image)]
    height, width = shape[:2]
    entities, rest = divmod(len(mask), height * width)
    if rest or entities < 1:
        raise InputError(f'{where}: bytes of the masks', f'a multiple of {height * width}', len(mask))
    sprites = shape[:2] == (64, 64) and 'x' in example  # Multi-dSprites alone has the entities last
    masks = mask.reshape(height, width, entities) if sprites else mask.reshape(entities, height, width)
    return image.reshape(shape), masks.argmax(2 if sprites else 0).astype(np.uint8)


def _facts(example: dict[str, Values], where: str) -> Arrays:
    """All but the pictures: name -> [K + 1] or [K + 1, n], and the positions [1, K, 2 or 3]."""
    facts: Arrays = {}
    count = len(example.get('visibility', ()))
    for name, values in sorted(example.items()):
        if name not in ('image', 'mask', *PLACES) and isinstance(values, np.ndarray) and count:
            facts[name] = values.reshape(count, -1) if len(values) != count else values
    axes = [example[name] for name in PLACES if name in example]
    if axes and count:
        places = np.stack([np.asarray(axis, np.float32) for axis in axes], -1)
        facts['positions'] = np.where(facts['visibility'][1:, None] > 0, places[1:], np.float32(np.nan))[None]
    return facts
