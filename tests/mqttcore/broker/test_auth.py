"""Authentication and re-authentication (section 4.12) as the broker conducts them, and the expiry of credentials."""

from collections.abc import Callable
from typing import Any

import pytest

from mqttcore import (
    V5,
    V311,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    Publish,
    ReasonCode,
    Subscribe,
    Will,
)
from mqttcore.auth import (
    Action,
    Authentication,
    Authenticator,
    AuthRequest,
    Challenge,
    Denied,
    Effect,
    Failed,
    Granted,
    NotRelevant,
    Principal,
    Response,
    Trace,
    Unavailable,
    Verdict,
)
from mqttcore.broker import Transport
from mqttcore.broker.reports import Connected, Decided, Disconnected, Reauthenticated, Refused
from tests.mqttcore.broker.support import WALL, Network, Peer, subscription

VERSIONS = pytest.mark.parametrize("version", [V311, V5])


class Ask(Effect):
    """Something for the shell to do."""


def asking(request: AuthRequest) -> Authentication:
    """The verdict is the reply to one effect."""
    reply = yield Ask()
    return reply if isinstance(reply, Verdict) else Denied("no verdict")


def at_once(verdict: Verdict) -> Authenticator:
    def authenticate(request: AuthRequest) -> Authentication:
        return verdict
        yield

    return authenticate


def challenging(rounds: int, verdict: Verdict) -> Authenticator:
    """Challenges the client a number of times; each answer must repeat the challenge backwards."""

    def authenticate(request: AuthRequest) -> Authentication:
        for number in range(rounds):
            question = b"%d?" % number
            reply = yield Challenge(question)
            if not isinstance(reply, Response) or reply.data != question[::-1]:
                return Denied("wrong answer", ReasonCode.BAD_USER_NAME_OR_PASSWORD)
        return verdict

    return authenticate


def broken(request: AuthRequest) -> Authentication:
    raise RuntimeError("secret")
    yield


def raising(request: AuthRequest) -> Authentication:
    yield Ask()
    raise RuntimeError("secret")


def verdictless(request: AuthRequest) -> Any:
    yield Ask()
    return True


def endless(request: AuthRequest) -> Authentication:
    while True:
        yield Ask()


def network(authenticate: Authenticator, **limits: Any) -> Network:
    net = Network(**limits)
    net.policy = net.policy_with(authenticate=authenticate)
    return net


def watcher_of(net: Network) -> Peer:
    """A client that sees everything, let in at another port."""
    peer = net.connect("watcher", policy=net.policy_with())
    peer.subscribe("#")
    return peer


