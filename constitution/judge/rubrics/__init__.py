"""Rubrics of one prompt: yes/no questions about its answers, written by a model or given with the prompt.

written    one question as it was written, before it has a place in a table
lint       what is wrong with it by its words; phrases and lint.toml: those words; alike: one against another
"""
