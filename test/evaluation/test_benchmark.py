"""Planning benchmarks: the judge's rules, resuming, tables and the command's errors; no model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmark_jobs import record, work

from object_centric_ros.cli import main
from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.benchmark_judge import own_places, placed, stacked, strictly_built
from object_centric_ros.evaluation.benchmark_run import read_records, run_jobs
from object_centric_ros.evaluation.benchmark_stack import let_go
from object_centric_ros.evaluation.benchmark_tables import pick_place_table, stack_table, write_measurements
from object_centric_ros.evaluation.benchmark_tabletop import tabletop_jobs
from object_centric_ros.evaluation.results import read_measurements
from object_centric_ros.planning.blocks_fit import Drop
from object_centric_ros.simulation.blocks_stack import StackWorld
from object_centric_ros.simulation.blocks_stage import Block

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
GOAL = (Block('cube', (0, 3, 0.6), RED), Block('cube', (2, 3, 0.6), BLUE))


def moved(block: Block, *by: float) -> Block:
    return replace(block, position=tuple(p + d for p, d in zip(block.position, by, strict=True)))


def test_the_published_rule_lets_two_blocks_share_a_target_and_the_strict_one_does_not() -> None:
    both = (GOAL[0], replace(moved(GOAL[0], 0.1, 0, 1.2), rgb=(0.9, 0.0, 0.0)))
    assert placed(both, GOAL, 0.3) == 0.5
    near = (GOAL[0], moved(GOAL[0], 0.9, 0, 0))
    assert placed(near, GOAL, 0.3) == 1.0 and own_places(near, GOAL, 0.6).tolist() == [True, False]
    assert own_places((moved(GOAL[0], 0.59, -0.59, 0), moved(GOAL[1], 0, 0, 0.61)), GOAL, 0.6).tolist() == [True, False]


def test_thresholds_are_those_of_the_published_code() -> None:
    off = (moved(GOAL[0], 0.9, 0, 0), GOAL[1])  # 0.27
    assert placed(off, GOAL, 0.3) == 1.0 and placed(off, GOAL, 0.2) == 0.5


def test_stacking_uses_targets_once() -> None:
    assert stacked(GOAL, GOAL) and stacked(GOAL[::-1], GOAL)
    assert not stacked((GOAL[0], GOAL[0]), GOAL) and not stacked(GOAL[:1], GOAL)
    assert stacked((moved(GOAL[0], 0.75, 0, 0), GOAL[1]), GOAL)  # as lenient as they are
    assert strictly_built((moved(GOAL[0], 0.75, 0, 0), GOAL[1]), GOAL, 0.4) == 0.5
    assert strictly_built(GOAL[::-1], GOAL, 0.4) == 1.0
    assert strictly_built((replace(GOAL[0], rgb=BLUE), GOAL[1]), GOAL, 0.4) == 0.5
    assert strictly_built((), GOAL, 0.4) == 0.0 == strictly_built((), GOAL, 0.4, None)
    assert strictly_built((replace(GOAL[0], rgb=BLUE), GOAL[1]), GOAL, 0.4, None) == 1.0
    assert strictly_built((GOAL[0], GOAL[0]), GOAL, 0.4, None) == 0.5


def jobs(*goals: str) -> list[dict[str, Any]]:
    return [{'goal': g, 'seed': 0, 'settings': {'label': 'a'}} for g in goals]


def test_a_second_call_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs('x', 'stop', 'y'), work, tmp_path, 1)
    file = tmp_path / 'results.jsonl'
    with file.open('a') as f:
        f.write('{"goal": "cut')  # killed while it wrote
    records, before = run_jobs(jobs('x', 'y'), work, tmp_path, 1)
    assert [r['goal'] for r in records] == ['x', 'y'] and before == 1
    assert [json.loads(line)['goal'] for line in file.read_text().splitlines()] == ['x', 'y']
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == 2
    assert run_jobs(jobs('x', 'y'), work, tmp_path, 1)[1] == 2


def test_several_workers(tmp_path: Path) -> None:
    records, _ = run_jobs(jobs('x', 'y', 'z'), work, tmp_path, 2)
    assert [r['goal'] for r in records] == ['x', 'y', 'z']
    with pytest.raises(InputError):
        run_jobs(jobs('w'), work, tmp_path, 0)


def test_another_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / 'results.jsonl').write_text('{"a": 1}\n{"b": 2}\n')
    with pytest.raises(InputError, match='line 1'):
        read_records(tmp_path / 'results.jsonl')


def test_tables_count(tmp_path: Path) -> None:
    rules = {'paper_0.3': 1.0, 'paper_0.2': 0.5, 'strict': 0.5}
    some = [record(f'2-{i}', i, blocks=2, final=rules, best={**rules, 'strict': 1.0}, picks=4, hits=3, plans=2,
                   planning_s=1.0, believed=True) for i in range(3)]
    text = pick_place_table(some)
    assert '75.0 (9/12)' in text and '100.0' in text
    stack = [record('tower-0', structure='tower', blocks=3, final={'paper': float(i), 'position': 1.0, 'strict': 0.5},
                    plans=3, planning_s=3.0, candidates=300) for i in range(2)]
    assert '50.0' in stack_table(stack) and 'tower' in stack_table(stack)
    for r in some:
        r['settings'] = {'label': 'r8 xy', 'actions': 'xy'}
    for r in stack:
        r['settings'] = {'label': 'op3'}
    write_measurements([*some, *stack], tmp_path)
    read = read_measurements(tmp_path)
    assert set(read) == {'op3_pick_place_2_xy_r8', 'op3_stack'}
    assert read['op3_stack']['metrics']['built'] == {'mean': 0.5, 'std': pytest.approx(0.5 ** 0.5), 'error':
                                                     pytest.approx(0.5), 'count': 2}
    assert read['op3_pick_place_2_xy_r8']['metrics']['accuracy']['mean'] == 1.0


def test_a_block_that_would_start_inside_another_is_let_go_above_it() -> None:
    world = StackWorld(0.004)
    assert let_go(world, Drop('cube', RED, (0.0, -0.2, 0.0)))
    assert let_go(world, Drop('cube', BLUE, (0.0, -0.2, 0.0)))
    heights = sorted(p[2] for p in world.positions())
    assert heights[1] - heights[0] == pytest.approx(0.8, abs=0.05)


def test_a_goal_on_the_tabletop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ['benchmark', 'tabletop', '--moved', '1', '--blocks', '2', '--episodes', '1', '--seed', '1000', '--out',
             str(tmp_path)]
    assert main(words) == 0
    (done,) = read_records(tmp_path / 'results.jsonl')
    assert done['actions'] == done['hits'] and done['believed'] == (done['final']['reached'] == 1)
    capsys.readouterr()
    assert main(words) == 0 and '1 goals, 1 of them from an earlier call' in capsys.readouterr().out
    with pytest.raises(InputError):
        tabletop_jobs([6], 4, 2, 1, 0, 'a')


@pytest.mark.parametrize('words', [['pick-place', '--goals', '/nowhere'], ['stack', '--goals', '/nowhere'],
                                   ['pick-place', '--data', '/nowhere']])
def test_missing_files_are_one_line(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['benchmark', *words, '--out', str(tmp_path)]) == 2
    assert 'object-centric: ' in capsys.readouterr().err
