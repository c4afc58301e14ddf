"""Certificates for servers and clients on this machine, made by the openssl program. Knows no server."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["MISSING", "Authority", "available"]

MISSING: Final = "the program openssl is not installed"
_EXTENSIONS: Final = "basicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n"


def available() -> bool:
    """Return True if certificates can be made here."""
    return shutil.which("openssl") is not None


class Authority:
    """A certificate authority of a test, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Make the authority's own certificate."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self.certificate, self._key = folder, folder / "ca.pem", folder / "ca-key.pem"
        own = ("-x509", "-days", "2", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        _openssl("req", *own, *_new_key(self._key), "-subj", f"/CN={folder.name}", "-out", self.certificate)

    def issue(self, name: str, certificate: Path, key: Path, address: str = "127.0.0.1") -> None:
        """Issue a certificate for the address, whose subject is the name; write it and its key to these files."""
        request, extensions = self._folder / "request.pem", self._folder / "extensions"
        extensions.write_text(f"subjectAltName=IP:{address}\n{_EXTENSIONS}")
        _openssl("req", *_new_key(key), "-subj", f"/CN={name}", "-out", request)
        signed_by = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-days", "2")
        _openssl("x509", "-req", "-in", request, *signed_by, "-extfile", extensions, "-out", certificate)


def _new_key(path: Path) -> tuple[str | Path, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
