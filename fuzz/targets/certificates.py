"""Certificates that a client presents, authorities' certificates in PEM, and distinguished names as people write them.

Input: which of the four questions is asked, then a chain with changes, PEM text, or a name.
"""

from cryptography.x509 import Name, NameAttribute, RelativeDistinguishedName, load_der_x509_certificate
from cryptography.x509.oid import NameOID, ObjectIdentifier

from fuzz import material
from fuzz.source import Source
from fuzz.verdicts import run
from mqttcore.auth import AuthRequest, Denied, Effect, Granted, NotRelevant, Principal, Reply, Standing
from mqttcore.authenticators.chain_diagnosis import is_authority
from mqttcore.authenticators.chain_verification import oddities_ignored
from mqttcore.authenticators.distinguished_names import of_certificate, parse
from mqttcore.authenticators.x509 import METHOD, revoked_by, subject_attributes, trust_anchors, x509

ANCHORS = trust_anchors(material.ANCHORS)
AUTHENTICATOR = x509(ANCHORS, [subject_attributes("devices", "CN=device-1, O=Contoso", {"kind": "device"})])
REVIEW = revoked_by(ANCHORS)
LONGEST_PROBLEM = 300
"""Characters of a problem, beside the text that it quotes."""
TYPES: tuple[tuple[ObjectIdentifier, tuple[str, ...]], ...] = (
    (NameOID.COMMON_NAME, ("CN", "cn", "commonName", "2.5.4.3", "OID.2.5.4.3")),
    (NameOID.ORGANIZATION_NAME, ("O", "organizationName")),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, ("OU", "ou")),
    (NameOID.DOMAIN_COMPONENT, ("DC", "domainComponent")),
    (NameOID.USER_ID, ("UID", "0.9.2342.19200300.100.1.1")),
)


def _signed(chain: tuple[bytes, ...]) -> bytes:
    return load_der_x509_certificate(chain[0]).tbs_certificate_bytes


GOOD = {_signed(chain) for chain in material.GOOD_CHAINS}
REVOKED = _signed(material.BAD_CHAINS[0])


def check(data: bytes) -> None:
    """A chain is let in only if it begins with what a trusted authority has signed; the rest is refused in one line of
    bounded length, without asking for anything. A review never raises, and speaks against the revoked certificate only.

    PEM becomes authorities or one ValueError. A name is a name or one ValueError; spelled in another order, with other
    spaces, quotation marks and escapes it is the same name, and that of a certificate that has it.
    """
    source = Source(data)
    source.pick((_check_chain, _check_pem, _check_text, _check_spelling))(source)


def _check_chain(source: Source) -> None:
    chains = (*material.GOOD_CHAINS, *material.BAD_CHAINS)
    chain = [bytearray(der) for der in source.pick(chains)]
    for _ in range(source.below(5)):
        which = chain[source.below(len(chain))] if chain else bytearray()
        match source.below(5):
            case 0 | 1 if which:
                which[source.below(len(which))] = source.byte()
            case 2 if which:
                at = source.below(len(which))
                which[at : at + source.below(20)] = source.take(20)
            case 3:
                chain.append(bytearray(source.pick(chains)[0]))
            case _:
                chain.insert(0, bytearray(source.take(200)))
    presented = tuple(map(bytes, chain))
    time = material.TIME + source.pick((0.0, 0.0, 0.0, 1e8, -1e8))
    verdict, _ = run(AUTHENTICATOR, AuthRequest(certificates=presented, time=time), _nothing, 0)
    if isinstance(verdict, Granted):
        assert time == material.TIME
        assert _signed(presented) in GOOD
        assert verdict.username in ("device-1", "device-2", "device-3")
        assert not verdict.renewable
    else:
        assert isinstance(verdict, Denied if presented else NotRelevant)
        assert verdict.message.isprintable()
    reason = REVIEW(Standing(METHOD, presented, Principal("c")), time)
    if reason is not None:
        assert reason.isprintable()
        assert any(REVOKED in der for der in presented)


def _nothing(effect: Effect) -> Reply:
    raise AssertionError(effect)


def _check_pem(source: Source) -> None:
    pem = bytearray(material.ANCHORS if source.flag() else source.take(1000))
    for _ in range(source.below(4)):
        at = source.below(len(pem) + 1)
        pem[at : at + source.below(4)] = source.take(8)
    pem += source.rest()
    try:
        anchors = trust_anchors(bytes(pem))
    except ValueError as error:
        _check_problem(error, "")
        return
    with oddities_ignored():
        assert anchors.certificates
        assert all(is_authority(each) for each in anchors.certificates)


def _check_text(source: Source) -> None:
    text = source.rest().decode("utf-8", "replace")
    try:
        name = parse(text)
    except ValueError as error:
        _check_problem(error, text)
        return
    assert name.rdns
    assert all(rdn and all(kind and value for kind, value in rdn) for rdn in name.rdns)
    assert parse(f"  {text}  ") == name


def _check_problem(error: ValueError, text: str) -> None:
    told = str(error)
    assert told
    assert told.isprintable()
    assert len(told) <= LONGEST_PROBLEM + 10 * len(text)


def _check_spelling(source: Source) -> None:
    parts: list[list[tuple[int, str]]] = []
    for _ in range(source.below(4) + 1):
        rdn = {
            source.below(len(TYPES)): "x" + source.text(8).strip().strip("\0") + "x" for _ in range(source.below(2) + 1)
        }
        parts.append([*rdn.items()])
    names = [
        parse(",;"[source.below(2)].join(["+".join(_spelled(source, *pair) for pair in rdn) for rdn in ordered]))
        for ordered in (parts, parts, parts[::-1])
    ]
    assert names[0] == names[1] == names[2]
    assert len({*names}) == 1
    name = Name(
        [RelativeDistinguishedName([NameAttribute(TYPES[kind][0], value) for kind, value in rdn]) for rdn in parts]
    )
    assert of_certificate(name) == names[0]


def _spelled(source: Source, kind: int, value: str) -> str:
    space = " " * source.below(2)
    match source.below(3):
        case 0:
            escaped = "".join(f"\\{each}" if each in '"#+,;<=>\\' else each for each in value)
        case 1:
            inner = value.replace("\\", "\\\\").replace('"', '\\"')
            escaped = f'"{inner}"'
        case _:
            escaped = "".join(f"\\{byte:02x}" for byte in value.encode())
    return f"{space}{source.pick(TYPES[kind][1])}{space}={space}{escaped}{space}"
