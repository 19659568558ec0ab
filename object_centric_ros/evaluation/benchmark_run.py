"""Many goals in several processes: a line of JSON for each as it is done, so that a second call goes on."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.pictures import png, resize, strip
from object_centric_ros.evaluation.tables import text_table

Record = dict[str, Any]
Job = dict[str, Any]
Result = tuple[Record, dict[str, NDArray[np.uint8]]]
SHOWN = 40


def key(record: Record) -> str:
    """What tells the records of one benchmark apart: the goal, its seed and the settings."""
    return json.dumps([record['goal'], record['seed'], record['settings']], sort_keys=True)


def read_records(file: Path) -> list[Record]:
    """The records of a file; an unfinished last line, of a run that was killed, is left out.

    Raises:
        InputError: another line that is not a record.
    """
    if not file.exists():
        return []
    records, lines = [], file.read_text(encoding='utf-8').splitlines()
    for i, line in enumerate(lines):
        try:
            record = json.loads(line)
            key(record)
        except (ValueError, KeyError, TypeError) as e:
            if i == len(lines) - 1:
                break
            raise InputError(f'{file}, line {i + 1}', 'a record of this benchmark', line[:80]) from e
        records.append(record)
    return records


def run_jobs(jobs: Sequence[Job], work: Callable[[Job], Result], folder: Path, workers: int
             ) -> tuple[list[Record], int]:
    """Do what has not been done.

    Args:
        jobs: each with goal, seed and settings; plain data.
        work: a function of a module.
        folder: gets results.jsonl and pictures/.

    Returns:
        the records of all jobs, and how many of them were there before.
    """
    file = folder / 'results.jsonl'
    (folder / 'pictures').mkdir(parents=True, exist_ok=True)
    before = read_records(file)
    if file.exists():  # drops an unfinished line
        file.write_text(''.join(json.dumps(r) + '\n' for r in before), encoding='utf-8')
    done = {key(r): r for r in before}
    left = [job for job in jobs if key(job) not in done]
    with file.open('a', encoding='utf-8') as out:
        for i, (record, pictures) in enumerate(_results(left, work, workers)):
            out.write(json.dumps(record) + '\n')
            out.flush()
            done[key(record)] = record
            name = ''.join(c if c.isalnum() or c in '.-' else '_' for c in f'{record["goal"]}-{record["seed"]}')
            picture = png(strip([resize(p, 128, 128) for p in pictures.values()]))
            (folder / 'pictures' / f'{record["settings"]["label"]}-{name}.png').write_bytes(picture)
            print(f'{i + 1} of {len(left)}: {summary(record)}', flush=True)
    return [done[key(job)] for job in jobs], len(jobs) - len(left)


def summary(record: Record) -> str:
    """One line about one goal."""
    final = ', '.join(f'{k} {float(v):.2f}' for k, v in record['final'].items())
    return f'{record["settings"]["label"]} {record["goal"]}: {final}; {record["seconds"]:.0f} s; {record["reason"]}'


def _results(jobs: Sequence[Job], work: Callable[[Job], Result], workers: int) -> Iterator[Result]:
    if workers < 1:
        raise InputError('--workers', 'at least 1', workers)
    if workers == 1 or len(jobs) < 2:
        yield from map(work, jobs)
        return
    # Processes that are forked share an OpenGL context with their parent, which does not work.
    with ProcessPoolExecutor(min(workers, len(jobs)), multiprocessing.get_context('spawn'), torch.set_num_threads,
                             (1,)) as pool:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            yield future.result()


def share(values: Sequence[float]) -> tuple[str, str]:
    """Mean and its standard error, percent; of one value no error."""
    x = 100 * np.asarray(values, float)
    error = f'{x.std(ddof=1) / len(x) ** 0.5:.1f}' if len(x) > 1 else '-'
    return (f'{x.mean():.1f}' if len(x) else '-'), error


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """As text."""
    return text_table(tuple(header), [tuple(row) for row in rows])
