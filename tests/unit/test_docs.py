"""The two READMEs for people at redis-cli: their lines work when pasted, and what they list is what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import typer.main

from broker import keys, scripts
from broker.cli import app
from broker.client import Broker
from broker.keys import Keys
from broker.models import Account, AccountState, Phase, ReleaseReason, Reservation
from broker.settings import Settings
from tests import redis_cli

ROOT = Path(__file__).parents[2]
READMES = (ROOT / "broker/README.md", ROOT / "lua/README.md")
GUIDES = (*READMES, ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")))
REDIS_LINES = [
    pytest.param(line, id=f"{path.parent.name}-{number}")
    for path in READMES
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
    if line.startswith(("redis-cli ", "watch "))
]


@pytest.fixture
def example_pool(redis_url: str, redis: redis_py.Redis) -> str:
    """A pool with the names that the READMEs use, and one lease of every phase."""
    settings = Settings(redis_url=redis_url)
    broker = Broker(redis, settings)
    pool = broker.pool("default")
    broker.run(pool.register())
    for number in range(1, 8):
        broker.run(pool.add_account(Account(f"host-{number:02}", f"host-{number:02}@school.example", "", "default", 1)))
    broker.run(pool.park_account("host-07", AccountState.DRAINING, "summer"))
    for number, phase in enumerate(Phase, 1):
        lease = broker.run(pool.claim(f"lesson-{number}", f"teacher-{number}")).lease
        assert lease is not None
        if phase is not Phase.CLAIMED:
            broker.run(pool.begin_creating(lease.id, "attempt"))
        if phase in (Phase.READY, Phase.LIVE, Phase.SUSPECT):
            broker.run(
                pool.made_ready(
                    lease.id,
                    meeting_id=89012345675 + number,
                    meeting_uuid="uuid==",
                    join_url="https://zoom.example/j/1?pwd=hidden",
                    passcode="hidden",
                    sealed_start_url="sealed",
                    start_url_ms=1,
                )
            )
        if phase in (Phase.LIVE, Phase.SUSPECT):
            broker.run(pool.went_live(lease.id, meeting_uuid="uuid=="))
        if phase is Phase.SUSPECT:
            redis.zadd(pool.keys.leased, {lease.id.slot: 1})
            broker.run(pool.reap())
    ended = broker.run(pool.claim("lesson-9", "teacher-9")).lease
    assert ended is not None
    broker.run(pool.release([ended.id], ReleaseReason.FORCED, detail="example"))
    now_ms = broker.run(pool.status()).now_ms
    assert broker.run(pool.reserve("lesson-10", now_ms, now_ms + 3_600_000)).result is Reservation.DONE
    assert broker.run(pool.claim("lesson-11", "teacher-9", wait_s=60)).ticket is not None
    return redis_url


@pytest.mark.parametrize("line", REDIS_LINES)
def test_redis_cli_line_works_when_pasted(line: str, example_pool: str) -> None:
    watched = re.fullmatch(r"watch -n \d+ (.+)", line)
    done = redis_cli.paste(example_pool, shlex.split(watched[1])[0] if watched else line)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"\bERR\b|Could not connect|NOAUTH|WRONGTYPE", done.stdout + done.stderr)
    assert done.stdout.strip() or "XREAD" in line, "the example pool has nothing to show for this line"


def test_both_readmes_have_lines_to_paste() -> None:
    assert len(REDIS_LINES) >= 15


def commands(command: Any) -> set[str]:
    """The full names of all commands below `command`."""
    found = set()
    for name, child in getattr(command, "commands", {}).items():
        found |= {name} | {f"{name} {below}" for below in commands(child)}
    return found


def code(text: str) -> list[str]:
    """What stands in code blocks and between backticks."""
    fences = text.split("```")
    return [*fences[1::2], *(span for prose in fences[::2] for span in re.findall(r"`([^`\n]+)`", prose))]


@pytest.mark.parametrize(
    "path", [path for path in GUIDES if path.exists()], ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_zoompool_command_in_the_docs_exists(path: Path) -> None:
    known = commands(typer.main.get_command(app))
    groups = {name.split()[0] for name in known if " " in name}
    for fragment in code(path.read_text("utf-8")):
        for first, second in re.findall(r"\bzoompool ([a-z][a-z-]+)(?: ([a-z][a-z-]+))?", fragment):
            name = f"{first} {second}" if first in groups and second else first
            assert name in known, f"{path.name} names 'zoompool {name}', which does not exist"


def reference() -> str:
    """The part of lua/README.md that is made from the headers."""
    parts = []
    for script in scripts.load_all():
        more = [f"{script.rest}..."] if script.rest else []
        lines = [f"### {script.name}", "", script.purpose[0].upper() + script.purpose[1:], ""]
        lines.append("Arguments: " + ", ".join(f"`{name}`" for name in (*script.args, *more)) + "\n")
        for kind, texts in (("Answers", script.returns), ("Errors", script.errors)):
            if texts != ("none",):
                lines.append(f"{kind}:\n")
                lines += [f"- `{split_form(text)[0]}` – {split_form(text)[1]}" for text in texts]
                lines.append("")
        parts.append("\n".join(lines).rstrip())
    return "\n\n".join(parts) + "\n"


def split_form(text: str) -> tuple[str, str]:
    """The form of a result or the name of an error, and what it means. Forms in braces may hold colons."""
    end = text.rindex("}: ") + 1 if "}: " in text else text.index(": ")
    return text[:end], text[end + 2 :]


def test_lua_readme_describes_the_scripts_as_their_headers_do() -> None:
    written = (ROOT / "lua/README.md").read_text("utf-8").split("holds it against them.\n\n", 1)[1]
    assert written == reference(), f"replace the last part of lua/README.md by:\n{reference()}"


def test_broker_readme_lists_every_key() -> None:
    listed = set(re.findall(r"^\| `(zp:[^`]+)` \|", (ROOT / "broker/README.md").read_text("utf-8"), re.MULTILINE))
    pool = Keys("P")
    there = {
        *(getattr(pool, name) for name, kind in vars(Keys).items() if isinstance(kind, property)),
        pool.slot("{slot}"),
        pool.ticket("{lesson}"),
        pool.reservation("{lesson}"),
        pool.base + Keys.ACCOUNT + "{id}",
        pool.base + Keys.OUTCOME + "{lesson}",
        pool.guard("{job}"),
        pool.base + "stray:{meeting}",
        pool.base + Keys.PAST + "{meeting}",
        keys.POOLS,
        keys.CREDENTIALS,
        keys.credential("name").replace("name", "{name}"),
        keys.RETIRING,
        keys.TEACHERS,
        keys.personal_lesson("lesson").replace(":lesson", ":{lesson}"),
        keys.LESSONS,
        keys.teacher("id").replace("id", "{id}"),
        keys.lesson("id").replace("id", "{id}"),
        keys.lessons_of_teacher("id").replace("id", "{id}"),
        keys.lessons_of_group("id").replace("id", "{id}"),
        keys.webhook_secrets("{digest}"),
        keys.token("name").replace("name", "{name}"),
        keys.token_refresh("name").replace("name", "{name}"),
        keys.budget("{account}", "{category}"),
        keys.starts("owner").replace("owner", "{owner}"),
        keys.idempotency("{owner}", "{digest}"),
    }
    assert there <= listed, f"broker/README.md does not list {sorted(there - listed)}"


def test_broker_readme_lists_every_module_and_decision() -> None:
    text = (ROOT / "broker/README.md").read_text("utf-8")
    modules = {path.name for path in (ROOT / "broker").glob("*.py") if not path.name.startswith("__")}
    folders = {f"{path.parent.name}/" for path in (ROOT / "broker").glob("*/__init__.py")}
    missing = {name for name in modules | folders if f"`{name}`" not in text}
    assert not missing, f"the module map of broker/README.md lacks {sorted(missing)}"


def test_lifetimes_in_the_phase_table_are_the_settings_defaults() -> None:
    text = (ROOT / "broker/README.md").read_text("utf-8")
    units = {"s": 1, "min": 60, "h": 3600}
    named = re.findall(r"(\d+) (s|min|h)(?: in all)? \(`ZOOMPOOL_([A-Z_]+)`\)", text)
    assert {name for _, _, name in named} >= {
        "CLAIM_TTL_S",
        "CREATE_TTL_S",
        "START_GRACE_S",
        "LIVE_TTL_S",
        "MAX_HOLD_S",
    }
    for number, unit, name in named:
        assert Settings.model_fields[name.lower()].default == int(number) * units[unit], name
