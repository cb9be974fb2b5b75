"""Service account tokens without a socket: what is relevant, what is believed, and what is said about it."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from mqttcore.auth import (
    Authenticator,
    AuthRequest,
    Denied,
    Effect,
    Exchange,
    Failed,
    Granted,
    NotRelevant,
    Unavailable,
    Verdict,
)
from mqttcore.authenticators.effects import ReviewToken, ServiceAccountAnnotations, SigningKeys, TokenReviewed
from mqttcore.authenticators.service_account import (
    ALGORITHMS,
    MAXIMUM_REASON,
    METHOD,
    attributes_from,
    by_signature,
    by_token_review,
)

NOW = 1_800_000_000.0
ISSUER = "https://issuer.test"
AUDIENCES = ("aio-internal", "aio-mq")
USERNAME = "system:serviceaccount:plant:press"

EC = ec.generate_private_key(ec.SECP256R1())
EC_OTHER = ec.generate_private_key(ec.SECP256R1())
EC_384 = ec.generate_private_key(ec.SECP384R1())
EC_521 = ec.generate_private_key(ec.SECP521R1())
RSA = rsa.generate_private_key(65_537, 2048)
SIGNERS: Mapping[str, Any] = {"ES256": EC, "ES384": EC_384, "ES512": EC_521} | {
    f"{family}{size}": RSA for family in ("RS", "PS") for size in (256, 384, 512)
}


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good token; None takes one out."""
    good = {
        "aud": ["aio-internal"],
        "exp": NOW + 100,
        "iat": NOW - 10,
        "nbf": NOW - 10,
        "iss": ISSUER,
        "sub": USERNAME,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def signed(payload: object, key: Any = EC, algorithm: str = "ES256", **header: Any) -> str:
    """A token; unlike jwt.encode it takes any payload and any header. None takes a member of the header out."""
    members = {"alg": algorithm, "typ": "JWT", "kid": "one"} | header
    text = f"{encoded({name: value for name, value in members.items() if value is not None})}.{encoded(payload)}"
    signer = jwt.get_algorithm_by_name(algorithm)
    signature = signer.sign(text.encode(), signer.prepare_key(key))
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def jwk(key: Any = EC, key_id: str | None = "one", **members: Any) -> dict[str, Any]:
    make = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    value: dict[str, Any] = json.loads(make.to_jwk(key.public_key()))
    return value | ({} if key_id is None else {"kid": key_id}) | members


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def request(token: str | bytes | None = None, **fields: Any) -> AuthRequest:
    data = token.encode() if isinstance(token, str) else token
    return AuthRequest(**{"authentication_method": METHOD, "authentication_data": data, "time": NOW} | fields)


def run(authenticator: Authenticator, asked: AuthRequest, answer: Callable[[Effect], Any]) -> Verdict:
    exchange = Exchange(authenticator, asked, steps=10)
    step = exchange.start()
    while isinstance(step, Effect):
        step = exchange.resume(answer(step))
    return step


def by_keys(
    token: str | bytes | None, *keys: Any, annotations: Any = None, issuer: str | None = ISSUER, **fields: Any
) -> Verdict:
    def answer(effect: Effect) -> Any:
        if isinstance(effect, SigningKeys):
            return keys or (jwk(),)
        assert isinstance(effect, ServiceAccountAnnotations)
        return {} if annotations is None else annotations

    return run(by_signature(AUDIENCES, issuer), request(token, **fields), answer)


def by_review(token: str | bytes | None, review: Any = None, annotations: Any = None, **fields: Any) -> Verdict:
    def answer(effect: Effect) -> Any:
        if isinstance(effect, ReviewToken):
            assert effect.audiences == AUDIENCES
            return TokenReviewed(True, USERNAME, ("aio-internal",)) if review is None else review
        assert effect == ServiceAccountAnnotations("plant", "press")
        return {} if annotations is None else annotations

    return run(by_token_review(AUDIENCES), request(token, **fields), answer)


def denied(verdict: Verdict, ending: str = "") -> None:
    """It is a denial whose message ends so."""
    assert isinstance(verdict, Denied), verdict
    assert verdict.message.endswith(ending), verdict.message


EITHER = pytest.mark.parametrize("judge", [by_keys, by_review])
Judge = Callable[..., Verdict]


class TestRelevance:
    @EITHER
    @pytest.mark.parametrize(
        "fields",
        [
            {"authentication_method": None},
            {"authentication_method": "SCRAM-SHA-256"},
            {"authentication_method": "k8s-sat"},
            {"authentication_method": None, "username": "k8s-sat"},
            {"authentication_method": None, "username": "xK8S-SAT"},
            {"authentication_method": None, "username": "", "password": b"x"},
        ],
        ids=repr,
    )
    def test_others_are_none_of_ours(self, judge: Judge, fields: Any) -> None:
        verdict = judge(signed(claims()), **fields)
        assert isinstance(verdict, NotRelevant)
        assert verdict.message == "neither is the Authentication Method K8S-SAT nor does the user name begin so"

    @EITHER
    @pytest.mark.parametrize("username", ["K8S-SAT", "K8S-SAT-extra", "K8S-SAT/x"])
    def test_the_older_form_has_the_token_as_password(self, judge: Judge, username: str) -> None:
        token = signed(claims()).encode()
        granted = judge(None, authentication_method=None, username=username, password=token)
        assert isinstance(granted, Granted)
        assert granted.username == USERNAME

    @EITHER
    def test_with_the_method_the_password_is_not_looked_at(self, judge: Judge) -> None:
        token = signed(claims()).encode()
        denied(judge(None, username=METHOD, password=token), "there is no token")
        denied(judge(b"x.y.z", username=METHOD, password=token), "not a JSON Web Token")

    @EITHER
    @pytest.mark.parametrize("token", [None, b""])
    def test_without_a_token(self, judge: Judge, token: bytes | None) -> None:
        denied(judge(token), "there is no token")
        denied(judge(None, authentication_method=None, username=METHOD, password=token), "there is no token")

    @EITHER
    def test_a_token_is_ascii(self, judge: Judge) -> None:
        denied(judge(f"{signed(claims())}é".encode()), "the token is not a JSON Web Token")

    @EITHER
    def test_white_space_around_it_is_none_of_it(self, judge: Judge) -> None:
        assert isinstance(judge(f"\n{signed(claims())}\r\n"), Granted)


class TestClaims:
    """What holds of either kind, and then what each checks on its own."""

    @EITHER
    def test_a_good_token(self, judge: Judge) -> None:
        assert judge(signed(claims())) == Granted(
            username=USERNAME,
            attributes={"namespace": "plant", "serviceAccountName": "press"},
            expires_at=NOW + 100,
        )

    @EITHER
    @pytest.mark.parametrize(
        ("exp", "words"),
        [
            (None, "the token has no expiry: it is not a bound service account token"),
            (str(NOW + 100), "exp is not a time"),
            (True, "exp is not a time"),
            ([NOW + 100], "exp is not a time"),
            ({}, "exp is not a time"),
            (10**15, "exp is not a time"),
            (1e300, "exp is not a time"),
            (10**400, "exp is not a time"),
            (-(10**400), "exp is not a time"),
            (float("nan"), "exp is not a time"),
            (float("inf"), "exp is not a time"),
            (NOW, "expired 0 seconds ago"),
            (NOW - 1, "expired 1 seconds ago"),
            (0, f"expired {NOW:.0f} seconds ago"),
            (-1, f"expired {NOW + 1:.0f} seconds ago"),
        ],
        ids=repr,
    )
    def test_expiry(self, judge: Judge, exp: Any, words: str) -> None:
        denied(judge(signed(claims(exp=exp))), words)

    @EITHER
    def test_the_last_moment(self, judge: Judge) -> None:
        granted = judge(signed(claims(exp=NOW + 0.001)))
        assert isinstance(granted, Granted)
        assert granted.expires_at == NOW + 0.001

    @EITHER
    def test_replayed_after_its_expiry(self, judge: Judge) -> None:
        token = signed(claims())
        assert isinstance(judge(token, time=NOW + 99.9), Granted)
        for late in (NOW + 100, NOW + 101, NOW + 1e6):  # the review, too, still says yes
            denied(judge(token, time=late), f"expired {late - NOW - 100:.0f} seconds ago")

    @pytest.mark.parametrize(
        ("nbf", "words"),
        [
            (NOW + 0.001, "not valid for another 0 seconds"),
            (NOW + 60, "not valid for another 60 seconds"),
            ("soon", "nbf is not a time"),
            (False, "nbf is not a time"),
            (float("nan"), "nbf is not a time"),
        ],
        ids=repr,
    )
    def test_not_before(self, nbf: Any, words: str) -> None:
        denied(by_keys(signed(claims(nbf=nbf))), words)

    def test_the_first_moment(self) -> None:
        assert isinstance(by_keys(signed(claims(nbf=NOW))), Granted)
        assert isinstance(by_keys(signed(claims(nbf=None, iat=None))), Granted)

    @pytest.mark.parametrize(
        "aud", [None, [], "other", ["other"], ["aio-internal2"], "aio", 5, [5], {"aio-internal": 1}, [["aio-internal"]]]
    )
    def test_another_audience(self, aud: Any) -> None:
        denied(by_keys(signed(claims(aud=aud))), "for none of the audiences aio-internal, aio-mq")

    @pytest.mark.parametrize("aud", ["aio-mq", ["x", "aio-mq"], [5, "aio-internal"], list(AUDIENCES)])
    def test_one_audience_of_several_will_do(self, aud: Any) -> None:
        assert isinstance(by_keys(signed(claims(aud=aud))), Granted)

    @pytest.mark.parametrize("iss", [None, "", ISSUER + "/", "https://other.test", [ISSUER], 5, True])
    def test_another_issuer(self, iss: Any) -> None:
        token = signed(claims(iss=iss))
        denied(by_keys(token), f"issuer is not {ISSUER}")
        assert isinstance(by_keys(token, issuer=None), Granted)

    @pytest.mark.parametrize(
        "sub",
        [
            None,
            "",
            5,
            [USERNAME],
            "admin",
            "system:serviceaccount:plant",
            "system:serviceaccount::press",
            "system:serviceaccount:plant:",
            "system:serviceaccount:plant:press:x",
            "system:serviceaccount:a.b:press",
            "system:serviceaccount:plant:../../etc/passwd",
            "system:serviceaccount:plant:a/b",
            "system:serviceaccount:..:press",
            "system:serviceaccount:plant:Press",
            USERNAME + "\n",
            " " + USERNAME,
            "system:node:press",
        ],
    )
    def test_not_of_a_service_account(self, sub: Any) -> None:
        denied(by_keys(signed(claims(sub=sub))), "does not belong to a service account")
        username = sub if isinstance(sub, str) else ""
        review = TokenReviewed(True, username, AUDIENCES)
        denied(by_review(signed(claims()), review), "does not belong to a service account")

    def test_the_reviewed_name_counts_and_not_that_of_the_token(self) -> None:
        granted = by_review(signed(claims(sub="system:serviceaccount:kube-system:admin")))
        assert isinstance(granted, Granted)
        assert granted.username == USERNAME

    @pytest.mark.parametrize("payload", [[], "x", 5, None, True])
    def test_a_payload_that_is_no_object(self, payload: object) -> None:
        assert isinstance(by_keys(signed(payload)), Denied)
        assert isinstance(by_review(signed(payload)), Denied)

    @EITHER
    def test_a_deep_payload(self, judge: Judge) -> None:
        header, _, signature = signed(claims()).split(".")
        deep = base64.urlsafe_b64encode(b'{"a":' * 20_000 + b"1" + b"}" * 20_000).decode().rstrip("=")
        assert isinstance(judge(f"{header}.{deep}.{signature}"), Denied)


class TestReview:
    @pytest.mark.parametrize(
        ("review", "words"),
        [
            (TokenReviewed(False), "the API server does not accept the token"),
            (TokenReviewed(False, USERNAME, AUDIENCES), "the API server does not accept the token"),
            (
                TokenReviewed(False, error="it has been invalidated"),
                "does not accept the token: it has been invalidated",
            ),
            (TokenReviewed(True, USERNAME, ()), "for none of the audiences aio-internal, aio-mq"),
            (TokenReviewed(True, USERNAME, ("api",)), "for none of the audiences aio-internal, aio-mq"),
            (TokenReviewed(True, "", AUDIENCES), "does not belong to a service account"),
        ],
    )
    def test_what_is_denied(self, review: TokenReviewed, words: str) -> None:
        denied(by_review(signed(claims()), review), words)

    @pytest.mark.parametrize("review", [Failed("connection refused"), None, True, "yes", object()])
    def test_without_an_answer_there_is_no_judgement(self, review: Any) -> None:
        verdict = run(by_token_review(AUDIENCES), request(signed(claims())), lambda _: review)
        assert isinstance(verdict, Unavailable)
        assert verdict.message.startswith("the token could not be reviewed: ")
        assert ("connection refused" in verdict.message) == isinstance(review, Failed)

    def test_nothing_of_the_token_is_believed_before(self) -> None:
        asked = []

        def answer(effect: Effect) -> TokenReviewed:
            asked.append(effect)
            return TokenReviewed(False)

        token = signed(claims(exp=None))
        denied(run(by_token_review(AUDIENCES), request(token), answer), "the API server does not accept the token")
        assert asked == [ReviewToken(token, AUDIENCES)]

    @pytest.mark.parametrize("token", ["opaque", "a.b.c", "a.b", ""])
    def test_a_token_that_the_server_knows_and_that_is_no_jwt(self, token: str) -> None:
        assert isinstance(by_review(token), Denied)

    def test_a_reason_does_not_show_the_token(self) -> None:
        token = signed(claims())
        for error in (token, f"cannot parse {token[:30]}", "two\nlines", f"{token[-12:]}"):
            denied(by_review(token, TokenReviewed(False, error=error)))
            verdict = by_review(token, TokenReviewed(False, error=error))
            assert isinstance(verdict, Denied)
            assert verdict.message == "the API server does not accept the token"
        short = by_review("hunter2", TokenReviewed(False, error="hunter2?"))
        assert short == Denied("the API server does not accept the token")
        long = by_review(token, TokenReviewed(False, error="no " * 1000))
        assert isinstance(long, Denied)
        assert len(long.message) < MAXIMUM_REASON + 50


class TestSignature:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_every_algorithm_that_is_accepted(self, algorithm: str) -> None:
        key = SIGNERS[algorithm]
        token = signed(claims(), key, algorithm)
        assert isinstance(by_keys(token, jwk(key)), Granted)
        assert isinstance(by_keys(token, jwk(key, alg=algorithm, use="sig")), Granted)
        wrong_end = "A" if token[-10] != "A" else "B"
        denied(by_keys(token[:-10] + wrong_end + token[-9:], jwk(key)), "signature is wrong")

    @pytest.mark.parametrize(
        "algorithm", ["none", "None", "NONE", "nOnE", "", None, 5, [], {}, "HS256", "EdDSA", "RS1"]
    )
    @pytest.mark.parametrize("signature", ["", "e30"])
    def test_others_are_not(self, algorithm: Any, signature: str) -> None:
        token = f"{encoded({'alg': algorithm, 'kid': 'one'})}.{encoded(claims())}.{signature}"
        denied(by_keys(token))

    def test_no_algorithm_at_all(self) -> None:
        denied(by_keys(f"{encoded({'kid': 'one'})}.{encoded(claims())}."), "algorithm that is not accepted")

    @pytest.mark.parametrize("key", [EC, RSA], ids=["ec", "rsa"])
    def test_a_public_key_is_no_shared_secret(self, key: Any) -> None:
        for secret in (public_pem(key), json.dumps(jwk(key)).encode(), jwk(key).get("n", "").encode()):
            text = f"{encoded({'alg': 'HS256', 'kid': 'one'})}.{encoded(claims())}"
            digest = base64.urlsafe_b64encode(hmac.new(secret, text.encode(), hashlib.sha256).digest()).decode()
            token = f"{text}.{digest.rstrip('=')}"
            denied(by_keys(token, jwk(key)), "algorithm that is not accepted")
            shared = {"kty": "oct", "kid": "one", "k": base64.urlsafe_b64encode(secret).decode()}
            denied(by_keys(token, shared), "algorithm that is not accepted")

    def test_a_shared_secret_among_the_keys_is_not_used(self) -> None:
        denied(
            by_keys(signed(claims()), {"kty": "oct", "kid": "one", "k": "c2VjcmV0"}),
            "a key that its issuer does not have",
        )

    @pytest.mark.parametrize(
        ("key", "algorithm", "published"),
        [
            (EC, "ES256", jwk(RSA)),
            (RSA, "RS256", jwk(EC)),
            (EC, "ES256", jwk(EC_384)),
            (EC_384, "ES384", jwk(EC)),
            (EC, "ES256", jwk(EC, crv="P-384")),
            (EC, "ES256", jwk(EC, use="enc")),
            (EC, "ES256", jwk(EC, alg="ES384")),
            (RSA, "RS256", jwk(RSA, alg="PS256")),
            (EC, "ES256", jwk(EC, "two")),
            (EC, "ES256", jwk(EC, "One")),
        ],
    )
    def test_a_key_that_does_not_fit(self, key: Any, algorithm: str, published: Any) -> None:
        denied(by_keys(signed(claims(), key, algorithm), published), "a key that its issuer does not have")

    def test_a_header_that_lies_about_the_key(self) -> None:
        _, payload, signature = signed(claims(), RSA, "RS256").split(".")
        lying = encoded({"alg": "ES256", "kid": "one"})
        denied(by_keys(f"{lying}.{payload}.{signature}", jwk(RSA)), "a key that its issuer does not have")
        denied(by_keys(f"{lying}.{payload}.{signature}", jwk(EC)), "signature is wrong")
        lying = encoded({"alg": "PS256", "kid": "one"})
        denied(by_keys(f"{lying}.{payload}.{signature}", jwk(RSA)), "signature is wrong")

    def test_a_key_in_the_header_is_not_believed(self) -> None:
        token = signed(
            claims(), EC_OTHER, jwk=jwk(EC_OTHER), jku="https://evil.test", x5u="https://evil.test", x5c=["x"]
        )
        denied(by_keys(token), "signature is wrong")

    def test_a_critical_header_that_we_do_not_know(self) -> None:
        assert isinstance(by_keys(signed(claims(), crit=["exp2"], exp2=1)), Denied)
        assert isinstance(by_keys(signed(claims(), b64=False, crit=["b64"])), Denied)

    def test_a_payload_that_was_changed(self) -> None:
        header, _, signature = signed(claims()).split(".")
        denied(by_keys(f"{header}.{encoded(claims(exp=NOW + 1e6))}.{signature}"), "signature is wrong")

    def test_an_unknown_key(self) -> None:
        asked: list[Effect] = []

        def answer(effect: Effect) -> Any:
            asked.append(effect)
            return (jwk(),)

        verdict = run(by_signature(AUDIENCES, ISSUER), request(signed(claims(), kid="two")), answer)
        denied(verdict, "a key that its issuer does not have")
        assert asked == [SigningKeys("two")]

    def test_several_keys(self) -> None:
        keys = (jwk(RSA, "rsa"), jwk(EC_OTHER, "two"), jwk(EC, "one"), jwk(EC_OTHER, None))
        assert isinstance(by_keys(signed(claims()), *keys), Granted)
        assert isinstance(by_keys(signed(claims(), kid=None), *keys), Granted)  # any may have been it
        assert isinstance(by_keys(signed(claims(), EC_OTHER), *keys), Granted)  # the one without a name
        denied(by_keys(signed(claims(), EC_OTHER), *keys[:3]), "signature is wrong")

    @pytest.mark.parametrize("key_id", [5, ["one"], {"one": 1}])
    def test_a_key_id_that_is_no_text(self, key_id: Any) -> None:
        token = signed(claims(), kid=key_id)
        assert isinstance(by_keys(token), Granted | Denied)
        assert isinstance(by_keys(signed(claims(), EC_OTHER, kid=key_id)), Denied)

    @pytest.mark.parametrize("keys", [Failed("HTTP status 500"), None, [jwk()], "keys", {"keys": [jwk()]}])
    def test_without_keys_there_is_no_judgement(self, keys: Any) -> None:
        verdict = run(by_signature(AUDIENCES, ISSUER), request(signed(claims())), lambda _: keys)
        assert isinstance(verdict, Unavailable)
        assert ("HTTP status 500" in verdict.message) == isinstance(keys, Failed)

    @pytest.mark.parametrize("broken", [{"x": 5}, {"x": "%"}, {"y": None}, {"x": ""}, {"x": "AAAA"}, {"y": "A" * 43}])
    def test_a_broken_key_is_passed_over(self, broken: Any) -> None:
        token = signed(claims())
        denied(by_keys(token, jwk() | broken), "signature is wrong")
        assert isinstance(by_keys(token, jwk() | broken, jwk()), Granted)

    @pytest.mark.parametrize(
        "broken", [{"n": 5}, {"n": ""}, {"e": ""}, {"e": "AA"}, {"n": "AQAB"}, {"n": None}, {"d": 5}]
    )
    def test_a_broken_rsa_key_is_passed_over(self, broken: Any) -> None:
        token = signed(claims(), RSA, "RS256")
        assert isinstance(by_keys(token, jwk(RSA) | broken), Denied)
        assert isinstance(by_keys(token, jwk(RSA) | broken, jwk(RSA)), Granted)


class TestAttributes:
    @EITHER
    def test_annotations_become_attributes(self, judge: Judge) -> None:
        annotations = {
            "aio-broker-auth/group": "fleet",
            "aio-mq-broker-auth/site": "north",
            "aio-broker-auth/": "no name",
            "other/group": "x",
            "group": "y",
            "aio-broker-authgroup": "z",
        }
        granted = judge(signed(claims()), annotations=annotations)
        assert isinstance(granted, Granted)
        assert granted.attributes == {
            "namespace": "plant",
            "serviceAccountName": "press",
            "group": "fleet",
            "site": "north",
        }

    def test_the_newer_prefix_holds_and_annotations_before_the_defaults(self) -> None:
        pairs = [
            ("aio-broker-auth/group", "new"),
            ("aio-mq-broker-auth/group", "old"),
            ("aio-mq-broker-auth/namespace", "elsewhere"),
            ("aio-broker-auth/serviceAccountName", "somebody"),
        ]
        expected = {"group": "new", "namespace": "elsewhere", "serviceAccountName": "somebody"}
        assert attributes_from(dict(pairs), "plant", "press") == expected
        assert attributes_from(dict(reversed(pairs)), "plant", "press") == expected

    @EITHER
    @pytest.mark.parametrize("reply", [Failed("HTTP status 403"), [], "x", 5])
    def test_without_them_there_is_no_judgement(self, judge: Judge, reply: Any) -> None:
        verdict = judge(signed(claims()), annotations=reply)
        assert isinstance(verdict, Unavailable)
        assert f"the attributes of {USERNAME}" in verdict.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "zip", "x"]), JSON, max_size=4
) | st.just({"alg": "ES256", "kid": "one"})
CLAIMS = st.dictionaries(st.sampled_from(["aud", "exp", "nbf", "iat", "iss", "sub", "jti"]), JSON)
TOKENS = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(str.encode),
    st.builds(
        lambda h, p, s: f"{encoded(h)}.{encoded(p)}.{s}".encode(), HEADERS, JSON | CLAIMS, st.text("ab_-=.", max_size=9)
    ),
    st.builds(lambda c: signed(claims() | c).encode(), CLAIMS),
    st.just(signed(claims()).encode()),
)
KEYS = st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "kid", "use", "alg"]), JSON) | st.builds(
    lambda name, value: jwk() | {name: value}, st.sampled_from(["x", "y", "crv", "kid", "alg", "use"]), JSON
)
REPLIES = st.one_of(
    st.just(Failed("connection refused")),
    st.builds(
        TokenReviewed,
        st.booleans(),
        st.just(USERNAME) | st.text(max_size=30),
        st.lists(st.sampled_from(["aio-internal", "x"])).map(tuple),
        st.text(max_size=20),
    ),
    st.lists(KEYS, max_size=3).map(tuple),
    st.just((jwk(),)),
    st.dictionaries(st.text(max_size=20), st.text(max_size=5), max_size=3),
    st.none(),
)


