"""Authorities and certificates, made by plain `openssl` as an operator's guide has it, and kept while the tests run."""

from __future__ import annotations

import atexit
import functools
import shlex
import shutil
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

# Names of a server on this machine; a client certificate has none.
LOCAL = "subjectAltName=DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, each in PEM."""

    certificate: Path
    key: Path

    def copy(self, directory: Path) -> Pair:
        """The same as `tls.crt` and `tls.key` in a directory, which is made if it is not there."""
        directory.mkdir(exist_ok=True)
        copied = Pair(directory / "tls.crt", directory / "tls.key")
        shutil.copyfile(self.certificate, copied.certificate)
        shutil.copyfile(self.key, copied.key)
        return copied


@functools.cache
def authority(name: str) -> Pair:
    """A CA with a certificate of its own making."""
    made = _key("ca", name)
    _openssl(f"req -x509 -new -key {made.key} -days 30 -subj /CN={name} -out {made.certificate}")
    return made


@functools.cache
def intermediate(name: str, ca: str) -> Pair:
    """A CA that another one has signed for."""
    return _signed(_key("ca", name), name, authority(ca), "basicConstraints=critical,CA:TRUE")


@functools.cache
def server(name: str = "one", ca: str = "servers") -> Pair:
    """A certificate of this machine; another `name` makes another one."""
    return _signed(_key("server", name, ca), name, authority(ca), LOCAL)


@functools.cache
def client(name: str, ca: str | Pair) -> Pair:
    """A certificate of somebody. Without extensions, openssl makes one of version 1."""
    signer = authority(ca) if isinstance(ca, str) else ca
    return _signed(_key("client", name, signer.key.stem), name, signer, "")


@functools.cache
def encrypted(form: str) -> Path:
    """The key of the server in one of the forms that hold an encrypted one: `pkcs8` or `traditional`."""
    path = _directory() / f"encrypted-{form}.key"
    command = {"pkcs8": "pkcs8 -topk8 -v2 aes256", "traditional": "ec -aes256"}[form]
    _openssl(f"{command} -in {server().key} -passout pass:secret -out {path}")
    return path


def trusting(ca: str = "servers", own: Pair | None = None) -> ssl.SSLContext:
    """The context of a client that trusts an authority, with a certificate of its `own` if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority(ca).certificate)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


@functools.cache
def _directory() -> Path:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed, and makes the certificates")
    directory = Path(tempfile.mkdtemp(prefix="packregistry-certificates-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def _key(*names: str) -> Pair:
    """A new key, and where its certificate is to be."""
    stem = _directory() / "-".join(names)
    made = Pair(stem.with_suffix(".crt"), stem.with_suffix(".key"))
    _openssl(f"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {made.key}")
    return made


def _signed(made: Pair, name: str, signer: Pair, extension: str) -> Pair:
    """Have an authority sign for the key in `made`."""
    wanted, extensions = made.key.with_suffix(".csr"), made.key.with_suffix(".ext")
    extensions.write_text(extension)
    _openssl(f"req -new -key {made.key} -subj /CN={name} -out {wanted}")
    _openssl(
        f"x509 -req -in {wanted} -CA {signer.certificate} -CAkey {signer.key} -CAcreateserial -days 30 "
        f"{f'-extfile {extensions}' if extension else ''} -out {made.certificate}"
    )
    return made


def _openssl(arguments: str) -> None:
    subprocess.run(["openssl", *shlex.split(arguments)], check=True, capture_output=True)
