/** One room on the page: its connection, what arrived in it, and the form that sends to it. */

import { Connection } from "./connection.js";

const MAX_ENTRIES = 200; // per room; older ones leave the page
const SEND_TIMEOUT = 10_000; // ms; where streams hold all of a browser's connections, it never begins

const UNSENT = "The server cannot be reached; nothing was sent.";
const UNSURE = "The server did not answer in time; it may have been sent all the same.";

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

/** True if the server answers at all, whatever it answers. */
function isServerUp() {
  if (!navigator.onLine) return Promise.resolve(false);
  const options = { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(5_000) };
  return fetch(".", options).then(() => true, () => false);
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
  #connection;
  #transport;
  #dropped = 0;
  #wasConnected = false;
  #isAway = false;

  /**
   * `page` is what a room needs of the page around it: `key`, `askForKey(then)`,
   * `announce(text)`, `noticed(room, text)` and `closed(room)`. `Transport` is a
   * class of transports.js.
   */
  constructor(number, Transport, page) {
    this.number = number;
    this.#page = page;
    // Relative to the page, so that it works under any prefix.
    this.url = new URL(`notifications/${number}/`, new URL(".", location.href));
    this.#build();
    this.connectOver(Transport);
  }

  /** Connect over this transport, and over no other. */
  connectOver(Transport) {
    this.#connection?.close();
    this.#transport = Transport.label;
    this.#find(".over").textContent = `over ${Transport.label}`;
    this.#find(".why").textContent = "";
    this.#connection = new Connection(Transport, this.url, {
      state: () => this.#stateChanged(),
      text: (text) => this.#arrived(text),
      isServerUp,
    });
    this.#connection.open();
  }

  focus() {
    this.#find("h2").focus();
  }

  check() {
    this.#connection.check();
  }

  close() {
    this.#connection.close();
    this.element.remove();
  }

  /** Bring the words on the page up to the second. */
  tick() {
    const { name, until } = this.#connection.state;
    if (name !== "waiting") return;
    const seconds = Math.max(0, Math.ceil((until - Date.now()) / 1000));
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
    this.#find(".retry").onclick = () => this.#connection.open();
    this.#find(".copy").onclick = () => this.#copyCommand();
    this.#find(".send").onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
  }

  // The connection

  #stateChanged() {
    const { name, why } = this.#connection.state;
    this.element.dataset.state = name;
    this.#find(".retry").hidden = name !== "waiting";
    if (why) this.#find(".why").textContent = why;
    // The reason stays while a new attempt is made, so that the page does not jump.
    this.#find(".why").hidden = name === "connected" || !this.#find(".why").textContent;
    if (name === "connecting") this.#find(".state-text").textContent = "Connecting";
    if (name === "connected") this.#connected();
    if (name === "waiting") this.tick();
    if (name === "waiting" && why && !this.#isAway) this.#away(why);
  }

  #connected() {
    const now = new Date();
    this.#find(".state-text").textContent = `Connected since ${clock.format(now)}`;
    this.#find(".why").textContent = "";
    const text = this.#wasConnected
      ? `Connected again, over ${this.#transport}. What was sent in between is not shown.`
      : `Connected over ${this.#transport}.`;
    this.#wasConnected = true;
    this.#isAway = false;
    this.#note(text, now);
  }

  /** Told once, however many attempts follow. */
  #away(why) {
    this.#isAway = true;
    this.#note(`${why} Reconnecting.`, new Date());
  }

  #note(text, time) {
    const item = this.#add(time);
    item.className = "note";
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
    const { reached, error } = await response.json().catch(() => ({}));
    if (response.status === 401) this.#page.askForKey(() => this.#send());
    if (!response.ok) return { text: error ?? `The server answered ${response.status}.` };
    const text = reached ? `Reached ${plural(reached, "connection")}.` : "Nobody was connected.";
    return { reached, text };
  }

  async #copyCommand() {
    await navigator.clipboard.writeText(this.#find("code").textContent);
    this.#page.announce("The command was copied.");
  }
}
