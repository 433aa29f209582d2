"""Backends: how a RuleSet gets into the kernel. Each owns its own table or chains and writes in no other."""
