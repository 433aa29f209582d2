"""What every daemon needs to run: supervision, queues, clocks, logs, metrics, configuration, child processes.

Light on purpose: no module here imports the HTTP, TLS or certificate libraries, because the DNS process and every
`--help` pay for what is imported here. It knows nothing about Kubernetes objects.
"""
