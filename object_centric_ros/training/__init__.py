"""Objectives, their schedules, the trainer and checkpoints."""
