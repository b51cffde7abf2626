"""Engines behind small protocols, found through the entry points `vozmetro.engines`."""
