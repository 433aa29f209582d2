"""Joining a cluster: the server is verified, then told a token, then asked for a certificate of this node's own."""
