"""The node's own certificates: asked of the cluster, kept in a file each, renewed before they end."""
