"""A tap of what clients from PyPI are told, each at its places: the arguments before the options, CLIENT=PLACE; for tests alone.

Their packages lie in ``site`` beside it.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

WITHIN_S = 20
# libpq reads no variable for this that would not make it check more than it was asked to.
CA = "/run/dativo/trust/ca.pem"
sys.path.insert(0, str(Path(__file__).parent / "site"))


def by_requests(place):
    import requests

    return requests.get(place, timeout=WITHIN_S).text


def by_httpx(place):
    import httpx

    return httpx.get(place, timeout=WITHIN_S).text


def by_urllib3(place):
    import urllib3

    with urllib3.PoolManager(timeout=WITHIN_S, retries=False) as pool:
        return pool.request("GET", place).data.decode()


def by_urllib(place):
    import urllib.request

    with urllib.request.urlopen(place, timeout=WITHIN_S) as answer:
        return answer.read().decode()


def ask_by_aiohttp(place, resolver):
    import aiohttp

    async def ask():
        timeout = aiohttp.ClientTimeout(WITHIN_S)
        connector = aiohttp.TCPConnector(resolver=getattr(aiohttp, resolver)())
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
            session.get(place) as answer,
        ):
            return await answer.text()

    return asyncio.run(ask())


def by_aiohttp(place):
    return ask_by_aiohttp(place, "ThreadedResolver")


def by_aiodns(place):
    """The same with the resolver that it takes where that is installed: c-ares."""
    return ask_by_aiohttp(place, "AsyncResolver")


def by_psycopg(place):
    import psycopg

    with psycopg.connect(place, connect_timeout=WITHIN_S, sslrootcert=CA) as connection:
        said = connection.execute("SELECT 'hello from ' || current_database()").fetchone()[0]
        encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert connection.execute(encrypted).fetchone() == (True,)
        return said


def by_confluent_kafka(place):
    """Write a message and read it back. A server that cannot be reached is one that says nothing of itself in time."""
    import confluent_kafka

    settings = {"bootstrap.servers": place}
    producer = confluent_kafka.Producer(settings)
    producer.list_topics(timeout=WITHIN_S if "kafka" in place else 2)
    delivered = []
    producer.produce(
        "greetings",
        f"hello from {place}".encode(),
        on_delivery=lambda error, message: delivered.append((error, message)),
    )
    producer.flush(WITHIN_S)
    [(error, message)] = delivered
    assert error is None, error
    consumer = confluent_kafka.Consumer({**settings, "group.id": "tests"})
    partition = (message.topic(), message.partition(), message.offset())
    consumer.assign([confluent_kafka.TopicPartition(*partition)])
    found = consumer.poll(WITHIN_S)
    consumer.close()
    assert found is not None and found.error() is None, found
    return found.value().decode()


def write(**message):
    sys.stdout.write(json.dumps({"stream": "tries", **message}) + "\n")
    sys.stdout.flush()


def main(arguments):
    write(type="SCHEMA", schema={"type": "object"}, key_properties=[])
    for argument in arguments[: arguments.index("--config")]:
        client, _, place = argument.partition("=")
        try:
            said = globals()[f"by_{client}"](place)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        write(type="RECORD", record={"client": client, "place": place, "said": said})
    # Clients that are still trying in threads of theirs are not waited for.
    os._exit(0)


main(sys.argv[1:])
