"""X.509 with a device registry: who gets in, and who may stay."""

from collections.abc import Mapping, Sequence

import pytest
from cryptography.x509 import Name, NameAttribute
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from mqttcore.auth import AuthRequest, Denied, Exchange, Granted, NotRelevant, Principal, Standing, Verdict
from mqttcore.authenticators.chain import Method, chain
from mqttcore.authenticators.x509 import METHOD, enrolled_in, subject_attributes, trust_anchors, x509
from mqttcore.codes import ReasonCode
from tests.mqttcore.authenticators.certificates import AUTHORITY, NOW, Identity, issue, key

ROOT = issue("root", extensions=AUTHORITY)
THERMOSTAT = issue("thermostat", ROOT)
STRANGER = issue("thermostat")
DEVICES = {"thermostat": True, "fan": False}
ENTRIES = [subject_attributes("factory", "CN=root", {"site": "seattle"})]


def decide(presented: Sequence[Identity], devices: Mapping[str, bool] | None) -> Verdict:
    request = AuthRequest(
        username="thermostat", certificates=tuple(each.der for each in presented), time=NOW.timestamp()
    )
    authenticate = x509(trust_anchors(ROOT.pem), ENTRIES, devices)
    exchange = Exchange(chain([Method(METHOD, authenticate)]), request, 0)
    exchange.start()
    assert exchange.verdict is not None
    return exchange.verdict


def common_names(*names: str) -> Identity:
    subject = Name([NameAttribute(NameOID.COMMON_NAME, each) for each in names])
    return issue(subject, ROOT, own=key("EC"))


def test_an_enabled_device_gets_in_with_what_it_would_have_without_a_registry() -> None:
    granted = decide([THERMOSTAT], DEVICES)
    assert isinstance(granted, Granted)
    assert granted == decide([THERMOSTAT], None)
    assert granted.attributes == {"site": "seattle"}


NO_NAME = "the client's certificate has no single Common Name, which would be that of its device"


@pytest.mark.parametrize(
    ("presented", "message"),
    [
        (issue("lamp", ROOT), "no device 'lamp' is registered"),
        (issue("Thermostat", ROOT), "no device 'Thermostat' is registered"),
        (issue("fan", ROOT), "the device 'fan' is disabled"),
        (issue("O=thermostat", ROOT), NO_NAME),
        (common_names("thermostat", "fan"), NO_NAME),
    ],
)
def test_a_good_certificate_of_no_enabled_device_is_denied(presented: Identity, message: str) -> None:
    assert isinstance(decide([presented], None), Granted)
    assert decide([presented], DEVICES) == Denied(message, ReasonCode.NOT_AUTHORIZED)
    assert isinstance(decide([presented], {}), Denied)


def test_a_device_needs_a_good_certificate_all_the_same() -> None:
    verdict = decide([STRANGER], DEVICES)
    assert isinstance(verdict, Denied)
    assert "self-signed" in verdict.message


def test_without_a_certificate_it_is_not_relevant() -> None:
    assert isinstance(decide([], DEVICES), NotRelevant)


def standing(username: str | None, method: str = METHOD) -> Standing:
    return Standing(method, (THERMOSTAT.der,), Principal("client", username))


@pytest.mark.parametrize(
    ("devices", "reason"),
    [
        (DEVICES, None),
        ({"thermostat": False}, "the device 'thermostat' is disabled"),
        ({"fan": True}, "no device 'thermostat' is registered"),
        ({}, "no device 'thermostat' is registered"),
    ],
)
def test_a_device_stays_while_it_is_enabled(devices: Mapping[str, bool], reason: str | None) -> None:
    assert enrolled_in(devices)(standing("thermostat"), NOW.timestamp()) == reason
    assert enrolled_in(devices)(standing(""), NOW.timestamp()) == NO_NAME


@pytest.mark.parametrize("method", ["", "Custom", "ServiceAccountToken", "Password"])
def test_clients_of_other_methods_need_no_device(method: str) -> None:
    assert enrolled_in({})(standing("thermostat", method), NOW.timestamp()) is None


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8) | st.sampled_from(sorted(DEVICES))


@given(st.lists(NAMES, max_size=2), st.dictionaries(NAMES, st.booleans()), st.dictionaries(NAMES, st.booleans()))
def test_who_may_stay_is_who_would_get_in(names: list[str], before: dict[str, bool], after: dict[str, bool]) -> None:
    presented = common_names(*names) if names else issue("O=nobody", ROOT)
    let_in = decide([presented], dict.fromkeys(names, True))
    if not isinstance(let_in, Granted):
        assert len(set(names)) != 1
        return
    for devices in (before, after, {**before, names[0]: True}):
        reason = enrolled_in(devices)(standing(let_in.username, let_in.method), NOW.timestamp())
        again = decide([presented], devices)
        assert (reason is None) == isinstance(again, Granted) == devices.get(names[0], False)
        if isinstance(again, Denied):
            assert again.message == reason
            assert reason.isprintable()
