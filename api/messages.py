"""What people read, in Russian and English. Codes never change; texts may."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    "pool_exhausted": ("Все Zoom аккаунты заняты", "All Zoom accounts are busy"),
    "pool_empty": ("В пуле нет ни одного Zoom аккаунта", "The pool has no Zoom account"),
    "owner_quota": ("У вас уже идёт слишком много уроков", "You have too many lessons running already"),
    "lesson_of_another_teacher": ("Это урок другого учителя", "This lesson belongs to another teacher"),
    "lesson_unknown": ("Урок не найден", "This lesson is not known"),
    "start_lapsed": ("Не удалось начать урок вовремя, попробуйте ещё раз", "The start took too long; try again"),
    "start_failed": ("Zoom не создал встречу", "Zoom did not create the meeting"),
    "broker_unavailable": ("Сервис временно недоступен", "The service is unavailable for a moment; try again"),
    "owner_missing": ("Укажите owner: чей это урок", "Say whose lesson it is: owner"),
    "invalid_name": ("Недопустимый идентификатор", "An id has characters that cannot be used"),
    "invalid_request": ("Запрос составлен неверно", "The request is not valid"),
    "idempotency_key_reused": (
        "Этот Idempotency-Key уже использован с другим запросом",
        "This Idempotency-Key was used with another request",
    ),
    "internal_error": ("Внутренняя ошибка", "Something went wrong here; it has been logged"),
    "not_found": ("Такого адреса нет", "There is nothing at this address"),
    "bad_signature": ("Неверная подпись", "The signature is not Zoom's"),
    "bad_webhook": ("Это не вебхук Zoom", "This is not a webhook of Zoom's"),
    "too_large": ("Слишком большой запрос", "The body is too large"),
}


def text(code: str, language: str) -> str:
    """The text of a code; the code itself where there is none."""
    russian, english = TEXTS.get(code, (code, code))
    return russian if language == "ru" else english


def choose_language(accept: str, default: str) -> str:
    """The best of ru and en by `Accept-Language` (RFC 9110, section 12.5.4)."""
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
