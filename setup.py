"""`pip install .`: the same CMake rules as everywhere else, run into a staging folder that becomes the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def cmake_environment() -> dict[str, str]:
    """This environment as it is outside pip's isolation: with the ROS packages of this Python and of a sourced ROS."""
    sourced = [prefix for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if prefix]
    python = f'lib/python{sysconfig.get_python_version()}'
    paths = [Path(prefix, python, site) for prefix in sourced for site in ('site-packages', 'dist-packages')]
    return os.environ | {
        'AMENT_PREFIX_PATH': os.pathsep.join([*sourced, sys.prefix]),
        'PYTHONPATH': os.pathsep.join(str(path) for path in paths if path.is_dir()),
        'PATH': os.pathsep.join([sysconfig.get_path('scripts'), os.environ['PATH']]),
    }


class BuildWithCMake(build_py):
    """Install with CMake; Python goes to the build folder, everything else becomes data files of the prefix."""

    def run(self) -> None:
        if self.editable_mode:
            sys.exit('pip install -e does not build interfaces: `make setup` gives an editable environment')
        if not shutil.which('cmake', path=cmake_environment()['PATH']):
            sys.exit('CMake is missing: sudo apt install cmake (or: pip install cmake)')
        build = Path(self.get_finalized_command('build').build_temp).absolute()
        stage = build / 'stage'
        shutil.rmtree(build, ignore_errors=True)
        settings = {
            'CMAKE_INSTALL_PREFIX': stage,
            'CMAKE_PREFIX_PATH': sys.prefix,
            'CMAKE_BUILD_TYPE': 'Release',
            'Python3_EXECUTABLE': sys.executable,
            'BUILD_TESTING': 'OFF',
        }
        configure = ['cmake', '-S', ROOT, '-B', build, *(f'-D{name}={value}' for name, value in settings.items())]
        make = ['cmake', '--build', build, '--parallel', str(os.cpu_count()), '--target', 'install']
        for command in (configure, make):
            subprocess.run(command, check=True, env=cmake_environment())
        python = next(stage.glob('lib/python*/*-packages')) / 'object_centric_ros'
        self.copy_tree(str(python), str(Path(self.build_lib, 'object_centric_ros')))
        rest = [file for file in stage.rglob('*') if file.is_file() and python.parent not in file.parents]
        console_script = stage / 'bin' / 'object-centric'
        self.distribution.data_files = [
            (str(file.parent.relative_to(stage)), [str(file)]) for file in rest if file != console_script
        ]


class BinaryDistribution(Distribution):
    """A wheel for this Python and platform: it holds compiled interfaces."""

    def has_ext_modules(self) -> bool:
        return True


setup(distclass=BinaryDistribution, cmdclass={'build_py': BuildWithCMake})
