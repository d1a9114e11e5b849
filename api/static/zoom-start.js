// Starting Zoom lessons from a web page: three functions and a button. No build step, no dependencies.
//
//   <script type="module" src="/static/zoom-start.js"></script>
//   <zoom-start-button lesson="4711">Start lesson</zoom-start-button>
//
// A browser lets a page open a tab only during a click. So the tab is opened first, empty; it shows how far the start is,
// and goes to Zoom when the link is there. Call the functions in the click's handler, before any `await`.

const TEXTS = {
  en: {
    title: "Starting the lesson",
    starting: "Zoom is preparing the meeting…",
    queued: "All Zoom accounts are busy. Your place in line: {position}",
    estimate: "About {seconds} s",
    opening: "Opening Zoom…",
    keep: "You can leave this tab open; the meeting opens here.",
    blocked: "The browser did not let a new tab open.",
    open: "Open the meeting",
    network: "The server cannot be reached. Check the connection and try again.",
    slow: "The start takes too long. Try again: it goes on where it stopped.",
    unknown: "The lesson could not be started.",
    stopped: "The start was stopped.",
    again: "Try again in {seconds} s.",
  },
  ru: {
    title: "Урок начинается",
    starting: "Zoom готовит встречу…",
    queued: "Все Zoom аккаунты заняты. Ваше место в очереди: {position}",
    estimate: "Примерно {seconds} с",
    opening: "Открываем Zoom…",
    keep: "Оставьте эту вкладку открытой: встреча откроется в ней.",
    blocked: "Браузер не разрешил открыть новую вкладку.",
    open: "Открыть встречу",
    network: "Сервер недоступен. Проверьте соединение и попробуйте ещё раз.",
    slow: "Урок начинается слишком долго. Попробуйте ещё раз: начало продолжится с того же места.",
    unknown: "Не удалось начать урок.",
    stopped: "Начало урока остановлено.",
    again: "Попробуйте ещё раз через {seconds} с.",
  },
};

const settings = { base: "", token: null, language: "", deadlineMs: 120_000 };

/**
 * Say once what holds for all starts of this page.
 * @param {object} options
 * @param {string} [options.base] where the API is, if not at this page's origin; without a slash at the end
 * @param {string|(() => string|Promise<string>)} [options.token] the bearer token, or what gets one; without it the
 *   request carries this origin's cookies, for a web app that adds the token itself
 * @param {"ru"|"en"} [options.language] of the texts; by default the page's `lang`, else the browser's
 * @param {number} [options.deadlineMs] how long a start may take in all
 */
export function configure(options) {
  Object.assign(settings, options);
}

