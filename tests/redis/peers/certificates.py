"""Servers with TLS: a certificate of the test's own authority."""

from __future__ import annotations

from pathlib import Path

import trustme


def tls_options(place: Path, name: str = "localhost") -> tuple[str, ...]:
    """The options of a server whose certificate is for that name; the authority is in `place/ca.pem`. Clients need none."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(f"{place}/ca.pem")
    issued = authority.issue_cert(name)
    issued.private_key_pem.write_to_path(f"{place}/key.pem")
    issued.cert_chain_pems[0].write_to_path(f"{place}/cert.pem")
    files = {"cert": "cert", "key": "key", "ca-cert": "ca"}
    options = [word for option, file in files.items() for word in (f"--tls-{option}-file", f"{place}/{file}.pem")]
    return (*options, "--tls-auth-clients", "no")
