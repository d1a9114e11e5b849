"""Is every Zoom user in one pool only?

Within a pool the scripts see to that; no script sees two pools, and so each would give the user's meetings away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from broker.client import AsyncBroker, translated
from broker.doctor.finding import Finding, Level
from broker.models import host_names
from broker.registry import personal, teachers

PAGE = 200


async def check_hosts(broker: AsyncBroker) -> list[Finding]:
    """One finding for each Zoom user in several pools, or one that there is none.

    Teachers' own Zoom users count by what is registered, since their pools come and go.

    Raises:
        BrokerUnavailable: Redis did not answer.
        PoolDamaged: the index of a pool's hosts cannot be read.
    """
    check = "data.hosts"
    places: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    async for name, place in _places(broker):
        places[name].add(place)
    shared: defaultdict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
    for name, found in sorted(places.items()):
        if len({pool for pool, _ in found}) > 1:
            shared[tuple(sorted(found))].append(name)
    if not shared:
        return [Finding(check, Level.OK, "no Zoom user is in two pools")]
    do = (
        "leave it in one of them, because it would get two lessons at once: zoompool accounts remove ACCOUNT --pool "
        "POOL, or for a teacher's own pool let the web app register another zoom_user_id"
    )
    return [
        Finding(check, Level.FAILED, f"Zoom user {' = '.join(names)} is in several pools: {_text(where)}", do)
        for where, names in shared.items()
    ]


async def _places(broker: AsyncBroker) -> AsyncIterator[tuple[str, tuple[str, str]]]:
    """A name of a Zoom user, with a pool and the account that it is there."""
    for pool in await broker.pools():
        with translated("hosts of a pool"):
            hosts: Any = await broker.redis.hgetall(broker.pool(pool).keys.hosts)
        for name, account in hosts.items():
            yield name, (pool, account)
    after = ""
    while page := await teachers.page(broker.redis, after, PAGE):
        for teacher in page:
            for name in host_names("", teacher.zoom_user_id):
                yield name, (teachers.pool_of(teacher.id), personal.HOST)
        after = page[-1].id


def _text(places: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{pool}/{account}" for pool, account in places)