@given(st.sampled_from([by_token_review(AUDIENCES), by_signature(AUDIENCES, ISSUER)]), TOKENS, st.data())
def test_any_token_and_any_replies_end_in_a_verdict_without_an_exception(
    authenticator: Authenticator, token: bytes, data: st.DataObject
) -> None:
    effects: list[Effect] = []

    def answer(effect: Effect) -> Any:
        effects.append(effect)
        return data.draw(REPLIES)

    verdict = run(authenticator, request(token), answer)
    assert len(effects) <= 2
    if isinstance(verdict, Granted):
        assert isinstance(effects[-1], ServiceAccountAnnotations)
        assert verdict.expires_at is not None
        assert verdict.expires_at > NOW
    else:
        assert "failed with" not in verdict.message  # what Exchange says of an authenticator that raised
        assert verdict.message.isprintable()


@given(
    st.sampled_from(["by_keys", "by_review"]),
    CLAIMS,
    st.sampled_from(["token", "header", "payload", "signature"]),
    st.text(max_size=10),
)
def test_no_message_and_no_repr_shows_the_token(judge: str, changes: dict[str, Any], part: str, extra: str) -> None:
    token = signed(claims() | changes)
    header, payload, signature = token.split(".")
    quoted = {"token": token, "header": header, "payload": payload, "signature": signature}[part]
    said: list[object] = []

    def answer(effect: Effect) -> Any:
        said.append(effect)
        if isinstance(effect, ReviewToken):
            return TokenReviewed(False, error=f"{extra}{quoted}{extra}")
        return (jwk(),) if isinstance(effect, SigningKeys) else {}

    authenticator = by_signature(AUDIENCES, ISSUER) if judge == "by_keys" else by_token_review(AUDIENCES)
    asked = request(token, password=token.encode())
    said += [asked, run(authenticator, asked, answer)]
    for piece in (token, header, payload, signature, token[:20], signature[:20]):
        assert piece not in repr(said)
