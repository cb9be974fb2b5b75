"""Device of the Azure Device Registry: its name, and whether it is enabled."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from attrs import frozen

from trio_broker.resources.identity import Identity
from trio_broker.resources.problems import Problems
from trio_broker.resources.reader import Fields


@frozen
class Device:
    """A Device."""

    identity: Identity
    enabled: bool


def read_device(identity: Identity, spec: Fields) -> Device:
    """A Device's spec. The schema has no default for `enabled`, and a device that does not say so is not enabled."""
    spec.accept(
        "attributes", "discoveredDeviceRef", "endpoints", "externalDeviceId", "lastTransitionTime", "manufacturer",
        "model", "operatingSystem", "operatingSystemVersion", "uuid", "version",
    )  # fmt: skip
    item = spec.optional("enabled")
    if item is None and not spec.broken:
        spec.problems.warn(spec.place, "enabled is missing, and so the device is disabled; write enabled: true")
    return Device(identity, item.boolean() if item else False)


def enabled_by_name(devices: Iterable[Device], problems: Problems) -> Mapping[str, bool]:
    """Which devices are enabled, by name. Certificates know no namespaces: devices of one name are one."""
    found: dict[str, Device] = {}
    enabled: dict[str, bool] = {}
    for device in devices:
        name = device.identity.name
        first = found.setdefault(name, device)
        if first is not device:
            where = f"namespace {first.identity.namespace} ({first.identity.place.file}:{first.identity.place.line})"
            message = f"{device.identity} is also in {where}: a client of that name gets in only if all are enabled"
            problems.warn(device.identity.place, message)
        enabled[name] = device.enabled and enabled.get(name, True)
    return MappingProxyType(enabled)
