"""Contract suites run on a fake and on the real thing; the real kernel one in throw-away namespaces."""

from kernel.conftest import inside_host, new_namespace

__all__ = ["inside_host", "new_namespace"]
