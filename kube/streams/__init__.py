"""The streaming protocols of exec, attach and port-forward: SPDY/3.1, WebSocket channels, stream names.

Owns wire formats used by both the kubelet and the API server. Must not know pods, containers or HTTP routing.
"""
