"""CRLs beside the certificates of a trusted bundle: those that cannot count, or that refuse everybody."""

import datetime as dt

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_crl, load_pem_x509_crl

from tests.mqttcore.authenticators.certificates import AUTHORITY, DAY, Identity, issue
from tests.mqttcore.authenticators.test_revocation import crl
from tests.trio_broker.resources.support import NOW, authentication, config_map, problems, together, warnings

ALWAYS = NOW - 3650 * DAY, NOW + 3650 * DAY
ROOT = issue("root", extensions=AUTHORITY, validity=ALWAYS)
INTERMEDIATE = issue("intermediate", ROOT, extensions=AUTHORITY, validity=ALWAYS)
STRANGER = issue("stranger", extensions=AUTHORITY, validity=ALWAYS)
IN_FORCE = NOW - DAY, NOW + DAY


def listed(
    authority: Identity,
    *,
    signer: Identity | None = None,
    validity: tuple[dt.datetime, dt.datetime] = IN_FORCE,
) -> bytes:
    return crl(authority, signer=signer, validity=validity)


def bundle(**data: bytes) -> str:
    return together(authentication("- method: X509"), config_map("client-ca", **data))


@pytest.mark.parametrize(
    "data",
    [
        {"ca_pem": ROOT.pem + listed(ROOT)},
        {"ca_pem": ROOT.pem, "ca_crl": listed(ROOT)},
        {"ca_crl": listed(ROOT) + listed(INTERMEDIATE), "ca_pem": INTERMEDIATE.pem + ROOT.pem},
    ],
)
def test_a_list_of_an_authority_that_is_there(data: dict[str, bytes]) -> None:
    assert warnings(bundle(**data)) == []


WHERE = "0.yaml:{line}: data.ca.crl: the CRL of 'CN={name}' in key 'ca.crl' of ConfigMap 'client-ca' "


@pytest.mark.parametrize(
    ("name", "revocations", "expected"),
    [
        ("stranger", listed(STRANGER), "belongs to none of the certificates there"),
        ("intermediate", listed(INTERMEDIATE), "it counts for clients that present that of its authority"),
        ("root", listed(ROOT, signer=STRANGER), "is not signed with the key of that authority"),
        ("root", listed(ROOT, validity=(NOW - 3 * DAY, NOW - DAY)), "went out of date on 2025-12-31 00:00 UTC: until"),
        ("root", listed(ROOT, validity=(NOW + DAY, NOW + 2 * DAY)), "is not in force before 2026-01-02 00:00 UTC"),
    ],
)
def test_a_list_that_is_surely_not_meant(name: str, revocations: bytes, expected: str) -> None:
    text = bundle(ca_pem=ROOT.pem, ca_crl=revocations + listed(ROOT))
    line = text.splitlines().index("  ca.crl: |") + 1
    [warning] = warnings(text)
    assert warning.startswith(WHERE.format(line=line, name=name))
    assert expected in warning


def test_everything_is_told_of_a_list() -> None:
    told = warnings(bundle(ca_pem=ROOT.pem + listed(STRANGER, validity=(NOW - 3 * DAY, NOW - DAY))))
    assert len(told) == 2


def test_a_list_whose_issuer_cannot_be_read() -> None:
    der = load_pem_x509_crl(listed(STRANGER)).public_bytes(Encoding.DER).replace(b"stranger", b"\xff" * 8)
    broken = load_der_x509_crl(der).public_bytes(Encoding.PEM)
    [problem] = problems(bundle(ca_pem=ROOT.pem + broken))
    assert "key 'ca.pem' of ConfigMap 'client-ca' holds a CRL that cannot be read" in problem
