"""Simulated worlds. No ROS and no torch in here."""

import os
import sys

if sys.platform == 'linux' and not os.environ.get('DISPLAY'):
    os.environ.setdefault('MUJOCO_GL', 'egl')  # mujoco reads it once, when it is imported
