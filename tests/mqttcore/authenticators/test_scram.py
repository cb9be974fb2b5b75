"""SCRAM-SHA-256: the vector of RFC 7677, what is refused, and what a stranger learns."""

import re
from base64 import b64decode, b64encode
from hashlib import pbkdf2_hmac, sha256
from hmac import digest
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mqttcore.auth import (
    Authenticator,
    AuthRequest,
    Challenge,
    Denied,
    Effect,
    Exchange,
    Failed,
    Granted,
    NotRelevant,
    Response,
)
from mqttcore.authenticators.scram import MAXIMUM_MESSAGE, METHOD, Verifier, scram_sha_256
from mqttcore.codes import ReasonCode
from tests.mqttcore.authenticators.conversation import Conversation, converse

# RFC 7677, section 3
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
RFC_SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")


def salted_password(secret: str, salt: bytes, iterations: int = 4096) -> bytes:
    return pbkdf2_hmac("sha256", secret.encode(), salt, iterations)


def verifier(secret: str, salt: bytes, iterations: int = 4096) -> Verifier:
    salted = salted_password(secret, salt, iterations)
    stored_key = sha256(digest(salted, b"Client Key", "sha256")).digest()
    return Verifier(iterations, salt, stored_key, digest(salted, b"Server Key", "sha256"))


def client_first(name: str, nonce: str = "fyko+d2lbbFgONRv9qkxdawL") -> bytes:
    return f"n,,n={name},r={nonce}".encode()


