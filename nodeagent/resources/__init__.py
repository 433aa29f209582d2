"""What a pod may use: QoS class, cgroups, oom scores. The arithmetic is pure; one module writes cgroup files."""
