"""The chain of all methods of authentication, with replies of every kind.

Input: the order of the methods, the credentials, then a reply to each effect: the kind, and what is in it.
"""

import json
from typing import Any, final

from fuzz import material
from fuzz.source import Source
from fuzz.verdicts import run
from mqttcore.auth import AuthRequest, Challenge, Denied, Effect, Failed, Granted, Reply, Response, Unavailable
from mqttcore.authenticators.chain import Method, chain
from mqttcore.authenticators.custom import custom
from mqttcore.authenticators.effects import (
    HttpAnswer,
    HttpPost,
    HttpServer,
    ReviewToken,
    ServiceAccountAnnotations,
    SigningKeys,
    TokenReviewed,
    VerifyPassword,
)
from mqttcore.authenticators.password import password
from mqttcore.authenticators.scram import METHOD as SCRAM
from mqttcore.authenticators.scram import scram_sha_256
from mqttcore.authenticators.service_account import METHOD as SERVICE_ACCOUNT
from mqttcore.authenticators.service_account import by_signature, by_token_review
from mqttcore.authenticators.x509 import subject_attributes, trust_anchors, x509

METHODS = {
    "Custom": custom(HttpServer(url="https://custom.example")),
    "Review": by_token_review(material.AUDIENCES),
    "Signature": by_signature(material.AUDIENCES, material.ISSUER),
    "X509": x509(
        trust_anchors(material.ANCHORS), [subject_attributes("contoso", "CN=Root, O=Contoso", {"site": "north"})]
    ),
    "Password": password({material.USER: "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA"}),
    "Scram": scram_sha_256({material.USER: material.VERIFIER}),
}
EFFECTS = 2
"""What a method asks for, at most."""
GOOD = {leaf for leaf, *_ in material.GOOD_CHAINS}
SIGNED = {token.rpartition(".")[0] for token in material.TOKENS}
ACCOUNT = "system:serviceaccount:default:thermostat"


def check(data: bytes) -> None:
    """A verdict within a bounded number of steps and without an exception, whatever the credentials and the replies.

    The client is let in only if there was a reason: a server's pass, an accepted review, a signed token, a certificate
    of a trusted authority, the right password or proof. The first method that is not passed over decides. No message
    and no repr has a secret in it.
    """
    source = Source(data)
    names = source.several(tuple(METHODS), 6)
    request = _request(source)
    performer = _Performer(source, request)
    verdict, trace = run(
        chain(Method(name, METHODS[name]) for name in names), request, performer.perform, EFFECTS * len(names)
    )
    steps = [step for step in trace if step.outcome != "attributes"]
    assert [step.method for step in steps] == names[: len(steps)]
    assert all(step.outcome in ("not relevant", "unavailable") for step in steps[:-1])
    if isinstance(verdict, Granted):
        assert verdict.method == names[len(steps) - 1]
        assert performer.reasons or ("X509" in names and request.certificates and request.certificates[0] in GOOD)
    elif isinstance(verdict, Unavailable):
        assert len(steps) == len(names)
        assert "unavailable" in [step.outcome for step in steps]
    elif isinstance(verdict, Denied):
        assert verdict.reason_code.is_failure


def _request(source: Source) -> AuthRequest:
    usernames = (None, material.USER, SERVICE_ACCOUNT, "\ud7ff\0", source.text(12))
    tokens = tuple(token.encode() for token in (*material.TOKENS, *material.BAD_TOKENS))
    secrets = (None, material.PASSWORD, material.CLIENT_FIRST, material.STRANGER_FIRST, *tokens, source.take(40))
    chains = ((), (), *material.GOOD_CHAINS, *material.BAD_CHAINS, (source.take(20), source.take(20)))
    return AuthRequest(
        client_id=source.text(6),
        username=source.pick(usernames),
        password=source.pick(secrets),
        authentication_method=source.pick((None, None, SERVICE_ACCOUNT, SCRAM, source.text(6))),
        authentication_data=source.pick(secrets),
        certificates=source.pick(chains),
        re_authentication=source.flag(),
        time=material.TIME + source.pick((0, 0, 0, 3600, -1e9, 1e9)),
        entropy=material.ENTROPY,
    )


@final
class _Performer:
    """Answers effects as the input says; `reasons` are the replies that speak for the client."""

    def __init__(self, source: Source, request: AuthRequest) -> None:
        self._source = source
        self._request = request
        self.reasons: list[Reply] = []

    def perform(self, effect: Effect) -> Reply:
        """A reply, of a kind that fits the effect or of any other."""
        kinds = (HttpPost, ReviewToken, ServiceAccountAnnotations, SigningKeys, VerifyPassword, Challenge)
        asked: Any = type(effect) if self._source.below(8) else self._source.pick(kinds)
        reply = Failed("no answer") if self._source.below(8) == 7 else self._reply(asked, effect)
        if self._speaks_for(effect, reply):
            self.reasons.append(reply)
        return reply

    def _speaks_for(self, effect: Effect, reply: Reply) -> bool:
        match effect, reply:
            case HttpPost(), HttpAnswer(status=200):
                return True
            case ReviewToken(), TokenReviewed(authenticated=True):
                return bool({*reply.audiences} & {*material.AUDIENCES})
            case VerifyPassword(), True:
                return self._request.username == material.USER
            case SigningKeys(), tuple():
                request = self._request
                given = (request.password or b"", request.authentication_data or b"")
                return any(text.decode("latin-1").strip().rpartition(".")[0] in SIGNED for text in given)
            case Challenge(data=bytes(data)), Response():
                right = reply.data == material.client_final(data)
                return right and self._request.authentication_data == material.CLIENT_FIRST
        return False

    def _reply(self, asked: type, effect: Effect) -> Reply:
        source = self._source
        if asked is HttpPost:
            bodies = (b"{}", b'{"attributes": {"a": "b"}, "expiry": "2030-01-01T00:00:01Z"}', b'{"reason": 134}')
            return HttpAnswer(
                source.pick((200, 403, 422, 500, source.below(600))), source.pick((*bodies, source.take(200)))
            )
        if asked is ReviewToken:
            asked_for = effect.token if isinstance(effect, ReviewToken) else ""
            return TokenReviewed(
                authenticated=source.flag(),
                username=source.pick((ACCOUNT, source.text(40))),
                audiences=tuple(source.several(("aio-internal", "another"), 2)),
                error=source.pick(
                    ("", source.text(60), asked_for, asked_for[20:60])
                ),  # a server may quote its question
            )
        if asked is ServiceAccountAnnotations:
            return {
                source.pick(("aio-broker-auth/", "")) + source.text(9): source.text(9) for _ in range(source.below(4))
            }
        if asked is SigningKeys:
            return self._keys()
        if asked is VerifyPassword:
            return source.flag()
        challenge, first = getattr(effect, "data", None), self._request.authentication_data
        if source.flag() and challenge is not None and first is not None:
            return Response(material.client_final(challenge, first))
        return Response(source.take(80))

    def _keys(self) -> Reply:
        if self._source.below(4):
            return tuple(material.JWKS["keys"])
        try:
            keys = json.loads(self._source.take(250))
        except (ValueError, RecursionError):
            return ()
        return tuple(key for key in keys if isinstance(key, dict)) if isinstance(keys, list) else ()