def client_final(secret: str, first: bytes, server_first: bytes, binding: str = "biws") -> bytes:
    """What a client that knows the password says last; written from RFC 5802 and not from our code."""
    found = re.fullmatch(rb"r=([^,]*),s=([^,]*),i=(\d+)", server_first)
    assert found is not None
    salted = salted_password(secret, b64decode(found[2]), int(found[3]))
    client_key = digest(salted, b"Client Key", "sha256")
    without_proof = b"c=" + binding.encode() + b",r=" + found[1]
    signed = first.split(b",", 2)[2] + b"," + server_first + b"," + without_proof
    signature = digest(sha256(client_key).digest(), signed, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    return without_proof + b",p=" + b64encode(proof)


PASSWORD, SALT = "pencil", bytes(range(16))
VERIFIER = verifier(PASSWORD, SALT)
AUTHENTICATE = scram_sha_256({"ann": VERIFIER, "b,=ob": verifier("pen", bytes(16))})
ENTROPY = bytes(range(100, 132))


def request(first: bytes | None, **fields: Any) -> AuthRequest:
    made = AuthRequest(authentication_method=METHOD, authentication_data=first, entropy=ENTROPY)
    return evolve(made, **fields)


def log_in(first: bytes, secret: str, binding: str = "biws", **fields: Any) -> Conversation:
    def perform(effect: Effect) -> Response:
        assert isinstance(effect, Challenge)
        assert effect.data is not None
        return Response(client_final(secret, first, effect.data, binding))

    return converse(AUTHENTICATE, request(first, **fields), perform)


def answered(reply: object, first: bytes = client_first("ann")) -> Conversation:
    return converse(AUTHENTICATE, request(first), lambda effect: reply)


def server_first_for(first: bytes, authenticate: Authenticator = AUTHENTICATE, **fields: Any) -> bytes:
    step = Exchange(authenticate, request(first, **fields), 8).start()
    assert isinstance(step, Challenge), step
    assert step.data is not None
    return step.data


def test_the_vector_of_rfc_7677(monkeypatch: pytest.MonkeyPatch) -> None:
    # The server's nonce there is no Base64, so it takes the place of the encoding of our entropy.
    real = b64encode
    monkeypatch.setattr(
        "mqttcore.authenticators.scram.b64encode",
        lambda data: SERVER_NONCE.encode() if data == ENTROPY[:18] else real(data),
    )
    found = converse(
        scram_sha_256({"user": verifier("pencil", RFC_SALT)}), request(FIRST), lambda effect: Response(FINAL)
    )
    assert found.effects == (Challenge(SERVER_FIRST),)
    assert found.verdict == Granted(username="user", data=SERVER_FINAL)


def test_the_client_of_these_tests_is_that_of_the_rfc() -> None:
    assert client_final("pencil", FIRST, SERVER_FIRST) == FINAL


@pytest.mark.parametrize(
    ("first", "secret", "name", "binding"),
    [
        (client_first("ann"), "pencil", "ann", "biws"),
        (client_first("b=2C=3Dob"), "pen", "b,=ob", "biws"),
        (client_first("ann").replace(b"n,,", b"y,,", 1), "pencil", "ann", "eSws"),
        (client_first("ann") + b",x=extension", "pencil", "ann", "biws"),
    ],
)
def test_the_right_password(first: bytes, secret: str, name: str, binding: str) -> None:
    for re_authentication in (False, True):
        found = log_in(first, secret, binding, re_authentication=re_authentication)
        assert isinstance(found.verdict, Granted)
        assert found.verdict.username == name
        # The server proves itself too: only who has the verifier can say this.
        [challenge] = found.effects
        [response] = found.replies
        assert isinstance(challenge, Challenge)
        assert challenge.data is not None
        without_proof = response.data.rpartition(b",p=")[0]
        signed = b",".join((first.split(b",", 2)[2], challenge.data, without_proof))
        key = {"ann": VERIFIER, "b,=ob": verifier("pen", bytes(16))}[name].server_key
        assert found.verdict.data == b"v=" + b64encode(digest(key, signed, "sha256"))


@pytest.mark.parametrize(
    ("name", "secret"), [("ann", "pencil "), ("ann", "Pencil"), ("ann", ""), ("eve", "pencil"), ("b=2C=3Dob", "pencil")]
)
def test_a_wrong_name_or_password(name: str, secret: str) -> None:
    found = log_in(client_first(name), secret)
    assert found.verdict == Denied("the user name or the password is wrong", ReasonCode.BAD_USER_NAME_OR_PASSWORD)


def test_a_stranger_learns_nothing_from_the_first_answer() -> None:
    ann, eve = server_first_for(client_first("ann")), server_first_for(client_first("eve"))
    assert [len(part) for part in ann.split(b",")] == [len(part) for part in eve.split(b",")]
    assert ann.rpartition(b",i=")[2] == eve.rpartition(b",i=")[2]
    # Asked again, a name has the salt that it had; and another name has another.
    assert eve == server_first_for(client_first("eve"))
    salts = {server_first_for(client_first(name)).split(b",")[1] for name in ("ann", "eve", "mallory", "b=2C=3Dob")}
    assert len(salts) == 4


@pytest.mark.parametrize("length", [1, 16, 100])
def test_salts_of_strangers_are_as_long_as_those_of_users(length: int) -> None:
    authenticate = scram_sha_256({"ann": verifier("x", bytes(length))})
    [ann, eve] = [server_first_for(client_first(name), authenticate) for name in ("ann", "eve")]
    assert len(ann) == len(eve)


def test_salts_of_strangers_cannot_be_computed_by_strangers() -> None:
    one, other = (scram_sha_256({"ann": verifier(secret, SALT)}) for secret in ("x", "y"))
    assert server_first_for(client_first("eve"), one) != server_first_for(client_first("eve"), other)


def test_a_recorded_conversation_is_worth_nothing() -> None:
    recorded = log_in(client_first("ann"), "pencil")
    assert isinstance(recorded.verdict, Granted)
    [response] = recorded.replies
    again = converse(AUTHENTICATE, request(client_first("ann"), entropy=bytes(32)), lambda effect: response)
    assert again.verdict == Denied("the nonce is not the one that was sent")


def altered(part: bytes) -> list[bytes]:
    return [part[:at] + bytes([part[at] ^ 1]) + part[at + 1 :] for at in range(len(part))]


def test_no_byte_of_the_last_message_may_be_another() -> None:
    final = client_final(PASSWORD, client_first("ann"), server_first_for(client_first("ann")))
    assert isinstance(answered(Response(final)).verdict, Granted)
    messages = altered(final)
    del messages[-2]  # the last character of Base64 that is not padding has spare bits
    for message in [*messages, *(final[:at] for at in range(len(final))), final + b"=", final + b",x=y"]:
        assert isinstance(answered(Response(message)).verdict, Denied), message


def test_the_proof_covers_the_first_messages_too() -> None:
    # Somebody in between changes the name, or takes an extension out.
    for sent, arrived in [("ann", "eve"), ("eve", "ann"), ("ann,x=1", "ann")]:
        first = f"n,,n={sent.partition(',')[0]},r=abc{sent[3:]}".encode()
        received = f"n,,n={arrived},r=abc".encode()
        final = client_final(PASSWORD, first, server_first_for(received))
        found = answered(Response(final), received)
        assert isinstance(found.verdict, Denied), (sent, arrived)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (None, "the client's message is missing or too long"),
        (b"", "the client's message is missing or too long"),
        (b"n,,n=ann,r=" + bytes([65]) * MAXIMUM_MESSAGE, "the client's message is missing or too long"),
        (b"\xff", "the client's message is not UTF-8"),
        (b"p=tls-unique,,n=ann,r=x", "channel binding is not supported"),
        (b"x,,n=ann,r=x", "channel binding is not supported"),
        (b"n,a=eve,n=ann,r=x", "acting for another identity is not supported"),
        (b"n,,m=ext,n=ann,r=x", "the message is not of the form n=…, r=…"),
        (b"n,,r=x,n=ann", "the message is not of the form n=…, r=…"),
        (b"n,,n=ann", "the message is not of the form n=…, r=…"),
        (b"n,,n=ann,r=", "the nonce is empty or not printable ASCII"),
        (b"n,,n=ann,r=\x7f", "the nonce is empty or not printable ASCII"),
        ("n,,n=ann,r=ä".encode(), "the nonce is empty or not printable ASCII"),
        (b"n,,n=,r=x", "the user name is not encoded as RFC 5802 says"),
        (b"n,,n=a=b,r=x", "the user name is not encoded as RFC 5802 says"),
        (b"n,,n=a=2c,r=x", "the user name is not encoded as RFC 5802 says"),
        (b"n,,n=a=3=2CD,r=x", "the user name is not encoded as RFC 5802 says"),
        (b"n,,n=a=,r=x", "the user name is not encoded as RFC 5802 says"),
    ],
)
def test_a_first_message_that_is_none(first: bytes | None, message: str) -> None:
    found = converse(AUTHENTICATE, request(first), lambda effect: None)
    assert not found.effects
    assert found.verdict == Denied(message, ReasonCode.NOT_AUTHORIZED)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Response(None), "the client's message is missing or too long"),
        (Response(b"c=biws"), "the message is not of the form c=…, r=…"),
        (Response(b"c=biws,r=x"), "the message is not of the form c=…, r=…"),
        (Response(b"c=eSws,r={nonce},p={proof}"), "the channel binding is not that of the first message"),
        (Response(b"c=biws,r={nonce}x,p={proof}"), "the nonce is not the one that was sent"),
        (Response(b"c=biws,r={nonce},p="), "the proof is not 32 bytes in Base64"),
        (Response(b"c=biws,r={nonce},p=AAAA"), "the proof is not 32 bytes in Base64"),
        (Response(b"c=biws,r={nonce},p=\xc3\xa4"), "the proof is not 32 bytes in Base64"),
        (Response(b"c=biws,r={nonce},p={proof}\n"), "the proof is not 32 bytes in Base64"),
        (Failed("gone"), "the client did not answer"),
        (None, "the client did not answer"),
        (b"c=biws", "the client did not answer"),
    ],
)
def test_a_last_message_that_is_none(reply: object, message: str) -> None:
    if isinstance(reply, Response) and reply.data is not None:
        nonce = server_first_for(client_first("ann"))[2:].partition(b",")[0]
        proof = b64encode(bytes(32))
        reply = Response(reply.data.replace(b"{nonce}", nonce).replace(b"{proof}", proof))
    assert answered(reply).verdict == Denied(message, ReasonCode.NOT_AUTHORIZED)


