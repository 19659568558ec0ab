"""Metrics, benchmark tables, reports and pictures."""
