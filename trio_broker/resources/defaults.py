"""What the product deploys by itself: the authentication resources that manifests refer to without defining them."""

from trio_broker.resources.authentication import BrokerAuthentication, ServiceAccountToken
from trio_broker.resources.configuration import ServiceAccountTokenSettings
from trio_broker.resources.identity import Identity, Kind
from trio_broker.resources.problems import Place

AUTHENTICATION_NAMES = ("default", "authn")
"""The current name and the older one."""
LISTENER_NAMES = ("default", "listener")
"""Of the product's own listener: the current name and the older one."""
AUDIENCES = ("aio-internal", "aio-mq")


def product_authentication(name: str, namespace: str, place: Place) -> BrokerAuthentication:
    """The product's BrokerAuthentication of that name: service account tokens only."""
    method = ServiceAccountToken(ServiceAccountTokenSettings(AUDIENCES), place)
    return BrokerAuthentication(Identity(Kind.AUTHENTICATION, namespace, name, place), (method,), ())
