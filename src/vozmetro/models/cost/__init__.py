"""What one inference of a graph takes: multiply-adds, and bytes that must be read.

Computed from the graph's structure alone; no weight is loaded.
"""

from vozmetro.models.cost.graph import Cost, NodeCost, cost

__all__ = ["Cost", "NodeCost", "cost"]
