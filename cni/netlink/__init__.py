"""A small rtnetlink encoder and its socket: bytes from linux headers (PURE), sent in batches.

Must not know pods or CNI.
"""
