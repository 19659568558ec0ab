"""What a run says about itself: a progress bar, lines of JSON, TensorBoard events."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from object_centric_ros.models.cycle import CycleModel

LOG = 'log.jsonl'


class RunLog:
    """The log of a run in its folder; silent in all processes but the first.

    Args:
        folder: of the run.
        step: optimisation steps of the state that the run goes on from; what was logged after them is forgotten.
        active: whether this process writes.
    """

    def __init__(self, folder: str, step: int, active: bool = True) -> None:
        self.path, self.active = os.path.join(folder, LOG), active
        self.bar: tqdm | None = None
        self.board: SummaryWriter | None = None
        if active:
            kept = [entry for entry in read_log(folder) if entry['step'] <= step]
            with open(f'{self.path}.new', 'w', encoding='utf-8') as f:
                f.writelines(json.dumps(entry) + '\n' for entry in kept)
            os.replace(f'{self.path}.new', self.path)
            self.board = SummaryWriter(folder, purge_step=step + 1)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close_bar()
        if self.board is not None:
            self.board.close()

    def write(self, kind: str, stage: int, step: int, values: dict[str, float]) -> None:
        """One line, and a point of each curve."""
        if self.board is None:
            return
        for key, value in values.items():
            self.board.add_scalar(f'{kind}/{key}', value, step)
        with open(self.path, 'a', encoding='utf-8') as f:
            f.write(json.dumps({'kind': kind, 'stage': stage, 'step': step, **values}) + '\n')

    def images(self, name: str, rows: Tensor, step: int) -> None:
        """Pictures [N, 3, H, W] in [0, 1]."""
        if self.board is not None:
            self.board.add_images(name, rows, step)

    def open_bar(self, name: str, total: float, done: float, unit: str) -> None:
        """A bar for a stage."""
        self.bar = tqdm(total=round(total), initial=round(done), unit=unit, desc=name, mininterval=5,
                        disable=not self.active)

    def advance(self, done: float) -> None:
        """How far the stage is."""
        if self.bar is not None:
            self.bar.update(max(0, round(done) - self.bar.n))

    def show(self, values: dict[str, float]) -> None:
        """Numbers beside the bar."""
        if self.bar is not None:
            self.bar.set_postfix({k: f'{v:.4g}' for k, v in list(values.items())[:4]})

    def close_bar(self) -> None:
        """The stage is over."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def read_log(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a run's log; a last one that was cut off by a kill is left out."""
    path = Path(folder) / LOG
    entries = []
    for line in path.read_text(encoding='utf-8').splitlines() if path.is_file() else ():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


@torch.no_grad()
def slot_rows(model: CycleModel, images: Tensor, seed: int = 0) -> Tensor:
    """Images [B, 3, H, W], beside each its reconstruction and what each slot draws: [B * (2 + K), 3, H, W]."""
    generator = torch.Generator(images.device).manual_seed(seed)
    scene = model.scene(model.infer(model.observe(images), generator=generator))
    slots = (scene.masks[:, :, None] * scene.colours).clamp(0, 1)
    slots = torch.cat([scene.image[:, None].clamp(0, 1), slots], 1).expand(-1, -1, 3, -1, -1)
    return torch.cat([images[:, None], slots], 1).flatten(0, 1)
