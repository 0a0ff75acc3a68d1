"""An authority of the test's own, made by openssl, with a certificate for the broker and one for a device."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


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

    def issue(self, name: str, *extensions: str) -> None:
        """``extensions``: lines such as ``subjectAltName=IP:127.0.0.1``."""
        self._openssl("req", *self._new_key(name), "-subj", f"/CN={name}", "-out", f"{name}.csr")
        (self.folder / "extensions").write_text("\n".join(extensions) + "\n")
        signer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *signer, "-out", f"{name}.pem")

    def _new_key(self, name: str) -> tuple[str, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        return (*curve, "-nodes", "-keyout", f"{name}.key")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)
