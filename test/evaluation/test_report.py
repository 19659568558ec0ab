"""Trials, their judgement, the report and the video."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest

from object_centric_ros.errors import InputError
from object_centric_ros.evaluation.pictures import data_url, entity_picture, label_picture, png, strip
from object_centric_ros.evaluation.report import pick, write_report
from object_centric_ros.evaluation.trials import Imagined, Progress, Seen, SeenEntity, Trial, summary, trials_table
from object_centric_ros.evaluation.video import VideoWriter
from object_centric_ros.simulation.tabletop_goals import GoalSpec

POSITIONS = np.array([[0.0, 0.0, 0.03], [0.1, 0.0, 0.03], [-0.1, 0.1, 0.03]])


def seen(label: str, seconds: float) -> Seen:
    image = np.full((48, 64, 3), 120, np.uint8)
    labels = np.zeros((64, 64), np.uint16)
    labels[10:20, 10:20] = 2
    return Seen(label, seconds, image, image, labels, (SeenEntity(2, True, 0.9, (0.0, 0.0, 0.03), (1.0, 0.0, 0.0)),))


def trial(reached: bool = True) -> Trial:
    t = Trial(3, 4, 2, True, 'the <red> block', np.zeros((48, 64, 3), np.uint8), reached=reached, believed=True,
              steps=1, seconds=9.0, cost=0.1, errors=(0.004, 0.012))
    t.seen = [seen('start', 0.0), seen('end', 9.5)]
    t.plans = [Imagined(1.0, np.zeros((3, 64, 64, 3), np.uint8))]
    t.progress = [Progress(0.1, 0, 'observe', float('nan')), Progress(1.0, 1, 'plan', 0.5),
                  Progress(1.1, 1, 'act', 0.5, 2, (0.0, 0.0), (0.1, 0.1))]
    t.latency = np.array([[0.1, 0.02, 0.01], [0.2, 0.03, 0.01]])
    return t


def test_judge_uses_half_a_block_on_every_axis_and_moved_blocks_alone() -> None:
    goal = GoalSpec(POSITIONS, np.zeros(3), [0, 2], 'a goal')
    t = trial()
    t.judge(goal, POSITIONS + np.array([[0.029, 0, 0], [0.5, 0.5, 0], [0, 0.01, 0]]))
    assert t.reached
    assert t.worst_mm == pytest.approx(29)
    t.judge(goal, POSITIONS + np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0.06]]))
    assert not t.reached


def test_judging_another_number_of_blocks_is_an_error() -> None:
    with pytest.raises(InputError, match='blocks'):
        trial().judge(GoalSpec(POSITIONS, np.zeros(3), [0], ''), POSITIONS[:2])


def test_table_and_summary_count() -> None:
    trials = [trial(), trial(False)]
    assert len(trials_table(trials).splitlines()) == 4
    assert summary(trials).startswith('1 of 2 goals reached')
    assert '(the planner was right about 1)' in summary(trials)


class Links(HTMLParser):
    """Collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [v or '' for k, v in attrs if k in ('src', 'href')]
        if tag not in ('meta', 'img', 'br'):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [v or '' for k, v in attrs if k in ('src', 'href')]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_report_is_whole_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / 'report.html'
    empty = Trial(1, 2, 1, False, 'nothing came', np.zeros((48, 64, 3), np.uint8), message='the planner refused')
    write_report(path, [trial(), trial(False), empty], {'model': 'parts-x', 'cores': 2})
    text = path.read_text()
    page = Links()
    page.feed(text)
    assert page.open == []
    assert page.loaded and all(link.startswith('data:image/png;base64,') for link in page.loaded)
    assert '&lt;red&gt;' in text and '<red>' not in text
    for heading in ('What the tracker saw', 'What the planner imagined', 'Latency of perception', 'not reached',
                    'parts-x'):
        assert heading in text


def test_pick_keeps_first_and_last() -> None:
    many = [seen(str(i), float(i)) for i in range(30)]
    few = pick(many, 8)
    assert len(few) == 8 and few[0] is many[0] and few[-1] is many[-1]


def test_pictures_have_the_right_shapes() -> None:
    labels = np.zeros((64, 64), np.uint16)
    labels[:8] = 5
    image = np.full((64, 64, 3), 200, np.uint8)
    assert label_picture(labels).shape == (64, 64, 3)
    shown = entity_picture(image, labels, 5)
    assert (shown[:8] == 200).all() and (shown[8:] > 240).all()
    assert png(image).startswith(b'\x89PNG') and data_url(image).startswith('data:image/png;base64,')
    assert strip([image, image], gap=4).shape == (64, 132, 3)
    with pytest.raises(InputError):
        strip([])


def test_video_holds_the_frames_that_were_due(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / 'v.mp4', 64, 48, fps=10) as video:
        kept = [video.add(np.full((48, 64, 3), 8 * i, np.uint8), 0.05 * i) for i in range(20)]
        with pytest.raises(InputError, match='video frame'):
            video.add(np.zeros((10, 10, 3), np.uint8), 5.0)
    assert sum(kept) == video.frames == 10
    with av.open(str(video.path)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 10
    assert float(frames[-1].time or 0) == pytest.approx(0.9)
    with pytest.raises(InputError, match='even'):
        VideoWriter(tmp_path / 'w.mp4', 63, 48)
