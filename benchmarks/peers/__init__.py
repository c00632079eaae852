"""The field's tools at the job of `engine.py`, each in an environment of its own (make bench-peers)."""
