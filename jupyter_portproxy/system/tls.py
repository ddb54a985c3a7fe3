"""Verification of the certificates of https upstreams, in the forms that libcurl (HTTP) and `ssl` (upgrades) take."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Trust:
    """How an upstream's certificate is checked.

    Attributes:
        bundle: path of a PEM file with the trusted certificates; empty: the system's.
        verified: False accepts any certificate.
    """

    bundle: str = ""
    verified: bool = True

    @cached_property
    def context(self) -> ssl.SSLContext:
        """For `ssl`.

        Raises:
            OSError: the bundle cannot be read, or has no certificate in it (ssl.SSLError).
        """
        context = ssl.create_default_context(cafile=self.bundle or None)
        if not self.verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    @cached_property
    def files(self) -> tuple[str, str]:
        """For libcurl: the file and the folder of trusted certificates, each empty if there is none."""
        if self.bundle:
            return self.bundle, ""
        system = ssl.get_default_verify_paths()
        return system.cafile or "", system.capath or ""


SYSTEM_TRUST = Trust()


def check_bundle(path: str) -> None:
    """Check that a bundle can be used.

    Raises:
        ValueError: the text says why.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path!r}")
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        raise ValueError(f"{path!r} has no certificates in PEM form: {error}") from None
