"""Measuring: workload, environment, scheduling parent, timing worker, records."""
