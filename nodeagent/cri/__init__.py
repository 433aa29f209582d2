"""Talking CRI: the Runtime protocol, its gRPC client, and the labels by which state is rebuilt. It decides nothing."""
