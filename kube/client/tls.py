"""The client's side of TLS: a context from a RestConfig. Knows neither requests nor connections."""

import contextlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

from kube.kubeconfig import KubeconfigError, RestConfig


def context(config: RestConfig) -> ssl.SSLContext:
    """TLS 1.2 or newer, the server verified against the configured CA, our certificate when there is one."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    try:
        _trust(made, config)
        _identify(made, config)
    except OSError as error:  # ssl.SSLError is one
        raise KubeconfigError(f"{config.server}: TLS files cannot be used: {error}") from error
    return made


def _trust(made: ssl.SSLContext, config: RestConfig) -> None:
    if config.ca_data is not None:
        made.load_verify_locations(cadata=config.ca_data.decode("ascii"))
    elif config.ca_file is not None:
        made.load_verify_locations(cafile=config.ca_file)
    else:
        made.load_default_certs()


def _identify(made: ssl.SSLContext, config: RestConfig) -> None:
    cert_data, key_data = config.cert_data, config.key_data
    if cert_data is None and config.cert_file is None:
        return
    if key_data is None and config.key_file is None:
        # A kubelet's rotated file holds the certificate and its key together.
        key_data, key_file = cert_data, config.cert_file
    else:
        key_file = config.key_file
    with _on_disk(cert_data, config.cert_file) as cert, _on_disk(key_data, key_file) as key:
        made.load_cert_chain(cert, key)


@contextlib.contextmanager
def _on_disk(data: bytes | None, file: Path | None) -> Iterator[Path]:
    """A path for OpenSSL, which reads keys from files only; embedded data stays in memory."""
    if data is None:
        assert file is not None
        yield file
        return
    handle = os.memfd_create("tls")
    try:
        os.write(handle, data)
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
