"""How a pod on this node reaches pods on the others: which routes there must be (plan, PURE) and their programming.

Must not know pods, leases or Services.
"""
