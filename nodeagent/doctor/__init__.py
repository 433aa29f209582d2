"""What is wrong with a host: each known pitfall with what was seen, why it matters, and the command that mends it.

Facts are read in one place, judged by pure functions, and shown as text or JSON. Must not know how the parts work.
"""
