"""Where objects live: a durable log (backend) and the watch cache served from it. Knows no HTTP, no kind."""
