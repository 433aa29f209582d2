"""Container logs: reading them in the runtime's format, following them, and keeping them from filling the disk.

Must not know HTTP, pods' lives, or how a log file's path is chosen.
"""
