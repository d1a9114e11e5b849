"""The registry of Zoom credentials."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis as redis_py
import redis.asyncio
from pydantic import SecretStr

from broker import keys
from broker.errors import InvalidName, SecretUnreadable, UnknownCredential
from broker.models import Credential
from broker.registry import credentials
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


async def test_a_webhook_secret_is_found_by_its_zoom_account(aredis: redis.asyncio.Redis, box: SecretBox) -> None:
    await credentials.save(aredis, box, replace(credential("one"), webhook_secret=SecretStr("whisper")))
    await credentials.save(aredis, box, credential("none"))
    ((name, secret),) = await credentials.webhook_secrets(aredis, box, "account-1")
    assert (name, secret.get_secret_value()) == ("one", "whisper")
    assert "whisper" not in str(await aredis.hgetall(keys.credential("one")))
    assert await credentials.webhook_secrets(aredis, box, "account-2") == ()
    # Moved to another Zoom account, then without a secret, then gone.
    await credentials.save(aredis, box, Credential("one", "account-2", "c", SecretStr("s"), SecretStr("whisper")))
    assert await credentials.webhook_secrets(aredis, box, "account-1") == ()
    assert len(await credentials.webhook_secrets(aredis, box, "account-2")) == 1
    await credentials.save(aredis, box, Credential("one", "account-2", "c", SecretStr("s")))
    assert await credentials.webhook_secrets(aredis, box, "account-2") == ()
    await credentials.save(aredis, box, Credential("one", "account-2", "c", SecretStr("s"), SecretStr("whisper")))
    await credentials.delete(aredis, "one")
    assert await aredis.keys("zp:webhook-secrets:*") == []


async def test_resealed_secrets_need_the_newest_key_only(aredis: redis.asyncio.Redis) -> None:
    old, new = SecretStr(new_key()), SecretStr(new_key())
    saved = replace(credential(), webhook_secret=SecretStr("whisper"))
    await credentials.save(aredis, SecretBox([old]), saved)
    await aredis.set(keys.token("school"), "sealed with the old key")
    assert await credentials.reseal(aredis, SecretBox([new, old]), "school")
    assert await credentials.load(aredis, SecretBox([new]), "school") == saved
    assert not await aredis.exists(keys.token("school"))
    assert not await credentials.reseal(aredis, SecretBox([new]), "nobody")


async def test_resealing_never_brings_an_older_secret_back(
    aredis: redis.asyncio.Redis, redis_url: str, box: SecretBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await credentials.save(aredis, box, credential(secret="older"))
    opened = box.open
    once: list[int] = []

    def slow(sealed: str, what: str) -> str:
        if not once:
            # Somebody saves a new secret while the old one is being encrypted again.
            once.append(1)
            with redis_py.Redis.from_url(redis_url) as other:
                other.hset(keys.credential("school"), "client_secret", box.seal("newer"))
        return opened(sealed, what)

    monkeypatch.setattr(box, "open", slow)
    assert await credentials.reseal(aredis, box, "school")
    assert (await credentials.load(aredis, box, "school")).client_secret.get_secret_value() == "newer"