class TestConnect:
    @pytest.mark.conformance("MQTT-3.1.4-2", "MQTT-3.1.4-5", "MQTT-4.12.0-4")
    @pytest.mark.parametrize(
        ("verdict", "code", "return_code"),
        [
            (Granted(), ReasonCode.SUCCESS, 0),
            (Denied("x"), ReasonCode.NOT_AUTHORIZED, 5),
            (Denied("x", ReasonCode.BAD_USER_NAME_OR_PASSWORD), ReasonCode.BAD_USER_NAME_OR_PASSWORD, 4),
            (Denied("x", ReasonCode.BAD_AUTHENTICATION_METHOD), ReasonCode.BAD_AUTHENTICATION_METHOD, 5),
            (Denied("x", ReasonCode.SUCCESS), ReasonCode.NOT_AUTHORIZED, 5),  # a denial is never a success
            (Denied("x", ReasonCode.KEEP_ALIVE_TIMEOUT), ReasonCode.NOT_AUTHORIZED, 5),  # none of CONNACK's
            (NotRelevant("x"), ReasonCode.NOT_AUTHORIZED, 5),
            (Unavailable("x"), ReasonCode.NOT_AUTHORIZED, 5),
            (Granted(expires_at=WALL), ReasonCode.NOT_AUTHORIZED, 5),
            (Granted(expires_at=0.0), ReasonCode.NOT_AUTHORIZED, 5),
        ],
    )
    @VERSIONS
    @pytest.mark.parametrize("effect", [False, True])
    def test_the_verdict_is_the_answer(
        self, verdict: Verdict, code: ReasonCode, return_code: int, version: int, effect: bool
    ) -> None:
        net = network(asking if effect else at_once(verdict))
        peer = net.peer()
        peer.send(Connect(client_id="a", protocol_version=version, password=None))
        if effect:
            assert peer.link.paused
            assert not peer.received
            net.perform(verdict)
        assert not peer.link.paused
        connack = peer.expect(ConnAck)
        if version == V5:
            assert connack.reason_code is code
        assert (peer.closed is None) == (return_code == 0)
        assert bool(net.broker.sessions) == (return_code == 0)
        if return_code:
            assert connack.reason_string is None  # the client learns no more
            [report] = net.take_reports(Refused)
            assert report.reason_code is code
        else:
            assert net.take_reports(Connected)

    @pytest.mark.parametrize("authenticate", [broken, raising, verdictless, endless])
    @VERSIONS
    def test_without_a_grant_there_is_no_access(self, authenticate: Authenticator, version: int) -> None:
        net = network(authenticate)
        watcher = watcher_of(net)
        peer = net.peer()
        peer.send(
            Connect(client_id="a", protocol_version=version, will=Will(topic="will", retain=True, payload=b"w")),
            Subscribe(1, (subscription("#"),)),
            Publish("t", b"x", retain=True),
        )
        for _ in range(100):
            if peer.closed:
                break
            assert not peer.received
            net.perform(None)
        assert peer.expect(ConnAck).reason_code is ReasonCode.NOT_AUTHORIZED
        assert peer.closed
        net.advance(1e6)
        assert not watcher.received
        assert {*net.broker.sessions} == {"watcher"}
        assert "secret" not in repr(net.reports)

    def test_the_request_says_who_where_and_when(self) -> None:
        requests: list[AuthRequest] = []

        def authenticate(request: AuthRequest) -> Authentication:
            requests.append(request)
            yield Ask()
            return Granted()

        net = network(authenticate)
        net.advance(5)
        for client_id in ("a", ""):
            peer = net.peer(transport=Transport("1.2.3.4:5", "tls", (b"der",)))
            peer.send(
                Connect(
                    client_id=client_id,
                    username="u",
                    password=b"p",
                    authentication_method="m",
                    authentication_data=b"d",
                )
            )
        net.broker.wall_offset = 0.0
        net.peer().send(Connect(client_id="c", protocol_version=V311))
        first, second, third = requests
        assert first.client_id == "a"
        assert second.client_id.startswith("auto-")
        for request in (first, second):
            assert (request.username, request.password, request.authentication_method) == ("u", b"p", "m")
            assert (request.authentication_data, request.certificates, request.peer) == (b"d", (b"der",), "1.2.3.4:5")
            assert (request.time, request.protocol_version, request.re_authentication) == (WALL + 5, V5, False)
        assert (third.time, third.protocol_version) == (5, V311)
        assert len({request.entropy for request in requests}) == 3
        assert all(len(request.entropy) == 32 for request in requests)

    @pytest.mark.conformance("MQTT-4.12.0-2", "MQTT-4.12.0-3", "MQTT-4.12.0-5", "MQTT-3.2.0-1")
    @pytest.mark.parametrize("rounds", [1, 2, 10])
    def test_challenges(self, rounds: int) -> None:
        net = network(challenging(rounds, Granted(data=b"welcome")))
        peer = net.peer()
        peer.send(Connect(client_id="a", authentication_method="m"))
        for number in range(rounds):
            challenge = peer.expect(Auth)
            assert challenge.reason_code is ReasonCode.CONTINUE_AUTHENTICATION
            assert challenge.authentication_data == b"%d?" % number
            assert not net.broker.sessions
            answer = challenge.authentication_data[::-1]
            peer.send(Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method="m", authentication_data=answer))
        connack = peer.expect(ConnAck)
        assert connack.reason_code is ReasonCode.SUCCESS
        assert (connack.authentication_method, connack.authentication_data) == ("m", b"welcome")

    @pytest.mark.conformance("MQTT-4.12.0-4", "MQTT-3.1.2-30")
    @pytest.mark.parametrize(
        "answer",
        [
            Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method="m", authentication_data=b"wrong"),
            Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method="m"),
            Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method="other", authentication_data=b"?0"),
            Auth(ReasonCode.RE_AUTHENTICATE, authentication_method="m", authentication_data=b"?0"),
            Auth(ReasonCode.SUCCESS, authentication_method="m", authentication_data=b"?0"),
            Publish("t"),
            PingReq(),
            Connect(client_id="a", authentication_method="m"),
            Disconnect(),
        ],
        ids=repr,
    )
    def test_whatever_else_the_client_sends_ends_it(self, answer: Any) -> None:
        net = network(challenging(1, Granted()))
        watcher = watcher_of(net)
        peer = net.peer()
        peer.send(Connect(client_id="a", authentication_method="m", will=Will(topic="will")))
        peer.take(Auth)
        peer.send(answer)
        assert peer.closed
        if not isinstance(answer, Disconnect):
            code = peer.ended_with()
            assert code is not None
            assert code.is_failure
        assert {*net.broker.sessions} == {"watcher"}
        assert not watcher.received

    @pytest.mark.conformance("MQTT-4.12.0-6")
    @VERSIONS
    def test_a_challenge_needs_a_method(self, version: int) -> None:
        net = network(challenging(1, Granted()))
        peer = net.peer()
        peer.send(Connect(client_id="a", protocol_version=version))
        assert peer.ended_with() is ReasonCode.NOT_AUTHORIZED
        assert not net.broker.sessions

    @pytest.mark.conformance("MQTT-4.12.0-6")
    def test_without_a_method_the_connack_has_none(self) -> None:
        net = network(at_once(Granted(data=b"x")))
        connack = net.connect("a").connack
        assert connack.authentication_method is None
        assert connack.authentication_data is None

    @pytest.mark.conformance("MQTT-4.12.0-1")
    def test_without_an_authenticator_there_is_no_method(self) -> None:
        net = Network()
        peer = net.peer()
        peer.send(Connect(client_id="a", authentication_method="m"))
        assert peer.ended_with() is ReasonCode.BAD_AUTHENTICATION_METHOD

    @VERSIONS
    def test_what_is_sent_early_waits_for_the_verdict(self, version: int) -> None:
        net = network(asking)
        watcher = watcher_of(net)
        peer = net.peer()
        peer.send(Connect(client_id="a", protocol_version=version), Publish("t", b"x", qos=1, packet_id=1))
        peer.send(Publish("t", b"y", qos=1, packet_id=2))
        assert not peer.received
        assert not watcher.received
        net.perform(Granted())
        assert [type(packet).__name__ for packet in peer.received] == ["ConnAck", "PubAck", "PubAck"]
        assert watcher.payloads() == [b"x", b"y"]

    def test_what_is_sent_early_is_bounded(self) -> None:
        net = network(asking, maximum_early_data=1024)
        peer = net.peer()
        peer.send(Connect(client_id="a"))
        peer.send_bytes(b"\x30" * 1024)
        assert peer.closed is None
        peer.send_bytes(b"\x30")
        assert peer.ended_with() is ReasonCode.QUOTA_EXCEEDED

    @pytest.mark.parametrize("ending", ["cut", "time", "shutdown"])
    def test_a_reply_that_comes_too_late_is_ignored(self, ending: str) -> None:
        net = network(asking, authentication_timeout=30)
        peer = net.peer()
        peer.send(Connect(client_id="a", will=Will(topic="w")))
        if ending == "cut":
            peer.cut()
        elif ending == "time":
            net.advance(29.9)
            assert peer.closed is None
            net.advance(0.1)
            assert peer.ended_with() is ReasonCode.NOT_AUTHORIZED
        else:
            net.broker.shutdown(net.now)
            net.settle()
        assert peer.closed
        net.reports.clear()
        net.perform(Granted())
        assert not net.reports
        assert not net.broker.sessions
        assert net.broker.next_deadline() == float("inf")

    def test_each_reply_counts_once(self) -> None:
        verdicts: list[object] = []

        def authenticate(request: AuthRequest) -> Authentication:
            verdicts.append((yield Ask()))
            verdicts.append((yield Ask()))
            return Granted()

        net = network(authenticate)
        peer = net.peer()
        peer.send(Connect(client_id="a"))
        first = net.perform("first")
        for _ in range(3):
            net.broker.resume(first, "again", net.now)
            net.settle()
        assert verdicts == ["first"]
        assert not peer.received
        second = net.perform("second")
        net.broker.resume(second, "again", net.now)
        net.settle()
        assert peer.expect(ConnAck).reason_code is ReasonCode.SUCCESS
        assert verdicts == ["first", "second"]

    def test_a_failure_is_a_reply(self) -> None:
        def authenticate(request: AuthRequest) -> Authentication:
            reply = yield Ask()
            return Unavailable(reply.kind) if isinstance(reply, Failed) else Granted()

        net = network(authenticate)
        peer = net.peer()
        peer.send(Connect(client_id="a"))
        net.perform(Failed("timeout"))
        assert peer.ended_with() is ReasonCode.NOT_AUTHORIZED
        [report] = net.take_reports(Refused)
        assert report.reason == "timeout"

    def test_a_slow_challenge_is_bounded_too(self) -> None:
        net = network(challenging(5, Granted()), authentication_timeout=30)
        peer = net.peer()
        peer.send(Connect(client_id="a", authentication_method="m"))
        for number in range(3):
            net.advance(9)
            answer = b"?%d" % number
            peer.send(Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method="m", authentication_data=answer))
        net.advance(3)
        assert peer.ended_with() is ReasonCode.NOT_AUTHORIZED

    @pytest.mark.conformance("MQTT-3.1.4-3")
    def test_two_of_one_name_under_way_do_no_harm(self) -> None:
        net = network(asking)
        first, second, third = net.peer(), net.peer(), net.peer()
        for peer in (first, second, third):
            peer.send(Connect(client_id="a"))
        one, two, three = net.performs
        net.performs.clear()
        net.broker.resume(two, Granted(), 0.0)
        net.settle()
        assert second.expect(ConnAck).reason_code is ReasonCode.SUCCESS
        net.broker.resume(one, Denied(), 0.0)
        net.settle()
        assert first.closed
        assert second.closed is None  # only an accepted CONNECT takes over
        net.broker.resume(three, Granted(), 0.0)
        net.settle()
        assert second.ended_with() is ReasonCode.SESSION_TAKEN_OVER
        assert third.closed is None

    def test_keep_alive_counts_from_the_verdict_and_not_from_the_time_out(self) -> None:
        net = network(asking, authentication_timeout=1000)
        peer = net.peer()
        peer.send(Connect(client_id="a", keep_alive=10))
        net.advance(100)
        net.perform(Granted())
        peer.expect(ConnAck)
        net.advance(14.9)
        assert peer.closed is None
        net.advance(0.2)
        assert peer.ended_with() is ReasonCode.KEEP_ALIVE_TIMEOUT


