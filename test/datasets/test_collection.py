"""A collection of bags: what it counts, how it goes on after an end or a kill, and recovered recordings."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader
from small_bags import action, image, joints, recording, write

from object_centric_ros.datasets.bags import bag, transitions
from object_centric_ros.datasets.collection import Collection
from object_centric_ros.datasets.recovery import is_finished, recover
from object_centric_ros.errors import InputError


def killed(path: Path, messages: list, keep: float = 1.0) -> Path:
    """A bag as a killed recorder leaves it: no metadata, no end, the last chunk perhaps cut."""
    path.parent.mkdir(exist_ok=True)
    write(path, messages, compressed=True)
    (path / 'metadata.yaml').unlink()
    file = next(path.glob('*.mcap'))
    os.truncate(file, int(keep * (file.stat().st_size - 3000)))
    return path


def messages(path: Path) -> list[tuple[str, int, bytes]]:
    with AnyReader([path]) as reader:
        return [(c.topic, stamp, bytes(data)) for c, stamp, data in reader.messages()]


def long_recording() -> list:
    """More than one chunk (1 MiB): enough images of 2 KiB."""
    return recording(80.0)


def test_what_was_written_before_a_kill_is_kept(tmp_path: Path) -> None:
    everything = messages(write(tmp_path / 'whole', long_recording()))
    folder = killed(tmp_path / 'killed', long_recording(), 0.9)
    count = recover(folder)
    assert is_finished(folder) and list(tmp_path.glob('*.recovered')) == []
    kept = messages(folder)
    assert len(kept) == count and 0.3 * len(everything) < count < len(everything)
    assert kept == everything[:count]
    assert transitions(folder) == [True, True, False, True]


def test_a_recovery_that_was_killed_itself_is_begun_anew(tmp_path: Path) -> None:
    folder = killed(tmp_path / 'killed', long_recording(), 0.9)
    first = recover(folder)
    (folder / 'metadata.yaml').unlink()
    (tmp_path / 'killed.recovered').mkdir()
    assert recover(folder) == first and transitions(folder)


@pytest.mark.parametrize('content', [b'', b'\x89MCAP0\r\n', b'something else', b'\x89MCAP0\r\n\x01' + b'\xff' * 8])
def test_nothing_is_made_of_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f'{tmp_path.name}.mcap').write_bytes(content)
    assert recover(tmp_path) == 0 and not is_finished(tmp_path)
    assert (tmp_path / f'{tmp_path.name}.mcap').read_bytes() == content


def test_no_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'the file of a recording'):
        recover(tmp_path)


def test_damage_before_the_end_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    folder = killed(tmp_path / 'killed', long_recording(), 0.9)
    file = folder / 'killed.mcap'
    content = bytearray(file.read_bytes())
    content[1000:1100] = bytes(100)
    file.write_bytes(content)
    with pytest.raises(InputError, match=r'killed\.mcap: expected whole chunks'):
        recover(folder)
    assert not is_finished(folder)


def test_transitions_are_those_of_the_episodes(tmp_path: Path) -> None:
    path = write(tmp_path / 'bag', recording(8.2))  # the last action has no image after it had settled
    assert transitions(path) == [True, True, False]
    assert sum(len(e['actions']) for e in bag(path).episodes) == 0  # 4 transitions make an episode of 5 frames
    assert transitions(write(tmp_path / 'other', recording(10.0))) == [True, True, False, True]


def record(collection: Collection, actions: int) -> None:
    """What a collector does."""
    write(collection.new_bag(), recording(10.0))
    for i in range(actions):
        assert collection.draw() >= i
        collection.count(i % 2 == 0)


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    with Collection(tmp_path / 'c', seed=3) as first:
        record(first, 3)
        first.draw()
        first.refuse()
        assert (first.executed, first.moved) == (3, 2)
    with Collection(tmp_path / 'c', seed=3) as second:
        assert (second.executed, second.moved, second.next_action, second.refused) == (3, 2, 4, 1)
        assert second.recovered == []
        record(second, 1)
        assert second.executed == 4
    assert [path.name for path in second.bags] == ['bag_0001', 'bag_0002']


def test_a_killed_one_counts_what_its_bag_holds(tmp_path: Path) -> None:
    killed_one = Collection(tmp_path, seed=0)
    shutil.copytree(killed(tmp_path / 'other' / 'bag_0001', long_recording(), 0.9), killed_one.new_bag())
    for _ in range(6):  # more than came to the disk
        killed_one.draw()
        killed_one.count(True)
    killed_one._lock.close()  # a killed process loses its lock and says nothing
    with Collection(tmp_path, seed=0) as again:
        assert again.recovered == ['bag_0001'] and is_finished(tmp_path / 'bag_0001')
        assert (again.executed, again.moved, again.next_action) == (4, 3, 6)
        assert again.new_bag().name == 'bag_0002'
    with Collection(tmp_path, seed=0) as third:  # bag_0002 was never begun
        assert [path.name for path in third.bags] == ['bag_0001'] and third.recovered == []


def test_killed_before_anything_came_to_the_disk_leaves_nothing(tmp_path: Path) -> None:
    killed_one = Collection(tmp_path, seed=0)
    bag_folder = killed_one.new_bag()
    bag_folder.mkdir()
    (bag_folder / 'bag_0001.mcap').write_bytes(b'\x89MCAP0\r\n')
    killed_one._lock.close()
    with Collection(tmp_path, seed=0) as again:
        assert again.bags == [] and not bag_folder.exists() and again.executed == 0


def test_killed_before_the_first_image_keeps_the_bag_and_counts_nothing(tmp_path: Path) -> None:
    killed_one = Collection(tmp_path, seed=0)
    write(killed_one.new_bag(), [('/joint_states', t / 50, joints(t / 50)) for t in range(50)])
    killed_one._lock.close()
    with Collection(tmp_path, seed=0) as again:
        assert len(again.bags) == 1 and again.executed == 0


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    with Collection(tmp_path, seed=0), pytest.raises(InputError, match='another collector'):
        Collection(tmp_path, seed=0)
    Collection(tmp_path, seed=0).close()


def test_another_seed_is_refused(tmp_path: Path) -> None:
    Collection(tmp_path, seed=1).close()
    with pytest.raises(InputError, match='seed: expected 1, with which the collection began, got 2'):
        Collection(tmp_path, seed=2)


@pytest.mark.parametrize('change', [{'format': 2}, {'next_action': -1}, {'seed': 'x'}, {'bags': []},
                                    {'bags': {'../elsewhere': None}}, {'bags': {'bag_0001': {'executed': 1}}}])
def test_damaged_progress_is_an_error_that_names_the_file(tmp_path: Path, change: dict) -> None:
    Collection(tmp_path, seed=0).close()
    path = tmp_path / 'progress.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=r'progress\.json: expected the progress of a collection'):
        Collection(tmp_path, seed=0)
    path.write_text('{')
    with pytest.raises(InputError, match=r'progress\.json'):
        Collection(tmp_path, seed=0)


def test_an_action_without_an_image_after_it_does_not_count(tmp_path: Path) -> None:
    content = [('/image', t / 10, image(t / 10)) for t in range(21)]
    path = write(tmp_path / 'bag', [*content, ('/executed_actions', 2.0, action(1.0, 2.0))])
    assert transitions(path) == []
