"""Sessions by Client Identifier: opened, resumed, taken over, left behind and ended, with their Wills (section 3.1)."""

from collections.abc import Container
from hashlib import sha256
from math import inf
from typing import final

from mqttcore.auth import Action as AuthAction
from mqttcore.auth import Principal
from mqttcore.broker import reports
from mqttcore.broker.actions import Action, Report
from mqttcore.broker.deadlines import Deadlines
from mqttcore.broker.distribution import Distributor
from mqttcore.broker.link import Link
from mqttcore.broker.policy import Port, Publisher, Transport
from mqttcore.broker.sessions import NEVER, ServerSession
from mqttcore.broker.subscriptions import Share
from mqttcore.codes import V5, ReasonCode
from mqttcore.limits import Limits
from mqttcore.message import message_from
from mqttcore.packets import Connect, Publish, Will
from mqttcore.session import Delivery
from mqttcore.topics import split_share


@final
class Registry:
    """All sessions of a broker."""

    def __init__(
        self,
        limits: Limits,
        seed: bytes,
        distributor: Distributor,
        deadlines: Deadlines,
        actions: list[Action],
        *,
        report_traffic: bool,
    ) -> None:
        self.sessions: dict[str, ServerSession] = {}
        self._limits = limits
        self._seed = seed
        self._drawn = 0
        self._distributor = distributor
        self._deadlines = deadlines
        self._actions = actions
        self._report_traffic = report_traffic

    def draw(self) -> bytes:
        """32 bytes that nobody can foresee who does not know the broker's seed."""
        self._drawn += 1
        return sha256(self._seed + self._drawn.to_bytes(16, "big")).digest()

    def assign_client_id(self) -> str:
        """A Client Identifier that no session has. [MQTT-3.1.3-6] [MQTT-3.2.2-16]"""
        while True:
            client_id = "auto-" + self.draw().hex()[:24]
            if client_id not in self.sessions:
                return client_id

    def has_room(self, client_id: str) -> bool:
        """Whether a session for `client_id` is within the bound on sessions."""
        return client_id in self.sessions or len(self.sessions) < self._limits.maximum_sessions

    def attach(self, link: Link, connect: Connect, principal: Principal, now: float) -> bool:
        """Give the accepted client its session; whether one was there.

        An earlier connection must have been detached.
        """
        limits = link.policy.limits
        session = self.sessions.get(link.client_id)  # [MQTT-3.1.3-2]
        if session is not None and connect.clean_start:  # [MQTT-3.1.2-4]
            self.end(session, now)
            session = None
        present = session is not None  # [MQTT-3.1.2-5]
        if session is None:  # [MQTT-3.1.2-6]
            session = ServerSession(link.client_id, limits, link.port)
            self.sessions[link.client_id] = session
        session.limits = limits
        session.link = link
        another = present and session.principal != principal
        session.principal = principal
        session.port = link.port
        session.transport = link.transport
        session.expires_at = session.will_at = inf  # while it is connected [MQTT-4.1.0-1] [MQTT-3.1.2-23]
        interval = connect.session_expiry_interval or 0
        if connect.protocol_version < V5:
            interval = 0 if connect.clean_start else NEVER  # [MQTT3-3.1.2-4] [MQTT3-3.1.2-6]
        session.expiry_interval = min(interval, limits.maximum_session_expiry)
        session.will = connect.will  # [MQTT-3.1.2-7] [MQTT-3.1.3-9] [MQTT3-3.1.2-8]
        link.session = session
        if present:
            self.judge(session, now, resumed=True, another=another)
        return present

    def judge(self, session: ServerSession, now: float, *, resumed: bool = False, another: bool = False) -> None:
        """End the subscriptions that the client may no longer have, and what waits for it because of them alone.

        `resumed` says that its connection is a new one, `another` that the principal of the earlier one was another.
        """
        if session.port.policy.authorize is None:
            return
        lost = self._end_denied(session)
        # What another had unsubscribed from may still wait, and is not for this one.
        if lost or another or (resumed and session.narrowed):
            self._redistribute(session.take_unsubscribed(in_flight=resumed), now)
        session.narrowed = not resumed and (lost or session.narrowed)

    def judge_all(self, ports: Container[Port], now: float) -> None:
        """What is allowed on these ports has changed: as `judge`, for every session that was last connected there."""
        sessions = [session for session in self.sessions.values() if session.port in ports]
        # First all subscriptions and then what waited for them, which must not go to a share's next member who loses
        # its own a moment later.
        poorer = [session for session in sessions if self._end_denied(session)]
        for session in poorer:
            self._redistribute(session.take_unsubscribed(in_flight=True), now)

    def _end_denied(self, session: ServerSession) -> bool:
        """End the subscriptions that the client may not have; whether there were any."""
        denied = [
            topic_filter
            for topic_filter in session.subscriptions
            if not session.port.allows(session.principal, AuthAction.SUBSCRIBE, split_share(topic_filter)[1])
        ]
        for topic_filter in denied:
            self._distributor.unsubscribe(topic_filter, session)
            self._report_session_denied(session, AuthAction.SUBSCRIBE, topic_filter)
        return bool(denied)

    def report_denied(
        self, transport: Transport, principal: Principal, port: Port, action: AuthAction, topic: str
    ) -> None:
        """Report that the client may not do what it asked for, or may not any more."""
        event = reports.Denied(
            transport=transport,
            client_id=principal.client_id,
            username=principal.username,
            action=action,
            topic=topic,
            rules=port.policy.rules,
        )
        self._actions.append(Report(event))

    def _report_session_denied(self, session: ServerSession, action: AuthAction, topic: str) -> None:
        self.report_denied(session.transport, session.principal, session.port, action, topic)

    def detach(self, link: Link, now: float, *, will: bool) -> None:
        """The connection is over.

        The Will is due, now or after its delay, unless `will` is False; then the session may expire.
        """
        session = link.session
        assert session is not None
        link.session = None
        session.link = None
        if not will:  # [MQTT-3.1.2-10] [MQTT-3.14.4-3]
            session.will = None
        interval = session.expiry_interval
        if session.will is not None and not (session.will.will_delay_interval and interval):
            self._publish_will(session, now)
        if interval == 0:  # [MQTT-3.1.2-23]
            self.end(session, now)
            return
        if interval != NEVER:
            session.expires_at = now + interval
        if session.will is not None:
            session.will_at = now + (session.will.will_delay_interval or 0)
        self._deadlines.arm(session, session.next_deadline())

    def handle_timeout(self, session: ServerSession, now: float) -> None:
        """Publish a Will whose delay has passed, end a session whose interval has."""
        if session.will is not None and session.will_at <= now:
            self._publish_will(session, now)
        if session.expires_at <= now:  # [MQTT-4.1.0-2]
            self.end(session, now)
        else:
            self._deadlines.arm(session, session.next_deadline())

    def end(self, session: ServerSession, now: float) -> None:
        """Delete a session that has no connection. Its Will is published now if it still waits. [MQTT-3.1.2-8]

        What its client has had retained stays. [MQTT3-3.1.2-7]
        """
        if session.will is not None:
            self._publish_will(session, now)
        for topic_filter in list(session.subscriptions):
            self._distributor.unsubscribe(topic_filter, session)
        del self.sessions[session.client_id]
        del session.port  # a route that nobody asks for any more may remember the session, and shall keep no policy
        self._deadlines.disarm(session)
        discarded = session.pending
        left = [delivery for delivery in session.inflight.values() if delivery[1].qos == 1]  # [MQTT-4.8.2-5]
        left += session.queue
        session.clear()
        discarded -= self._redistribute(left, now)
        self._actions.append(Report(reports.SessionEnded(client_id=session.client_id, discarded=discarded)))

    def _redistribute(self, deliveries: list[Delivery], now: float) -> int:
        """Give what a share's member leaves behind to another; how many messages have found one."""
        count = 0
        for message, terms in deliveries:
            share = terms.owner
            if isinstance(share, Share) and share.members and not message.expired(now):
                self._distributor.deliver_shared(share, message, now)
                count += 1
        return count

    def _publish_will(self, session: ServerSession, now: float) -> None:
        will = session.will
        assert will is not None
        session.will = None
        session.will_at = inf
        if session.port.allows(session.principal, AuthAction.PUBLISH, will.topic):
            # [MQTT-3.1.2-14] [MQTT-3.1.2-15]
            message = message_from(will, now, session.client_id, session.limits.message_lifetime)
            found = self._distributor.publish(message, now, Publisher(session.principal, session.port))
            if self._report_traffic:
                code = ReasonCode.SUCCESS if found else ReasonCode.NO_MATCHING_SUBSCRIBERS
                event = reports.Published(
                    client_id=session.client_id, publish=_published(will), reason_code=code, will=True
                )
                self._actions.append(Report(event))
        else:
            self._report_session_denied(session, AuthAction.PUBLISH, will.topic)


def _published(will: Will) -> Publish:
    return Publish(
        will.topic,
        will.payload,
        qos=will.qos,
        retain=will.retain,
        payload_format_indicator=will.payload_format_indicator,
        message_expiry_interval=will.message_expiry_interval,
        content_type=will.content_type,
        response_topic=will.response_topic,
        correlation_data=will.correlation_data,
        user_properties=will.user_properties,
    )
