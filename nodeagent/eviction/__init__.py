"""Keeping the node alive when memory, disk or process ids run out: which pod has to go, and when."""
