/** One room on the page: its subscription, what arrived in it, and the form that sends to it. */

import { curlCommand, makeCopyable, roomURL } from "./command.js";
import { Recall, Trail } from "./recall.js";
import { plural, sentence, shown } from "./text.js";

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

/** A copy of what the page's `<template>` of that id holds. */
function copyOf(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
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
  #isUnanswered = false; // what was sent last
  #trail;
  #recall; // until the server has replayed what was sent before the room was opened; then null

  /**
   * `page` is what a room needs of the page around it: `key`, `askForKey(then)`,
   * `announce(text)`, `noticed(room, text)`, `count(name, more)` and `closed(room)`.
   */
  constructor(number, page) {
    this.number = number;
    this.group = `user_${number}`;
    this.#page = page;
    this.#trail = new Trail(this.group);
    this.#recall = new Recall(this.#trail.start);
    this.#build();
  }

  /** Have the notifications brought by this client, from where another one left off. */
  join(client) {
    this.#client = client;
    this.#subscribe(this.#recall === null ? this.#subscription.position : this.#recall.since);
  }

  #subscribe(since) {
    const arrived = (notification) => this.#arrived(notification);
    this.#subscription = this.#client.subscribe(this.group, arrived, { since });
  }

  focus() {
    this.#find("h2").focus();
  }

  close() {
    this.#subscription.unsubscribe();
    this.#trail.close();
    this.element.remove();
  }

  /** Bring the words on the page up to the second. */
  tick() {
    if (this.#until === null) return;
    const seconds = Math.max(0, Math.ceil((this.#until - Date.now()) / 1000));
    this.#find(".state-text").textContent = `Reconnecting in ${seconds} s`;
  }

  showCommand() {
    this.#find("code").textContent = curlCommand(this.number, this.#page.key !== "");
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
    makeCopyable(this.#find(".command"), this.#page.announce);
    this.showCommand();

    this.#find(".close").onclick = () => this.#page.closed(this);
    this.#find(".retry").onclick = () => this.#client.reconnect();
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
    const why = sentence(reason);
    this.#enter("waiting", "Cut off", isCut ? "What is sent now is kept until it is back." : why);
    this.tick();
    if (!this.#isAway) this.#away(isCut ? "The connection was cut." : why);
  }

  subscribed({ position }) {
    if (this.#recall === null) return this.#connected();
    // Where it named a position, the next word is whether the server reaches back to it.
    if (this.#recall.since === null && !this.#askAgain(position)) this.#recalled();
  }

  recovered({ replayed }) {
    const isRecall = this.#recall !== null;
    if (isRecall) this.#recalled();
    this.#page.count("replayed", replayed);
    if (!replayed) return;
    const what = plural(replayed, "notification");
    this.#note(isRecall ? `Replayed from before: ${what}.` : `Nothing is missing: ${what} replayed.`);
  }

  gap({ reason, lost }) {
    if (this.#recall !== null && reason === "unrecovered") {
      const { isCertain } = this.#recall;
      if (this.#askAgain(this.#subscription.position)) return;
      this.#recalled();
      if (!isCertain) return; // there is no history to go on in
    }
    this.#page.count("gaps", 1);
    const what = lost === null ? "Notifications may be" : `${plural(lost, "notification")} may be`;
    this.#note(`${what} missing here: ${GAPS[reason] ?? reason}.`, new Date(), "gap");
  }

  /** Ask from another position, if there is one that may be better. */
  #askAgain(position) {
    if (!this.#recall.again(position)) return false;
    this.#subscription.unsubscribe();
    this.#subscribe(this.#recall.since);
    return true;
  }

  /** What was sent before is on its way, as much of it as the server can replay. */
  #recalled() {
    const { position } = this.#subscription;
    if (position !== this.#trail.start) this.#trail.restart(position);
    this.#recall = null;
    this.#connected();
  }

  #connected() {
    const now = new Date();
    const over = labelOf(this.#client.transport);
    this.#enter("connected", `Connected since ${clock.format(now)}`);
    this.#find(".over").textContent = `over ${over}`;
    const again = this.#wasConnected ? " again," : "";
    this.#wasConnected = true;
    this.#isAway = false;
    if (this.#isUnanswered) this.#sent("", "");
    this.#note(`Connected${again} over ${over}.`, now);
  }

  refused({ message, code }) {
    const why = sentence(message);
    if (code === "no_answer") return this.#enter("connecting", "Connecting", why);
    this.#until = null;
    this.#enter("refused", "Refused", why);
    if (!this.#isAway) this.#away(why);
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

  #arrived({ id, data }) {
    if (this.#recall !== null) return; // it is asked for again, with what was sent before it
    const text = typeof data === "string" ? data : JSON.stringify(data);
    // What another tab has seen, or this one before it was reloaded, keeps its time.
    const time = this.#trail.timeOf(id) ?? new Date();
    this.#trail.reached(id, time);
    this.#add(time).append(...shown(text));
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
      const { text, reached, isUnanswered = false } = await this.#post(field.value);
      this.#sent(reached === undefined ? "error" : "sent", text, isUnanswered);
      if (reached !== undefined) field.value = "";
    } finally {
      button.ariaDisabled = "false";
    }
  }

  /** What became of it. That nobody answered stands there until somebody does. */
  #sent(result, text, isUnanswered = false) {
    this.#find(".send").dataset.result = result;
    this.#find("output").textContent = text;
    this.#isUnanswered = isUnanswered;
  }

  async #post(data) {
    const headers = { "Content-Type": "application/json" };
    if (this.#page.key) headers.Authorization = `Bearer ${this.#page.key}`;
    let response;
    try {
      response = await post(roomURL(this.number), headers, JSON.stringify({ data }));
    } catch (error) {
      return { text: error.name === "AbortError" ? UNSURE : UNSENT, isUnanswered: true };
    }
    const { reached, position, error } = await response.json().catch(() => ({}));
    if (response.status === 401) this.#page.askForKey(() => this.#send());
    if (!response.ok) return { text: sentence(error ?? `The server answered ${response.status}.`) };
    const kept = position ? " It is kept for those who come back." : "";
    const text = reached ? `Reached ${plural(reached, "connection")}.` : `Nobody was connected.${kept}`;
    return { reached, text };
  }
}
