"""This machine as a Node object: what it has, how it is, and that it lives (Lease)."""
