"""Every scenario against our broker, in small; nothing is measured here."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.broker import METHOD, PASSWORD, USERNAME
from bench.cases import ALL, Case
from bench.certificates import make_certificates
from bench.generator.run import Amount, run
from bench.generator.scenarios import SCENARIOS, Connects, Idle, Reauthentications, Retained, Scenario, Traffic, changed
from bench.generator.target import TRANSPORTS, Target, Transport
from tests.processes import DEADLINE, ROOT, listening

MESSAGES = 50
AMOUNT = Amount(messages=MESSAGES, seconds=0.02, patience=DEADLINE)
SCHEMES = dict(zip(TRANSPORTS, ("mqtt", "mqtts", "ws", "wss"), strict=True))


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Transport, Target]]:
    directory = tmp_path_factory.mktemp("broker")
    made = make_certificates(directory)
    options = [f"--{name}=0" for name in ("port", "tls-port", "ws-port", "wss-port")]
    options += [f"--tls-cert={made.chain}", f"--tls-key={made.key}"]
    with listening(directory, ["-m", "bench.broker", *options], count=4) as ports:
        base = Target(port=0, authority=str(made.authority), username=USERNAME, password=PASSWORD, method=METHOD)
        yield {each: replace(base, port=ports[SCHEMES[each]], transport=each) for each in TRANSPORTS}


def small(scenario: Scenario) -> tuple[Scenario, int]:
    """The same in small, and how many messages or connections it comes to, 0 if that depends on time."""
    match scenario:
        case Traffic():
            few = replace(
                scenario,
                publishers=min(scenario.publishers, 4),
                subscribers=min(scenario.subscribers, 3),
                topics=min(scenario.topics, 5),
                other_subscriptions=min(scenario.other_subscriptions, 200),
            )
            fan = few.subscribers if few.subscribers and not few.share else 1
            return few, MESSAGES * few.publishers * fan
        case Connects():
            return replace(scenario, connections=70), 70
        case Idle():
            return replace(scenario, connections=70), 0
        case Retained():
            return replace(scenario, messages=200), 200
        case Reauthentications():
            return replace(scenario, connections=3), 0


@pytest.mark.parametrize("case", ALL, ids=str)
def test_everything_arrives(case: Case, targets: dict[Transport, Target]) -> None:
    scenario, count = small(SCENARIOS[case.scenario])
    result = run(scenario, targets[case.transport], AMOUNT)
    assert (result.error, result.faults, result.good) == ("", {}, True)
    assert result.figures.get("count", 0) == count or not count


def test_taking_turns_and_mqtt_3(targets: dict[Transport, Target]) -> None:
    scenario = Traffic(about="", publishers=20, window=1, together=3, qos=1)
    result = run(scenario, replace(targets["tcp"], version=4), AMOUNT)
    assert (result.error, result.faults, result.figures["count"]) == ("", {}, 20 * MESSAGES)


def test_who_is_not_known_or_not_allowed_fails(targets: dict[Transport, Target]) -> None:
    scenario, _ = small(SCENARIOS["pairs16"])
    target = targets["tcp"]
    for username, password in ((USERNAME, "wrong"), (USERNAME, ""), ("nobody", ""), ("user1", PASSWORD)):
        unknown = run(scenario, replace(target, username=username, password=password), AMOUNT)
        assert unknown.error.startswith("the connection did not come about: 0x20")
    not_allowed = run(scenario, replace(target, username="user1", password="secret1"), AMOUNT)
    assert not not_allowed.good
    by_method = run(SCENARIOS["reauth"], replace(target, password="wrong"), AMOUNT)
    assert by_method.error.startswith("the connection did not come about: 0x20")


def test_the_command(targets: dict[Transport, Target]) -> None:
    target = targets["tls"]
    assert target.authority is not None
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.generator", "single", "--port", str(target.port), "--transport", "tls"),
            *("--authority", target.authority, "--username", USERNAME, "--password", PASSWORD),
            *("--messages", "5", "--set", "publishers=3", "--set", "payload=100"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["good"], told["count"]) == (True, 15)


@pytest.mark.parametrize("change", ["publishers", "payloads=1", "about=x", "payload=x"])
def test_a_scenario_is_changed_by_its_numbers_alone(change: str) -> None:
    with pytest.raises(ValueError, match=r"FIELD=NUMBER|invalid literal"):
        changed(SCENARIOS["pairs16"], [change])
