"""The registry of Zoom credentials."""

from __future__ import annotations

import pytest
import redis.asyncio
from pydantic import SecretStr

from broker import credentials, keys
from broker.errors import InvalidName, SecretUnreadable, UnknownCredential
from broker.models import Credential
from broker.secrets import SecretBox, new_key


@pytest.fixture
def box() -> SecretBox:
    return SecretBox([SecretStr(new_key())])


def credential(name: str = "school", secret: str = "hush-hush") -> Credential:
    return Credential(name, "account-1", "client-1", SecretStr(secret))


async def test_what_is_saved_is_loaded(aredis: redis.asyncio.Redis, box: SecretBox) -> None:
    await credentials.save(aredis, box, credential())
    loaded = await credentials.load(aredis, box, "school")
    assert loaded == credential()
    assert loaded.client_secret.get_secret_value() == "hush-hush"
    assert await credentials.names(aredis) == ("school",)


async def test_the_secret_is_not_readable_in_redis(aredis: redis.asyncio.Redis, box: SecretBox) -> None:
    await credentials.save(aredis, box, credential())
    assert "hush-hush" not in str(await aredis.hgetall(keys.credential("school")))
    assert "hush-hush" not in repr(await credentials.identities(aredis))


async def test_a_new_secret_drops_the_token_of_the_old_one(aredis: redis.asyncio.Redis, box: SecretBox) -> None:
    await credentials.save(aredis, box, credential())
    await aredis.set(keys.token("school"), "sealed token")
    await credentials.save(aredis, box, credential(secret="newer"))
    assert not await aredis.exists(keys.token("school"))
    assert (await credentials.load(aredis, box, "school")).client_secret.get_secret_value() == "newer"


async def test_a_deleted_credential_leaves_nothing(aredis: redis.asyncio.Redis, box: SecretBox) -> None:
    await credentials.save(aredis, box, credential())
    await aredis.set(keys.token("school"), "sealed token")
    await credentials.delete(aredis, "school")
    assert await aredis.keys("zp:credential*") == []
    with pytest.raises(UnknownCredential, match="zoompool credentials add school"):
        await credentials.load(aredis, box, "school")


async def test_deleting_an_unknown_credential_says_so(aredis: redis.asyncio.Redis) -> None:
    with pytest.raises(UnknownCredential):
        await credentials.delete(aredis, "nobody")


async def test_another_key_cannot_read_it_but_can_list_it(aredis: redis.asyncio.Redis, box: SecretBox) -> None:
    await credentials.save(aredis, box, credential())
    with pytest.raises(SecretUnreadable, match="credential 'school'"):
        await credentials.load(aredis, SecretBox([SecretStr(new_key())]), "school")
    assert await credentials.identities(aredis) == (credentials.Identity("school", "account-1", "client-1"),)


@pytest.mark.parametrize(
    "wrong",
    [
        Credential("me", "account-1", "client-1", SecretStr("s")),
        Credential("school", "me", "client-1", SecretStr("s")),
        Credential("school", "account-1", "", SecretStr("s")),
        Credential("school", "account-1", "client-1", SecretStr("")),
        Credential("a name", "account-1", "client-1", SecretStr("s")),
    ],
    ids=["name me", "account me", "no client id", "no secret", "unusable name"],
)
async def test_unusable_credentials_are_refused(wrong: Credential, aredis: redis.asyncio.Redis, box: SecretBox) -> None:
    with pytest.raises(InvalidName):
        await credentials.save(aredis, box, wrong)
    assert await credentials.names(aredis) == ()
