"""The ways to install the package, what they say when something is missing, and the interfaces' comments."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

import object_centric_ros
from object_centric_ros import cli
from object_centric_ros.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
IN_OUR_VENV = Path(sys.prefix) == ROOT / '.venv'
USE_INTERFACES = """
import object_centric_ros.nodes.entity_perception as node
from object_centric_ros.msg import Entity, EntityArray
from rclpy.serialization import deserialize_message, serialize_message
message = deserialize_message(serialize_message(EntityArray(entities=[Entity(id=7)])), EntityArray)
assert message.entities[0].id == 7
print(node.__file__)
"""


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, **options)


def succeed(*command: str | Path, **options: object) -> str:
    done = run(*command, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git would hand to a clone, in a folder of their own."""
    folder = tmp_path_factory.mktemp('workspace') / 'src' / 'object_centric_ros'
    for name in succeed('git', 'ls-files', '-co', '--exclude-standard', cwd=ROOT).splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def build_environment() -> dict[str, str]:
    """ROS found where this Python has it: in a sourced installation, or as wheels beside it."""
    scripts = Path(sys.executable).parent
    environment = os.environ | {'PATH': f'{scripts}{os.pathsep}{os.environ["PATH"]}'}
    if not os.environ.get('ROS_DISTRO'):
        environment |= {'AMENT_PREFIX_PATH': sys.prefix, 'CMAKE_PREFIX_PATH': sys.prefix}
    return environment


def use_installed(site: Path, libraries: Path) -> None:
    """Import the interfaces and a node from an installation rather than from this checkout."""
    others = [path for path in sys.path if path and Path(path) != ROOT]
    environment = os.environ | {
        'PYTHONPATH': os.pathsep.join([str(site), *others]),
        'LD_LIBRARY_PATH': f'{libraries}{os.pathsep}{os.environ.get("LD_LIBRARY_PATH", "")}',
    }
    # -S: without the .pth files, one of which would put this checkout first
    file = succeed(sys.executable, '-S', '-c', USE_INTERFACES, env=environment, cwd=site.anchor)
    assert Path(file.strip()).is_relative_to(site)


def test_every_interface_field_is_described() -> None:
    for folder in ('msg', 'srv', 'action'):
        for file in sorted((ROOT / folder).iterdir()):
            lines = file.read_text().splitlines()
            assert lines[0].startswith('# '), f'{file}: says what it is for'
            for line in lines:
                if line.strip() and not line.lstrip().startswith('#') and line != '---':
                    assert re.fullmatch(r'[\w/\[\]]+ \w+(=\w+)? +# .+', line), f'{file}: {line}'


def test_versions_agree() -> None:
    assert f'<version>{object_centric_ros.__version__}</version>' in (ROOT / 'package.xml').read_text()


def test_requirements_are_pinned() -> None:
    for name in ('ros-jazzy-wheels.txt', 'constraints.txt'):
        for line in (ROOT / 'requirements' / name).read_text().splitlines():
            assert line.startswith('#') or re.match(r'[\w.-]+==[\w.]+(; python_version [<>=]+ "[\d.]+")?$', line), line


def fake(folder: Path, name: str, script: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(f'#!/bin/sh\n{script}\n')
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ('missing', 'fakes', 'says'),
    [
        (['python3'], {}, r'Python is missing .*apt install python3'),
        ([], {'python3': '[ "$1" = -V ] && echo Python 3.9.2; exit 1'}, r'Python 3.10 .* is Python 3.9.2: .*PYTHON='),
        ([], {'uname': 'echo aarch64'}, r'ROS 2 .* x86-64 .* source '),
        (['c++', 'g++', 'clang++'], {}, r'C\+\+ compiler is missing: .*apt install g\+\+'),
        (['cmake'], {}, r'CMake is missing: .*apt install cmake'),
        ([], {'cmake': 'echo cmake version 3.18.4'}, r'CMake 3.22 or newer is needed'),
        ([], {'python3': f'case "$*" in *EGL*) exit 1; esac; exec {sys.executable} "$@"'}, r'EGL .*apt install'),
    ],
)
def test_make_names_what_is_missing_in_one_line(
    tmp_path: Path, missing: list[str], fakes: dict[str, str], says: str
) -> None:
    for program in ('sh', 'python3', 'cc', 'c++', 'g++', 'cmake', 'uname'):
        found = sys.executable if program == 'python3' else shutil.which(program)
        if found and program not in missing:
            fake(tmp_path, program, f'exec {found} "$@"')
    for name, script in fakes.items():
        fake(tmp_path, name, script)
    environment = {'PATH': str(tmp_path), 'HOME': str(tmp_path)}
    make = shutil.which('make')
    assert make is not None
    done = run(make, 'setup', cwd=ROOT, env=environment)
    assert done.returncode == 2
    assert re.search(says, done.stderr)
    assert (done.stdout + done.stderr).count('\n') == 1


