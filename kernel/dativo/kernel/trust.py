"""The operator's own certificate authorities (``network.ca`` of the policy), where a gateway looks into TLS and signs anew.

A process that a broker serves finds them in a read-only folder, and is told so by the variables that clients of TLS read. Some of
these replace what a client trusts, and name a file that holds the machine's public authorities too; others add to it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from dativo.kernel import document
from dativo.kernel.limits import CA_BYTES
from dativo.protocol.errors import ConfigError, Where
from dativo.sandbox import Grants, Program

INSIDE: Final = "/run/dativo/trust"
_OWN: Final = "ca.pem"
_ALL: Final = "all.pem"
VARIABLES: Final = (
    # OpenSSL, and with it most of what is not listed: Python's ssl, Ruby, PHP; also Go, rustls-native-certs and httpx.
    ("SSL_CERT_FILE", _ALL),
    ("REQUESTS_CA_BUNDLE", _ALL),  # requests, which else trusts certifi alone
    ("CURL_CA_BUNDLE", _ALL),
    ("AWS_CA_BUNDLE", _ALL),  # botocore, the AWS CLI and SDKs
    ("HTTPLIB2_CA_CERTS", _ALL),
    ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", _ALL),
    ("GIT_SSL_CAINFO", _ALL),
    ("NODE_EXTRA_CA_CERTS", _OWN),
    ("DENO_CERT", _OWN),
)
# Where distributions keep what they trust: Debian, Fedora, openSUSE, Alpine.
_PUBLIC: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_CERTIFI: Final = "lib/python3*/site-packages/certifi/cacert.pem"
_CERTIFICATE: Final = re.compile(
    r"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----\s.*?-----END (?:TRUSTED |X509 )?CERTIFICATE-----",
    re.DOTALL,
)


def prepare(ca: Path, state: Path) -> Path:
    """Return the folder that a process is to be shown, made below dativo's ``state`` folder where it is not there yet.

    It is named after what it was made of. Raises ConfigError for a file that others can write, that holds no authority, or that
    holds a private key.
    """
    data = document.read_bounded(ca, "the file of authorities", CA_BYTES, trusted=True)
    public = _public()
    folder = state / "trust" / hashlib.sha256(data + b"\0" + public).hexdigest()
    if not folder.is_dir():
        own = _authorities(data.decode("utf-8", "replace"), Where(file=str(ca)))
        _make(folder, {_OWN: own, _ALL: own + public})
    return folder


def shown(program: Program, grants: Grants, folder: Path) -> tuple[Program, Grants]:
    """Return what is started with the authorities in ``folder``. The policy goes over an image's variables."""
    told = tuple((variable, f"{INSIDE}/{file}") for variable, file in VARIABLES)
    covered = tuple((folder / _ALL, str(bundle), False) for bundle in _bundles(program))
    return (
        replace(program, binds=(*program.binds, (folder, INSIDE, False), *covered)),
        replace(grants, environment=(*grants.environment, *told)),
    )


def _bundles(program: Program) -> Iterator[Path]:
    """Yield the files of certifi in a program's environments: what requests trusts in a prepared request whatever the variables
    say (Session.send), and with it every tap of the Singer SDK.
    """
    for tree in program.runtime:
        for bundle in tree.glob(_CERTIFI):
            if bundle.is_file() and os.path.realpath(bundle) == str(bundle):
                yield bundle


def _authorities(text: str, where: Where) -> bytes:
    """Return the certificates of the operator's file and nothing else of it."""
    import ssl

    if "PRIVATE KEY" in text:
        raise ConfigError(
            "the file of authorities holds a private key, which connectors would see",
            where,
            hint="Write a file with the certificates alone",
        )
    found = "".join(f"{certificate}\n" for certificate in _CERTIFICATE.findall(text))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=found)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            "the file of authorities cannot be read as certificates in PEM",
            where,
            value=str(error),
            hint="It holds -----BEGIN CERTIFICATE-----; DER is converted by openssl x509 -inform der -in FILE",
        ) from error
    if not context.cert_store_stats()["x509_ca"]:
        raise ConfigError("the file holds no certificate of an authority", where)
    return found.encode()


def _public() -> bytes:
    """Return the public authorities of this machine; none where it has none."""
    for file in map(Path, _PUBLIC):
        if file.is_file():
            return document.read_bounded(file, "the machine's authorities", CA_BYTES)
    return b""


def _make(folder: Path, contents: dict[str, bytes]) -> None:
    import shutil
    import tempfile

    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            for name, content in contents.items():
                (draft / name).write_bytes(content)
                (draft / name).chmod(0o444)
            draft.chmod(0o755)
            os.rename(draft, folder)  # noqa: PTH104 - never over another that is not empty
        except OSError:
            shutil.rmtree(draft)
            if not folder.is_dir():  # another run may have made the same meanwhile
                raise
    except OSError as error:
        raise ConfigError(
            f"cannot keep the authorities: {error.strerror}", Where(file=str(folder))
        ) from error
