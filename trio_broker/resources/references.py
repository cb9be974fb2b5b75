"""Follows references inside a set of resources, and remembers what was used."""

from collections.abc import Mapping

from attrs import define, field

from trio_broker.resources.identity import Kind, Reference
from trio_broker.resources.objects import Bundle
from trio_broker.resources.problems import Place, Problems, nearest, shown
from trio_broker.resources.resources import Resource, Resources

_OPTIONS = {Kind.CONFIG_MAP: "--configmap", Kind.SECRET: "--secret"}


@define
class References:
    """What references lead to; one that leads nowhere is a problem.

    `stand_ins` are ConfigMaps and Secrets from the command line: they hold in every namespace, before the manifests'.
    `complete` says that all files could be read to their end; if not, what is missing may be there.
    """

    _resources: Resources
    _stand_ins: Mapping[tuple[Kind, str], Bundle | None]
    _complete: bool
    _problems: Problems
    _used: set[tuple[Kind, str, str]] = field(factory=set, init=False)
    _used_stand_ins: set[tuple[Kind, str]] = field(factory=set, init=False)

    def bundle(self, reference: Reference | None) -> Bundle | None:
        """The ConfigMap or Secret that is referred to."""
        if reference is None:
            return None
        key = (reference.kind, reference.name)
        if key in self._stand_ins:
            self._used_stand_ins.add(key)
            return self._stand_ins[key]
        found = self.follow(reference)
        if found is None:
            self.report(reference)
        return found if isinstance(found, Bundle) else None

    def follow(self, reference: Reference) -> Resource | None:
        """The resource that is referred to, or None."""
        found = self._resources.find(reference)
        if found is not None:
            self._used.add((reference.kind, reference.namespace, reference.name))
        return found

    def report(self, reference: Reference) -> None:
        """Keep the problem that the reference leads nowhere."""
        if not self._complete:
            return
        kind, names = reference.kind, self._resources.names(reference.kind)
        message = f"there is no {kind.value} {shown(reference.name)} in namespace {reference.namespace}"
        elsewhere = [namespace for namespace, name in names if name == reference.name]
        here = [name for namespace, name in names if namespace == reference.namespace]
        here += [name for known, name in self._stand_ins if known is kind]
        suggestion = nearest(reference.name, here)
        if elsewhere:
            message += f", but in namespace {elsewhere[0]}"
        elif kind in _OPTIONS and not suggestion:
            message += f"; {_OPTIONS[kind]} {reference.name}=PATH can stand in for it"
        self._problems.add(reference.place, message, suggestion)

    def warn_about_unused(self) -> None:
        """Warn about what nothing refers to."""
        for kind in (Kind.AUTHENTICATION, Kind.AUTHORIZATION, Kind.CONFIG_MAP, Kind.SECRET):
            for namespace, name in self._resources.names(kind):
                if (kind, namespace, name) not in self._used:
                    resource = self._resources.find(Reference(kind, namespace, name, Place("")))
                    assert resource is not None
                    self._problems.warn(resource.identity.place, f"{resource.identity} is not used")
        for key, stand_in in self._stand_ins.items():
            if stand_in is not None and key not in self._used_stand_ins:
                self._problems.warn(stand_in.identity.place, f"{_OPTIONS[key[0]]} {key[1]}: nothing refers to it")
