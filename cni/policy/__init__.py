"""NetworkPolicies of a node's pods (networking.k8s.io/v1): who may connect to them, and to whom they may connect.

Owns the nftables tables `nodeagent-policy`. Must not know CRI or Services: a connection through a Service is judged by
the endpoint that it was given.
"""
