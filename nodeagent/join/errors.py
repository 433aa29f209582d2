"""What can go wrong in joining."""

from nodeagent import errors


class JoinError(errors.NodeagentError):
    """This machine does not join; the text says why and what to do. Nothing was changed."""
