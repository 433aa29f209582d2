"""Ports of the node that lead to pods (hostPort): the rules (ruleset, PURE) and who holds which port (publisher).

Must not know leases or how pods are attached.
"""
