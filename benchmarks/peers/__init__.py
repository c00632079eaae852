"""The field's tools at the job of `engine.py`, each in its own environment (make bench-peers)."""
