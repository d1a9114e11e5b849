"""Every problem that the API can answer with: its status and what people read, in Russian and English.

Codes and statuses never change; texts may. What a code means for an operator is in `broker.cli.explanations`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """One problem: the status that it is answered with, and its sentence."""

    status: int
    russian: str
    english: str

    def __getitem__(self, language: str) -> str:
        return self.russian if language == "ru" else self.english


PROBLEMS: dict[str, Text] = {
    # Who asks, and what for
    "not_authenticated": Text(
        401, "Authentication credentials were not provided.", "Authentication credentials were not provided."
    ),
    "token_invalid": Text(401, "Токен недействителен или истёк", "The token is not valid or has expired"),
    "role_required": Text(403, "Для этого нужна другая роль", "This needs another role"),
    "invalid_name": Text(422, "Недопустимый идентификатор", "An id has characters that cannot be used"),
    "invalid_request": Text(422, "Запрос составлен неверно", "The request is not valid"),
    "owner_missing": Text(422, "Укажите owner: чей это урок", "Say whose lesson it is: owner"),
    "idempotency_key_reused": Text(
        422,
        "Этот Idempotency-Key уже использован с другим запросом",
        "This Idempotency-Key was used with another request",
    ),
    "not_found": Text(404, "Такого адреса нет", "There is nothing at this address"),
    "method_not_allowed": Text(405, "Этот метод здесь не работает", "This method does not work here"),
    "too_large": Text(413, "Слишком большой запрос", "The body is too large"),
    # Lessons
    "lesson_unknown": Text(404, "Урок не найден", "This lesson is not known"),
    "lesson_of_another_teacher": Text(403, "Это урок другого учителя", "This lesson belongs to another teacher"),
    "subscription_expired": Text(403, "Подписка истекла", "The subscription has expired"),
    "zoom_credentials_missing": Text(
        400, "Добавьте в профиль данные своего Zoom-приложения", "Add your own Zoom app to your profile first"
    ),
    "owner_quota": Text(409, "У вас уже идёт слишком много уроков", "You have too many lessons running already"),
    "pool_overbooked": Text(
        409, "На это время все Zoom аккаунты уже зарезервированы", "Every Zoom account is reserved for that time"
    ),
    "pool_exhausted": Text(503, "Все Zoom аккаунты заняты", "All Zoom accounts are busy"),
    "queue_full": Text(
        503, "Все Zoom аккаунты заняты, и очередь переполнена", "All Zoom accounts are busy, and the queue is full"
    ),
    "overloaded": Text(
        503,
        "Сейчас начинается слишком много уроков, попробуйте чуть позже",
        "Too many lessons start at this moment; try again soon",
    ),
    "too_many_requests": Text(429, "Слишком частые запросы, подождите немного", "Too many requests; wait a little"),
    "pool_empty": Text(503, "В пуле нет ни одного Zoom аккаунта", "The pool has no Zoom account"),
    "start_lapsed": Text(
        503, "Не удалось начать урок вовремя, попробуйте ещё раз", "The start took too long; try again"
    ),
    "started_elsewhere": Text(
        503,
        "Урок только что начат на другом аккаунте, попробуйте ещё раз",
        "The lesson was started on another account just now; try again",
    ),
    "start_failed": Text(502, "Zoom не создал встречу", "Zoom did not create the meeting"),
    # Zoom's refusals, as the outcome of a start
    "zoom_credential_rejected": Text(
        502,
        "Zoom не принял приложение школы; сообщите администратору",
        "Zoom refused the school's app; tell your administrator",
    ),
    "zoom_scope_missing": Text(
        502,
        "Приложению Zoom не хватает разрешений; сообщите администратору",
        "The school's Zoom app lacks permissions; tell your administrator",
    ),
    "zoom_host_not_allowed": Text(
        502,
        "Zoom не разрешает этому аккаунту проводить встречи; попробуйте ещё раз",
        "Zoom does not let this account host meetings; try again to get another",
    ),
    "zoom_host_inactive": Text(
        502,
        "Этот аккаунт Zoom отключён; попробуйте ещё раз",
        "This Zoom account is deactivated; try again to get another",
    ),
    "zoom_host_unknown": Text(
        502,
        "Zoom не знает такого аккаунта; попробуйте ещё раз",
        "Zoom knows no such account; try again to get another",
    ),
    "zoom_daily_limit": Text(
        502,
        "Этот аккаунт Zoom исчерпал дневной лимит встреч; попробуйте ещё раз",
        "This Zoom account has used up its meetings of the day; try again to get another",
    ),
    "zoom_account_daily_limit": Text(
        502,
        "Дневной лимит запросов к Zoom исчерпан; он обновится в 00:00 UTC",
        "The day's calls to Zoom are used up; they start anew at 00:00 UTC",
    ),
    "zoom_rate_limited": Text(
        502, "К Zoom слишком много запросов, попробуйте через минуту", "Zoom gets too many calls; try again in a minute"
    ),
    "zoom_rate_budget": Text(
        502,
        "Сейчас начинается слишком много уроков, попробуйте через минуту",
        "Too many lessons start at once; try again in a minute",
    ),
    "zoom_timeout": Text(502, "Zoom не ответил вовремя, попробуйте ещё раз", "Zoom did not answer in time; try again"),
    "zoom_unavailable": Text(502, "Zoom сейчас недоступен, попробуйте ещё раз", "Zoom is unavailable; try again"),
    "zoom_answer_unreadable": Text(
        502, "Ответ Zoom не удалось прочитать, попробуйте ещё раз", "Zoom's answer could not be read; try again"
    ),
    "zoom_request_rejected": Text(
        502,
        "Zoom отклонил запрос; проверьте название и длительность урока",
        "Zoom refused the request; check the lesson's title and duration",
    ),
    "zoom_meeting_missing": Text(
        502, "Этой встречи в Zoom больше нет, попробуйте ещё раз", "Zoom has lost this meeting; try again"
    ),
    "zoom_still_running": Text(
        502, "Zoom не завершил встречу, попробуйте ещё раз", "Zoom has not ended the meeting; try again"
    ),
    "zoom_token_busy": Text(502, "Zoom сейчас недоступен, попробуйте ещё раз", "Zoom is unavailable; try again"),
    "zoom_outcome_unknown": Text(
        502,
        "Неизвестно, создал ли Zoom встречу; попробуйте ещё раз",
        "It is not known whether Zoom made the meeting; try again",
    ),
    # Webhooks
    "bad_signature": Text(401, "Неверная подпись", "The signature is not Zoom's"),
    "bad_webhook": Text(400, "Это не вебхук Zoom", "This is not a webhook of Zoom's"),
    # Administration
    "unknown_teacher": Text(404, "Такой учитель не зарегистрирован", "No such teacher is registered"),
    "unknown_credential": Text(404, "Такие данные Zoom не зарегистрированы", "No such credential is registered"),
    "unknown_pool": Text(404, "Такого пула нет", "There is no such pool"),
    "unknown_account": Text(404, "Такого аккаунта в пуле нет", "The pool has no such account"),
    "unknown_lease": Text(404, "Такой брони нет, или она уже завершена", "There is no such lease, or it is over"),
    "secret_missing": Text(422, "Укажите client_secret", "Give the client_secret"),
    "import_refused": Text(
        422, "В списке есть ошибки, ничего не добавлено", "The list has mistakes; none of it was added"
    ),
    "host_taken": Text(
        409,
        "Этот пользователь Zoom уже есть в пуле под другим идентификатором, ничего не изменено",
        "This Zoom user is another account of the pool already; nothing was changed",
    ),
    "credential_in_use": Text(
        409, "Этими учётными данными пользуются аккаунты", "Accounts use this credential; give them another first"
    ),
    "meeting_may_exist": Text(
        409,
        "В Zoom может идти встреча; завершите урок или повторите с force",
        "A meeting may exist at Zoom; end the lesson, or repeat with force",
    ),
    # Our own troubles
    "broker_unavailable": Text(
        503, "Сервис временно недоступен, попробуйте ещё раз", "The service is unavailable for a moment; try again"
    ),
    "broker_misconfigured": Text(
        503, "Сервис временно не принимает изменения", "The service cannot take changes for a moment"
    ),
    "keys_unavailable": Text(
        503, "Сейчас невозможно проверить токен, попробуйте ещё раз", "Tokens cannot be checked for a moment; try again"
    ),
    "internal_error": Text(500, "Внутренняя ошибка", "Something went wrong here; it has been logged"),
}


def choose_language(accept: str, default: str) -> str:
    """The best of ru and en by `Accept-Language` (RFC 9110, section 12.5.4); the default where it names neither."""
    best, weight = default, 0.0
    for part in accept.split(","):
        tag, _, parameters = part.strip().partition(";")
        try:
            q = float(parameters.strip().removeprefix("q=")) if parameters else 1.0
        except ValueError:
            continue
        primary = tag.strip().lower().split("-")[0]
        if primary in ("ru", "en") and q > weight:
            best, weight = primary, q
    return best
