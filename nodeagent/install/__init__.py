"""Installation on a real host with systemd: what there is to be, as a plan, and the few effects that make it so.

Must not know how the parts work; it writes what they read, and starts them.
"""
