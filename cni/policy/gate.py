"""Where the plugin waits for the policies: its calls run in threads, the policies on the daemon's loop.

Owns that crossing and what of a CNI call names the pod. Must not know rules.
"""

import asyncio
import concurrent.futures
from collections.abc import Collection

from cni import errors
from cni.attachment import Attachment
from cni.policy.attached import Attached, Attachments
from cni.policy.controller import ADMISSION_SECONDS, NotAdmitted, Policies
from cni.spec import Environment
from kube.runtime import conntrack

NAMESPACE, NAME, UID = "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID"
MARGIN_SECONDS = 5.0


class PolicyGate:
    """`cni.plugin.Gate`: an attachment is answered once the pod's rules are in. Shut until `open`."""

    def __init__(self, policies: Policies, attachments: Attachments) -> None:
        self._policies = policies
        self._attachments = attachments
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, *, sandboxes: Collection[str]) -> None:
        """From here on the policies of this loop are asked; `sandboxes` are those that hold addresses already."""
        self._policies.restore(self._attachments.load(sandboxes=sandboxes))
        self._loop = asyncio.get_running_loop()

    def attached(self, environment: Environment, attachment: Attachment) -> None:
        """Waits for the rules; without a pod's name (another runtime) there are none. Raises CniError."""
        addresses = tuple(str(each.ip) for each in attachment.addresses)
        found = _attached(environment, addresses)
        if found is None:
            return
        if self._loop is None:
            raise _not_in_place("the node agent is starting")
        try:
            self._attachments.put(found)
            waiting = asyncio.run_coroutine_threadsafe(self._policies.admit(found), self._loop)
            waiting.result(ADMISSION_SECONDS + MARGIN_SECONDS)
            for address in addresses if self._policies.active else ():
                conntrack.forget(address)  # what is known passes without being judged
        except (NotAdmitted, TimeoutError, concurrent.futures.CancelledError) as error:
            self._attachments.remove(found.sandbox)
            raise _not_in_place(str(error) or "the node agent is stopping") from error
        except OSError as error:
            self._attachments.remove(found.sandbox)
            raise errors.CniError(errors.IO_FAILURE, "network policy is not in place", details=str(error)) from error

    def detached(self, environment: Environment) -> None:
        """The sandbox's addresses may be another's from here on."""
        found = _attached(environment, ())
        self._attachments.remove(environment.container_id)
        if found is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._policies.forget, found)


def _not_in_place(reason: str) -> errors.CniError:
    return errors.CniError(errors.TRY_AGAIN_LATER, "network policy is not in place", details=reason)


def _attached(environment: Environment, addresses: tuple[str, ...]) -> Attached | None:
    """The sandbox of a call; None when the runtime does not name its pod."""
    arguments = environment.args
    namespace, name = arguments.get(NAMESPACE, ""), arguments.get(NAME, "")
    if not namespace or not name:
        return None
    key, uid = f"{namespace}/{name}", arguments.get(UID, "")
    return Attached(sandbox=environment.container_id, key=key, uid=uid, addresses=addresses)
