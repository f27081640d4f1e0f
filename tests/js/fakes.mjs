/** A world that a test holds in its hand: a clock, sockets, streams, answers, a network. */

import { connect } from "../../asgi_notify/js/asgi-notify.js";

export class World {
  now = 0; // seconds
  timers = new Map();
  sockets = [];
  streams = [];
  requests = [];
  window = new EventTarget();
  document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  seen = []; // what the client told, in order
  notifications = [];
  #timer = 0;

  /** A client in this world. */
  connect(options = {}, url = "http://host/notifications/") {
    const world = this;
    const client = connect(url, {
      WebSocket: class extends FakeSocket {
        constructor(...call) {
          super(...call);
          world.sockets.push(this);
        }
      },
      EventSource: class extends FakeStream {
        constructor(...call) {
          super(...call);
          world.streams.push(this);
        }
      },
      fetch: (address, { signal }) => new Promise((resolve, reject) => {
        const answer = (status, body) =>
          resolve({ ok: status < 400, status, text: async () => JSON.stringify(body) });
        const request = { query: new URL(address).searchParams, answer, fail: reject };
        signal.addEventListener("abort", () => {
          request.isAborted = true;
          reject(signal.reason);
        });
        this.requests.push(request);
      }),
      setTimeout: (action, delay) => {
        this.#timer += 1;
        this.timers.set(this.#timer, { at: this.now + delay / 1000, action });
        return this.#timer;
      },
      clearTimeout: (timer) => this.timers.delete(timer),
      now: () => this.now,
      random: () => 1, // the longest wait of each range
      window: this.window,
      document: this.document,
      ...options,
    });
    for (const name of ["state", "subscribed", "recovered", "gap", "error"])
      client.addEventListener(name, ({ detail }) => this.seen.push([name, detail]));
    return client;
  }

  take = ({ id, data }) => this.notifications.push(id === null ? data : `${id} ${data}`);

  /** Let so many seconds go by, timer after timer. */
  pass(seconds) {
    const end = this.now + seconds;
    for (;;) {
      const due = [...this.timers].filter(([, { at }]) => at <= end);
      due.sort(([, one], [, other]) => one.at - other.at);
      if (!due.length) break;
      const [[id, { at, action }]] = due;
      this.timers.delete(id);
      this.now = at;
      action();
    }
    this.now = end;
  }

  tell(target, name) {
    this[target].dispatchEvent(new Event(name));
  }

  get socket() {
    return this.sockets.at(-1);
  }

  get states() {
    return this.seen.filter(([name]) => name === "state").map(([, { state }]) => state);
  }

  /** The details of what was told under this name. */
  told(name) {
    return this.seen.filter(([told]) => told === name).map(([, detail]) => detail);
  }
}

/** What a promise has to do, done. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));

class FakeSocket {
  sent = [];
  isClosed = false;

  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.isClosed = true;
  }

  /** Of the frames that the client sent, the last of this type. */
  last(type) {
    return this.sent.filter((frame) => frame.type === type).at(-1);
  }

  bring(frame) {
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  welcome() {
    this.bring({ type: "welcome", connection: "c", ping_interval: 25, pong_timeout: 10, version: 1 });
  }

  /** Answer the last request for a group. */
  answer(group, frame = {}) {
    const { ref } = this.sent.filter((each) => each.type === "subscribe" && each.group === group).at(-1);
    this.bring({ type: "subscribed", group, position: null, replayed: 0, ref, ...frame });
  }

  notify(group, id, data = "text") {
    this.bring({ type: "notification", group, id, data });
  }

  lose(code = 1006, reason = "") {
    this.onclose?.({ code, reason });
  }
}

class FakeStream {
  isClosed = false;

  constructor(url) {
    this.query = new URL(url).searchParams;
  }

  close() {
    this.isClosed = true;
  }

  bring(frame) {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  lose() {
    return this.onerror?.();
  }
}
