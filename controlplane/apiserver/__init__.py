"""The Kubernetes API over HTTP: request to stored object and back. Knows no node, no scheduler, no controller."""
