"""One page of a run: what it is, how it went, and what it makes of its samples."""
