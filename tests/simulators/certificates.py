"""An authority of the test's own, made by openssl: certificates for the broker and for devices, good and bad ones."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

# What ``openssl ca`` insists on; it alone takes the dates of a certificate.
REGISTER: Final = """
[ca]
default_ca = register
[register]
database = register
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


class Authority:
    """Files in ``folder``: ``ca.pem``, and for each ``issue``d name ``<name>.pem`` and ``<name>.key``."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ca = folder / "ca.pem"
        subject = ("-subj", "/CN=authority of the tests", "-days", "2")
        self._openssl("req", "-x509", *self._new_key("ca"), *subject, "-out", "ca.pem")

    def issue(self, name: str, *extensions: str, valid: tuple[str, str] | None = None) -> None:
        """``name`` is the CN, too. ``extensions``: lines such as ``subjectAltName=IP:127.0.0.1``; ``valid``: from and
        to as ``20200101000000Z``, else from now for two days."""
        self._openssl("req", *self._new_key(name), "-subj", f"/CN={name}", "-out", f"{name}.csr")
        (self.folder / "extensions").write_text("\n".join(extensions) + "\n")
        if valid is None:
            signer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions")
            self._openssl("x509", "-req", "-in", f"{name}.csr", *signer, "-out", f"{name}.pem")
            return
        (self.folder / "register").touch()
        (self.folder / "ca.conf").write_text(REGISTER)
        signer = ("-batch", "-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca.key", "-extfile", "extensions")
        dates = ("-startdate", valid[0], "-enddate", valid[1])
        self._openssl("ca", *signer, *dates, "-notext", "-in", f"{name}.csr", "-out", f"{name}.pem")

    def self_signed(self, name: str, *extensions: str) -> None:
        """A certificate that nobody but itself vouches for."""
        subject = ("-subj", f"/CN={name}", "-days", "2")
        added = [part for line in extensions for part in ("-addext", line)]
        self._openssl("req", "-x509", *self._new_key(name), *subject, *added, "-out", f"{name}.pem")

    def _new_key(self, name: str) -> tuple[str, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        return (*curve, "-nodes", "-keyout", f"{name}.key")

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=self.folder, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