class TestExpiry:
    @pytest.mark.parametrize("effect", [False, True])
    @pytest.mark.parametrize("seconds", [0.5, 5, 100])
    @VERSIONS
    def test_the_connection_closes_without_a_word_and_the_will_is_due(
        self, effect: bool, seconds: float, version: int
    ) -> None:
        verdict = Granted(expires_at=WALL + seconds)
        net = network(asking if effect else at_once(verdict))
        watcher = watcher_of(net)
        peer = net.peer()
        expiry = 1000 if version == V5 else None
        will = Will(topic="will", payload=b"w")
        peer.send(
            Connect(
                client_id="a", will=will, session_expiry_interval=expiry, protocol_version=version, clean_start=False
            )
        )
        if effect:
            net.perform(verdict)
        peer.expect(ConnAck)
        peer.subscribe("x")
        net.advance(seconds - 0.01)
        assert peer.closed is None
        net.advance(0.01)
        assert peer.closed == "abrupt"
        assert not peer.received
        assert watcher.payloads() == [b"w"]
        assert "a" in net.broker.sessions
        [report] = net.take_reports(Disconnected)
        assert report.reason == "the credential has expired"

    def test_a_fault_that_another_deadline_meets_does_not_put_it_off(self) -> None:
        def authorize(principal: Principal, action: Action, what: str) -> bool:
            if what == "will" and net.now:
                raise RuntimeError("a bug")
            return True

        net = Network()
        net.policy = net.policy_with(authenticate=at_once(Granted(expires_at=WALL + 10)), authorize=authorize)
        peers = [net.connect("a"), net.connect("b", will=Will(topic="will")), net.connect("c")]
        net.now = 10
        with pytest.raises(RuntimeError):
            net.broker.handle_timeout(net.now)
        assert net.broker.next_deadline() <= net.now
        net.broker.handle_timeout(net.now)
        net.settle()
        assert [peer.closed for peer in peers] == ["abrupt"] * 3

    def test_activity_does_not_put_it_off(self) -> None:
        net = network(at_once(Granted(expires_at=WALL + 10)))
        peer = net.connect("a", keep_alive=3)
        for _ in range(9):
            net.advance(1)
            peer.send(PingReq())
            assert peer.expect(PingResp) == PingResp()
        net.advance(1)
        assert peer.closed == "abrupt"

    @pytest.mark.parametrize("connected", [False, True])
    def test_the_wall_clock_may_be_set(self, connected: bool) -> None:
        net = network(at_once(Granted(expires_at=WALL + 1000)))
        forever = net.connect("b", net.policy_with(authenticate=at_once(Granted())))
        peer = net.connect("a") if connected else None
        net.broker.wall_offset = WALL + 990
        if peer is None:
            peer = net.connect("a")
        net.broker.wall_offset = WALL + 990  # nothing new
        net.advance(9.9)
        assert peer.closed is None
        net.advance(0.1)
        assert peer.closed == "abrupt"
        net.advance(1e6)
        assert forever.closed is None


