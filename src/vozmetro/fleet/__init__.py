"""Many machines, on Ray."""
