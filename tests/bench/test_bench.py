"""The benchmarks run, and their tables say what was measured."""

import ast
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.brokers import AMQTT, OURS, PLAIN, TUNED, Place, custom, known
from bench.cases import ALL, Case, parse_case
from bench.certificates import Certificates, make_certificates
from bench.generator.result import Result
from bench.growth import PICTURES, Point
from bench.growth.core import retained_messages, rules, subscriptions
from bench.load import run_once
from bench.micro import benchmarks, measure
from bench.micro.relaying import BATCH, relaying
from bench.store import keep, read_costs, read_lines, write_costs
from bench.tables import comparison, growth, side_by_side
from bench.turns import Run, why_not
from tests.processes import ROOT

GENERATOR = sorted((ROOT / "bench" / "generator").glob("*.py"))


@pytest.mark.parametrize("path", GENERATOR, ids=lambda path: path.stem)
def test_the_load_generator_needs_the_standard_library_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            assert name.partition(".")[0] in sys.stdlib_module_names or name.startswith("bench.generator")


def test_a_broker_is_started_measured_and_ended(tmp_path: Path) -> None:
    result = run_once(known(AMQTT)[OURS], Case("single"), make_certificates(tmp_path), 0.1, {"publishers": 2})
    assert (result.error, result.faults) == ("", {})
    assert result.figures["cpu_us"] > 0
    assert result.figures["count"] > 0


def test_a_broker_tells_its_release() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", known(AMQTT)[OURS].release())
    assert custom("silent=true {port}").release() == ""


def test_a_broker_that_does_not_start(tmp_path: Path) -> None:
    result = run_once(custom("broken=false {port}"), Case("single"), make_certificates(tmp_path), 0.1)
    assert "it does not listen: see" in result.error


def test_the_configurations_of_others(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "ca", tmp_path / "chain", tmp_path / "key")
    brokers = known("python -m amqtt.broker")
    place = Place(port=7, transport="wss", directory=tmp_path, certificates=certificates)
    assert brokers[PLAIN].command(place)[1:] == ["-c", str(tmp_path / "mosquitto.conf")]
    plain = (tmp_path / "mosquitto.conf").read_text()
    assert "listener 7 127.0.0.1\nprotocol websockets\n" in plain
    assert "tls_version tlsv1.3" in plain
    brokers[TUNED].command(place)
    tuned = (tmp_path / "mosquitto.conf").read_text()
    assert tuned.startswith(plain)
    assert "set_tcp_nodelay true" in tuned
    assert brokers[AMQTT].command(place) == ["python", "-m", "amqtt.broker", "-c", str(tmp_path / "amqtt.yaml")]
    assert "127.0.0.1:7" in (tmp_path / "amqtt.yaml").read_text()
    assert "there is no command nowhere" in known("nowhere")[AMQTT].missing


@pytest.mark.parametrize("text", ["x", "=python {port}", "name=python", "name@3=python {port}"])
def test_a_broker_needs_a_name_and_a_port(text: str) -> None:
    with pytest.raises(ValueError, match="is not NAME=COMMAND"):
        custom(text)


def test_cases_have_names() -> None:
    for case in ALL:
        assert parse_case(str(case)) == case
    for wrong in ("pairs", "pairs16/udp", ""):
        with pytest.raises(ValueError, match="there is no"):
            parse_case(wrong)


def test_who_does_not_run_what() -> None:
    brokers = known(AMQTT)
    assert why_not(brokers[AMQTT], Case("alias")) == "it has no MQTT 5.0"
    assert why_not(brokers[AMQTT], Case("single", "ws")) == "it is not measured over ws"
    assert why_not(brokers[PLAIN], Case("reauth")) == "it has no enhanced authentication"
    assert not any(why_not(brokers[OURS], case) for case in ALL)


def run_of(broker: str, number: int, cpu: float, faults: dict[str, int] | None = None) -> Run:
    result = Result(figures={"cpu_us": cpu, "calibration_ms": 40.0}, faults=faults or {})
    return Run(broker=broker, release="1.2", case=Case("single"), round=number, result=result)


