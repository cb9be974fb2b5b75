"""Makes material.json anew: python -m fuzz.make_material. The private keys are thrown away; corpora go by the rest."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import CertificateRevocationListBuilder, RevokedCertificateBuilder

from tests.mqttcore.authenticators.certificates import AUTHORITY, DAY, FOR_SERVERS, NOW, Identity, issue

PATH = Path(__file__).parent / "material" / "material.json"
LONG = (NOW - 365 * DAY, NOW + 365 * DAY)


def main() -> None:
    """Write everything."""
    certificates, tokens = make_certificates(), make_tokens()
    PATH.write_text(json.dumps({"time": NOW.timestamp(), **certificates, **tokens}, indent=1) + "\n")


def make_certificates() -> dict[str, Any]:
    """Anchors in PEM; chains in hexadecimal, those that lead to them and those that do not."""
    root = issue("CN=Root,O=Contoso", extensions=AUTHORITY, validity=LONG)
    rsa_root = issue("CN=RSA root", kind="RSA", extensions=AUTHORITY, validity=LONG)
    lower = issue("CN=Lower", root, extensions=AUTHORITY, validity=LONG)
    stranger = issue("CN=Root,O=Contoso", own=ec.generate_private_key(ec.SECP256R1()), extensions=AUTHORITY)
    gone = issue("CN=gone", root, validity=LONG)
    good = [
        [issue("CN=device-1,O=Contoso", root, validity=LONG)],
        [issue("CN=device-2,OU=a+OU=b", lower, validity=LONG), lower],
        [issue("CN=device-3", rsa_root, kind="RSA", validity=LONG)],
    ]
    bad = [
        [gone],
        [issue("CN=late", root, validity=(NOW - 2 * DAY, NOW - DAY))],
        [issue("CN=device-1,O=Contoso", stranger)],
        [issue("CN=mixed", root, kind="RSA")],
        [issue("CN=server", root, extensions=FOR_SERVERS)],
        [issue("CN=odd", root, kind="Ed25519")],
        [issue("CN=short", rsa_root, kind="short RSA")],
        [root],
    ]
    return {
        "anchors": root.pem.decode() + rsa_root.pem.decode() + list_of(root, gone),
        "good": [[each.der.hex() for each in chain] for chain in good],
        "bad": [[each.der.hex() for each in chain] for chain in bad],
    }


def list_of(authority: Identity, revoked: Identity) -> str:
    """A list of revoked certificates, in PEM."""
    entry = RevokedCertificateBuilder(revoked.certificate.serial_number, NOW - DAY).build()
    builder = CertificateRevocationListBuilder(authority.certificate.subject, NOW - DAY, NOW + 300 * DAY)
    signed = builder.add_revoked_certificate(entry).sign(authority.key, hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


def make_tokens() -> dict[str, Any]:
    """A key set, tokens that are good by it, and tokens that are signed with it and are not."""
    ec_key, rsa_key = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    ec_public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec_key.public_key()))
    rsa_public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key.public_key()))
    now = int(NOW.timestamp())
    claims = {
        "aud": ["aio-internal"],
        "exp": now + 3600,
        "nbf": now,
        "iss": "https://issuer.example",
        "sub": "system:serviceaccount:default:thermostat",
    }
    changes: list[dict[str, Any]] = [
        {"aud": "another"},
        {"aud": [1, None]},
        {"exp": now - 1},
        {"exp": None},
        {"exp": "soon"},
        {"exp": 1e300},
        {"nbf": now + dt.timedelta(days=1).total_seconds()},
        {"iss": "https://another.example"},
        {"sub": "system:serviceaccount:default:"},
        {"sub": 1},
    ]

    def sign(payload: dict[str, Any], algorithm: str = "ES256") -> str:
        key = ec_key if algorithm == "ES256" else rsa_key
        return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": algorithm[:2]})

    return {
        "jwks": {"keys": [ec_public | {"kid": "ES", "alg": "ES256"}, rsa_public | {"kid": "RS"}]},
        "tokens": [sign(claims), sign(claims, "RS256"), sign({**claims, "aud": "aio-internal", "kubernetes.io": {}})],
        "bad_tokens": [sign({**claims, **change}) for change in changes],
    }


if __name__ == "__main__":
    main()
