"""Looking after a warehouse as a whole: what its files are and how large (inventory), what nothing refers to (garbage),
runs that are to go (removal)."""
