"""The lab: a cluster's machines as namespaces on one host, with everything they need to run the product.

Owns the machines (links, mounts, cgroups, their first process), their credentials and configuration, and their
complete removal. It alone in this package may touch links and namespaces; it must not know what runs inside the
machines beyond the command line and the configuration files of each service.
"""
