// A teacher's page: what runs, what is planned, and a lesson at once. It shows how zoom-start.js is used; a web app has
// its own page. The token comes in the address's fragment (#token=…), which browsers never send to a server.

import { configure } from "./zoom-start.js";

const TEXTS = {
  en: {
    lessons: "Lessons", language: "Language", token: "Token", signIn: "Sign in", quick: "A lesson at once", title: "Title",
    minutes: "Minutes", startNow: "Start now", running: "Running", planned: "Planned", start: "Start", end: "End lesson",
    expired: "The subscription has expired", network: "The server cannot be reached", none: "No lessons",
  },
  ru: {
    lessons: "Уроки", language: "Язык", token: "Токен", signIn: "Войти", quick: "Урок прямо сейчас", title: "Название",
    minutes: "Минут", startNow: "Начать сейчас", running: "Идут", planned: "Запланированы", start: "Начать",
    end: "Завершить урок", expired: "Подписка истекла", network: "Сервер недоступен", none: "Уроков нет",
  },
};

const element = (id) => document.getElementById(id);
let language = localStorage.getItem("language") ?? (navigator.language.startsWith("en") ? "en" : "ru");
let token = new URLSearchParams(location.hash.slice(1)).get("token") ?? sessionStorage.getItem("token") ?? "";

function show() {
  document.documentElement.lang = language;
  document.title = TEXTS[language].lessons;
  configure({ language, token: () => token });
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = TEXTS[language][node.dataset.text];
  for (const node of document.querySelectorAll("[data-label]")) node.ariaLabel = TEXTS[language][node.dataset.label];
  for (const node of document.querySelectorAll("[data-language]")) {
    node.ariaPressed = String(node.dataset.language === language);
  }
}

async function ask(method, path) {
  const response = await fetch(path, {
    method,
    headers: { Authorization: `Bearer ${token}`, "Accept-Language": language },
    signal: AbortSignal.timeout(40_000),
  }).catch(() => {
    throw new Error(TEXTS[language].network);
  });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(body.detail ?? response.statusText), { status: response.status });
  return body;
}

async function load() {
  element("problem").textContent = "";
  element("sign-in").hidden = Boolean(token);
  if (!token) return;
  try {
    const me = await ask("GET", "/api/me/");
    sessionStorage.setItem("token", token);
    element("who").textContent = me.user_id;
    element("who").hidden = element("quick").hidden = false;
    if (me.subscription?.active === false) element("problem").textContent = TEXTS[language].expired;
    list("running", me.active_lessons, (lesson) => [lesson.lesson_id, starter(lesson.lesson_id), ender(lesson.lesson_id)]);
    const running = new Set(me.active_lessons.map((lesson) => lesson.lesson_id));
    const planned = (await ask("GET", "/api/schedule/lessons/?status=planned&limit=50")).lessons;
    list(
      "planned",
      planned.filter((lesson) => !running.has(lesson.lesson_id)),
      ({ lesson_id: id, registered }) => [registered?.title || id, when(registered?.starts_at), starter(id, registered?.title)],
    );
  } catch (error) {
    if (error.status === 401) {
      token = "";
      sessionStorage.removeItem("token");
      element("sign-in").hidden = false;
    }
    element("problem").textContent = error.message;
  }
}

function list(id, lessons, parts) {
  const section = element(id);
  section.hidden = !lessons.length;
  section.querySelector("ul").replaceChildren(
    ...lessons.map((lesson) => {
      const item = document.createElement("li");
      item.append(...parts(lesson).filter(Boolean));
      return item;
    }),
  );
}

function starter(id, title = "") {
  const button = document.createElement("zoom-start-button");
  button.setAttribute("lesson", id);
  if (title) button.setAttribute("lesson-title", title);
  button.textContent = TEXTS[language].start;
  return button;
}

function ender(id) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = TEXTS[language].end;
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await ask("POST", `/api/schedule/lessons/${encodeURIComponent(id)}/end/`);
      await load();
    } catch (error) {
      element("problem").textContent = error.message;
      button.disabled = false;
    }
  });
  return button;
}

function when(time) {
  if (!time) return "";
  const node = document.createElement("time");
  node.dateTime = time;
  node.textContent = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(new Date(time));
  return node;
}

for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    language = button.dataset.language;
    localStorage.setItem("language", language);
    show();
    load();
  });
}
element("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  token = new FormData(event.target).get("token").trim();
  load();
});
element("quick-start").addEventListener("click", () => {
  // Read at the click: the button takes what its attributes say then.
  element("quick-start").setAttribute("lesson-title", element("quick-topic").value);
  element("quick-start").setAttribute("duration", element("quick-minutes").value);
}, { capture: true });
document.addEventListener("zoom-started", load);

history.replaceState(null, "", location.pathname + location.search); // The token does not stay in the address.
show();
load();
