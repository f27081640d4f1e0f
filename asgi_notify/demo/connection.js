/**
 * A connection that comes back: when its transport is lost another is opened,
 * later and later while that fails. Knows nothing of the page.
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
  #Transport;
  #url;
  #on;
  #transport = null;
  #timer = null;
  #failures = 0;
  #openedAt = null;
  #pinged = false;

  /** Where it stands: `{name}`, and while it waits also `why` and `until`, in ms since 1970. */
  state = { name: "closed" };

  /**
   * `Transport` is a class of transports.js. `on.state()` is called when the
   * state changed, `on.text(text)` for each text that arrives. `on.isServerUp()`
   * resolves to whether the server can be reached at all: a browser does not say
   * why a WebSocket or a stream was not opened.
   */
  constructor(Transport, url, on) {
    this.#Transport = Transport;
    this.#url = url;
    this.#on = on;
  }

  /** Connect now, unless there is a connection already. */
  open() {
    if (["connecting", "connected"].includes(this.state.name)) return;
    this.#release();
    this.#enter({ name: "connecting" });
    this.#transport = new this.#Transport(this.#url, {
      opened: () => this.#opened(),
      text: (text) => this.#heard(text),
      lost: (why) => this.#lost(why),
    });
    this.#after(CONNECT_TIMEOUT, () => this.#wait(this.#Transport.noAnswer));
  }

  /** Make sure of it: the network came back, or the page was looked at again. */
  check() {
    if (this.state.name === "waiting") this.open();
    if (this.state.name === "connected" && this.#transport.ping) this.#ping();
  }

  /** End it for good. */
  close() {
    this.#release();
    this.#enter({ name: "closed" });
  }

  #opened() {
    this.#openedAt = Date.now();
    this.#enter({ name: "connected" });
    this.#listen();
  }

  #heard(text) {
    this.#listen();
    const isAnswer = this.#pinged && text === "pong";
    if (isAnswer) this.#pinged = false;
    else this.#on.text(text);
  }

  #listen() {
    clearTimeout(this.#timer);
    if (this.#transport.ping) this.#after(PING_EVERY, () => this.#ping());
  }

  #ping() {
    this.#pinged = true;
    this.#transport.ping();
    this.#after(PONG_TIMEOUT, () => this.#lost("The connection went silent."));
  }

  #lost(why = "The connection ended.") {
    if (this.#openedAt !== null) return this.#wait(why);
    this.#wait("");
    this.#findOutWhy(this.state);
  }

  #wait(why) {
    const wasSteady = this.#openedAt !== null && Date.now() - this.#openedAt >= STEADY_AFTER;
    this.#release();
    const delay = retryDelay(wasSteady ? 0 : this.#failures);
    this.#failures = wasSteady ? 1 : this.#failures + 1;
    this.#after(delay, () => this.open());
    this.#enter({ name: "waiting", why, until: Date.now() + delay });
  }

  async #findOutWhy(state) {
    const isUp = await this.#on.isServerUp();
    if (this.state !== state) return;
    state.why = isUp
      ? "The server is there, but refused this room."
      : "The server cannot be reached.";
    this.#on.state();
  }

  /** Let go of the transport and the timer; nothing of them is heard any more. */
  #release() {
    clearTimeout(this.#timer);
    this.#openedAt = null;
    this.#pinged = false;
    this.#transport?.close();
    this.#transport = null;
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