def test_setup_does_only_what_has_changed(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / 'root'
    shutil.copytree(checkout, root)
    spec = importlib.util.spec_from_file_location('setup_env', root / 'tools' / 'setup_env.py')
    assert spec and spec.loader
    setup_env = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup_env)
    done: list[str] = []
    monkeypatch.setattr(setup_env.venv, 'create', lambda prefix, **_: (prefix.mkdir(), done.append('venv')))
    monkeypatch.setattr(setup_env, 'install_packages', lambda *_: done.append('packages'))
    monkeypatch.setattr(setup_env, 'build_package', lambda *_: done.append('build'))

    def setup(torch: str = 'torch==2.13.0') -> list[str]:
        monkeypatch.setattr(sys, 'argv', ['setup_env.py', str(root / '.venv'), '--torch', torch])
        done.clear()
        setup_env.main()
        return list(done)

    assert setup() == ['venv', 'packages', 'build']
    assert setup() == []
    (root / 'object_centric_ros' / 'errors.py').write_text('')
    assert setup() == []
    (root / 'msg' / 'Entity.msg').write_text('uint32 id')
    assert setup() == ['build']
    assert setup(torch='torch==2.12.0') == ['packages', 'build']
    assert 'OMP_WAIT_POLICY' in (root / '.venv' / 'env.sh').read_text()


@pytest.mark.skipif(not IN_OUR_VENV, reason='make setup looks after .venv only')
def test_environment_uses_the_sources() -> None:
    assert Path(str(object_centric_ros.__file__)).parent == ROOT / 'object_centric_ros'
    for script in ('bin/object-centric', 'lib/object_centric_ros/tabletop_sim'):
        assert os.access(Path(sys.prefix, script), os.X_OK)


def test_pip_makes_a_complete_wheel(checkout: Path, tmp_path: Path) -> None:
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', 'wheel', '--no-deps', '--no-build-isolation']
    succeed(*pip, '-w', tmp_path, checkout, env=build_environment())
    with zipfile.ZipFile(next(tmp_path.glob('*.whl'))) as wheel:
        wheel.extractall(tmp_path / 'unpacked')
        names = wheel.namelist()
    data = next((tmp_path / 'unpacked').glob('*.data')) / 'data'
    for name in ('launch/demo.launch.py', 'config/fastdds.xml', 'package.xml'):
        assert (data / 'share' / 'object_centric_ros' / name).is_file()
    assert (data / 'lib' / 'object_centric_ros' / 'tabletop_sim').is_file()
    weights = {f'object_centric_ros/weights/{file.name}' for file in ROOT.glob('object_centric_ros/weights/*.*')}
    assert weights <= set(names)
    use_installed(tmp_path / 'unpacked', data / 'lib')


def test_colcon_builds_in_three_ways(checkout: Path) -> None:
    pytest.importorskip('colcon_core')
    workspace = checkout.parents[1]
    colcon = [sys.executable, '-m', 'colcon', 'build', '--executor', 'sequential', '--cmake-force-configure']
    # The first two share a build folder, so that only one of them compiles.
    for options, prefix in (
        ([], 'install/object_centric_ros'),
        (['--merge-install'], 'merged'),
        (['--symlink-install', '--build-base', 'build_linked'], 'linked/object_centric_ros'),
    ):
        base = prefix.partition('/')[0]
        succeed(*colcon, '--install-base', base, *options, cwd=workspace, env=build_environment())
        site = next((workspace / prefix).glob('lib/python3*/site-packages'))
        assert (site / 'object_centric_ros' / 'cli.py').is_symlink() == (base == 'linked')
        assert os.access(workspace / prefix / 'lib' / 'object_centric_ros' / 'entity_perception', os.X_OK)
        use_installed(site, workspace / prefix / 'lib')


def test_help_needs_none_of_the_large_packages() -> None:
    program = """
import sys
from object_centric_ros import cli
from object_centric_ros.errors import InputError
cli.build_parser(None).format_help()
print([name for name in ('torch', 'mujoco', 'rclpy', 'numpy') if name in sys.modules])
"""
    assert succeed(sys.executable, '-c', program).strip() == '[]'


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(args: object) -> int:
        raise InputError('config.yaml: seed', 'an integer', 'x')

    command = SimpleNamespace(add_arguments=lambda parser: None, run=refuse)
    monkeypatch.setattr(cli, 'import_module', lambda name: command)
    assert cli.main(['train']) == 2
    assert capsys.readouterr().err == 'object-centric: config.yaml: seed: expected an integer, got x\n'


def test_missing_package_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def without_torch(name: str) -> object:
        raise ModuleNotFoundError("No module named 'torch'", name='torch')

    monkeypatch.setattr(cli, 'import_module', without_torch)
    assert cli.main(['train']) == 1
    assert capsys.readouterr().err == 'object-centric train needs the Python package torch, which is not installed\n'


@pytest.mark.skipif(not IN_OUR_VENV, reason='needs the executables of make setup')
def test_the_command_works_with_worker_processes(tmp_path: Path) -> None:
    command = Path(sys.prefix) / 'bin' / 'object-centric'
    succeed(command, 'generate', 'tabletop', '--out', tmp_path / 'a.h5', '--episodes', '3', '--steps', '2',
            '--workers', '2')
    assert (tmp_path / 'a.h5').stat().st_size > 10_000
