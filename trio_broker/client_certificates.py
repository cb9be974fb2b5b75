"""TLS on ports that ask for a client certificate."""

import ssl

from cryptography.hazmat.primitives.serialization import Encoding

from mqttcore.authenticators.x509 import TrustAnchors


def request_client_certificates(context: ssl.SSLContext, *trusted: TrustAnchors) -> None:
    """Have a server's context ask for a certificate that leads to one of the anchors, and not demand one.

    A certificate that does not verify fails the handshake. Where a port has several sets of anchors, which of them
    counts is for its authentication to say.
    """
    certificates = {each.public_bytes(Encoding.DER) for anchors in trusted for each in anchors.certificates}
    context.load_verify_locations(cadata=b"".join(sorted(certificates)))
    context.verify_mode = ssl.CERT_OPTIONAL
    # An intermediate authority may be trusted, without its root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # A resumed session has the client's own certificate and not its chain, which is judged once more.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