/** A lesson that could not be started. `message` is for people; `code` is stable, for programs. */
export class StartError extends Error {
  constructor(code, message, { status = 0, retryAfterS = null } = {}) {
    super(message);
    this.name = "StartError";
    this.code = code;
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

/** Start a lesson with the teacher's own Zoom account. Same arguments and result as `startLessonNew`. */
export function startLesson(id, options = {}) {
  return open(`/api/schedule/lessons/${encodeURIComponent(id)}/start/`, {}, options);
}

/**
 * Start a lesson on a host of the pool. The same lesson started again opens the same meeting.
 * @param {string|number} id the lesson's id
 * @param {object} [options]
 * @param {string} [options.title] the meeting's title
 * @param {number} [options.duration] planned, in minutes
 * @param {(progress: {status: string, position: ?number, text: string}) => void} [options.onProgress]
 * @param {AbortSignal} [options.signal] stops waiting; a place in line is given up
 * @returns {Promise<object>} the API's answer, and `opened`: whether a tab went to the meeting. If not, a popup blocker was
 *   in the way: show `zoom_start_url` as a link.
 * @throws {StartError}
 */
export function startLessonNew(id, { title, duration, ...options } = {}) {
  return open(`/api/schedule/lessons/${encodeURIComponent(id)}/start-new/`, { title, duration }, options);
}

/** Start a lesson that does not exist yet: `{title, duration, group_id}`. One click makes one lesson. */
export function startQuickLesson({ title, duration, group_id: groupId } = {}, options = {}) {
  const headers = { "Idempotency-Key": crypto.randomUUID() };
  return open("/api/schedule/lessons/quick-start/", { title, duration, group_id: groupId }, { ...options, headers });
}

function open(path, body, { onProgress, signal, headers } = {}) {
  const language = languageOf();
  // Not "noopener": then there would be no tab to steer. The tie is cut before it goes to Zoom.
  const tab = globalThis.open("", "_blank");
  const page = tab && progressPage(tab, language);
  const tell = (progress) => {
    page?.show(progress);
    onProgress?.(progress);
  };
  const closed = new AbortController();
  const watch = tab && setInterval(() => tab.closed && closed.abort(), 500);
  const stop = AbortSignal.any([closed.signal, ...(signal ? [signal] : [])]);
  return run(path, body, headers, language, tell, stop)
    .then((lesson) => {
      if (!tab) return { ...lesson, opened: false };
      tell({ status: "opening", position: null, text: text(language, "opening") });
      tab.opener = null;
      tab.location.replace(safe(lesson.zoom_start_url, language));
      return { ...lesson, opened: true };
    })
    .catch((error) => {
      tab?.close();
      throw error;
    })
    .finally(() => clearInterval(watch));
}

/** Ask until there is a link: every request waits at the server, and repeating one is safe. */
async function run(path, body, headers, language, tell, signal) {
  const end = Date.now() + settings.deadlineMs;
  let failures = 0;
  let waitS = 2; // The first answer comes soon, to show where things stand.
  tell({ status: "starting", position: null, text: text(language, "starting") });
  while (Date.now() < end) {
    let answer;
    try {
      answer = await post(path, body, { ...headers, Prefer: `wait=${waitS}` }, language, signal);
    } catch (error) {
      if (signal.aborted) throw new StartError("stopped", text(language, "stopped"));
      if (++failures > 3) throw new StartError("network", text(language, "network"));
      await pause(500 * 2 ** failures, signal);
      continue;
    }
    failures = 0;
    if (answer.status === 200) return answer.body;
    if (answer.status !== 202) throw refusal(answer, language);
    tell(progressOf(answer.body, language));
    waitS = 10;
  }
  throw new StartError("slow", text(language, "slow"));
}

async function post(path, body, headers, language, signal) {
  const token = typeof settings.token === "function" ? await settings.token() : settings.token;
  const response = await fetch(settings.base + path, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      "Accept-Language": language,
      ...(token ? { Authorization: `Bearer ${token}` } : {}),
      ...headers,
    },
    credentials: "same-origin",
    body: JSON.stringify(body),
    signal: AbortSignal.any([signal, AbortSignal.timeout(45_000)]),
  });
  const answer = await response.json().catch(() => ({}));
  return { status: response.status, body: answer, retryAfterS: Number(response.headers.get("Retry-After")) || null };
}

function progressOf({ status, position = null, estimate_s: estimateS = null }, language) {
  if (status !== "queued" || !position) return { status, position, text: text(language, "starting") };
  const place = text(language, "queued", { position });
  const about = estimateS ? ` ${text(language, "estimate", { seconds: Math.ceil(estimateS) })}` : "";
  return { status, position, text: place + about };
}

function refusal({ status, body, retryAfterS }, language) {
  const said = body.detail || text(language, "unknown");
  const again = retryAfterS ? ` ${text(language, "again", { seconds: retryAfterS })}` : "";
  return new StartError(body.code || `http_${status}`, `${said.replace(/[.!]?$/, ".")}${again}`, { status, retryAfterS });
}

