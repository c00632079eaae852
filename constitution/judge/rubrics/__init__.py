"""Rubrics of one prompt: yes/no questions about its answers, written by a model or given with the prompt.

own        the rubric of one prompt: made once, found again in its rows
written    one question as it was written, before it has a place in a table
lint       what is wrong with it by its words; phrases and lint.toml: those words; alike: one against another
check      whether a judge with the rubric prefers what was preferred
"""