@pytest.mark.parametrize("method", [None, "scram-sha-256", "SCRAM-SHA-1", "K8S-SAT"])
def test_another_method_is_not_its_business(method: str | None) -> None:
    found = converse(
        AUTHENTICATE, request(client_first("ann"), authentication_method=method, username="ann"), lambda effect: None
    )
    assert isinstance(found.verdict, NotRelevant)


def test_without_users() -> None:
    with pytest.raises(ValueError, match=r"^there must be at least one user$"):
        scram_sha_256({})


def test_a_verifier_shows_no_key() -> None:
    assert b64encode(VERIFIER.stored_key).decode() not in repr(VERIFIER)
    assert repr(VERIFIER) == f"Verifier(iterations=4096, salt={SALT!r})"


pieces = st.lists(
    st.sampled_from([b"n", b"y", b",", b"n=", b"r=", b"c=", b"p=", b"biws", b"ann", b"=2C", b"a=", b"m=", b"\xff"])
    | st.binary(max_size=4),
    max_size=12,
).map(b"".join)


@given(pieces | st.just(client_first("ann")), pieces)
def test_any_bytes(first: bytes, final: bytes) -> None:
    found = converse(AUTHENTICATE, request(first), lambda effect: Response(final))
    assert isinstance(found.verdict, Denied)
    assert len(found.effects) <= 1
