"""Addresses of pods on this node: which ones there are (ranges, PURE) and which are given out (store, on disk).

Must not know links. The layout on disk is host-local's, so that either plugin can take over from the other.
"""
