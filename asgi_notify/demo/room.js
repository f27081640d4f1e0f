/** One room on the page: its subscription, what arrived in it, and the form that sends to it. */

const MAX_ENTRIES = 200; // per room; older ones leave the page
const SEND_TIMEOUT = 10_000; // ms; where streams hold all of a browser's connections, it never begins

const UNSENT = "The server cannot be reached; nothing was sent.";
const UNSURE = "The server did not answer in time; it may have been sent all the same.";

/** What the reasons of a gap mean to the one who looks at the page. */
const GAPS = {
  unrecovered: "the server kept none so far back",
  full: "this page read too slowly",
  expired: "they were too old when their turn came",
};

const LABELS = { websocket: "WebSocket", sse: "Server-Sent Events", poll: "polling" };

/** How the page writes a transport's name. */
export const labelOf = (transport) => LABELS[transport];

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** A copy of what the page's `<template>` of that id holds. */
function copyOf(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

/** JSON with its lines broken for reading, or null where the text is none. */
function readable(text) {
  if (!/^\s*[{[]/.test(text)) return null;
  // Numbers keep their digits where the browser can: 12345678901234567890 is none of its own.
  const keep = (_, value, at) =>
    typeof value === "number" && JSON.rawJSON && at ? JSON.rawJSON(at.source) : value;
  try {
    return JSON.stringify(JSON.parse(text, keep), null, 2);
  } catch {
    return null;
  }
}

async function post(url, headers, body) {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), SEND_TIMEOUT);
  try {
    return await fetch(url, { method: "POST", headers, body, signal: patience.signal });
  } finally {
    clearTimeout(timer);
  }
}

export class Room {
  #page;
  #client;
  #subscription = null;
  #until = null; // the next attempt, in ms since 1970
  #dropped = 0;
  #wasConnected = false;
  #isAway = false;

  /**
   * `page` is what a room needs of the page around it: `key`, `askForKey(then)`,
   * `announce(text)`, `noticed(room, text)` and `closed(room)`.
   */
  constructor(number, page) {
    this.number = number;
    this.group = `user_${number}`;
    this.#page = page;
    // Relative to the page, so that it works under any prefix.
    this.url = new URL(`notifications/${number}/`, new URL(".", location.href));
    this.#build();
  }

  /** Have the notifications brought by this client, from where another one left off. */
  join(client) {
    const since = this.#subscription?.position;
    const arrived = ({ data }) => this.#arrived(typeof data === "string" ? data : JSON.stringify(data));
    this.#client = client;
    this.#subscription = client.subscribe(this.group, arrived, { since });
  }

  focus() {
    this.#find("h2").focus();
  }

  close() {
    this.#subscription.unsubscribe();
    this.element.remove();
  }

  /** Bring the words on the page up to the second. */
  tick() {
    if (this.#until === null) return;
    const seconds = Math.max(0, Math.ceil((this.#until - Date.now()) / 1000));
    this.#find(".state-text").textContent = `Reconnecting in ${seconds} s`;
  }

  showCommand() {
    const lines = ["curl -H 'Content-Type: application/json'"];
    if (this.#page.key) lines.push(`-H "Authorization: Bearer $ASGI_NOTIFY_PUBLISH_KEY"`);
    lines.push(`-d '{"data": "Hello"}'`, `'${this.url.href.replaceAll("'", "%27")}'`);
    this.#find("code").textContent = lines.join(" \\\n  ");
  }

  #find(selector) {
    return this.element.querySelector(selector);
  }

  #build() {
    this.element = copyOf("room");
    const name = `room-${this.number}`;
    this.#find("h2").id = name;
    this.element.setAttribute("aria-labelledby", name);
    this.#find(".number").textContent = this.number;
    this.#find(".close").setAttribute("aria-label", `Close room ${this.number}`);
    this.#find(".retry").setAttribute("aria-label", `Reconnect room ${this.number} now`);
    this.#find(".log").setAttribute("aria-label", `Notifications in room ${this.number}, newest first`);
    this.#find("label").textContent = `Notification for room ${this.number}`;
    this.#find("label").htmlFor = this.#find("input").id = `text-${this.number}`;
    this.#find(".copy").hidden = !navigator.clipboard;
    this.showCommand();

    this.#find(".close").onclick = () => this.#page.closed(this);
    this.#find(".retry").onclick = () => this.#client.reconnect();
    this.#find(".copy").onclick = () => this.#copyCommand();
    this.#find(".send").onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
  }

  // The connection

  /** The client is in this state now; `subscribed` follows where that is "open". */
  stateChanged({ state, transport, retryIn, reason }) {
    if (state === "open" || this.#subscription.state === "refused") return;
    this.#until = retryIn === null ? null : Date.now() + retryIn * 1000;
    this.#find(".over").textContent = `over ${labelOf(transport)}`;
    if (state === "connecting") this.#enter("connecting", "Connecting");
    if (state === "closed") return this.refused({ message: reason });
    if (state !== "waiting") return;
    const isCut = retryIn === null;
    this.#enter("waiting", "Cut off", isCut ? "What is sent now is kept until it is back." : reason);
    this.tick();
    if (!this.#isAway) this.#away(isCut ? "The connection was cut." : reason);
  }

  subscribed(transport) {
    const now = new Date();
    this.#enter("connected", `Connected since ${clock.format(now)}`);
    this.#find(".over").textContent = `over ${labelOf(transport)}`;
    const again = this.#wasConnected ? " again," : "";
    this.#wasConnected = true;
    this.#isAway = false;
    this.#note(`Connected${again} over ${labelOf(transport)}.`, now);
  }

  recovered({ replayed }) {
    if (replayed) this.#note(`Nothing is missing: ${plural(replayed, "notification")} replayed.`);
  }

  gap({ reason, lost }) {
    const what = lost === null ? "Notifications may be" : `${plural(lost, "notification")} may be`;
    this.#note(`${what} missing here: ${GAPS[reason] ?? reason}.`, new Date(), "gap");
  }

  refused({ message, code }) {
    if (code === "no_answer") return this.#enter("connecting", "Connecting", message);
    this.#until = null;
    this.#enter("refused", "Refused", message);
    if (!this.#isAway) this.#away(message);
  }

  /** The reason stays while a new attempt is made, so that the page does not jump. */
  #enter(state, text, why = null) {
    this.element.dataset.state = state;
    this.#find(".state-text").textContent = text;
    this.#find(".retry").hidden = !["waiting", "refused"].includes(state);
    if (why !== null || state === "connected") this.#find(".why").textContent = why ?? "";
    this.#find(".why").hidden = !this.#find(".why").textContent;
  }

  /** Told once, however many attempts follow. */
  #away(why) {
    this.#isAway = true;
    this.#note(why);
  }

  #note(text, time = new Date(), kind = "") {
    const item = this.#add(time);
    item.className = `note ${kind}`.trim();
    item.append(text);
    this.#page.announce(`Room ${this.number}: ${text}`);
  }

  // What arrives

  #arrived(text) {
    const json = readable(text);
    const body = document.createElement(json ? "pre" : "p");
    body.textContent = json ?? text; // never markup, whatever was sent
    this.#add(new Date()).append(body);
    this.#page.noticed(this, text);
  }

  #add(time) {
    const log = this.#find(".log");
    const item = copyOf("entry");
    item.firstElementChild.dateTime = time.toISOString();
    item.firstElementChild.textContent = clock.format(time);
    log.prepend(item);
    if (log.childElementCount > MAX_ENTRIES) {
      log.lastElementChild.remove();
      this.#dropped += 1;
      this.#find(".dropped").textContent =
        `The newest ${MAX_ENTRIES} are shown; ${this.#dropped} older left the page.`;
      this.#find(".dropped").hidden = false;
    }
    return item;
  }

  // What is sent

  async #send() {
    const field = this.#find("input");
    const button = this.#find(".send button");
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true"; // not `disabled`, which would throw the focus away
    try {
      const { text, reached } = await this.#post(field.value);
      this.#find(".send").dataset.result = reached === undefined ? "error" : "sent";
      this.#find("output").textContent = text;
      if (reached !== undefined) field.value = "";
    } finally {
      button.ariaDisabled = "false";
    }
  }

  async #post(data) {
    const headers = { "Content-Type": "application/json" };
    if (this.#page.key) headers.Authorization = `Bearer ${this.#page.key}`;
    let response;
    try {
      response = await post(this.url, headers, JSON.stringify({ data }));
    } catch (error) {
      return { text: error.name === "AbortError" ? UNSURE : UNSENT };
    }
    const { reached, position, error } = await response.json().catch(() => ({}));
    if (response.status === 401) this.#page.askForKey(() => this.#send());
    if (!response.ok) return { text: error ?? `The server answered ${response.status}.` };
    const kept = position ? " It is kept for those who come back." : "";
    const text = reached ? `Reached ${plural(reached, "connection")}.` : `Nobody was connected.${kept}`;
    return { reached, text };
  }

  async #copyCommand() {
    await navigator.clipboard.writeText(this.#find("code").textContent);
    this.#page.announce("The command was copied.");
  }
}
