"""Reading many files of a foreign format at once: processes, on this machine or on a Ray cluster, convert one each."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from object_centric_ros.datasets.episodes import Arrays, EpisodeStore
from object_centric_ros.datasets.sources import Source, View, save
from object_centric_ros.datasets.workers import start_workers

Loader = Callable[[str, argparse.Namespace, View], Source]
Job = tuple[Loader, str, argparse.Namespace, View, Path]
Done = tuple[dict[str, Any], list[str], bool]


def spread(load: Loader, paths: Sequence[str], args: argparse.Namespace, view: View, folder: Path) -> list[Source]:
    """What `load` gives for each path, in order, read and scaled by `args.workers` processes.

    Args:
        load: of one path.
        folder: for an episode file of each path; all machines of a cluster must see it, and the paths. It must stay
            until the sources have been gone through.

    Raises:
        InputError: that of the first path that cannot be read; no Ray, or no such cluster.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs: list[Job] = [(load, str(Path(path).absolute()), args, view, folder.absolute() / f'{n:08d}.h5')
                       for n, path in enumerate(paths)]
    with start_workers(min(args.workers, len(jobs)), args.ray) as pool:
        done = pool.map(_convert, jobs, chunksize=1)  # not imap, which hands out errors as results in Ray's pool
    return [Source(meta, _stored(job[4]) if any_ else iter(()), notes)
            for job, (meta, notes, any_) in zip(jobs, done, strict=True)]


def _convert(job: Job) -> Done:
    """Write one path's episodes (run in a worker): its metadata, its notes, and whether it has any episode."""
    load, path, args, view, out = job
    source = load(path, args, view)
    first = next(source.episodes, None)
    if first is not None:
        source.episodes = itertools.chain([first], source.episodes)
        save(source, out, args.limit)
    return source.meta, source.notes, first is not None


def _stored(path: Path) -> Iterator[Arrays]:
    """The episodes of a file, one after the other."""
    with EpisodeStore(path) as store:
        for arrays in store.batches(list(store.fields)):
            rows = len(next(iter(arrays.values())))
            yield from ({k: v[n] for k, v in arrays.items()} for n in range(rows))
