"""The papers' models: shared parts and one short file a paper. Pure torch, no I/O, no ROS."""