class TestReauthentication:
    METHOD = "m"

    def connected(self, first: Verdict | None = None, **limits: Any) -> tuple[Network, Peer]:
        net = network(asking, **limits)
        peer = net.peer()
        peer.send(Connect(client_id="a", username="u", authentication_method=self.METHOD, will=Will(topic="will")))
        net.perform(Granted() if first is None else first)
        peer.expect(ConnAck)
        net.reports.clear()
        return net, peer

    def auth(self, peer: Peer, code: ReasonCode = ReasonCode.RE_AUTHENTICATE, method: str = METHOD) -> None:
        peer.send(Auth(code, authentication_method=method, authentication_data=b"token"))

    @pytest.mark.conformance("MQTT-4.12.0-5")
    def test_success_renews_the_credential(self) -> None:
        net, peer = self.connected(Granted(expires_at=WALL + 10))
        for _ in range(5):
            net.advance(5)
            self.auth(peer)
            net.perform(Granted(expires_at=net.now + WALL + 10, data=b"ok"))
            answer = peer.expect(Auth)
            assert answer == Auth(ReasonCode.SUCCESS, authentication_method="m", authentication_data=b"ok")
        assert len(net.take_reports(Reauthenticated)) == 5
        net.advance(9.9)
        assert peer.closed is None
        net.advance(0.1)
        assert peer.closed == "abrupt"

    @pytest.mark.parametrize("expires_in", [2, 20])
    def test_a_shorter_credential_holds_from_then_on(self, expires_in: int) -> None:
        net, peer = self.connected(Granted(expires_at=WALL + 1000))
        self.auth(peer)
        net.perform(Granted(expires_at=WALL + expires_in))
        net.advance(expires_in - 0.1)
        assert peer.closed is None
        net.advance(0.1)
        assert peer.closed == "abrupt"

    def test_traffic_goes_on_meanwhile(self) -> None:
        net, peer = self.connected()
        watcher = watcher_of(net)
        self.auth(peer)
        assert not peer.link.paused
        peer.subscribe("t")
        peer.publish("x", b"1", 2)
        net.publish("t", b"2", qos=2)
        assert peer.payloads() == [b"2"]
        assert watcher.payloads() == [b"1", b"2"]
        net.perform(Granted())
        assert len(peer.take(Auth)) == 1

    @pytest.mark.parametrize("again", [ReasonCode.RE_AUTHENTICATE, ReasonCode.CONTINUE_AUTHENTICATION])
    def test_when_no_verdict_is_possible_the_old_credential_stays(self, again: ReasonCode) -> None:
        net, peer = self.connected(Granted(expires_at=WALL + 100))
        self.auth(peer)
        net.perform(Unavailable("down"))
        assert peer.expect(Auth) == Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method="m")
        [report] = net.take_reports(Reauthenticated)
        assert (report.reason_code, report.reason) == (ReasonCode.CONTINUE_AUTHENTICATION, "down")
        net.advance(50)
        self.auth(peer, again)
        net.perform(Granted(expires_at=WALL + 1000))
        assert peer.expect(Auth).reason_code is ReasonCode.SUCCESS
        net.advance(900)
        assert peer.closed is None

    def test_without_a_new_one_the_old_credential_expires(self) -> None:
        net, peer = self.connected(Granted(expires_at=WALL + 100))
        self.auth(peer)
        net.perform(Unavailable("down"))
        peer.received.clear()
        net.advance(99.9)
        assert peer.closed is None
        net.advance(0.1)
        assert peer.closed == "abrupt"
        assert not peer.received

    def test_a_client_that_tries_again_at_once_is_held_back(self) -> None:
        net, peer = self.connected(reauthentication_interval=1.0)
        tries = 0
        self.auth(peer)
        while net.now < 10:
            while net.performs:
                tries += 1
                net.perform(Unavailable("down"))
                peer.expect(Auth)
                self.auth(peer, ReasonCode.CONTINUE_AUTHENTICATION)
            net.advance(0.1)
        assert 9 <= tries <= 11
        assert peer.closed is None

    @pytest.mark.conformance("MQTT-4.12.1-2")
    @pytest.mark.parametrize(
        ("verdict", "code"),
        [
            (Denied("no"), ReasonCode.NOT_AUTHORIZED),
            (NotRelevant("no"), ReasonCode.NOT_AUTHORIZED),
            (Denied("no", ReasonCode.BAD_USER_NAME_OR_PASSWORD), ReasonCode.NOT_AUTHORIZED),  # CONNACK's alone
            (Denied("no", ReasonCode.BANNED), ReasonCode.NOT_AUTHORIZED),
            (Denied("no", ReasonCode.SUCCESS), ReasonCode.NOT_AUTHORIZED),
            (Denied("no", ReasonCode.QUOTA_EXCEEDED), ReasonCode.QUOTA_EXCEEDED),
            (Granted(expires_at=WALL - 1), ReasonCode.NOT_AUTHORIZED),
        ],
    )
    def test_a_refusal_ends_the_connection(self, verdict: Verdict, code: ReasonCode) -> None:
        net, peer = self.connected()
        watcher = watcher_of(net)
        self.auth(peer)
        net.perform(verdict)
        assert peer.ended_with() is code
        assert not peer.take(Auth)
        assert watcher.messages() == [("will", b"", 0)]
        [report] = net.take_reports(Disconnected)
        assert report.by == "us"
        assert report.reason.startswith("re-authentication was refused")

    def test_a_credential_that_cannot_be_renewed(self) -> None:
        net, peer = self.connected(Granted(renewable=False))
        self.auth(peer)
        assert not net.performs
        assert peer.ended_with() is ReasonCode.NOT_AUTHORIZED

    @pytest.mark.parametrize(
        "act",
        [
            pytest.param(
                lambda self, peer: self.auth(peer, method="other"), marks=pytest.mark.conformance("MQTT-4.12.1-1")
            ),
            lambda self, peer: self.auth(peer, ReasonCode.CONTINUE_AUTHENTICATION),  # nobody asked
            lambda self, peer: self.auth(peer, ReasonCode.SUCCESS),
            lambda self, peer: (self.auth(peer), self.auth(peer)),  # while one is being decided
            lambda self, peer: (self.auth(peer), self.auth(peer, ReasonCode.CONTINUE_AUTHENTICATION)),
            lambda self, peer: peer.send_bytes(b"\xf0\x00"),
            lambda self, peer: peer.send_bytes(b"\xf0\x02\x19\x00"),  # no method
        ],
    )
    def test_out_of_turn_is_a_protocol_error(self, act: Callable[["TestReauthentication", Peer], object]) -> None:
        net, peer = self.connected()
        act(self, peer)
        assert peer.ended_with() is ReasonCode.PROTOCOL_ERROR
        for _ in net.performs[:]:
            net.perform(Granted())
        assert not net.broker.sessions

    @pytest.mark.conformance("MQTT-4.12.0-7")
    def test_without_a_method_in_connect(self) -> None:
        net = network(at_once(Granted()))
        peer = net.connect("a")
        self.auth(peer)
        assert peer.ended_with() is ReasonCode.PROTOCOL_ERROR

    def test_version_4_has_no_auth(self) -> None:
        net = network(at_once(Granted()))
        peer = net.connect("a", protocol_version=V311)
        peer.send_bytes(b"\xf0\x00")
        assert peer.closed

    @pytest.mark.parametrize("again", [ReasonCode.CONTINUE_AUTHENTICATION, ReasonCode.RE_AUTHENTICATE])
    def test_challenges(self, again: ReasonCode) -> None:
        net = Network()
        requests: list[AuthRequest] = []

        def authenticate(request: AuthRequest) -> Authentication:
            requests.append(request)
            if not request.re_authentication:
                return Granted()
            reply = yield Challenge(b"q")
            return Granted(data=b"fine") if reply == Response(b"token") else Denied()

        net.policy = net.policy_with(authenticate=authenticate)
        peer = net.connect("a", authentication_method="m", authentication_data=b"1", password=b"p")
        self.auth(peer)
        assert peer.expect(Auth).authentication_data == b"q"
        assert requests[-1].authentication_data == b"token"
        assert requests[-1].password is None
        self.auth(peer, again)
        if again is ReasonCode.RE_AUTHENTICATE:  # begins anew
            assert peer.expect(Auth).authentication_data == b"q"
            self.auth(peer, ReasonCode.CONTINUE_AUTHENTICATION)
        answer = peer.expect(Auth)
        assert (answer.reason_code, answer.authentication_data) == (ReasonCode.SUCCESS, b"fine")

    @pytest.mark.parametrize("waits_for", ["shell", "client"])
    def test_it_takes_no_longer_than_its_time(self, waits_for: str) -> None:
        def authenticate(request: AuthRequest) -> Authentication:
            if request.re_authentication:
                yield Trace("method", "asked")
                yield Ask() if waits_for == "shell" else Challenge(b"?")
            return Granted(expires_at=WALL + 2000)

        net = network(authenticate, authentication_timeout=30)
        peer = net.connect("a", authentication_method="m")
        net.reports.clear()
        net.advance(1000)
        self.auth(peer)
        peer.take(Auth)
        net.advance(29.9)
        assert peer.closed is None
        net.advance(0.1)
        [decided] = net.take_reports(Decided)
        assert (decided.reason, decided.trace) == ("no verdict within 30 seconds", (Trace("method", "asked"),))
        if waits_for == "client":
            assert decided.outcome == "denied"
            assert peer.ended_with() is ReasonCode.NOT_AUTHORIZED
            assert not net.broker.links
            return
        assert decided.outcome == "unavailable"  # whoever was asked did not answer: the old credential stays in force
        assert peer.expect(Auth).reason_code is ReasonCode.CONTINUE_AUTHENTICATION
        net.perform(Granted())  # too late
        assert not peer.received
        net.advance(969.9)
        assert peer.closed is None
        net.advance(0.1)
        assert peer.closed == "abrupt"

    def test_an_identity_that_may_not_connect_may_not_stay(self) -> None:
        def authorize(principal: Principal, action: Action, what: str) -> bool:
            return action is not Action.CONNECT or principal.username == "u"

        net = Network()
        net.policy = net.policy_with(authenticate=asking, authorize=authorize)
        peer = net.peer()
        peer.send(Connect(client_id="a", username="u", authentication_method="m"))
        net.perform(Granted())
        peer.expect(ConnAck)
        self.auth(peer)
        net.perform(Granted(username="v"))
        assert peer.ended_with() is ReasonCode.NOT_AUTHORIZED
        [disconnected] = net.take_reports(Disconnected)
        assert disconnected.reason == "re-authentication was refused: not authorized to connect"

    def test_permissions_and_identity_become_the_new_ones(self) -> None:
        seen: list[Principal] = []

        def authorize(principal: Principal, action: Action, what: str) -> bool:
            seen.append(principal)
            return action is Action.CONNECT or principal.attributes.get("level") == "high"

        net = Network()
        net.policy = net.policy_with(authenticate=asking, authorize=authorize)
        peer = net.peer()
        peer.send(Connect(client_id="a", username="u", authentication_method="m"))
        net.perform(Granted(attributes={"level": "high"}))
        peer.expect(ConnAck)
        assert peer.publish("t", b"x", 1) is not ReasonCode.NOT_AUTHORIZED
        self.auth(peer)
        assert peer.publish("t", b"x", 1) is not ReasonCode.NOT_AUTHORIZED  # not decided yet
        net.perform(Granted(attributes={"level": "low"}))
        assert peer.publish("t", b"x", 1) is ReasonCode.NOT_AUTHORIZED
        assert peer.subscribe("t") == [ReasonCode.NOT_AUTHORIZED]
        self.auth(peer)
        net.perform(Granted(username="v", attributes={"level": "high"}))
        assert peer.subscribe("t") == [2]
        assert [(principal.client_id, principal.username) for principal in (seen[0], seen[-1])] == [
            ("a", "u"),
            ("a", "v"),
        ]
