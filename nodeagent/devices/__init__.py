"""Device plugins: programs that bring resources of their own to the node, and say how a container gets one.

In: plugins that register on a socket of ours. Out: resources the node counts, and what a container is given.
"""
