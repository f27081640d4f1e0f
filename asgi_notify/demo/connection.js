/**
 * A WebSocket that comes back: when it is lost it is opened again, later and
 * later while that fails. Knows nothing of the page.
 *
 *     connecting --> connected --> waiting --> connecting ...
 *          `------------------------^
 */

const FIRST_DELAY = 1_000; // ms, before jitter
const MAX_DELAY = 30_000; // ms
const STEADY_AFTER = 5_000; // ms; one that lived this long was no failure
const CONNECT_TIMEOUT = 10_000; // ms
const PING_EVERY = 25_000; // ms; proxies commonly cut a connection silent for 30 to 60 s
const PONG_TIMEOUT = 10_000; // ms

/** What a close code means to the one who looks at the page. */
const REASONS = new Map([
  [1001, "The server is shutting down."],
  [1006, "The connection broke."],
  [1009, "A message was too large."],
  [1011, "The server failed."],
  [1012, "The server is restarting."],
  [1013, "This page read too slowly and missed some notifications."],
]);

/**
 * How long to wait, in ms, after so many failures in a row: twice as long each
 * time, up to a limit, and at random in the upper half of that, so that a
 * thousand pages do not return to a restarted server in the same moment.
 */
export function retryDelay(failures, random = Math.random) {
  const most = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** failures);
  return most * (0.5 + random() / 2);
}

export class Connection {
  #url;
  #on;
  #socket = null;
  #timer = null;
  #failures = 0;
  #openedAt = null;
  #pinged = false;

  /** Where it stands: `{name}`, and while it waits also `why` and `until`, in ms since 1970. */
  state = { name: "closed" };

  /**
   * `on.state()` is called when the state changed, `on.text(text)` for each
   * text that arrives. `on.isServerUp()` resolves to whether the server can be
   * reached at all: a browser does not say why a WebSocket was not opened.
   */
  constructor(url, on) {
    this.#url = url;
    this.#on = on;
  }

  /** Connect now, unless there is a connection already. */
  open() {
    if (["connecting", "connected"].includes(this.state.name)) return;
    this.#release();
    this.#enter({ name: "connecting" });
    this.#socket = new WebSocket(this.#url);
    this.#socket.onopen = () => this.#opened();
    this.#socket.onmessage = (event) => this.#heard(event.data);
    this.#socket.onclose = (event) => this.#lost(event.reason || REASONS.get(event.code));
    this.#after(CONNECT_TIMEOUT, () => this.#lost());
  }

  /** Make sure of it: the network came back, or the page was looked at again. */
  check() {
    if (this.state.name === "waiting") this.open();
    if (this.state.name === "connected") this.#ping();
  }

  /** End it for good. */
  close() {
    this.#release();
    this.#enter({ name: "closed" });
  }

  #opened() {
    this.#openedAt = Date.now();
    this.#enter({ name: "connected" });
    this.#after(PING_EVERY, () => this.#ping());
  }

  #ping() {
    this.#pinged = true;
    this.#socket.send("ping");
    this.#after(PONG_TIMEOUT, () => this.#lost("The connection went silent."));
  }

  #heard(text) {
    this.#after(PING_EVERY, () => this.#ping());
    const isAnswer = this.#pinged && text === "pong";
    if (isAnswer) this.#pinged = false;
    else this.#on.text(text);
  }

  #lost(why = "The connection ended.") {
    const wasOpen = this.#openedAt !== null;
    const wasSteady = wasOpen && Date.now() - this.#openedAt >= STEADY_AFTER;
    this.#release();
    const delay = retryDelay(wasSteady ? 0 : this.#failures);
    this.#failures = wasSteady ? 1 : this.#failures + 1;
    this.#after(delay, () => this.open());
    this.#enter({ name: "waiting", why: wasOpen ? why : "", until: Date.now() + delay });
    if (!wasOpen) this.#findOutWhy(this.state);
  }

  async #findOutWhy(state) {
    const isUp = await this.#on.isServerUp();
    if (this.state !== state) return;
    state.why = isUp
      ? "The server is there, but refused this room."
      : "The server cannot be reached.";
    this.#on.state();
  }

  /** Let go of the socket and the timer; nothing of them is heard any more. */
  #release() {
    clearTimeout(this.#timer);
    this.#openedAt = null;
    this.#pinged = false;
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  /** There is one timer, since each state waits for one thing. */
  #after(delay, action) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(action, delay);
  }

  #enter(state) {
    this.state = state;
    this.#on.state();
  }
}
