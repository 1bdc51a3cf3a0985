"""TLS and mutual TLS, with certificates that are read again when their files change."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cutstream_server.rpc.security.watched import SecurityFileError, WatchedFiles, read_file

logger = logging.getLogger(__name__)

CERT, KEY, CLIENT_CA = "CUTSTREAM_TLS_CERT", "CUTSTREAM_TLS_KEY", "CUTSTREAM_TLS_CLIENT_CA"


@dataclass(frozen=True)
class TLSFiles:
    """PEM files.

    Attributes:
        certificate: the server's certificate, then those between it and its authority.
        key: its private key, not encrypted.
        client_ca: authorities that vouch for clients; None asks clients for no certificate.
    """

    certificate: Path
    key: Path
    client_ca: Path | None

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Reads and checks them all.

        Raises:
            SecurityFileError: with the variable, the file and what is wrong; checked here because gRPC would serve on
                with the old ones, or refuse every connection, and say so in its debug log alone.
        """
        certificate = read_file(CERT, self.certificate)
        key = read_file(KEY, self.key, private=True)
        leaf = _certificates(CERT, self.certificate, certificate)[0]
        self._check_key(key, leaf)
        self._check_dates(leaf)
        authorities = None
        if self.client_ca is not None:
            authorities = read_file(CLIENT_CA, self.client_ca)
            _certificates(CLIENT_CA, self.client_ca, authorities)
        logger.info("TLS certificate %s, valid until %s", self.certificate, leaf.not_valid_after_utc)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities)

    def _check_key(self, data: bytes, leaf: x509.Certificate) -> None:
        try:
            public = load_pem_private_key(data, password=None).public_key()
        except TypeError as error:
            raise SecurityFileError(f"{KEY}={self.key} is encrypted: give the key without a passphrase") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SecurityFileError(f"{KEY}={self.key} holds no private key in PEM") from error
        if not (isinstance(public, rsa.RSAPublicKey) or _is_curve_of_tls(public)):
            # gRPC takes Ed25519 and P-521 without a word, and then no handshake succeeds.
            raise SecurityFileError(f"{KEY}={self.key} is of a kind that gRPC has not: use RSA, P-256 or P-384")
        forms = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if public.public_bytes(*forms) != leaf.public_key().public_bytes(*forms):
            raise SecurityFileError(f"{KEY}={self.key} is not the key of the first certificate in {CERT}")

    def _check_dates(self, leaf: x509.Certificate) -> None:
        now = datetime.now(UTC)
        if now > leaf.not_valid_after_utc:
            raise SecurityFileError(f"{CERT}={self.certificate} has expired on {leaf.not_valid_after_utc}")
        if now < leaf.not_valid_before_utc:
            raise SecurityFileError(f"{CERT}={self.certificate} is not valid before {leaf.not_valid_before_utc}")


def server_credentials(files: TLSFiles) -> grpc.ServerCredentials:
    """Makes credentials that follow the files: a changed certificate, key or authority counts from the next connection.

    gRPC's core speaks TLS 1.2 and 1.3. Connections that are open stay so.

    Raises:
        SecurityFileError: the files cannot be used.
    """
    paths = (files.certificate, files.key) + ((files.client_ca,) if files.client_ca is not None else ())
    watched = WatchedFiles(paths, files.load)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC, in a thread of its own, for each new connection; None keeps what is there."""
        return watched.content if watched.refresh() else None

    return grpc.dynamic_ssl_server_credentials(
        watched.content,
        fetch,  # type: ignore[arg-type]  # the stubs do not know of None
        require_client_authentication=files.client_ca is not None,
    )


def _certificates(variable: str, path: Path, data: bytes) -> Sequence[x509.Certificate]:
    try:
        certificates = x509.load_pem_x509_certificates(data)
        certificates[0].public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SecurityFileError(f"{variable}={path} holds no certificate in PEM") from error
    return certificates


def _is_curve_of_tls(public: object) -> bool:
    return isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, (ec.SECP256R1, ec.SECP384R1))
