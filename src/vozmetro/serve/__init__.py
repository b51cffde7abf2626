"""Servers that assistants already speak to, over the pipeline that was measured."""
