"""A folder of bags that grows over several recordings, and how far the collection has come (progress.json)."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from object_centric_ros.datasets.bags import transitions
from object_centric_ros.datasets.recovery import is_finished, recover
from object_centric_ros.errors import InputError

FORMAT = 1


class Collection:
    """Progress of a collection; on disk after every change.

    A bag whose recording was killed is recovered here, and the actions that it holds are counted anew: an action
    counts when it has an image before it and one after it, as for `datasets.bags`.

    Args:
        folder: of the bags; made if it does not exist.
        seed: of the actions; that of the collection if there is one.

    Attributes:
        next_action: index of the next action; one that was begun is never drawn again.
        refused: actions that were begun and came to nothing.
        recovered: names of the bags that were recovered now.

    Raises:
        InputError: another process collects into the folder, its collection has another seed, or progress.json is
            damaged.
    """

    def __init__(self, folder: str | os.PathLike[str], seed: int) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / '.lock').open('w')
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            self._lock.close()
            raise InputError(f'{self.folder}', 'a folder that nobody else collects into', 'another collector') from e
        try:
            self.seed, self.next_action, self.refused = seed, 0, 0
            self._bags: dict[str, dict[str, int] | None] = {}
            self._bag, self._running = '', {'executed': 0, 'moved': 0}
            if self.path.exists():
                self._load(seed)
            self.recovered = [name for name, counts in list(self._bags.items()) if counts is None
                              and self._recover(name)]
            self.save()
        except BaseException:
            self._lock.close()
            raise

    @property
    def path(self) -> Path:
        """The file that holds the progress."""
        return self.folder / 'progress.json'

    @property
    def executed(self) -> int:
        """Actions in the bags."""
        return sum(counts['executed'] for counts in self._counts())

    @property
    def moved(self) -> int:
        """Those of them that moved something."""
        return sum(counts['moved'] for counts in self._counts())

    @property
    def bags(self) -> list[Path]:
        """The bags, in order."""
        return [self.folder / name for name in self._bags]

    # ---- what a recording does ---------------------------------------------------------------------------------------

    def new_bag(self) -> Path:
        """Folder (not made yet) of the bag that is recorded from now on."""
        taken = [int(path.name[4:]) for path in self.folder.glob('bag_*') if path.name[4:].isdigit()]
        self._bag = f'bag_{max(taken, default=0) + 1:04}'
        self._bags[self._bag] = None
        self.save()
        self._running = {'executed': 0, 'moved': 0}
        return self.folder / self._bag

    def draw(self) -> int:
        """Index of an action that is about to begin."""
        index = self.next_action
        self.next_action += 1
        self.save()
        return index

    def count(self, moved: bool) -> None:
        """An action is in the bag, with images around it."""
        self._running['executed'] += 1
        self._running['moved'] += moved

    def refuse(self) -> None:
        """An action came to nothing."""
        self.refused += 1
        self.save()

    def end_bag(self) -> None:
        """The bag is finished; one that was never begun is forgotten."""
        if not self._bag:
            return
        if is_finished(self.folder / self._bag):
            self._bags[self._bag] = self._running
        else:
            self._remove(self._bag)
        self._bag, self._running = '', {'executed': 0, 'moved': 0}
        self.save()

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _counts(self) -> list[dict[str, int]]:
        return [counts for counts in self._bags.values() if counts] + [self._running]

    def _load(self, seed: int) -> None:
        try:
            values = json.loads(self.path.read_text(encoding='utf-8'))
            if values['format'] != FORMAT:
                raise ValueError(f'format {values["format"]}')
            self.seed, self.next_action, self.refused = (_count(values[k]) for k in ('seed', 'next_action', 'refused'))
            for name, counts in values['bags'].items():
                if name != Path(name).name or not name.startswith('bag_'):
                    raise ValueError(f'bag {name!r}')
                self._bags[name] = counts and {k: _count(counts[k]) for k in ('executed', 'moved')}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise InputError(f'{self.path}', f'the progress of a collection (format {FORMAT})', repr(e)) from e
        if self.seed != seed:
            raise InputError(f'{self.folder}: seed', f'{self.seed}, with which the collection began', seed)

    def _recover(self, name: str) -> bool:
        """Bring a bag that was being recorded into order; False if there is nothing in it."""
        bag = self.folder / name
        if not is_finished(bag) and not ((bag / f'{name}.mcap').is_file() and recover(bag)):
            self._remove(name)
            return False
        try:
            done = transitions(bag)
        except InputError:  # killed before the first image
            done = []
        self._bags[name] = {'executed': len(done), 'moved': sum(done)}
        return True

    def _remove(self, name: str) -> None:
        shutil.rmtree(self.folder / name, ignore_errors=True)
        del self._bags[name]

    def save(self) -> None:
        """Write the progress; a kill leaves the old one or the new one."""
        values: dict[str, Any] = {'format': FORMAT, 'seed': self.seed, 'next_action': self.next_action,
                                  'refused': self.refused, 'bags': self._bags}
        new = self.path.with_suffix('.new')
        with new.open('w', encoding='utf-8') as file:
            json.dump(values, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)

    def close(self) -> None:
        """Let others collect into the folder."""
        self.end_bag()
        self._lock.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f'{value!r} is no number of something')
    return value
