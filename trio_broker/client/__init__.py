"""A Trio MQTT client on the core's client role.

async with open_client(Connect(keep_alive=60), host="broker.example") as client:
    await client.subscribe("sensors/#")
    async for message in client.messages():
        print(message.topic, message.payload)
"""

from trio_broker.client.background import background
from trio_broker.client.bounds import Bounds
from trio_broker.client.client import AnswerChallenge, Client
from trio_broker.client.errors import ClientError, reason_name
from trio_broker.client.opening import open_client
from trio_broker.client.tls import client_tls_context
from trio_broker.client.waiting import Delivery

__all__ = [
    "AnswerChallenge",
    "Bounds",
    "Client",
    "ClientError",
    "Delivery",
    "background",
    "client_tls_context",
    "open_client",
    "reason_name",
]
