"""Batches: from rows of an index to arrays on a device."""
