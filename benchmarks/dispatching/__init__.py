"""How soon a scan starts, and who waits for whom: `python -m benchmarks.dispatching --help`."""
