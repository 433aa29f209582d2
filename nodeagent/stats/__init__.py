"""How much pods, containers and the node use: read from cgroups and /proc, told as summary and as metrics."""
