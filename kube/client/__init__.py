"""Talking to an API server: transports, the typed-enough client, watches, informers, events and leases.

Import the modules, not this package: `kube.client.rest` alone is light, `kube.client.http` brings the HTTP library.
"""
