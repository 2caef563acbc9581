"""TLS contexts from the files that the settings name."""

from __future__ import annotations

import ssl

from msgspec import Struct

from stream_ensemble.config import Kafka, Redis, Secret
from stream_ensemble.errors import SettingsError


class TlsFiles(Struct, frozen=True, kw_only=True):
    """The TLS settings of one section, all under its name in ``ensemble.toml``."""

    section: str
    cafile: str | None
    certfile: str | None
    keyfile: str | None
    keyfile_password: Secret | None
    check_hostname: bool


def tls_files(server: Kafka | Redis) -> TlsFiles:
    """The TLS settings of ``[kafka]`` or ``[redis]``."""
    is_kafka = isinstance(server, Kafka)
    return TlsFiles(
        section="kafka" if is_kafka else "redis",
        cafile=server.ssl_cafile,
        certfile=server.ssl_certfile,
        keyfile=server.ssl_keyfile,
        keyfile_password=server.ssl_keyfile_password if isinstance(server, Kafka) else None,
        check_hostname=server.ssl_check_hostname,
    )


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """A context that checks the server's certificate, by our authorities or else by the system's.

    Raises:
        SettingsError: naming the setting whose file is missing or cannot be used.
    """
    if files.cafile is None:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load_authorities(context, files.cafile, files.section)
    context.check_hostname = files.check_hostname
    if files.certfile is not None:
        _load_certificate(context, files.certfile, files)
    return context


def _load_authorities(context: ssl.SSLContext, cafile: str, section: str) -> None:
    try:
        context.load_verify_locations(cafile)
    except OSError as error:
        raise _unusable(f"{section}.ssl_cafile", cafile, error, "expected certificates in PEM") from None


def _load_certificate(context: ssl.SSLContext, certfile: str, files: TlsFiles) -> None:
    # Without a password of our own OpenSSL would ask for one on the terminal and wait.
    password = files.keyfile_password.reveal() if files.keyfile_password else ""
    try:
        context.load_cert_chain(certfile, files.keyfile, password)
    except OSError as error:
        named = f"{certfile} with {files.keyfile}" if files.keyfile else certfile
        expected = "expected a certificate and its key in PEM, and the password that opens the key"
        raise _unusable(f"{files.section}.ssl_certfile", named, error, expected) from None


def _unusable(setting: str, file: str, error: OSError, expected: str) -> SettingsError:
    reason = expected if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
    return SettingsError(f'{setting} = "{file}": {reason}')
