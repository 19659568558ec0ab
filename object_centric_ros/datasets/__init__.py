"""Episodes on disk and the loaders of public formats."""
