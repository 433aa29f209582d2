"""What the kernel is to do with a packet to a Service, independent of who programs it (plan, PURE)."""
