"""A small load balancer for bare metal and labs: Services of type LoadBalancer get addresses of a pool.

One node at a time answers for an address on its link, by ARP and neighbour discovery; its proxy does the rest. Must not
know rules: those follow `status.loadBalancer`, whoever wrote it.
"""
