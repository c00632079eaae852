"""Prints the tables' columns as docs/warehouse.md has them."""

from constitution.warehouse.schema import markdown

print(markdown())
