"""The error tree of the node agent: what its parts raise to each other. It knows no library's exceptions."""


class NodeagentError(Exception):
    """The root: everything this package raises on purpose."""


class ConfigError(NodeagentError):
    """A configuration that cannot be used; the message names file, field and reason."""


class PreflightError(NodeagentError):
    """This machine or process cannot run the agent (not root, no socket, no CRI); the message says what to do."""


class RuntimeFault(NodeagentError):
    """A CRI call failed. `call` is the method's name, `message` the runtime's own words."""

    def __init__(self, call: str, message: str) -> None:
        super().__init__(f"{call}: {message}")
        self.call = call
        self.message = message


class RuntimeNotFound(RuntimeFault):
    """The sandbox, container or image is not there. On stop and remove the client already counts this as success."""


class RuntimeUnimplemented(RuntimeFault):
    """An older runtime lacks this call; the caller has a fallback."""


class RuntimeUnavailable(RuntimeFault):
    """No answer: the runtime is down, restarting or too slow. The next sync tries again."""


class CriDisabled(RuntimeFault):
    """The socket answers, but containerd serves no CRI: its plugin is off."""


class StartError(NodeagentError):
    """A container or sandbox could not be made. `reason` is the waiting reason Kubernetes shows for it.

    `retry_after` in seconds: when trying again makes sense; None leaves it to the worker.
    """

    def __init__(self, reason: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
