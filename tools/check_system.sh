#!/bin/sh
# Prints one line about the first thing that is missing on this machine and how to get it; nothing if all is there.
# usage: check_system.sh PYTHON
python=${1:-python3}
has() { command -v "$1" >/dev/null 2>&1; }
missing() { printf '%s\n' "$*"; exit 0; }
python_finds() { "$python" -c "import sys, ctypes.util as u; sys.exit(not any(map(u.find_library, sys.argv[1:])))" "$@"; }

has "$python" || missing "Python is missing ($python): sudo apt install python3 python3-venv python3-dev"
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' 2>/dev/null ||
  missing "Python 3.10 to 3.14 is needed, $python is $("$python" -V 2>&1): install one and say make PYTHON=python3.12"
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing "Python's venv module is missing: sudo apt install python3-venv"
"$python" -c 'import os, sys, sysconfig as s; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' ||
  missing "Python's headers are missing: sudo apt install python3-dev"
has "${CXX:-c++}" || has g++ || has clang++ || missing "A C++ compiler is missing: sudo apt install g++"
has "${CC:-cc}" || has gcc || has clang || missing "A C compiler is missing: sudo apt install gcc"
has cmake || missing "CMake is missing: sudo apt install cmake (or: pipx install cmake)"
case $(cmake --version) in *" version "[0-2].* | *" version 3."[0-9].* | *" version 3.1"* | *" version 3.2"[01].*)
  missing "CMake 3.22 or newer is needed: pipx install cmake" ;;
esac
python_finds EGL OSMesa || missing "EGL is missing, the simulator cannot render: sudo apt install libegl1 libopengl0 libgl1-mesa-dri (or libosmesa6)"
if [ -z "$ROS_DISTRO" ] && [ "$(uname -sm)" != 'Linux x86_64' ]; then
  missing "ROS 2 comes as wheels for Linux on x86-64 only, this is $(uname -sm): install ROS 2 and source its setup.bash"
fi
if [ -n "$ROS_DISTRO" ] && ! "$python" -c 'import rclpy' 2>/dev/null; then
  missing "ROS 2 $ROS_DISTRO is sourced, but $python cannot import rclpy: say make PYTHON=/usr/bin/python3, or use a shell without ROS"
fi
