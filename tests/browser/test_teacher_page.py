"""What a teacher sees and does, in Chromium."""

from __future__ import annotations

import re
import time

import jwt
from playwright.async_api import BrowserContext, Page, Route, expect

from broker.models import Granted, Lease, ReleaseReason
from broker.testing.school import School
from broker.testing.stack import Stack
from tests.waiting import wait_until_async

SLOW = {"method": "POST", "path": "/v2/users/*/meetings", "action": "delay", "delay_ms": 2500, "times": 1}


async def open_page(browser: BrowserContext, stack: Stack, school: School, teacher: str = "anna") -> Page:
    """The page of a teacher who is signed in."""
    page = await browser.new_page()
    await page.goto(f"{stack.api_url}/teacher/#token={school.token(teacher)}")
    await expect(page.get_by_text(teacher, exact=True)).to_be_visible()
    return page


async def press(page: Page, name: str = "Начать сейчас") -> Page:
    """Press the button of the quick start; returns the tab that opens."""
    async with page.expect_popup() as popup:
        await page.get_by_role("button", name=name, exact=True).click()
    return await popup.value


def take_every_host(stack: Stack) -> Lease:
    """Another teacher's lesson has the only host."""
    claim = stack.broker.run(stack.broker.pool().claim("other", "boris"))
    assert claim.lease is not None
    return claim.lease


def fill_the_line(stack: Stack) -> None:
    """Somebody waits for it already, and there is no more room to wait."""
    claim = stack.broker.run(stack.broker.pool().claim("first-in-line", "clara", wait_s=60))
    assert claim.outcome is Granted.QUEUED


async def test_click_opens_the_meeting_in_a_new_tab(browser: BrowserContext, stack: Stack, school: School) -> None:
    page = await open_page(browser, stack, school)
    await page.get_by_label("Название").fill("Алгебра")
    tab = await press(page)
    await tab.wait_for_url(re.compile(r"https://zoom\.example/s/\d+\?zak="))
    assert await tab.evaluate("window.opener") is None
    await expect(page.get_by_role("heading", name="Идут")).to_be_visible()
    (meeting,) = await school.meetings()
    assert meeting["topic"] == "Алгебра"


async def test_running_lesson_can_be_opened_again_and_ended(
    browser: BrowserContext, stack: Stack, school: School
) -> None:
    page = await open_page(browser, stack, school)
    first = await press(page)
    await first.wait_for_url("https://zoom.example/**")
    again = await press(page, "Начать")
    await again.wait_for_url("https://zoom.example/**")
    assert again.url.split("?")[0] == first.url.split("?")[0]
    await page.get_by_role("button", name="Завершить урок").click()
    await expect(page.get_by_role("heading", name="Идут")).to_be_hidden()
    assert await school.meetings() == []


async def test_double_click_is_one_lesson(browser: BrowserContext, stack: Stack, school: School) -> None:
    page = await open_page(browser, stack, school)
    async with page.expect_popup() as popup:
        await page.get_by_role("button", name="Начать сейчас").dblclick()
    await (await popup.value).wait_for_url("https://zoom.example/**")
    assert len(browser.pages) == 2
    assert len(await school.meetings()) == 1


async def test_place_in_line_is_shown_until_a_host_is_free(
    browser: BrowserContext, stack: Stack, school: School
) -> None:
    other = take_every_host(stack)
    page = await open_page(browser, stack, school)
    tab = await press(page)
    await expect(tab.get_by_role("status")).to_contain_text("Все Zoom аккаунты заняты. Ваше место в очереди: 1")
    stack.broker.run(stack.broker.pool().release([other.id], ReleaseReason.ENDED))
    await tab.wait_for_url("https://zoom.example/**")


async def test_full_line_is_said_in_the_readers_language(browser: BrowserContext, stack: Stack, school: School) -> None:
    take_every_host(stack)
    fill_the_line(stack)
    page = await open_page(browser, stack, school)
    tab = await press(page)
    await expect(page.get_by_role("alert")).to_contain_text("Все Zoom аккаунты заняты, и очередь переполнена")
    await wait_until_async(lambda: _is(tab.is_closed()), "the tab closes")
    await page.get_by_role("button", name="English").click()
    await press(page, "Start now")
    await expect(page.get_by_role("alert")).to_contain_text("All Zoom accounts are busy, and the queue is full")
    assert await page.evaluate("document.documentElement.lang") == "en"


