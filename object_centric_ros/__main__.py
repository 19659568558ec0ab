"""`python -m object_centric_ros` is `object-centric`, for what starts modules, such as torchrun."""

import sys

from object_centric_ros.cli import main

sys.exit(main())
