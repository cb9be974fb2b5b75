"""Watching a file of authentication data and re-authenticating with it, in virtual time."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from mqttcore import Auth, Connect, ReasonCode
from tests.trio_broker.fake_server import FakeServer, connected
from trio_broker.cli.authentication import (
    MAXIMUM_TRIES,
    POLL_INTERVAL,
    AuthenticationData,
    Reauthentication,
    authentication_data,
)
from trio_broker.cli.backoff import FIRST_DELAY, LONGEST_DELAY
from trio_broker.client import Client

UNDECIDED = Auth(ReasonCode.CONTINUE_AUTHENTICATION, authentication_method="M", reason_string="the issuer is away")
GRANTED = Auth(authentication_method="M")


@asynccontextmanager
async def watching(data: AuthenticationData) -> AsyncIterator[tuple[Client, FakeServer]]:
    """A connected client that re-authenticates when the data change."""
    reauthentication = Reauthentication(data)
    connect = Connect(client_id="c", authentication_method="M", authentication_data=data.current())
    async with (
        connected(connect, answer_challenge=reauthentication.answer_challenge) as (client, server),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(reauthentication.run, client)
        yield client, server
        nursery.cancel_scope.cancel()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_bytes(b"first")
    return path


async def test_every_new_content_is_sent(
    autojump_clock: MockClock, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with watching(authentication_data(f"@{token}")) as (_, server):
        for content in (b"second", b"third"):
            token.write_bytes(content + b"\n")
            before = trio.current_time()
            assert (await server.expect(Auth)).authentication_data == content
            assert trio.current_time() - before <= POLL_INTERVAL
            await server.send(GRANTED)
        await trio.testing.wait_all_tasks_blocked()
    line = f"trio-broker: re-authenticated with the new content of {token}\n"
    assert capsys.readouterr().err == 2 * line


async def test_a_file_that_is_not_there_for_a_while(autojump_clock: MockClock, token: Path) -> None:
    async with watching(authentication_data(f"@{token}")) as (client, server):
        for content in (None, b"", b"first", b"first\r\n"):
            token.unlink(missing_ok=True)
            if content is not None:
                token.write_bytes(content)
            with trio.move_on_after(10) as quiet:
                await server.receive()
            assert quiet.cancelled_caught
        token.write_bytes(b"second")
        await server.expect(Auth)
        assert client.connected


async def test_a_server_that_cannot_decide(
    autojump_clock: MockClock, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with watching(authentication_data(f"@{token}")) as (client, server):
        token.write_bytes(b"second")
        await server.expect(Auth)
        times = [trio.current_time()]
        for _ in range(MAXIMUM_TRIES - 1):
            await server.send(UNDECIDED)
            auth = await server.expect(Auth)
            assert auth.reason_code == ReasonCode.CONTINUE_AUTHENTICATION
            assert auth.authentication_data == b"second"
            times.append(trio.current_time())
        await server.send(UNDECIDED)
        with trio.move_on_after(1000) as quiet:
            await server.receive()
        assert quiet.cancelled_caught
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert FIRST_DELAY / 2 <= pauses[0] <= FIRST_DELAY
        assert all(pause <= LONGEST_DELAY for pause in pauses)
        assert sum(pauses) > 3 * LONGEST_DELAY
        assert client.connected
        token.write_bytes(b"third")
        auth = await server.expect(Auth)
        assert (auth.reason_code, auth.authentication_data) == (ReasonCode.RE_AUTHENTICATE, b"third")
        await server.send(GRANTED)
        await trio.testing.wait_all_tasks_blocked()
    lines = capsys.readouterr().err.splitlines()
    assert "cannot decide on the re-authentication (the issuer is away); next try in " in lines[0]
    assert lines[-2].endswith(
        f"failed: the server could not decide in {MAXIMUM_TRIES} tries (the issuer is away);"
        " the earlier credential stays in force until it expires"
    )
    assert "re-authenticated" in lines[-1]
    assert not any(secret in line for line in lines for secret in ("first", "second", "third"))


async def test_a_newer_content_is_tried_next(autojump_clock: MockClock, token: Path) -> None:
    async with watching(authentication_data(f"@{token}")) as (_, server):
        token.write_bytes(b"second")
        await server.expect(Auth)
        token.write_bytes(b"third")
        await server.send(UNDECIDED)
        assert (await server.expect(Auth)).authentication_data == b"third"
        await server.send(GRANTED)
        with trio.move_on_after(100) as quiet:  # it has been sent, and is no news any more
            await server.receive()
        assert quiet.cancelled_caught


async def test_text_is_not_watched(autojump_clock: MockClock) -> None:
    data = authentication_data("text")
    assert data.current() == b"text"
    with trio.fail_after(1):
        async with connected() as (client, _):
            await Reauthentication(data).run(client)
            await Reauthentication(None).run(client)
