"""From CONNECT to CONNACK, and re-authentication: the checks, the exchange with the authenticator, the answer."""

from collections.abc import Callable
from functools import lru_cache
from math import inf
from typing import Any, final

from mqttcore import packets as p
from mqttcore.auth import (
    Action,
    AuthRequest,
    Challenge,
    Denied,
    Effect,
    Exchange,
    Granted,
    NotRelevant,
    Principal,
    Reply,
    Response,
    Standing,
    Unavailable,
    Verdict,
    outcome,
)
from mqttcore.broker import actions, reports
from mqttcore.broker.distribution import Distributor
from mqttcore.broker.link import Link
from mqttcore.broker.registry import Registry
from mqttcore.broker.sessions import ServerSession
from mqttcore.codec import encode
from mqttcore.codes import CONNACK_CODES, DISCONNECT_CODES, V5, ReasonCode
from mqttcore.connection import FRAME_MAXIMUM
from mqttcore.limits import Limits
from mqttcore.topics import SERVER_PREFIX

MAY_NOT_CONNECT = "not authorized to connect"
"""Why a client whose credentials are good is refused, or sent away."""
NO_ENHANCED_AUTHENTICATION = "there is no enhanced authentication here"


@final
class Handshake:
    """Decides on CONNECT and AUTH for every link of a broker.

    `wall_offset` is Unix time less monotonic time, seconds.
    """

    def __init__(
        self,
        registry: Registry,
        distributor: Distributor,
        output: list[actions.Action],
        finish: Callable[[Link, float], None],
        wall_offset: float,
    ) -> None:
        self.wall_offset = wall_offset
        self._registry = registry
        self._distributor = distributor
        self._actions = output
        self._finish = finish  # carries out the end of a connection that another one has taken over
        self._connects: dict[Link, p.Connect] = {}  # those under way

    # ------------------------------------------------------------------------------------------- the exchange

    def connect(self, link: Link, connect: p.Connect, now: float) -> None:
        """A CONNECT has arrived, section 3.1.4."""
        link.client_id = connect.client_id  # [MQTT-3.1.3-5]
        if not connect.client_id:
            if connect.protocol_version < V5 and not connect.clean_start:  # [MQTT3-3.1.3-8]
                self._refuse(
                    link, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "a lasting session needs a client identifier", now
                )
                return
            link.client_id = self._registry.assign_client_id()  # [MQTT-3.1.3-7] [MQTT3-3.1.3-6]
        link.principal = Principal(link.client_id, connect.username)
        self._connects[link] = connect
        if link.policy.authenticate is None:
            if connect.authentication_method is not None:  # [MQTT-4.12.0-1]
                self._refuse(link, ReasonCode.BAD_AUTHENTICATION_METHOD, NO_ENHANCED_AUTHENTICATION, now)
            else:
                self._decide(link, Granted(username=connect.username), now)
            return
        self._begin(
            link,
            AuthRequest(
                client_id=link.client_id,
                username=connect.username,
                password=connect.password,
                authentication_method=connect.authentication_method,
                authentication_data=connect.authentication_data,
                certificates=link.transport.certificates,
                peer=link.transport.peer,
                time=now + self.wall_offset,
                protocol_version=connect.protocol_version,
                entropy=self._registry.draw(),
            ),
            now,
        )

    def auth(self, link: Link, packet: p.Auth, now: float) -> None:
        """An AUTH has arrived: the answer to a challenge, or the beginning of a re-authentication (section 4.12.1)."""
        exchange = link.exchange
        if exchange is not None and packet.reason_code is ReasonCode.CONTINUE_AUTHENTICATION:
            self._go_on(link, exchange.resume(Response(packet.authentication_data)), now)
            return
        self.abandon(link)
        if not link.renewable:
            self._decide(link, Denied("this credential cannot be renewed on the connection"), now)
            return
        allowed_at = link.undecided_at + link.policy.limits.reauthentication_interval
        if now < allowed_at:
            link.retry = packet
            link.retry_at = allowed_at
        else:
            self._reauthenticate(link, packet, now)

    def _reauthenticate(self, link: Link, packet: p.Auth, now: float) -> None:
        self._begin(
            link,
            AuthRequest(
                client_id=link.client_id,
                authentication_method=packet.authentication_method,
                authentication_data=packet.authentication_data,
                peer=link.transport.peer,
                time=now + self.wall_offset,
                re_authentication=True,
                entropy=self._registry.draw(),
            ),
            now,
        )

    def resume(self, perform: actions.Perform, reply: Reply, now: float) -> None:
        """An effect has been performed; ignored if its exchange is over."""
        link = perform.link
        if link.perform is perform and link.exchange is not None:
            link.perform = None
            self._go_on(link, link.exchange.resume(reply), now)

    def handle_timeout(self, link: Link, now: float) -> None:
        """The exchange has taken too long, or a re-authentication that was held back may begin."""
        if link.retry is not None and now >= link.retry_at:
            packet, link.retry, link.retry_at = link.retry, None, inf
            self._reauthenticate(link, packet, now)
        elif now >= link.exchange_deadline:
            # Is it the client that did not answer, or whoever was asked about it?
            late = Denied if link.perform is None else Unavailable
            self._conclude(link, late(f"no verdict within {link.policy.limits.authentication_timeout:g} seconds"), now)

    def abandon(self, link: Link) -> None:
        """End what is under way without a verdict."""
        if link.exchange is not None:
            link.exchange.abandon()
            link.exchange = None
        link.exchange_policy = None  # or it would keep alive what a change has replaced
        link.perform = None
        link.exchange_deadline = inf

    def forget(self, link: Link) -> None:
        """The connection is over."""
        self.abandon(link)
        link.retry, link.retry_at = None, inf
        self._connects.pop(link, None)

    def _begin(self, link: Link, request: AuthRequest, now: float) -> None:
        authenticate = link.policy.authenticate
        if authenticate is None:  # any more, when a connected client re-authenticates
            self._decide(link, Denied(NO_ENHANCED_AUTHENTICATION, ReasonCode.BAD_AUTHENTICATION_METHOD), now)
            return
        limits = link.policy.limits
        link.exchange_policy = link.policy
        link.exchange = Exchange(authenticate, request, limits.authentication_steps)
        link.exchange_deadline = now + limits.authentication_timeout
        self._go_on(link, link.exchange.start(), now)

    def _go_on(self, link: Link, step: Effect | Verdict, now: float) -> None:
        if isinstance(step, Challenge) and link.connection.authentication_method is None:
            step = Denied("a challenge needs an Authentication Method")  # [MQTT-4.12.0-6]
        if isinstance(step, Verdict):
            self._conclude(link, step, now)
        elif isinstance(step, Challenge):
            self._send_auth(link, ReasonCode.CONTINUE_AUTHENTICATION, step.data, now)
        else:
            link.perform = actions.Perform(link, step)
            self._actions.append(link.perform)

    def _send_auth(self, link: Link, code: ReasonCode, data: bytes | None, now: float) -> None:
        packet = p.Auth(code, authentication_method=link.connection.authentication_method, authentication_data=data)
        self._distributor.send(link, packet, now)

    # --------------------------------------------------------------------------------------------- the verdict

    def _conclude(self, link: Link, verdict: Verdict, now: float) -> None:
        """The exchange is over."""
        expires_at = verdict.expires_at if isinstance(verdict, Granted) else None
        if expires_at is not None and expires_at <= now + self.wall_offset:
            verdict = Denied("the credential has expired")
        if isinstance(verdict, Granted) and link.exchange_policy is not link.policy:
            verdict = self._review_verdict(link, verdict, now)  # those who were connected have been reviewed
        self._report_decision(link, verdict)
        self.abandon(link)
        self._decide(link, verdict, now)

    def _review_verdict(self, link: Link, verdict: Granted, now: float) -> Granted | Denied:
        standing = Standing(verdict.method, link.transport.certificates, _principal(link, verdict))
        for review in (link.policy.revoked, link.policy.review):
            if review is not None and (reason := review(standing, now + self.wall_offset)) is not None:
                return Denied(reason)
        return verdict

    def standing(self, link: Link) -> Standing:
        """What the connected client was let in by."""
        return Standing(link.method, link.transport.certificates, link.principal)

    def _decide(self, link: Link, verdict: Verdict, now: float) -> None:
        connect = self._connects.get(link)
        if connect is not None:
            self._decide_connect(link, connect, verdict, now)
            return
        if isinstance(verdict, Granted) and not self._may_connect(link, _principal(link, verdict)):
            verdict = Denied(MAY_NOT_CONNECT)
        if isinstance(verdict, Granted):
            self._grant(link, verdict, now)
            self._send_auth(link, ReasonCode.SUCCESS, verdict.data, now)
            self._report_reauthentication(link, ReasonCode.SUCCESS, "granted")
        elif isinstance(verdict, Unavailable):
            link.undecided_at = now
            self._send_auth(link, ReasonCode.CONTINUE_AUTHENTICATION, None, now)
            self._report_reauthentication(link, ReasonCode.CONTINUE_AUTHENTICATION, verdict.message)
        else:  # [MQTT-4.12.1-2]
            self._distributor.send(link, p.Disconnect(refusal_code(verdict, re_authentication=True)), now)
            link.connection.explain(f"re-authentication was refused: {verdict.message}")

    def _report_decision(self, link: Link, verdict: Verdict) -> None:
        event = reports.Decided(
            transport=link.transport,
            client_id=link.client_id,
            re_authentication=link.connection.connected,
            trace=() if link.exchange is None else tuple(link.exchange.trace),
            outcome=outcome(verdict),
            reason="" if isinstance(verdict, Granted) else verdict.message,
        )
        self._actions.append(actions.Report(event))

    def _report_reauthentication(self, link: Link, code: ReasonCode, reason: str) -> None:
        event = reports.Reauthenticated(
            transport=link.transport, client_id=link.client_id, reason_code=code, reason=reason
        )
        self._actions.append(actions.Report(event))

    def _grant(self, link: Link, verdict: Granted, now: float) -> None:
        link.principal = _principal(link, verdict)
        link.publisher = None
        link.routes.clear()
        link.method = verdict.method
        link.renewable = verdict.renewable
        link.schedule_review(now)
        link.credential_deadline = inf if verdict.expires_at is None else verdict.expires_at - self.wall_offset
        if link.session is not None:
            link.session.principal = link.principal
            self._registry.judge(link.session, now)

    def _decide_connect(self, link: Link, connect: p.Connect, verdict: Verdict, now: float) -> None:
        if not isinstance(verdict, Granted):
            code = refusal_code(verdict, re_authentication=False)
            self._refuse(link, code, verdict.message or type(verdict).__name__, now)
            return
        self._grant(link, verdict, now)
        refusal = self._check(link, connect)
        if refusal is not None:
            self._refuse(link, *refusal, now)
            return
        self._accept(link, connect, verdict, now)

    def _check(self, link: Link, connect: p.Connect) -> tuple[ReasonCode, str] | None:
        """What speaks against a client whose credentials are good. [MQTT-3.1.4-2]"""
        limits = link.policy.limits
        if not self._may_connect(link, link.principal):
            return ReasonCode.NOT_AUTHORIZED, MAY_NOT_CONNECT
        if not self._registry.has_room(link.client_id):
            return ReasonCode.QUOTA_EXCEEDED, "there are too many sessions"
        will = connect.will
        if will is None:
            return None
        if will.qos > limits.maximum_qos:  # [MQTT-3.2.2-12]
            return ReasonCode.QOS_NOT_SUPPORTED, f"Will QoS {will.qos} is not supported"
        if will.retain and not limits.retain_available:  # [MQTT-3.2.2-13]
            return ReasonCode.RETAIN_NOT_SUPPORTED, "a retained Will is not supported"
        if will.topic.count("/") >= limits.maximum_topic_levels or will.topic.startswith(SERVER_PREFIX):
            return ReasonCode.TOPIC_NAME_INVALID, "the Will Topic is not accepted"
        if limits.check_payload_format and will.payload_format_indicator and not is_utf8(will.payload):
            return ReasonCode.PAYLOAD_FORMAT_INVALID, "the Will Payload is not UTF-8 as it says"
        if not link.port.allows(link.principal, Action.PUBLISH, will.topic):
            self._registry.report_denied(link.transport, link.principal, link.port, Action.PUBLISH, will.topic)
            return ReasonCode.NOT_AUTHORIZED, "not authorized to publish the Will"
        return None

    def _may_connect(self, link: Link, principal: Principal) -> bool:
        allowed = link.port.allows(principal, Action.CONNECT, link.client_id)
        if not allowed:
            self._registry.report_denied(link.transport, principal, link.port, Action.CONNECT, link.client_id)
        return allowed

    def _refuse(self, link: Link, code: ReasonCode, reason: str, now: float) -> None:
        # [MQTT-3.2.2-7] [MQTT-3.1.3-8] [MQTT3-3.1.3-9]; the reason is for the log alone
        self._distributor.send(link, p.ConnAck(reason_code=code), now)
        link.connection.explain(reason)

    def _accept(self, link: Link, connect: p.Connect, verdict: Granted, now: float) -> None:
        del self._connects[link]
        connection = link.connection
        limits = link.policy.limits
        earlier = self._registry.sessions.get(link.client_id)
        if earlier is not None and earlier.link is not None:  # [MQTT-3.1.4-3]
            self._distributor.send(earlier.link, p.Disconnect(ReasonCode.SESSION_TAKEN_OVER), now)
            self._finish(earlier.link, now)
        present = self._registry.attach(link, connect, link.principal, now)  # [MQTT-3.1.4-4]
        session = link.session
        assert session is not None
        link.resumed = present
        data = None
        particular = _particular(link, session, connect, verdict)
        if particular:
            connack = _connack(limits, present, **particular)
        else:
            connack, data = _plain_connack(limits, present, connect.protocol_version)
        self._distributor.send(link, connack, now, data)  # [MQTT-3.1.4-5]
        if not connection.connected:
            # the client's Maximum Packet Size forbids even the CONNACK, and nothing goes before it [MQTT-3.2.0-1]
            return
        link.aliases = min(connection.peer_topic_alias_maximum, limits.assigned_topic_aliases) > 0
        if not link.aliases and connection.peer_maximum_packet_size == FRAME_MAXIMUM:
            link.layout = connection.version
        for again in session.resume(connection.peer_receive_maximum):
            self._distributor.send(link, again, now)
        event = reports.Connected(
            transport=link.transport,
            client_id=link.client_id,
            username=link.principal.username,
            protocol_version=connect.protocol_version,
            session_present=present,
            keep_alive=connection.keep_alive,
        )
        self._actions.append(actions.Report(event))
        if present:
            self._distributor.pump(link, now)


