"""Reference data beside the project: golden inputs and outputs, and the authors' weights."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

DATA = Path(os.environ.get('OBJECT_CENTRIC_DATA') or Path(__file__).resolve().parents[2] / 'shared' / 'data')
needs_data = pytest.mark.skipif(not (DATA / 'golden').is_dir(),
                                reason=f'no reference data in {DATA} (set OBJECT_CENTRIC_DATA)')


def golden(name: str) -> dict[str, NDArray[np.float32]]:
    """The arrays of golden/NAME.npz."""
    with np.load(DATA / 'golden' / f'{name}.npz') as file:
        return {key: file[key] for key in file.files}


def tensors(name: str) -> dict[str, torch.Tensor]:
    """The numeric arrays of golden/NAME.npz as tensors."""
    return {k: torch.from_numpy(v) for k, v in golden(name).items() if v.dtype.kind in 'fiu'}


def weights(path: str) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file in the data folder, e.g. 'op3/stack_s64d64_v1.safetensors'."""
    return load_file(DATA / path)


def close(got: torch.Tensor, expected: torch.Tensor | NDArray[np.float32], rtol: float = 1e-4) -> None:
    """Equal within `rtol` of the largest magnitude of `expected`."""
    want = torch.as_tensor(expected)
    assert got.shape == want.shape, f'{tuple(got.shape)} instead of {tuple(want.shape)}'
    error = (got.double() - want.double()).abs().max().item()
    scale = want.double().abs().max().item()
    assert error <= rtol * max(scale, 1e-12), f'largest error {error:.3g} at a scale of {scale:.3g}'