/** Only web addresses: a tab must never be sent to `javascript:`. */
function safe(url, language) {
  if (!/^https?:$/.test(new URL(url).protocol)) throw new StartError("bad_link", text(language, "unknown"));
  return url;
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

function languageOf() {
  const wanted = settings.language || document.documentElement.lang || navigator.language || "";
  return wanted.toLowerCase().startsWith("en") ? "en" : "ru";
}

function text(language, key, values = {}) {
  return TEXTS[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** What the new tab shows until it goes to Zoom. Built from elements, never from markup. */
function progressPage(tab, language) {
  const page = tab.document;
  page.documentElement.lang = language;
  page.title = text(language, "title");
  // A constructed sheet, because a strict content security policy forbids style elements.
  const sheet = new tab.CSSStyleSheet();
  sheet.replaceSync(`
    :root { color-scheme: light dark; font: 1.125rem/1.5 system-ui, sans-serif; }
    body { margin: 0; min-height: 100vh; display: grid; place-content: center; justify-items: center; text-align: center; }
    main { padding: 2rem; max-width: 34rem; }
    .wheel { width: 2.5rem; height: 2.5rem; margin: 0 auto 1.5rem; border-radius: 50%;
      border: 0.3rem solid color-mix(in srgb, currentColor 20%, transparent); border-top-color: #0b5cff;
      animation: turn 1s linear infinite; }
    .quiet { opacity: 0.75; font-size: 0.95rem; }
    @keyframes turn { to { transform: rotate(1turn); } }
    @media (prefers-reduced-motion: reduce) { .wheel { animation: none; } }`);
  page.adoptedStyleSheets = [sheet];
  const element = (name, properties) => Object.assign(page.createElement(name), properties);
  const main = element("main");
  const wheel = element("div", { className: "wheel" });
  wheel.ariaHidden = "true";
  const status = element("p");
  status.setAttribute("role", "status");
  main.append(
    wheel,
    element("h1", { textContent: text(language, "title") }),
    status,
    element("p", { className: "quiet", textContent: text(language, "keep") }),
  );
  page.body.replaceChildren(main);
  return { show: (progress) => (status.textContent = progress.text) };
}

const SHEET = new CSSStyleSheet();
SHEET.replaceSync(`
  :host { display: inline-block; font: inherit; }
  button { font: inherit; padding: 0.55em 1.1em; border: 0; border-radius: 0.5em; background: #0b5cff; color: #fff; cursor: pointer; }
  button:hover { background: #0849cc; }
  button:focus-visible { outline: 3px solid #ffb100; outline-offset: 2px; }
  button[aria-disabled="true"] { background: #5b6472; cursor: progress; }
  p { margin: 0.4em 0 0; }
  p:empty { display: none; }
  [role="alert"] { color: #b3261e; }
  @media (prefers-color-scheme: dark) { [role="alert"] { color: #ffb4ab; } }`);

/**
 * `<zoom-start-button lesson="4711">Start lesson</zoom-start-button>`
 *
 * Attributes: `lesson` (its id), `mode` (`new`: a host of the pool, the default; `own`: the teacher's own Zoom account;
 * `quick`: a new lesson), `lesson-title`, `duration` (minutes), `group-id`.
 * Events, which bubble: `zoom-started` with the API's answer as `detail`, `zoom-failed` with the `StartError`.
 */
export class ZoomStartButton extends HTMLElement {
  #button;
  #status;
  #alert;
  #busy = null;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    root.adoptedStyleSheets = [SHEET];
    this.#button = document.createElement("button");
    this.#button.type = "button";
    this.#button.part = "button";
    this.#button.append(document.createElement("slot"));
    this.#status = document.createElement("p");
    this.#status.setAttribute("role", "status");
    this.#alert = document.createElement("p");
    this.#alert.setAttribute("role", "alert");
    root.append(this.#button, this.#status, this.#alert);
    this.#button.addEventListener("click", () => this.start());
  }

  disconnectedCallback() {
    this.#busy?.abort();
  }

  /** As if somebody had clicked; must be called during a click or a key press. */
  async start() {
    if (this.#busy) return; // A double click is one start.
    this.#busy = new AbortController();
    // Not `disabled`, which would take the focus away from keyboard and screen reader.
    this.#button.setAttribute("aria-disabled", "true");
    this.#alert.replaceChildren();
    try {
      const lesson = await this.#call({
        signal: this.#busy.signal,
        onProgress: (progress) => (this.#status.textContent = progress.text),
      });
      if (!lesson.opened) this.#offer(lesson.zoom_start_url);
      this.dispatchEvent(new CustomEvent("zoom-started", { detail: lesson, bubbles: true, composed: true }));
    } catch (error) {
      if (error.code !== "stopped") this.#alert.textContent = error.message;
      this.dispatchEvent(new CustomEvent("zoom-failed", { detail: error, bubbles: true, composed: true }));
    } finally {
      this.#busy = null;
      this.#status.textContent = "";
      this.#button.removeAttribute("aria-disabled");
    }
  }

  #call(options) {
    const id = this.getAttribute("lesson") ?? "";
    const title = this.getAttribute("lesson-title") ?? undefined;
    const duration = Number(this.getAttribute("duration")) || undefined;
    switch (this.getAttribute("mode") ?? "new") {
      case "own":
        return startLesson(id, options);
      case "quick":
        return startQuickLesson({ title, duration, group_id: this.getAttribute("group-id") ?? undefined }, options);
      default:
        return startLessonNew(id, { title, duration, ...options });
    }
  }

  #offer(url) {
    const language = languageOf();
    const link = document.createElement("a");
    link.href = safe(url, language);
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    link.textContent = text(language, "open");
    this.#alert.replaceChildren(`${text(language, "blocked")} `, link);
  }
}

customElements.define("zoom-start-button", ZoomStartButton);
