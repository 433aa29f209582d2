"""Pods on this node: what to do next (plan, PURE), and doing it (worker, execute, terminate)."""
