"""Judging, pure: statistics, comparison, budget, decision."""
