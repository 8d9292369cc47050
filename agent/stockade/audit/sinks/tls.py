"""TLS towards receivers: 1.2 at least, the name checked, against the system's certificates or those that the settings name."""

from __future__ import annotations

import ssl

from stockade.settings.sinks import Tls
from stockade.types import StockadeError


def context(rules: Tls) -> ssl.SSLContext:
    """Raises StockadeError."""
    try:
        found = ssl.create_default_context(cafile=None if rules.ca is None else str(rules.ca))
        found.verify_flags &= ~ssl.VERIFY_X509_STRICT  # of Python 3.13: it refuses authorities for what they need not say
        found.minimum_version = ssl.TLSVersion.TLSv1_2
        if rules.certificate is not None:
            found.load_cert_chain(rules.certificate, rules.key)
    except (OSError, ssl.SSLError) as error:
        where = ", ".join(str(path) for path in (rules.ca, rules.certificate, rules.key) if path is not None)
        raise StockadeError(
            f"cannot use the certificates in {where}: {error}", hint="PEM files that root may read", code="sink_tls"
        ) from error
    return found
