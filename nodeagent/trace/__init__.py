"""One connection followed from its source to the socket that listens for it, across machines, hop by hop.

Owns the question, the order of the hops and the nodeagent's own (pods, processes, listening sockets); the hops of other
packages come as `parts.Parts`, joined by `nodeagent.bundle`. Must not know rules, routes or policies.
"""
