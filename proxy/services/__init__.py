"""What the proxy knows of Services: which ports there are, and which endpoints stand behind each. PURE.

Must not know rules, backends or the kernel.
"""
