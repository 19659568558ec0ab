"""Model files: what goes in comes out; what does not fit is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from object_centric_ros.errors import InputError
from object_centric_ros.models.checkpoint import load_model, save_model
from object_centric_ros.models.parts import Parts, PartsConfig

TINY = PartsConfig(image_size=32, slots=3, latent=6, encoder_channels=(4, 8), attention_size=8, hidden=8,
                   decoder_channels=8, decoder_layers=1, decoder_grid=8, dynamics_size=8, dynamics_heads=2)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / 'model.safetensors'
    save_model(path, Parts(TINY), {'minutes': 3, 'camera': {'width': 4}})
    return path


def test_round_trip(saved: Path) -> None:
    model, record = load_model(saved)
    torch.manual_seed(0)
    pairs = zip(model.state_dict().values(), Parts(TINY).state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert model.config == TINY and record['minutes'] == 3 and record['model_id'].startswith('parts-')
    assert load_model(saved)[1]['model_id'] == record['model_id']


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'expected an existing \.safetensors file'):
        load_model(tmp_path / 'none.safetensors')


def test_not_a_model_file(tmp_path: Path) -> None:
    path = tmp_path / 'x.safetensors'
    path.write_bytes(b'not safetensors at all')
    with pytest.raises(InputError, match='a safetensors file'):
        load_model(path)
    save_file({'a': torch.zeros(2)}, path, {'format': 'something'})
    with pytest.raises(InputError, match='format something'):
        load_model(path)


def test_wrong_tensors_are_listed(saved: Path) -> None:
    from safetensors import safe_open
    with safe_open(saved, 'pt') as f:
        header = f.metadata()
    tensors = load_file(saved)
    tensors['stray'] = torch.zeros(1)
    del tensors['encoder.norm.bias']
    tensors['encoder.norm.weight'] = torch.zeros(3)
    save_file(tensors, saved, header)
    with pytest.raises(InputError) as e:
        load_model(saved)
    for part in ('missing encoder.norm.bias', 'unknown stray', 'encoder.norm.weight is [3], not [8]'):
        assert part in str(e.value)
