"""Objectives that compare samples with each other: projections of views, teachers, queues."""
