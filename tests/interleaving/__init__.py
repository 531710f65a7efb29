"""
The interleaving machine: units of work in sixteen tenants, mixed step by step, every value that is read checked.

``python -m tests.interleaving --help`` runs it; ``docs/reference/proofs.md`` says what it shows.
"""
