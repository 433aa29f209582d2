"""Where the plugin waits for the policies: its calls run in threads, the policies on the daemon's loop.

Owns that crossing and what of a CNI call names the pod. Must not know rules.
"""

import asyncio
import concurrent.futures
from collections.abc import Sequence

from cni import errors
from cni.attachment import Attachment
from cni.policy import conntrack
from cni.policy.controller import ADMISSION_SECONDS, NotAdmitted, Policies
from cni.spec import Environment

NAMESPACE, NAME, UID = "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID"
MARGIN_SECONDS = 5.0


class PolicyGate:
    """`cni.plugin.Gate`: an attachment is answered once the pod's rules are in. Shut until `open`."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """From here on the policies of this loop are asked."""
        self._loop = asyncio.get_running_loop()

    def attached(self, environment: Environment, attachment: Attachment) -> None:
        """Waits for the rules; without a pod's name (another runtime) there are none. Raises CniError 11."""
        key, uid = _pod(environment)
        if not key:
            return
        if self._loop is None:
            raise errors.CniError(errors.TRY_AGAIN_LATER, "network policy is not in place", details="starting")
        addresses = tuple(str(each.ip) for each in attachment.addresses)
        admission = self._policies.admit(key, uid=uid, addresses=addresses)
        waiting = asyncio.run_coroutine_threadsafe(admission, self._loop)
        try:
            waiting.result(ADMISSION_SECONDS + MARGIN_SECONDS)
        except (NotAdmitted, concurrent.futures.TimeoutError, concurrent.futures.CancelledError) as error:
            waiting.cancel()
            reason = str(error) or "the node agent is stopping"
            raise errors.CniError(errors.TRY_AGAIN_LATER, "network policy is not in place", details=reason) from error
        if self._policies.active:
            _forget_connections(addresses)

    def detached(self, environment: Environment) -> None:
        """The pod's addresses may be another's from here on."""
        key, uid = _pod(environment)
        if key and self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: self._policies.forget(key, uid=uid))


def _forget_connections(addresses: Sequence[str]) -> None:
    """Of the pods that had these addresses before: what is known passes without being judged."""
    for address in addresses:
        try:
            conntrack.forget(address)
        except OSError as error:
            raise errors.CniError(errors.IO_FAILURE, "connection tracking", details=str(error)) from error


def _pod(environment: Environment) -> tuple[str, str]:
    """(namespace/name, uid) as the runtime passes them; "" for what it does not pass."""
    namespace, name = environment.args.get(NAMESPACE, ""), environment.args.get(NAME, "")
    return (f"{namespace}/{name}" if namespace and name else ""), environment.args.get(UID, "")
