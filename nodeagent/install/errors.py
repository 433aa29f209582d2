"""What can go wrong in installing."""

from nodeagent import errors


class InstallError(errors.NodeagentError):
    """This host is not installed (or not wholly); the text says why and what to do."""
