"""The pytest plugin in test runs of somebody else."""

import subprocess
import sys

import pytest

from tests.trio_broker.testing.support import MANIFEST

pytest_plugins = ("pytester",)

CONFTEST = f"MANIFEST = {MANIFEST!r}\n"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(manifest=CONFTEST)
    return pytester


def test_importing_it_imports_nothing_of_the_broker() -> None:
    program = """
import sys
import pytest
before = set(sys.modules)
import trio_broker.pytest_plugin
loaded = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(*sorted(loaded), *sorted(name for name in sys.modules if name.startswith("trio_broker.")))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["trio_broker", "trio_broker.pytest_plugin"]


def test_the_fixtures(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import socket
        import pytest
        from manifest import MANIFEST

        def test_open(mqtt_broker):
            socket.create_connection((mqtt_broker.host, mqtt_broker.port)).close()
            assert list(mqtt_broker.ports) == [1883]

        @pytest.mark.mqtt_broker(manifests=MANIFEST, profile="aio")
        class TestMarked:
            def test_it(self, mqtt_broker):
                assert set(mqtt_broker.ports) == {1883, 8883, 8884, 8885}

            @pytest.mark.mqtt_broker(tls=True)
            def test_closer(self, mqtt_broker):
                assert set(mqtt_broker.ports) == {1883, 8883}

        def test_several(mqtt_broker_factory):
            one, other = mqtt_broker_factory(), mqtt_broker_factory(manifests=MANIFEST)
            assert one.port not in other.ports.values()

        @pytest.mark.trio
        @pytest.mark.mqtt_broker(manifests=MANIFEST)
        async def test_memory(mqtt_memory_broker, autojump_clock):
            mqtt_memory_broker.clock.advance(3600)
            assert mqtt_memory_broker.connect(8884)

        @pytest.mark.trio
        async def test_memory_on_the_real_clock(mqtt_memory_broker):
            with pytest.raises(RuntimeError, match="add autojump_clock to the arguments"):
                mqtt_memory_broker.clock.advance(1)
            with pytest.raises(LookupError, match="there is no port 8883; there are 1883"):
                mqtt_memory_broker.connect(8883)
        """
    )
    result = project.runpytest("-W", "error", "--strict-markers")
    result.assert_outcomes(passed=6)


def test_the_broker_ends_with_a_test_that_fails_and_its_log_is_shown(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import socket
        from paho.mqtt import publish

        PORTS = []

        def test_fails(mqtt_broker):
            publish.single("some/topic", qos=1, hostname=mqtt_broker.host, port=mqtt_broker.port)
            PORTS.append(mqtt_broker.port)
            assert False

        def test_afterwards():
            with socket.socket() as sock:
                assert sock.connect_ex(("127.0.0.1", PORTS[0])) != 0
        """
    )
    result = project.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Captured mqtt broker log*", "*published*some/topic*"])


def test_a_fault_of_the_broker_is_an_error_of_the_test_that_used_it(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import socket
        import pytest
        from mqttcore import Connect
        from mqttcore.broker import Broker
        from trio_broker.client import ClientError

        @pytest.fixture
        def boom(monkeypatch):
            def boom(*_):
                raise ValueError("a mistake of ours")
            monkeypatch.setattr(Broker, "receive", boom)

        def test_thread(boom, mqtt_broker):
            with socket.create_connection((mqtt_broker.host, mqtt_broker.port)) as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b""

        def test_unconcerned(mqtt_broker):
            pass

        @pytest.mark.trio
        async def test_memory(boom, mqtt_memory_broker):
            with pytest.raises(ClientError):
                async with mqtt_memory_broker.open_client(Connect()):
                    pass
        """
    )
    result = project.runpytest()
    # pytest-trio takes what a fixture of its own raises for a failure of the test.
    result.assert_outcomes(passed=2, errors=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*raise ValueError*", "E*BrokerFault: the broker met a fault: ValueError: a mistake of ours"]
    )


def test_what_the_marker_does_not_know_is_told(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.mqtt_broker("broker.yaml")
        def test_by_position(mqtt_broker):
            pass

        @pytest.mark.mqtt_broker(manifest="broker.yaml")
        def test_unknown(mqtt_broker):
            pass
        """
    )
    result = project.runpytest()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*takes its options by name*", "*there is no option 'manifest'*"])


ONE_TEST = """
def test_it(mqtt_broker):
    assert mqtt_broker.port
"""


def test_neither_trio_nor_anyio_need_be_there_for_a_broker_in_a_thread(project: pytest.Pytester) -> None:
    project.makepyfile(ONE_TEST)
    project.runpytest("-p", "no:trio", "-p", "no:anyio").assert_outcomes(passed=1)


def test_it_can_be_left_out(project: pytest.Pytester) -> None:
    project.makepyfile(ONE_TEST)
    result = project.runpytest_subprocess("-p", "no:mqtt_broker")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'mqtt_broker' not found*"])
    project.runpytest_subprocess("--markers").stdout.fnmatch_lines(["@pytest.mark.mqtt_broker(manifests=*"])


def test_tests_may_run_side_by_side(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from manifest import MANIFEST

        @pytest.mark.parametrize("number", range(6))
        @pytest.mark.mqtt_broker(manifests=MANIFEST)
        def test_it(mqtt_broker, number):
            assert len(mqtt_broker.ports) == 4
        """
    )
    project.runpytest_subprocess("-n", "2").assert_outcomes(passed=6)
