"""Distinguished names as people write them, and as certificates have them, compared as names and not as text."""

import difflib
import unicodedata
from collections.abc import Iterable

from attrs import field, frozen
from cryptography.x509 import Name, ObjectIdentifier
from cryptography.x509.oid import NameOID

_TYPES = {
    "CN": NameOID.COMMON_NAME, "commonName": NameOID.COMMON_NAME,
    "C": NameOID.COUNTRY_NAME, "countryName": NameOID.COUNTRY_NAME,
    "L": NameOID.LOCALITY_NAME, "localityName": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME, "S": NameOID.STATE_OR_PROVINCE_NAME,
    "stateOrProvinceName": NameOID.STATE_OR_PROVINCE_NAME,
    "STREET": NameOID.STREET_ADDRESS, "streetAddress": NameOID.STREET_ADDRESS,
    "O": NameOID.ORGANIZATION_NAME, "organizationName": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "organizationalUnitName": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "DC": NameOID.DOMAIN_COMPONENT, "domainComponent": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID, "userId": NameOID.USER_ID,
    "emailAddress": NameOID.EMAIL_ADDRESS, "E": NameOID.EMAIL_ADDRESS, "EMAIL": NameOID.EMAIL_ADDRESS,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "SN": NameOID.SURNAME, "surname": NameOID.SURNAME,
    "GN": NameOID.GIVEN_NAME, "givenName": NameOID.GIVEN_NAME,
    "title": NameOID.TITLE, "T": NameOID.TITLE,
    "initials": NameOID.INITIALS,
    "generationQualifier": NameOID.GENERATION_QUALIFIER,
    "dnQualifier": NameOID.DN_QUALIFIER,
    "pseudonym": NameOID.PSEUDONYM,
    "postalCode": NameOID.POSTAL_CODE,
    "organizationIdentifier": NameOID.ORGANIZATION_IDENTIFIER,
}  # fmt: skip
_BY_NAME = {name.casefold(): oid.dotted_string for name, oid in _TYPES.items()}
_SPECIAL = ' "#+,;<=>\\'
_HEX = frozenset("0123456789abcdefABCDEF")

Attribute = tuple[str, str]
"""The type's object identifier, dotted, and the value as it is compared."""


def _either_order(rdns: Iterable[frozenset[Attribute]]) -> tuple[tuple[Attribute, ...], ...]:
    forward = tuple(tuple(sorted(rdn)) for rdn in rdns)
    return min(forward, forward[::-1])


@frozen
class DistinguishedName:
    """A name that equals another when both have the same parts in the same or in the opposite order.

    Values are compared as RFC 5280, section 7.1, has it: without regard to case, and to how much white space is
    between words.
    """

    rdns: tuple[tuple[Attribute, ...], ...] = field(converter=_either_order)


def of_certificate(name: Name) -> DistinguishedName:
    """The name of a certificate's subject or issuer."""
    return DistinguishedName(
        frozenset((attribute.oid.dotted_string, _comparable(attribute.value)) for attribute in rdn) for rdn in name.rdns
    )


def parse(text: str) -> DistinguishedName:
    """Read a name such as `CN = a, OU = b + L = c, O = "d, e"`: RFC 4514, with spaces and the older forms allowed.

    Raises ValueError that says what is wrong and what to write.
    """
    if not text.strip():
        raise ValueError("it is empty; write a subject such as CN = device-1, O = Contoso")
    if text.lstrip().startswith("/"):
        raise ValueError("write it with commas, such as CN = device-1, O = Contoso, and not with slashes")
    rdns = []
    parts: list[Attribute] = []
    rest, separator = text, ","
    while separator:
        part, separator, rest = _split(rest)
        attribute = _attribute(part)
        if attribute in parts:
            raise ValueError(f"{part.strip()!r} stands twice in one part of the name")
        parts.append(attribute)
        if separator != "+":
            rdns.append(frozenset(parts))
            parts = []
    return DistinguishedName(rdns)


def _split(text: str) -> tuple[str, str, str]:
    """Up to the next separator that is neither escaped nor in quotes; the separator; the rest."""
    quoted = escaped = False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character in ",;+" and not quoted:
            return text[:index], character, text[index + 1 :]
    if quoted:
        raise ValueError("a quotation mark is not closed")
    return text, "", ""


def _attribute(part: str) -> Attribute:
    kind, equals, value = part.partition("=")
    if not equals:
        if not part.strip():
            raise ValueError("a part between two commas is missing")
        raise ValueError(f"{part.strip()!r} has no equals sign; write TYPE = value, and a comma in a value as \\,")
    attribute = _type(kind.strip()), _comparable(_value(value))
    if not attribute[1]:
        raise ValueError(f"{kind.strip()!r} has no value")
    return attribute


def _type(kind: str) -> str:
    known = _BY_NAME.get(kind.casefold())
    if known is not None:
        return known
    dotted = kind[4:] if kind[:4].casefold() == "oid." else kind
    try:
        return ObjectIdentifier(dotted).dotted_string
    except ValueError:
        near = difflib.get_close_matches(kind.casefold(), _BY_NAME, n=1, cutoff=0.7)
        known_name = next(name for name in _TYPES if name.casefold() == near[0]) if near else None
        hint = f"did you mean {known_name}?" if known_name else "write CN, OU, O, C, … or its object identifier"
        raise ValueError(f"{kind!r} is no type of attribute; {hint}") from None


def _value(text: str) -> str:
    """A value without escapes and quotation marks."""
    text = text.lstrip()
    if text.startswith("#"):
        raise ValueError("values in hexadecimal are not supported; write the value as text, or \\# for the character #")
    quoted = text.startswith('"')
    characters = bytearray()
    index, closed = int(quoted), False
    while index < len(text):
        character = text[index]
        if character == "\\":
            pair = text[index + 1 : index + 3]
            if len(pair) == 2 and _HEX.issuperset(pair):
                characters.append(int(pair, 16))
                index += 3
            elif pair and pair[0] in _SPECIAL:
                characters += pair[0].encode()
                index += 2
            else:
                raise ValueError("a backslash is followed by neither a special character nor two hexadecimal digits")
            continue
        index += 1
        if character == '"':
            if not quoted:
                raise ValueError('quotation marks go around a whole value; elsewhere write \\"')
            closed = True
            break
        characters += _encode(character)
    if quoted and (not closed or text[index:].strip()):
        raise ValueError("a value in quotation marks is not closed, or goes on behind them")
    try:
        return characters.decode()
    except UnicodeDecodeError:
        raise ValueError("the hexadecimal digits behind a backslash are not UTF-8") from None


def _encode(character: str) -> bytes:
    try:
        return character.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not Unicode text") from None


def _comparable(value: str | bytes) -> str:
    if isinstance(value, bytes):  # a bit string
        return "#" + value.hex()
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold()).split())
