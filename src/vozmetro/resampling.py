"""Intervals by drawing again with repeats, for whoever counts errors over utterances."""