def test_ratios_are_taken_within_rounds_to_the_cheaper_one(tmp_path: Path) -> None:
    runs = [
        *(run_of(OURS, number, cpu) for number, cpu in enumerate((4.0, 8.0, 6.0))),
        *(run_of(PLAIN, number, cpu) for number, cpu in enumerate((20.0, 20.0, 20.0))),
        *(run_of(TUNED, number, cpu) for number, cpu in enumerate((8.0, 4.0, 12.0))),
        run_of(AMQTT, 0, 1.0, {"lost": 2}),
    ]
    assert [*keep(tmp_path / "runs", runs, Run.to_json)] == runs
    again = read_lines(tmp_path / "runs", Run.from_json)
    assert again == runs
    told = comparison(again)
    assert "| single | QoS 0, 50 pairs, each one message at a time | 6 (0.50) | 20 | 8 | failed |" in told
    assert "- amqtt, single, round 0: 2 lost" in told
    assert "trio-broker 1.2, mosquitto 1.2, mosquitto-tuned 1.2, amqtt 1.2." in told
    assert "took 40 to 40 ms" in told


def test_every_operation_runs(tmp_path: Path) -> None:
    told: list[str] = []
    costs = measure(benchmarks().values(), told.append, quick=True)
    assert [*costs] == [*benchmarks()]
    assert len(told) == len(costs)
    write_costs(tmp_path / "costs", costs)
    assert read_costs(tmp_path / "costs") == costs
    assert "| encode PUBACK |" in side_by_side(costs, costs)
    assert "| 1.00 |" in side_by_side({"x": 2.0, "y": 1.0}, {"x": 2.0})


def test_what_is_relayed_arrives() -> None:
    for each in relaying():
        if each.name.startswith("relay QoS 0"):
            call: Callable[[], object] = each.prepare()
            call()
            heard = call()
            assert isinstance(heard, list)
            expected = each.operations if "to 100" in each.name else BATCH
            assert sum(data.count(b"bench/00000/0000") for _, data in heard) == expected


@pytest.mark.parametrize("line", [subscriptions, rules, retained_messages])
def test_lines_have_points(line: Callable[[int], dict[str, float]]) -> None:
    costs = line(10)
    assert all(cost > 0 for cost in costs.values())
    name = next(name for name, picture in PICTURES.items() if picture.measure is line)
    points = [Point(picture=name, line=each, size=10, cost=cost) for each, cost in costs.items()]
    assert [Point.from_json(json.loads(json.dumps(point.to_json()))) for point in points] == points
    assert all(each in growth(points) for each in costs)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def bench(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        return main()

    nothing = f"{sys.executable} -c pass"
    for arguments, told in {
        ("run", "nosuch"): "there is no 'nosuch'",
        ("run", "--brokers", "nosuch"): "there is no broker 'nosuch'",
        ("run", "--brokers", ""): "there is no broker to run",
        ("run", "--broker", nothing): "is not NAME=COMMAND",
        ("grow", "nosuch"): "there is no picture 'nosuch'",
        ("micro", "nosuch"): "no operation has nosuch in its name",
        ("compare", str(tmp_path / "a"), "b"): "there is no file",
    }.items():
        assert bench(*arguments) == 2
        assert told in capsys.readouterr().err

    before, after = str(tmp_path / "before"), str(tmp_path / "after")
    assert bench("micro", "encode PINGREQ", "--json", before) == bench("micro", "PINGREQ", "--json", after) == 0
    assert "encode PINGREQ" in capsys.readouterr().out
    assert bench("compare", before, after) == 0
    assert "| encode PINGREQ |" in capsys.readouterr().out
    broken = ("run", "single", "--brokers", "", "--broker", f"broken={nothing} {{port}}", "--rounds", "1")
    assert bench(*broken, "--out", str(tmp_path / "runs")) == 1
    assert "- broken, single, round 0: it does not listen" in capsys.readouterr().out
    [run] = read_lines(tmp_path / "runs", Run.from_json)
    assert not run.result.good