def _connack(limits: Limits, session_present: bool, **particular: Any) -> p.ConnAck:
    """A CONNACK of success, whatever was requested without Response Information. [MQTT-3.1.2-28]"""
    return p.ConnAck(
        session_present=session_present,  # [MQTT-3.2.2-2] [MQTT-3.2.2-3]
        receive_maximum=None if limits.receive_maximum == 65_535 else limits.receive_maximum,
        maximum_qos=limits.maximum_qos if limits.maximum_qos < 2 else None,  # [MQTT-3.2.2-9]
        retain_available=None if limits.retain_available else False,
        maximum_packet_size=None if limits.maximum_packet_size >= FRAME_MAXIMUM else limits.maximum_packet_size,
        topic_alias_maximum=limits.topic_alias_maximum or None,
        wildcard_subscription_available=None if limits.wildcard_subscription_available else False,
        subscription_identifiers_available=None if limits.subscription_identifiers_available else False,
        shared_subscription_available=None if limits.shared_subscription_available else False,
        **particular,
    )


@lru_cache(maxsize=64)
def _plain_connack(limits: Limits, session_present: bool, version: int) -> tuple[p.ConnAck, bytes]:
    """The CONNACK for all those of whom there is nothing particular to say, and the same encoded."""
    connack = _connack(limits, session_present) if version == V5 else p.ConnAck(session_present=session_present)
    return connack, encode(connack, version)


