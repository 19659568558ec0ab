"""Simulated worlds. No ROS and no torch in here."""
