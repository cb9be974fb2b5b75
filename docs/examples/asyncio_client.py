"""The core as a client on asyncio: python docs/examples/asyncio_client.py [PORT]"""

import asyncio
import math
import sys

from mqttcore import ConnAck, Connect, ConnectionClosed, Publish, SubAck, Subscription
from mqttcore.client import Client, Delivered, Event


class AsyncioClient:
    """One connection. Whoever iterates it drives it: nothing is read while nobody asks for the next event.

    So TCP holds the broker back when the application is slow. Other tasks may publish at the same time.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connect: Connect) -> None:
        self.reader = reader
        self.writer = writer
        self.now = asyncio.get_running_loop().time
        self.core = Client(connect, self.now())

    async def publish(self, message: Publish) -> int | None:
        """Send a message, waiting while the socket is full; a Delivered event with this number follows."""
        number = self.core.publish(message, self.now())
        await self.flush()
        return number

    async def flush(self) -> None:
        self.writer.write(self.core.take_output())
        await self.writer.drain()

    def __aiter__(self) -> "AsyncioClient":
        return self

    async def __anext__(self) -> Event:
        """The next event; the last one is ConnectionClosed."""
        while (event := self.core.next_event()) is None:
            wait = self.core.next_deadline() - self.now()
            try:
                async with asyncio.timeout(None if wait == math.inf else wait):
                    await self.flush()
                    data = await self.reader.read(65536)
            except TimeoutError:
                self.core.handle_timeout(self.now())
            except ConnectionError:
                self.core.receive_eof(self.now())
            else:
                if data:
                    self.core.receive(data, self.now())
                else:
                    self.core.receive_eof(self.now())
        if isinstance(event, ConnectionClosed):
            self.writer.write(self.core.take_output())
            self.writer.close()
        return event


async def main(port: int) -> None:
    """Subscribe, publish a message to ourselves, and leave."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = AsyncioClient(reader, writer, Connect(client_id="example", keep_alive=30))
    async for event in client:
        match event:
            case ConnAck() if not event.reason_code.is_failure:
                client.core.subscribe((Subscription("demo/#", qos=1),), client.now())
            case SubAck():
                await client.publish(Publish("demo/hello", b"Hello, world", qos=1))
            case Publish():
                print(event.topic, event.payload.decode())
            case Delivered():
                client.core.disconnect(client.now())
            case ConnectionClosed():
                sys.exit(event.reason if event.reason_code.is_failure else 0)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1883))