def _particular(link: Link, session: ServerSession, connect: p.Connect, verdict: Granted) -> dict[str, Any]:
    """What a CONNACK says to this client alone."""
    found: dict[str, Any] = {}
    if connect.protocol_version < V5:
        return found
    if session.expiry_interval != (connect.session_expiry_interval or 0):
        found["session_expiry_interval"] = session.expiry_interval
    longest = link.policy.limits.server_keep_alive
    if longest and not 0 < connect.keep_alive <= longest:
        found["server_keep_alive"] = longest  # [MQTT-3.2.2-22]
    if not connect.client_id:
        found["assigned_client_identifier"] = link.client_id  # [MQTT-3.2.2-16]
    if connect.authentication_method is not None:  # [MQTT-4.12.0-5] [MQTT-4.12.0-6]
        found["authentication_method"] = connect.authentication_method
        found["authentication_data"] = verdict.data
    return found


def _principal(link: Link, verdict: Granted) -> Principal:
    """Who the client is by a verdict; one that names nobody leaves the user name as it was."""
    known = link.principal
    username = known.username if verdict.username is None else verdict.username
    if username == known.username and verdict.attributes == known.attributes:
        return known
    return Principal(link.client_id, username, verdict.attributes)


def refusal_code(verdict: Denied | NotRelevant | Unavailable, *, re_authentication: bool) -> ReasonCode:
    """What a client is told about a verdict against it: in CONNACK, or, when it re-authenticates, in DISCONNECT."""
    code = verdict.reason_code if isinstance(verdict, Denied) else ReasonCode.NOT_AUTHORIZED
    allowed = DISCONNECT_CODES if re_authentication else CONNACK_CODES
    return code if code in allowed and code.is_failure else ReasonCode.NOT_AUTHORIZED


def is_utf8(payload: bytes) -> bool:
    """Whether a payload is what Payload Format Indicator 1 says, section 3.3.2.3.2."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
