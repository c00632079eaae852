"""Answers to a prompt."""
