"""Metrics, intervals, tests between rows, aggregates, and what features look like."""