async def test_expired_subscription_is_said_and_nothing_is_started(
    browser: BrowserContext, stack: Stack, school: School
) -> None:
    claims = {"user_id": "dora", "exp": time.time() + 600, "subscription_until": time.time() - 60}
    token = jwt.encode(claims, stack.settings.jwt_key.get_secret_value(), "HS256")
    page = await browser.new_page()
    await page.goto(f"{stack.api_url}/teacher/#token={token}")
    await press(page)
    await expect(page.locator("#quick-start").get_by_role("alert")).to_contain_text("Подписка истекла")
    assert await school.meetings() == []


async def _is(value: bool) -> bool:
    return value


async def test_slow_zoom_is_waited_for_with_a_word_in_the_tab(
    browser: BrowserContext, stack: Stack, school: School
) -> None:
    await school.add_fault(**SLOW)
    page = await open_page(browser, stack, school)
    tab = await press(page)
    await expect(tab.get_by_role("status")).to_have_text("Zoom готовит встречу…")
    await expect(tab.get_by_role("heading", name="Урок начинается")).to_be_visible()
    await tab.wait_for_url("https://zoom.example/**")


async def test_whole_way_by_keyboard_keeps_the_focus(browser: BrowserContext, stack: Stack, school: School) -> None:
    take_every_host(stack)
    fill_the_line(stack)
    page = await open_page(browser, stack, school)
    await page.get_by_label("Минут").focus()
    await page.keyboard.press("Tab")
    async with page.expect_popup():
        await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("Все Zoom аккаунты заняты")
    await expect(page.get_by_role("button", name="Начать сейчас")).to_be_focused()


async def test_popup_blocker_leaves_a_link(browser: BrowserContext, stack: Stack, school: School) -> None:
    await browser.add_init_script("window.open = () => null")
    page = await open_page(browser, stack, school)
    await page.get_by_role("button", name="Начать сейчас").click()
    link = page.get_by_role("link", name="Открыть встречу")
    await expect(link).to_have_attribute("href", re.compile(r"^https://zoom\.example/s/"))
    assert await link.get_attribute("rel") == "noopener noreferrer"


async def test_tab_that_is_closed_stops_the_wait(browser: BrowserContext, stack: Stack, school: School) -> None:
    await school.add_fault(**SLOW)
    page = await open_page(browser, stack, school)
    tab = await press(page)
    await expect(tab.get_by_role("status")).to_be_visible()
    await tab.close()
    button = page.get_by_role("button", name="Начать сейчас")
    await expect(button).not_to_have_attribute("aria-disabled", "true")
    await expect(page.locator("#quick-start [role=alert]")).to_be_empty()


async def test_server_out_of_reach_is_said_after_some_tries(
    browser: BrowserContext, stack: Stack, school: School
) -> None:
    page = await open_page(browser, stack, school)
    await page.route("**/quick-start/", lambda route: route.abort())
    await press(page)
    await expect(page.get_by_role("alert")).to_contain_text("Сервер недоступен", timeout=20_000)


async def test_lost_connection_in_between_makes_no_second_lesson(
    browser: BrowserContext, stack: Stack, school: School
) -> None:
    page = await open_page(browser, stack, school)
    seen = 0

    async def lose_first_answer(route: Route) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            await route.fetch()
            await route.abort()
        else:
            await route.continue_()

    await page.route("**/quick-start/", lose_first_answer)
    tab = await press(page)
    await tab.wait_for_url("https://zoom.example/**")
    assert len(await school.meetings()) == 1


async def test_token_that_is_not_taken_asks_to_sign_in(browser: BrowserContext, stack: Stack, school: School) -> None:
    page = await browser.new_page()
    await page.goto(f"{stack.api_url}/teacher/#token=made-up")
    await expect(page.get_by_label("Токен")).to_be_visible()
    assert "made-up" not in page.url
    await page.get_by_label("Токен").fill(school.token("anna"))
    await page.get_by_role("button", name="Войти").click()
    await expect(page.get_by_text("anna", exact=True)).to_be_visible()
