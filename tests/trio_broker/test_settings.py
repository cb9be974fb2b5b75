from contextlib import suppress

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mqttcore.limits import Limits
from trio_broker.errors import ConfigurationError
from trio_broker.limits import ServerLimits
from trio_broker.settings import ALL_LIMITS, parse_settings, show


def made(*settings: str) -> tuple[Limits, ServerLimits]:
    """The limits of the core and of the shell with these settings made and nothing else said."""
    parsed = parse_settings(settings)
    return parsed.limits(Limits()), parsed.server_limits


def test_no_settings_are_the_defaults() -> None:
    assert made() == (Limits(), ServerLimits())


def test_settings_reach_the_core_and_the_shell() -> None:
    core, shell = made("maximum_qos=1", "retain-available = no", "stall_timeout=2", "maximum_qos=0")
    assert core == Limits(maximum_qos=0, retain_available=False)
    assert shell == evolve(ServerLimits(), stall_timeout=2.0)


def test_what_is_not_set_stays_as_it_was() -> None:
    base = Limits(maximum_qos=1, receive_maximum=7)
    assert parse_settings(["receive_maximum=1000"]).limits(base) == Limits(maximum_qos=1)


def test_names_are_unambiguous() -> None:
    assert len(ALL_LIMITS) == len(Limits.__attrs_attrs__) + len(ServerLimits.__attrs_attrs__)


@pytest.mark.parametrize("name", ALL_LIMITS)
def test_every_limit_has_a_unit_and_a_meaning_and_takes_its_default(name: str) -> None:
    limit = ALL_LIMITS[name]
    assert limit.metadata["unit"]
    assert limit.metadata["meaning"]
    assert made(f"{name}={show(limit.default)}") == (Limits(), ServerLimits())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("maximum_qos", "--set maximum_qos: write NAME=VALUE, for instance maximum_qos=1"),
        (
            "maximum_qoss=1",
            "there is no limit 'maximum_qoss'; did you mean maximum_qos? (trio-broker limits lists all)",
        ),
        ("maximum_qos=3", "maximum_qos is a whole number from 0 to 2 (QoS), not '3'"),
        ("maximum_qos=one", "maximum_qos is a whole number from 0 to 2 (QoS), not 'one'"),
        ("maximum_qos=", "maximum_qos is a whole number from 0 to 2 (QoS), not ''"),
        ("maximum_qos=1.0", "maximum_qos is a whole number from 0 to 2 (QoS), not '1.0'"),
        ("linger_timeout=nan", "linger_timeout is a number from 0.01 to 60 (seconds), not 'nan'"),
        ("linger_timeout=1e9", "linger_timeout is a number from 0.01 to 60 (seconds), not '1e9'"),
        ("retain_available=maybe", "retain_available is yes or no, not 'maybe'"),
    ],
)
def test_mistakes_are_explained(setting: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_settings([setting])
    assert str(caught.value) == message


@given(st.lists(st.text(max_size=40) | st.builds("{}={}".format, st.sampled_from([*ALL_LIMITS]), st.text())))
def test_any_text_is_settings_or_one_line_of_explanation(settings: list[str]) -> None:
    with suppress(ConfigurationError):
        parse_settings(settings)
