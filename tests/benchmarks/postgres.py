"""The flow that this project replaces, on a real PostgreSQL: five workers that hold a row lock while they call Zoom.

Generous to the old flow: `SKIP LOCKED` gives each worker a row of its own, where the original's workers queued for the
same one, and the lesson's request waits in memory instead of blocking a web server.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

import httpx
import psycopg

from broker.models import Credential

WORKERS = 5
STOP_S = 20


class PostgresMissing(Exception):
    """No PostgreSQL server on this machine."""


@contextmanager
def private_postgres() -> Iterator[str]:
    """A server of our own in a temporary folder; gives its connection string.

    Raises:
        PostgresMissing: its programs are not installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "").parent]
    if not (found[-1] / "initdb").exists():
        raise PostgresMissing("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    # It refuses to run as root; Debian's package brings a user for it.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="zoompool-pg-") as folder:
        if user:
            shutil.chown(folder, user)
        data = Path(folder) / "data"
        initdb = [str(found[-1] / "initdb"), "-D", str(data), "-A", "trust", "-U", "bench", "-E", "UTF8"]
        subprocess.run(initdb, user=user, cwd=folder, check=True, capture_output=True)
        server = subprocess.Popen(
            [found[-1] / "postgres", "-D", data, "-k", folder, "-h", ""],
            user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        url = f"host={folder} user=bench dbname=postgres"
        try:
            _wait_for(url)
            yield url
        finally:
            server.terminate()
            server.wait(STOP_S)


def _wait_for(url: str) -> None:
    deadline_s = time.monotonic() + STOP_S
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)


def starts_per_second(zoom_url: str, app: Credential, hosts: list[str], starts: int) -> float:
    """Throughput of the old flow.

    Args:
        zoom_url: the simulated Zoom.
        app: by which it is reached.
        hosts: e-mails of the hosts, at least as many as starts.
        starts: how many lessons.

    Raises:
        PostgresMissing: there is no server program.
    """
    with private_postgres() as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE account (email text PRIMARY KEY, busy boolean NOT NULL DEFAULT false)")
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO account (email) VALUES (%s)", [(host,) for host in hosts])
        lessons: SimpleQueue[int] = SimpleQueue()
        for number in range(starts):
            lessons.put(number)
        token = _token(zoom_url, app)
        failures: list[str] = []
        threads = [
            threading.Thread(target=_work, args=(url, zoom_url, token, lessons, failures)) for _ in range(WORKERS)
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise RuntimeError(f"the old flow failed: {failures[0]}")
        return starts / (time.perf_counter() - began)


def _token(zoom_url: str, app: Credential) -> str:
    basic = base64.b64encode(f"{app.client_id}:{app.client_secret.get_secret_value()}".encode()).decode()
    form = {"grant_type": "account_credentials", "account_id": app.account_id}
    headers = {"Authorization": f"Basic {basic}"}
    answer = httpx.post(f"{zoom_url}/oauth/token", headers=headers, data=form, trust_env=False)
    answer.raise_for_status()
    return str(answer.json()["access_token"])


def _work(url: str, zoom_url: str, token: str, lessons: SimpleQueue[int], failures: list[str]) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    with psycopg.connect(url) as connection, httpx.Client(base_url=zoom_url, headers=headers, trust_env=False) as zoom:
        while True:
            try:
                lesson = lessons.get_nowait()
            except Empty:
                return
            with connection.transaction():
                row = connection.execute(
                    "SELECT email FROM account WHERE NOT busy ORDER BY email LIMIT 1 FOR UPDATE SKIP LOCKED"
                ).fetchone()
                assert row is not None
                meeting = {"topic": f"Lesson {lesson}", "type": 2, "duration": 60}
                answer = zoom.post(f"/v2/users/{row[0]}/meetings", json=meeting, timeout=30)
                if not answer.is_success:
                    failures.append(answer.text)
                    return
                connection.execute("UPDATE account SET busy = true WHERE email = %s", row)
