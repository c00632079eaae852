"""Data sets that trainers load, made of a run: chosen, cleaned, split, written, described."""
