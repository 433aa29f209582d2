"""CRI v1 as our own cri.proto states it, and the code generated from it (`python -m nodeagent.cri.build`)."""
