"""Distinguished names: many spellings of one name, and what is none."""

from contextlib import suppress

import pytest
from cryptography.x509 import Name, NameAttribute, ObjectIdentifier, RelativeDistinguishedName
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from mqttcore.authenticators.distinguished_names import DistinguishedName, of_certificate, parse

NAME = Name(
    [
        NameAttribute(NameOID.COUNTRY_NAME, "US"),
        NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "b"),
        NameAttribute(NameOID.COMMON_NAME, "a"),
    ]
)


@pytest.mark.parametrize(
    "text",
    [
        "CN = a, OU = b, C = US",
        "CN=a,OU=b,C=US",
        "C=US,OU=b,CN=a",
        "C = US; OU = b; CN = a",
        "  cn=a ,\tou =b,c= US\n",
        "commonName=a, organizationalUnitName=b, countryName=US",
        "2.5.4.3=a, OID.2.5.4.11=b, oid.2.5.4.6=US",
        'CN="a", OU = "b" , C="US"',
        "CN=\\61,OU=\\62,C=U\\53",
        "CN=A,OU=B,C=us",
    ],
)
def test_spellings_of_one_name(text: str) -> None:
    assert parse(text) == of_certificate(NAME)
    assert hash(parse(text)) == hash(of_certificate(NAME))


@pytest.mark.parametrize(
    "text",
    [
        "CN=a,OU=b",
        "CN=a,OU=b,C=US,L=x",
        "OU=b,CN=a,C=US",  # neither order
        "CN=a+OU=b,C=US",
        "CN=b,OU=a,C=US",
        "CN=aOU=b,C=US",
        "O=a,OU=b,C=US",
        "CN=a\\,OU=b,C=US",
    ],
)
def test_other_names(text: str) -> None:
    assert parse(text) != of_certificate(NAME)


def test_a_part_with_several_values_has_no_order() -> None:
    name = Name(
        [
            RelativeDistinguishedName([NameAttribute(NameOID.ORGANIZATION_NAME, "Contoso")]),
            RelativeDistinguishedName(
                [NameAttribute(NameOID.COMMON_NAME, "a"), NameAttribute(NameOID.SERIAL_NUMBER, "1")]
            ),
        ]
    )
    for text in ("CN = a + serialNumber = 1, O = Contoso", "O=Contoso,SERIALNUMBER=1+CN=a"):
        assert parse(text) == of_certificate(name)
    assert parse("CN=a, serialNumber=1, O=Contoso") != of_certificate(name)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("CN=a\\, b", "a, b"),
        ('CN="a, b + c; d=e"', "a, b + c; d=e"),
        ('CN="say \\"hi\\""', 'say "hi"'),
        ("CN=a=b", "a=b"),
        ("CN=\\#1", "#1"),
        ("CN=a  b", "a b"),
        ("CN=caf\\C3\\A9", "café"),
        ("CN=cafe\u0301", "café"),
        ("CN=STRASSE", "straße"),
        ("CN=https://example.test/x", "https://example.test/x"),
    ],
)
def test_values(text: str, value: str) -> None:
    assert parse(text) == of_certificate(Name([NameAttribute(NameOID.COMMON_NAME, value)]))


def test_a_bit_string_is_a_value_of_its_own() -> None:
    oid = NameOID.X500_UNIQUE_IDENTIFIER
    name = Name([NameAttribute(oid, b"\x00\x01", _type=_ASN1Type.BitString)])
    assert of_certificate(name) == DistinguishedName([frozenset({(oid.dotted_string, "#0001")})])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty; write a subject such as CN = device-1, O = Contoso"),
        (" \n", "it is empty; write a subject such as CN = device-1, O = Contoso"),
        ("/C=US/CN=a", "write it with commas, such as CN = device-1, O = Contoso, and not with slashes"),
        ("CN=a,", "a part between two commas is missing"),
        ("CN=a,,O=b", "a part between two commas is missing"),
        ("CN=a, Contoso", "'Contoso' has no equals sign; write TYPE = value, and a comma in a value as \\,"),
        ("CN=a+CN=A", "'CN=A' stands twice in one part of the name"),
        ("CN=", "'CN' has no value"),
        ("CN=\\ ", "'CN' has no value"),
        ("=a", "'' is no type of attribute; write CN, OU, O, C, … or its object identifier"),
        ("subject=CN=a", "'subject' is no type of attribute; write CN, OU, O, C, … or its object identifier"),
        ("organisationName=a", "'organisationName' is no type of attribute; did you mean organizationName?"),
        ("2.x=a", "'2.x' is no type of attribute; write CN, OU, O, C, … or its object identifier"),
        ("9.9.9.9=a", "'9.9.9.9' is no type of attribute; write CN, OU, O, C, … or its object identifier"),
        (
            "CN=#0C0161",
            "values in hexadecimal are not supported; write the value as text, or \\# for the character #",
        ),
        ("CN=a\\", "a backslash is followed by neither a special character nor two hexadecimal digits"),
        ("CN=a\\x", "a backslash is followed by neither a special character nor two hexadecimal digits"),
        ("CN=\\FF", "the hexadecimal digits behind a backslash are not UTF-8"),
        ('CN="a', "a quotation mark is not closed"),
        ('CN="a" b', "a value in quotation marks is not closed, or goes on behind them"),
        ('CN=a"b"', 'quotation marks go around a whole value; elsewhere write \\"'),
        ("CN=\udc80", "it is not Unicode text"),
    ],
)
def test_what_is_no_name(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is looked at
        parse(text)
    assert str(caught.value) == message


@given(st.text())
def test_any_text_is_a_name_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert isinstance(parse(text), DistinguishedName)


types = st.sampled_from(
    [NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, ObjectIdentifier("1.2.3.4")]
)
# The library writes control characters as they are, and a space in front without an escape if it is alone.
values = st.text(st.characters(codec="utf-8", min_codepoint=33), min_size=1, max_size=16).filter(str.strip)
names = st.lists(st.builds(NameAttribute, types, values), min_size=1, max_size=4).map(Name)


@given(names)
def test_what_the_library_writes_is_the_name_that_it_has(name: Name) -> None:
    text = name.rfc4514_string()
    parsed = parse(text)
    assert parsed == of_certificate(name)
    assert parse(f" {text}\n") == parsed
    assert of_certificate(Name(reversed(name.rdns))) == parsed


@given(names, names)
def test_different_names_are_different(one: Name, other: Name) -> None:
    def text(name: Name) -> list[str]:
        return [f"{each.oid.dotted_string} {each.value!r}".casefold() for each in name]

    if not {*text(one)} & {*text(other)} and all(str(each.value).isascii() for each in (*one, *other)):
        assert of_certificate(one) != of_certificate(other)
