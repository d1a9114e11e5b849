"""Take Zoom's users into a pool as accounts, for somebody who waits at the API.

What the job returns is kept by RQ and read by the API: the accounts, or why there are none. A refusal of Zoom's is such
an answer, too, and is not tried again: the client has done so while it could help, and who waits decides what then.
When Redis is in trouble the job raises, and its retry adds all accounts anew, which changes nothing of those added
before.
"""

from __future__ import annotations

from typing import Any

import structlog

from broker.errors import HostTaken, ImportRefused, SecretUnreadable, UnknownCredential
from broker.registry import account_lists
from broker.zoom import ZoomError
from workers.context import open_context

log = structlog.get_logger(__name__)


async def import_accounts(pool: str, credential: str, dry_run: bool) -> dict[str, Any]:
    """Job: add all users that Zoom lets host to a pool, or with `dry_run` only say who they are.

    Returns:
        `accounts`, each with the columns of a list; or `code`, that of the error which left none, with the `mistakes`
        of an import that was refused, and `taken` of hosts that were.
    """
    bound = log.bind(pool=pool, credential=credential, dry_run=dry_run)
    async with open_context() as context:
        try:
            accounts = await account_lists.import_from_zoom(
                context.broker, context.box, context.zoom, pool, credential, dry_run=dry_run
            )
        except (UnknownCredential, SecretUnreadable, ZoomError, ImportRefused, HostTaken) as error:
            bound.error("no accounts from Zoom", code=error.code, error=str(error))
            return {
                "code": error.code,
                "mistakes": list(error.mistakes) if isinstance(error, ImportRefused) else [],
                "taken": error.taken if isinstance(error, HostTaken) else {},
            }
    bound.info("accounts from Zoom", accounts=len(accounts))
    return {"accounts": [account_lists.row(account) for account in accounts]}
