"""Which certificates a server shows and accepts, and which a client does.

Owns the settings and their reading. A server that names a `client_ca` accepts only clients whose certificate
it signed.
"""

from pathlib import Path

import grpc
import msgspec

from deploy.node.failures import SettingsInvalid


class ServerTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a server proves itself."""

    certificate: Path
    """PEM file with the server's certificate chain."""

    key: Path
    """PEM file with its private key."""

    client_ca: Path | None = None
    """PEM file with the authorities that sign clients' certificates; without it any client is accepted."""


class ClientTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a client knows a server, and proves itself."""

    server_ca: Path
    """PEM file with the authorities that sign the server's certificate."""

    certificate: Path | None = None
    """PEM file with the client's certificate chain, where the server asks for one."""

    key: Path | None = None
    """PEM file with its private key."""

    def __post_init__(self) -> None:
        """Refuse half an identity."""
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` come together")


def server_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Read a server's files. Raises SettingsInvalid."""
    pair = (_read(tls.key), _read(tls.certificate))
    authorities = None if tls.client_ca is None else _read(tls.client_ca)
    return grpc.ssl_server_credentials(
        [pair], root_certificates=authorities, require_client_auth=authorities is not None
    )


def client_credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    """Read a client's files. Raises SettingsInvalid."""
    return grpc.ssl_channel_credentials(
        root_certificates=_read(tls.server_ca),
        private_key=None if tls.key is None else _read(tls.key),
        certificate_chain=None if tls.certificate is None else _read(tls.certificate),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsInvalid(
            f"{path} cannot be read: {error.strerror}; name an existing PEM file"
        ) from error
