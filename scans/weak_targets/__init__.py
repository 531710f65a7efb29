"""Servers with planted flaws, and one without, for the demo and the tests. They listen on loopback only."""
