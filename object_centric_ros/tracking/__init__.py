"""The streaming engine: belief -> entities with persistent ids."""
