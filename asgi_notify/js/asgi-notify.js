/**
 * asgi_notify in a browser: notifications over a WebSocket, server-sent events or
 * polls, through reconnects and restarts, and told of every gap.
 *
 *     import { connect } from "/asgi-notify.js";
 *
 *     const client = connect("/notifications/");
 *     client.subscribe("user_42", ({ id, data }) => console.log(id, data));
 *
 * One file, no dependencies, no build step. From the top down: what decides and
 * touches nothing, the three transports, and the client that puts them to work.
 * All times are seconds.
 */

export const PROTOCOL = "asgi-notify.v1";

const DEFAULTS = {
  transports: ["websocket", "sse", "poll"],
  backoff: { base: 0.5, factor: 2, max: 30 },
  connectTimeout: 10,
  pollTimeout: 25, // proxies commonly give up at 30 or 60
  maxStreams: 4, // of the six connections that a browser keeps to a server over HTTP/1.1
  climbAfter: 30,
  parse: JSON.parse,
  auth: null,
  // The surroundings, so that a test can bring its own.
  WebSocket: globalThis.WebSocket,
  EventSource: globalThis.EventSource,
  fetch: (...request) => globalThis.fetch(...request),
  setTimeout: (...call) => globalThis.setTimeout(...call),
  clearTimeout: (timer) => globalThis.clearTimeout(timer),
  now: () => performance.now() / 1000, // goes on evenly, also where the clock is put right
  random: Math.random,
  window: globalThis,
  document: globalThis.document,
};

const STEADY_AFTER = 5; // a connection that lasted this long ends a row of failures
const CHECK_TIMEOUT = 5; // for the answer to a ping, where the connection is in doubt
const MAX_CLIMB = 600;
const SHORT_POLL = 1; // where groups take turns
const EARLY = [0.8, 0.9]; // of a login's time; spread, so that many do not renew together
const MAX_RENEWAL = 86_400; // a timer of a browser holds no more than 24 days
const MIN_RENEWAL = 0.05;
const AUTH = "auth"; // what the answers to our tokens are known by
const UNAUTHORIZED = 4401;
const PUBLISHING = "publish "; // what the answers to our publications are known by, and a number
const PUBLISH_TIMEOUT = 60; // servers know a key for 300: sent again after that, it might come twice
const MAX_PUBLICATIONS = 100; // that wait for their answer, or for a connection
const TOO_LARGE = 1009;
const IN_A_ROW = 2; // failures to open, until another transport is tried
const IN_A_ROW_PROVEN = 6; // the same of one that has worked: some 15 s, in which a server restarts

/** The end of what comes back by itself: trying again would be refused again. */
const REFUSALS = new Map([
  [4400, "bad_request"],
  [4401, "unauthorized"],
  [4403, "forbidden"],
  [4404, "not_found"],
  [4405, "not_found"],
]);

/** What a close code means to the one who looks at the page. */
const REASONS = new Map([
  [1001, "The server is shutting down."],
  [1006, "The connection broke."],
  [1009, "A message was too large."],
  [1011, "The server failed."],
  [1012, "The server is restarting."],
  [1013, "This page read too slowly."],
  [4408, "The server had no sign of this page."],
]);

const CROWDED =
  "No answer came in time. A browser may keep no more than six connections to a server, " +
  "in all its tabs together: use a WebSocket, or fewer streams.";

const NOBODY = "Nobody is logged in.";
const NO_SOCKET = "Only a WebSocket publishes, and there is none here now.";

const LABELS = { websocket: "a WebSocket", sse: "server-sent events", poll: "polls" };

// What decides

/** Seconds to wait after so many failures in a row: anything up to a limit that grows. */
export function backoff(failures, { base, factor, max }, random = Math.random) {
  return random() * Math.min(max, base * factor ** failures);
}

/** Whether a notification of this id is new to one who has read up to this position. */
export function isAfter(id, position) {
  const [one, other] = [id, position].map((text) => /^(.*)-([0-9]+)$/.exec(text ?? ""));
  if (!one || !other || one[1] !== other[1]) return id !== position;
  return Number(one[2]) > Number(other[2]);
}

const MOVES = {
  connecting: { again: "connecting", opened: "open", lost: "waiting", ended: "closed" },
  open: { again: "connecting", lost: "waiting", ended: "closed" },
  waiting: { again: "connecting", lost: "waiting", ended: "closed" },
  closed: { again: "connecting" },
};

/** The state that follows when this happens, or undefined where it cannot happen. */
export const next = (state, happening) => MOVES[state][happening];

/** Which of the transports is to be tried: the first that opens. */
export class Ladder {
  #names;
  #rung = 0;
  #failures = 0;
  #proven = new Set();

  constructor(names) {
    this.#names = names;
  }

  get name() {
    return this.#names[this.#rung];
  }

  get first() {
    return this.#names[0];
  }

  opened() {
    this.#failures = 0;
    this.#proven.add(this.name);
  }

  /**
   * It did not open. One that has worked is given more time: rather the server is away than
   * this one blocked. Behind the last comes the first, for the same reason.
   */
  failed() {
    this.#failures += 1;
    if (this.#failures >= (this.#proven.has(this.name) ? IN_A_ROW_PROVEN : IN_A_ROW)) this.down();
  }

  /** The network may be another one, which lets other transports through. */
  forget() {
    this.#proven.clear();
  }

  down() {
    this.#failures = 0;
    this.#rung = (this.#rung + 1) % this.#names.length;
  }

  top() {
    this.#failures = 0;
    this.#rung = 0;
  }
}

/** One subscriber of a group: how far it has read, over all connections. */
class Reader {
  state = "waiting"; // for the server's answer; then "live" or "refused"
  wasLive = false;

  constructor(since, take) {
    this.position = since ?? null; // null: from now on, or the group has no history
    this.take = take;
  }
}

/**
 * Those who read one group: what to ask for, what is a repeat, and what has to be told as a
 * gap. Each gets all that came after its own position, once. `tell(name, detail)` gets what
 * is of all of them.
 */
export class Group {
  #readers = new Set();
  #tell;
  #ref = null;
  #since = null;

  constructor(name, tell) {
    this.name = name;
    this.#tell = tell;
  }

  /** Take in a subscriber; returns it, and whether the server has to be asked for it. */
  join(since, take) {
    const reader = new Reader(since, take);
    const live = this.#in("live");
    const isRefused = this.isRefused;
    this.#readers.add(reader);
    if (isRefused) reader.state = "refused";
    else if (reader.position === null && live.length > 0) {
      // From now on means from where the connection is.
      reader.position = live.map(({ position }) => position).reduce(later);
      Object.assign(reader, { state: "live", wasLive: true });
    }
    const isAnswered = since == null && this.#ref !== null; // or will be, with the others
    return [reader, reader.state === "waiting" && !isAnswered];
  }

  leave(reader) {
    this.#readers.delete(reader);
  }

  has(reader) {
    return this.#readers.has(reader);
  }

  get isEmpty() {
    return this.#readers.size === 0;
  }

  get isRefused() {
    return !this.isEmpty && this.#in("refused").length === this.#readers.size;
  }

  /** The frame that asks for everything after the first position that one of them waits for. */
  request(ref) {
    const positions = this.#in("waiting").map(({ position }) => position);
    this.#ref = ref;
    this.#since = positions.filter((each) => each !== null).reduce(earlier, null);
    const since = this.#since === null ? {} : { since: this.#since };
    return { type: "subscribe", group: this.name, ...since, ref };
  }

  /** What brought it is gone. */
  lost() {
    this.#ref = null;
    for (const reader of this.#in("live")) reader.state = "waiting";
  }

  /** After a refusal, try again. */
  retry() {
    for (const reader of this.#in("refused")) reader.state = "waiting";
  }

  /** Take the server's answer; returns whether it has to be asked again, for others of them. */
  subscribed({ ref, position = null, recovered = false, replayed = 0 }) {
    const waiting = this.#in("waiting");
    if (ref !== this.#ref || waiting.length === 0) return false; // to an earlier request
    const isResumed = this.#since !== null && recovered;
    // What was too far back for one of them may not be for another.
    const isAnswered = (reader) => isResumed || [null, this.#since].includes(reader.position);
    const answered = waiting.filter(isAnswered);
    const isMissing = !isResumed && answered.some((each) => each.position !== null || each.wasLive);
    for (const reader of answered) {
      if (!isResumed || reader.position === null) reader.position = position;
      Object.assign(reader, { state: "live", wasLive: true });
    }
    this.#tell("subscribed", { group: this.name, position: isResumed ? this.#since : position });
    if (isResumed) this.#tell("recovered", { group: this.name, replayed });
    if (isMissing) this.gap({ reason: "unrecovered" });
    return this.#in("waiting").length > 0;
  }

  notification({ id = null, data, user = null }) {
    // Before its answer, what stands ahead of the replay would make that look like a repeat.
    for (const reader of this.#in("live")) {
      if (!this.has(reader) || (id !== null && !isAfter(id, reader.position))) continue;
      if (id !== null) reader.position = id;
      reader.take({ group: this.name, id, data, user });
    }
  }

  /** A poll went as far as this, whether or not anything stood there. */
  reached({ position }) {
    for (const reader of this.#in("live")) reader.position = later(position, reader.position);
  }

  gap({ reason, lost = null }) {
    this.#tell("gap", { group: this.name, reason, lost });
  }

  /** Something came that cannot be read, and may have been a notification. */
  unreadable() {
    if (this.#in("live").length > 0) this.gap({ reason: "unreadable" });
  }

  /** Whether the server says no for good; "failed" is worth another try. */
  refused({ ref, code, message }) {
    // Without a ref it is no answer, but the end of what a fresh token does not allow any more.
    const concerned = this.#in(ref === null ? "live" : "waiting");
    if (![null, this.#ref].includes(ref) || concerned.length === 0) return false;
    const isFinal = code !== "failed";
    if (isFinal) for (const reader of concerned) reader.state = "refused";
    this.#tell("error", { group: this.name, code, message });
    return !isFinal;
  }

  #in(state) {
    return [...this.#readers].filter((reader) => reader.state === state);
  }
}

/**
 * What was published and has no answer yet, over all connections. Where one breaks, nobody knows
 * whether a publication has arrived: it is sent again, and its key lets the server publish it once.
 */
class Publications {
  #waiting = new Map(); // by ref
  #count = 0;
  #options;

  constructor(options) {
    this.#options = options;
  }

  /** What a new connection has to send, in the order in which it was published. */
  get frames() {
    return [...this.#waiting.values()].map(({ frame }) => frame);
  }

  /** Take one in; returns its frame, and the promise of its answer. */
  add(group, data, key = newKey()) {
    if (this.#waiting.size >= MAX_PUBLICATIONS)
      throw failure("too_many", `${MAX_PUBLICATIONS} publications wait for an answer: wait for some.`);
    const text = JSON.stringify(data);
    if (text === undefined) throw failure("bad_request", "What is published has to be JSON.");
    this.#count += 1;
    const ref = PUBLISHING + this.#count;
    // A copy, since the page may change the data before it is sent again.
    const frame = { type: "publish", group, data: JSON.parse(text), key, ref };
    const answer = new Promise((resolve, reject) => {
      const late = () => this.#reject(ref, "no_answer", "No answer came in time; it may have been published.");
      const timer = this.#options.setTimeout(late, PUBLISH_TIMEOUT * 1000);
      this.#waiting.set(ref, { frame, resolve, reject, timer });
    });
    return [frame, answer];
  }

  /** Take the server's answer; returns whether the frame was one. */
  take({ type, ref, position = null, code, message }) {
    if (typeof ref !== "string" || !ref.startsWith(PUBLISHING)) return false;
    if (type === "published") this.#drop(ref)?.resolve({ position });
    else this.#reject(ref, code, message);
    return true;
  }

  /** A frame was too large for the server, so the largest was; it would end each next connection. */
  tooLarge() {
    const size = ({ frame }) => new TextEncoder().encode(JSON.stringify(frame)).length;
    const [[ref] = []] = [...this.#waiting].sort(([, one], [, other]) => size(other) - size(one));
    this.#reject(ref, "too_large", "It is larger than the server takes.");
  }

  /** There is no way on for those that wait. */
  end(code, message) {
    for (const ref of [...this.#waiting.keys()]) this.#reject(ref, code, message);
  }

  #reject(ref, code, message) {
    this.#drop(ref)?.reject(failure(code, message));
  }

  #drop(ref) {
    const publication = this.#waiting.get(ref);
    this.#waiting.delete(ref);
    this.#options.clearTimeout(publication?.timer);
    return publication;
  }
}

const failure = (code, message) => Object.assign(new Error(message), { code });

/** 128 random bits. Not crypto.randomUUID(), which a page has over https alone. */
const newKey = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Of two positions the one that stands behind the other. */
const later = (one, other) => (one !== null && isAfter(one, other) ? one : other);

/** Of two positions the one that stands before the other, if they can be compared. */
const earlier = (one, other) => (one === null || !isAfter(other, one) ? other : one);

/** Whether it may stand in an address, since it is good once and soon is not any more. */
const isTicket = (credential) => credential !== null && credential.startsWith("ticket.");

/** Seconds until a login is renewed that ends after so many. */
const renewalOf = (expiresIn, random) =>
  Math.min(MAX_RENEWAL, Math.max(MIN_RENEWAL, expiresIn * (EARLY[0] + (EARLY[1] - EARLY[0]) * random())));

// The transports. Each is one attempt: it begins when it is made, takes the client's
// frames by send(), and calls on.opened(), then on.frame(frame) for each of the
// server's or on.unreadable(), and at its end on.lost(code, why). Once closed it calls nothing
// any more.

class Socket {
  #socket;
  #isOpen = false;
  #waiting = [];
  #token; // shown in the first frame, so that it stands in no address and no log
  #welcome = null;

  constructor(url, options, on, token) {
    this.#token = token;
    const address = new URL(url);
    address.protocol = address.protocol.replace("http", "ws");
    this.#socket = new options.WebSocket(address.href, [PROTOCOL]);
    this.#socket.onmessage = (event) => this.#heard(readFrame(event.data, options.parse), on);
    this.#socket.onclose = (event) => on.lost(event.code, event.reason);
  }

  send(frame) {
    if (this.#isOpen) this.#socket.send(JSON.stringify(frame));
    else this.#waiting.push(frame);
  }

  close() {
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }

  #heard(frame, on) {
    if (frame === null) return on.unreadable();
    if (this.#isOpen) return on.frame(frame);
    if (frame.type === "welcome") return this.#greeted(frame, on);
    const isAnswer = frame.type === "authenticated" || (frame.type === "error" && frame.ref === AUTH);
    if (this.#welcome === null || !isAnswer) return on.frame(frame);
    // A server that takes no tokens says so with bad_request, and serves everybody.
    const isKnown = frame.type === "authenticated" || frame.code === "bad_request";
    if (!isKnown) return on.lost(UNAUTHORIZED, frame.message);
    this.#begin(this.#welcome, on);
    if (frame.type === "authenticated") on.frame(frame);
  }

  #greeted(welcome, on) {
    if (this.#token === null) {
      if (!("auth_timeout" in welcome)) return this.#begin(welcome, on);
      return on.lost(UNAUTHORIZED, "The server asks who is there: pass the option auth.");
    }
    this.#welcome = welcome;
    this.#socket.send(JSON.stringify({ type: "auth", token: this.#token, ref: AUTH }));
  }

  #begin(welcome, on) {
    this.#isOpen = true;
    on.opened();
    on.frame(welcome);
    this.#waiting.splice(0).forEach((each) => this.send(each));
  }
}

/** One request for each group: what streams and polls share. */
class OverHttp {
  replaces = true; // a second request for a group takes the place of the first
  groups = new Map(); // group -> what this transport knows of it
  url;
  options;
  on;
  #isOpen = false;
  #isClosed = false;

  constructor(url, options, on) {
    this.url = url;
    this.options = options;
    this.on = on;
  }

  send({ type, group, since, ref }) {
    if (type === "subscribe") {
      this.drop(group);
      const entry = { group, since, ref };
      this.groups.set(group, entry);
      this.begin(entry);
    }
    if (type === "unsubscribe") this.drop(group);
  }

  close() {
    this.#isClosed = true;
    for (const group of [...this.groups.keys()]) this.drop(group);
  }

  /** Let go of a group; nothing more is heard of it. */
  drop(group) {
    this.groups.get(group)?.stop?.();
    this.groups.delete(group);
  }

  isCurrent(entry) {
    return !this.#isClosed && this.groups.get(entry.group) === entry;
  }

  address({ group, since }, credential, more = {}) {
    const address = new URL(this.url);
    const query = { group, protocol: PROTOCOL, ...more };
    if (since) query.since = since;
    if (isTicket(credential)) query.ticket = credential;
    for (const [key, value] of Object.entries(query)) address.searchParams.set(key, value);
    return address.href;
  }

  /** What the server says of one group; the first frame of all shows that it can be reached. */
  heard(entry, frame) {
    if (!this.#isOpen) {
      this.#isOpen = true;
      this.on.opened();
    }
    // A request is of one group alone, and its answers need not say which.
    if (this.isCurrent(entry)) this.on.frame({ ...frame, group: entry.group, ref: entry.ref });
  }

  /** Ask once. A refusal is one of the group; any other failure is one of the transport. */
  async ask(entry, timeout) {
    const aborter = new AbortController();
    entry.stop = () => aborter.abort();
    const { setTimeout, clearTimeout, fetch, parse, connectTimeout } = this.options;
    const timer = setTimeout(entry.stop, (timeout + connectTimeout) * 1000);
    try {
      const credential = this.options.auth ? await this.on.credential() : null;
      if (!this.isCurrent(entry)) return null;
      const address = this.address(entry, credential, { timeout });
      const headers = { Accept: "application/json" };
      if (credential !== null && !isTicket(credential)) headers.Authorization = `Bearer ${credential}`;
      const request = { headers, cache: "no-store", signal: aborter.signal };
      const response = await fetch(address, request);
      const answer = readFrame(await response.text(), parse);
      if (!this.isCurrent(entry)) return null;
      if (response.ok && answer !== null) return answer;
      this.#failed(entry, 4000 + response.status, answer?.error);
    } catch (error) {
      if (this.isCurrent(entry)) this.on.lost(error?.closeCode ?? 1006, error?.why);
    } finally {
      clearTimeout(timer);
    }
    return null;
  }

  #failed(entry, code, why) {
    if (!REFUSALS.has(code)) return this.on.lost(1006, why);
    if (code === UNAUTHORIZED && this.options.auth) return this.on.lost(code, why);
    const message = why ?? `The server refused ${entry.group}.`;
    const { group, ref } = entry;
    this.on.frame({ type: "error", code: REFUSALS.get(code), message, group, ref });
    this.drop(group);
    if (this.groups.size === 0) this.on.lost(code, message);
  }
}

class Streams extends OverHttp {
  begin(entry) {
    if (!this.options.auth) return this.#open(entry, null);
    this.on.credential().then(
      (credential) => this.isCurrent(entry) && this.#open(entry, credential),
      (error) => this.isCurrent(entry) && this.on.lost(error?.closeCode ?? 1006, error?.why),
    );
  }

  #open(entry, credential) {
    const source = new this.options.EventSource(this.address(entry, credential));
    const { setTimeout, clearTimeout, connectTimeout } = this.options;
    const timer = setTimeout(() => this.on.crowded(entry.group), connectTimeout * 1000);
    let wasHeard = false;
    entry.stop = () => {
      clearTimeout(timer);
      source.onmessage = source.onerror = null;
      source.close();
    };
    source.onmessage = (event) => {
      const frame = readFrame(event.data, this.options.parse);
      wasHeard = true;
      clearTimeout(timer);
      if (frame !== null) this.heard(entry, frame);
      else this.on.unreadable(entry.group);
    };
    // It would come back by itself from some errors, and never from others; and it
    // does not say why it was refused, so that this is asked for.
    source.onerror = async () => {
      entry.stop();
      if (wasHeard) this.on.lost(1006);
      else if ((await this.ask(entry, 0)) !== null) this.on.lost(1006, "Streams are blocked.");
    };
  }
}

class Polls extends OverHttp {
  #queue = [];
  #running = 0;

  begin(entry) {
    this.#queue.push(entry);
    this.#takeTurns();
  }

  #takeTurns() {
    while (this.#running < this.options.maxStreams && this.#queue.length) {
      const entry = this.#queue.shift();
      if (!this.isCurrent(entry)) continue;
      this.#running += 1;
      this.#poll(entry).finally(() => {
        this.#running -= 1;
        if (this.isCurrent(entry)) this.#queue.push(entry);
        this.#takeTurns();
      });
    }
  }

  async #poll(entry) {
    const answer = await this.ask(entry, this.#timeout(entry));
    if (answer === null) return;
    const { frames = [], position = null } = answer;
    for (const frame of frames) {
      const isAgain = frame.type === "subscribed" && entry.isLive; // as every answer says
      if (!isAgain) this.heard(entry, frame);
      else if (frame.recovered === false) this.heard(entry, { type: "gap", reason: "unrecovered" });
    }
    entry.isLive = true;
    entry.since = position;
    this.heard(entry, { type: "reached", position });
  }

  /** The first is answered at once, with the position to go on from. */
  #timeout(entry) {
    if (!entry.isLive) return 0;
    const { maxStreams, pollTimeout } = this.options;
    return this.groups.size > maxStreams ? SHORT_POLL : pollTimeout;
  }
}

const TRANSPORTS = { websocket: Socket, sse: Streams, poll: Polls };

/** The object that a text spells in JSON, or null where it is none. */
function readFrame(text, parse) {
  try {
    const frame = parse(text);
    return typeof frame === "object" ? frame : null;
  } catch {
    return null;
  }
}

// The client

/** Connect to the notifications at an address. It begins at once, and ends with `close()`. */
export function connect(url, options) {
  return new Client(url, options);
}

export class Client extends EventTarget {
  #options;
  #url;
  #ladder;
  #groups = new Map(); // by name
  #state = "connecting";
  #transport = null; // the one at work, or being made
  #probe = null; // one that may take its place
  #timer; // each state waits for one thing
  #climber;
  #isPaused = false;
  #isEnded = false;
  #openedAt = null;
  #silence = null; // as long as a server that pings may take
  #failures = 0;
  #climbs = 0;
  #refs = 0;
  #comeBackIn = null; // as the server asked
  #attempt = null; // what is waited for belongs to it, or is not wanted any more
  #credential = null; // the newest; a ticket until it was shown
  #isTrusted = true; // none was refused since one was taken
  #renewer;
  #renewals = 0; // that failed in a row
  #publications;
  #mayPublish; // a WebSocket is among the transports
  #listeners = [];

  constructor(url, options = {}) {
    super();
    this.#options = { ...DEFAULTS, ...options, backoff: { ...DEFAULTS.backoff, ...options.backoff } };
    this.#url = addressOf(url, this.#options.document?.baseURI);
    const transports = transportsOf(this.#options);
    this.#ladder = new Ladder(transports);
    this.#mayPublish = transports.includes("websocket");
    this.#publications = new Publications(this.#options);
    this.#listenToSurroundings();
    this.#open();
  }

  get state() {
    return this.#state;
  }

  /** The name of the transport at work, or tried next. */
  get transport() {
    return this.#ladder.name;
  }

  /** Have `callback(notification)` called with everything that the group is sent. */
  subscribe(group, callback, { since } = {}) {
    if (this.#isEnded) throw new Error("this client is closed: connect() makes another");
    const isNew = !this.#groups.has(group);
    if (isNew) this.#groups.set(group, new Group(group, (...told) => this.#emit(...told)));
    const joined = this.#groups.get(group);
    const take = (notification) => guarded(() => callback(notification));
    const [reader, isAsked] = joined.join(since, take);
    if (isAsked && this.#transport !== null) {
      if (!isNew || this.#fits(this.transport)) this.#ask(joined);
      else this.#open();
    }
    return new Subscription(group, reader, () => this.#leave(group, reader));
  }

  /** Send a notification to a group, once; waits for the server's answer, over reconnects. */
  async publish(group, data, { key } = {}) {
    if (this.#state === "closed") throw failure("closed", "This client is closed.");
    if (!this.#mayPublish || this.#hasNoSocket) throw failure("no_socket", NO_SOCKET);
    const [frame, answer] = this.#publications.add(group, data, key);
    this.#transport?.send(frame);
    return answer;
  }

  /** Try now: end the wait, or replace the connection by a new one, or ask again after a refusal. */
  reconnect() {
    if (this.#isEnded) return;
    this.#isPaused = false;
    this.#isTrusted = true;
    this.#failures = 0;
    for (const group of this.#groups.values()) group.retry();
    this.#open();
  }

  /** Drop the connection, without a word to the server, and stay away until `reconnect()`. */
  disconnect() {
    if (this.#state === "closed") return;
    this.#isPaused = true;
    this.#release();
    this.#enter("lost", { retryIn: null, reason: "Disconnected." });
  }

  /** End it for good. */
  close() {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#publications.end("closed", "The client was closed; it may have been published.");
    this.#release();
    for (const [target, name, listener] of this.#listeners)
      target?.removeEventListener?.(name, listener);
    this.#enter("ended", { reason: "Closed." });
  }

  // Groups

  #ask(group) {
    // One that has a request for each group ends that for the next one.
    if (this.#transport.replaces) group.lost();
    this.#refs += 1;
    this.#transport.send(group.request(this.#refs));
  }

  #askAll() {
    for (const group of this.#groups.values()) if (!group.isRefused) this.#ask(group);
    // Behind the subscriptions, which so hear of it.
    for (const frame of this.#publications.frames) this.#transport.send(frame);
  }

  get #hasNoSocket() {
    return this.#state === "open" && this.transport !== "websocket";
  }

  #leave(name, reader) {
    const group = this.#groups.get(name);
    if (!group?.has(reader)) return;
    group.leave(reader);
    if (!group.isEmpty) return;
    this.#groups.delete(name);
    this.#refs += 1;
    this.#transport?.send({ type: "unsubscribe", group: name, ref: this.#refs });
  }

  // Connecting

  #open() {
    this.#release();
    if (!this.#fits(this.transport)) this.#ladder.down();
    this.#enter("again");
    this.#after(this.#options.connectTimeout, () => this.#lost(1006, "No answer came in time."));
    if (!this.#options.auth) return this.#begin(null);
    this.#credential = null;
    this.#whenKnown((credential) => this.#begin(credential), ({ closeCode, why }) => this.#lost(closeCode, why));
  }

  #begin(credential) {
    // A browser's EventSource sends no header, and an address is no place for a token.
    const isTooOpen = credential !== null && !isTicket(credential);
    if (this.transport === "sse" && isTooOpen && this.#options.transports.length > 1) this.#ladder.down();
    this.#transport = this.#make(this.transport, () => this.#opened(), credential);
    this.#askAll();
  }

  // Who is there

  /** A token, or a ticket that nobody has shown yet; from the page's function where there is none. */
  async #getCredential() {
    const { auth } = this.#options;
    if (!auth) return null;
    if (this.#credential === null) this.#credential = await fresh(auth);
    const credential = this.#credential;
    if (isTicket(credential)) this.#credential = null;
    return credential;
  }

  /** Go on with a credential, unless something else has happened by then. */
  #whenKnown(go, fail) {
    const attempt = (this.#attempt ??= {});
    const isWanted = () => attempt === this.#attempt;
    this.#getCredential().then((got) => isWanted() && go(got), (error) => isWanted() && fail(error));
  }

  #renewIn(seconds) {
    const { setTimeout, clearTimeout } = this.#options;
    clearTimeout(this.#renewer);
    this.#renewer = setTimeout(() => this.#renew(), seconds * 1000);
  }

  #renew() {
    this.#credential = null;
    const again = (error) => {
      if (error.closeCode === UNAUTHORIZED) return this.#end(UNAUTHORIZED, error.why);
      this.#renewAgain();
    };
    this.#whenKnown((token) => this.#transport.send({ type: "auth", token, ref: AUTH }), again);
  }

  /** The login goes on until it expires. */
  #renewAgain() {
    const { backoff: growth, random } = this.#options;
    this.#renewIn(Math.max(MIN_RENEWAL, backoff(this.#renewals, growth, random)));
    this.#renewals += 1;
  }

  #authenticated({ expires_in: expiresIn = null }) {
    this.#renewals = 0;
    if (expiresIn !== null && this.#options.auth) this.#renewIn(renewalOf(expiresIn, this.#options.random));
  }

  /** More streams than a browser opens to one server would wait for each other for ever. */
  #fits(name) {
    const { maxStreams, transports } = this.#options;
    return name !== "sse" || this.#groups.size <= maxStreams || !transports.includes("poll");
  }

  /** A stream waits for its turn among all that the browser has open; polls share. */
  #crowded(group) {
    if (this.#options.transports.includes("poll")) {
      this.#ladder.down();
      return this.#open();
    }
    this.#emit("error", { code: "no_answer", message: CROWDED, group });
  }

  #make(name, opened, credential = null) {
    // One that has been replaced, or has ended, is not heard any more.
    const isHeard = () => [this.#transport, this.#probe].includes(transport);
    const transport = new TRANSPORTS[name](this.#url, this.#options, {
      opened: () => isHeard() && opened(),
      frame: (frame) => isHeard() && this.#heard(frame),
      unreadable: (group) => isHeard() && this.#unreadable(group),
      crowded: (group) => isHeard() && this.#crowded(group),
      credential: () => this.#getCredential(),
      lost: (code, why) => {
        if (transport === this.#transport) this.#lost(code, why);
        else if (transport === this.#probe) this.#stopProbe();
      },
    }, credential);
    if (name !== "websocket" && credential !== null) this.#credential = credential; // to be shown
    return transport;
  }

  #opened() {
    this.#ladder.opened();
    this.#isTrusted = true;
    this.#openedAt = this.#options.now();
    this.#silence = null;
    this.#options.clearTimeout(this.#timer);
    this.#enter("opened");
    if (this.#hasNoSocket) this.#publications.end("no_socket", NO_SOCKET);
    this.#climbLater();
  }

  #heard(frame) {
    if (this.#silence !== null) this.#watch();
    if (this.#publications.take(frame)) return;
    const group = this.#groups.get(frame.group);
    switch (frame.type) {
      case "welcome":
        if (this.transport !== "websocket") return;
        this.#silence = frame.ping_interval + frame.pong_timeout || null;
        if (this.#silence) this.#watch();
        return this.#authenticated(frame); // where it says how long a login lasts
      case "ping":
        return this.#transport.send({ type: "pong" });
      case "authenticated":
        return this.#authenticated(frame);
      case "going_away":
        this.#comeBackIn = frame.retry_after;
        return;
      case "notification":
        if (frame.group !== null) return group?.notification(frame);
        return this.#emit("notification", { group: null, id: null, data: frame.data, user: null });
      case "subscribed":
        return group?.subscribed(frame) && this.#ask(group);
      case "gap":
      case "reached":
        return group?.[frame.type](frame);
      case "error":
        return this.#complained(frame, group);
    }
  }

  /** It may have been of any group, or of the one that is named. */
  #unreadable(name = null) {
    for (const group of this.#groups.values())
      if (name === null || group.name === name) group.unreadable();
  }

  #complained(frame, group) {
    if (frame.ref === AUTH) this.#renewAgain();
    if (group?.refused(frame)) return this.#lost(1011, frame.message);
    if (!group) {
      const { code, message, group: name = null } = frame;
      this.#emit("error", { code, message, group: name });
    }
  }

  /** A server that pings and is not heard any more is gone. */
  #watch() {
    this.#after(this.#silence, () => this.#lost(1006, "The connection went silent."));
  }

  /** Make sure of it: the network came back, or the page was looked at again. */
  #check() {
    if (this.#isPaused || this.#state === "connecting" || this.#state === "closed") return;
    if (this.#state === "waiting") return this.#open();
    if (this.#silence === null) return;
    this.#transport.send({ type: "ping", ref: "check" });
    this.#after(CHECK_TIMEOUT, () => this.#lost(1006, "The connection went silent.", 0));
  }

  #lost(code, why, delay = null) {
    const { now, random, backoff: growth } = this.#options;
    const wasOpen = this.#openedAt !== null;
    if (wasOpen && now() - this.#openedAt >= STEADY_AFTER) this.#failures = 0;
    const retryIn = delay ?? this.#comeBackIn ?? backoff(this.#failures, growth, random);
    const unreached = `The server cannot be reached over ${LABELS[this.transport]}.`;
    const reason = why || (wasOpen ? REASONS.get(code) ?? "The connection ended." : unreached);
    this.#failures += 1;
    if (code === TOO_LARGE) this.#publications.tooLarge();
    // Where there was no token yet, or it was refused, no transport is to blame.
    if (!wasOpen && this.#transport !== null && code !== UNAUTHORIZED) this.#ladder.failed();
    this.#release();
    // Another token may be good: one is asked for, and after it none until one was taken.
    const isAskedAgain = code === UNAUTHORIZED && this.#options.auth && this.#isTrusted && why !== NOBODY;
    if (code === UNAUTHORIZED) this.#isTrusted = false;
    if (REFUSALS.has(code) && !isAskedAgain) return this.#end(code, reason);
    this.#after(retryIn, () => this.#open());
    this.#enter("lost", { retryIn, reason });
  }

  #end(code, reason) {
    this.#release();
    this.#publications.end(REFUSALS.get(code), reason);
    this.#enter("ended", { reason });
    this.#emit("error", { code: REFUSALS.get(code), message: reason, group: null });
  }

  /** Let go of the transport and the timers; nothing of them is heard any more. */
  #release() {
    const { clearTimeout } = this.#options;
    clearTimeout(this.#renewer);
    this.#attempt = null;
    clearTimeout(this.#timer);
    clearTimeout(this.#climber);
    this.#stopProbe();
    this.#transport?.close();
    this.#transport = this.#openedAt = this.#silence = this.#comeBackIn = null;
    for (const group of this.#groups.values()) group.lost();
  }

  // Climbing back to the first of the transports

  #climbLater() {
    const { setTimeout, clearTimeout, climbAfter } = this.#options;
    clearTimeout(this.#climber);
    if (this.transport === this.#ladder.first) {
      this.#climbs = 0;
      return;
    }
    const delay = Math.min(MAX_CLIMB, climbAfter * 2 ** this.#climbs);
    this.#climber = setTimeout(() => this.#climb(), delay * 1000);
  }

  #climb() {
    this.#climbs += 1;
    const { first } = this.#ladder;
    this.#climbLater();
    if (!this.#fits(first)) return;
    if (first !== "websocket") return this.#openFirst();
    // A WebSocket is tried beside what works, which it replaces once it stands.
    this.#stopProbe();
    const begin = (credential) => {
      this.#probe = this.#make(first, () => this.#replace(), credential);
    };
    if (!this.#options.auth) return begin(null);
    if (this.#credential !== null && !isTicket(this.#credential)) this.#credential = null;
    this.#whenKnown(begin, () => {});
  }

  #openFirst() {
    this.#ladder.top();
    this.#open();
  }

  #replace() {
    const probe = this.#probe;
    this.#probe = null;
    this.#release();
    this.#ladder.top();
    this.#enter("again");
    this.#transport = probe;
    this.#askAll();
    this.#opened();
  }

  #stopProbe() {
    const probe = this.#probe;
    this.#probe = null;
    probe?.close();
  }

  // The surroundings

  #listenToSurroundings() {
    const { window, document } = this.#options;
    const listen = (target, name, listener) => {
      target?.addEventListener?.(name, listener);
      this.#listeners.push([target, name, listener]);
    };
    listen(window, "online", () => this.#online());
    listen(window, "offline", () => this.#offline());
    listen(document, "visibilitychange", () => {
      if (document.visibilityState === "visible") this.#check();
    });
  }

  #online() {
    this.#failures = 0;
    this.#ladder.forget();
    // A stream answers no ping; over another network it may stay silent for good.
    if (this.#state === "open" && this.transport !== "websocket" && !this.#isPaused)
      return this.#openFirst();
    this.#check();
  }

  /** The browser may be wrong about it, so that it is tried once in a while. */
  #offline() {
    if (this.#isPaused || this.#state === "closed") return;
    this.#release();
    const retryIn = this.#options.backoff.max;
    this.#after(retryIn, () => this.#open());
    this.#enter("lost", { retryIn, reason: "The network is away." });
  }

  #after(seconds, action) {
    const { setTimeout, clearTimeout } = this.#options;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(action, seconds * 1000);
  }

  #enter(happening, { retryIn = null, reason = "" } = {}) {
    const state = next(this.#state, happening);
    if (state === undefined) return;
    this.#state = state;
    this.#emit("state", { state, transport: this.transport, retryIn, reason });
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

class Subscription {
  #reader;
  #leave;

  constructor(group, reader, leave) {
    this.group = group;
    this.#reader = reader;
    this.#leave = leave;
  }

  /** Of the last notification, to go on from in another page's life; null where there is none. */
  get position() {
    return this.#reader.position;
  }

  /** "waiting" for the server's answer, "live", or "refused". */
  get state() {
    return this.#reader.state;
  }

  unsubscribe() {
    this.#leave();
  }
}

/** What the page's function gives; an error with a close code where there is nothing. */
async function fresh(auth) {
  let credential;
  try {
    credential = await auth();
  } catch (error) {
    throw { closeCode: 1006, why: `There is no token: ${error?.message ?? error}` };
  }
  if (credential === null || credential === undefined) throw { closeCode: UNAUTHORIZED, why: NOBODY };
  return String(credential);
}

/** The address over HTTP, whichever of the two it was given as. */
function addressOf(url, base) {
  const address = new URL(url, base);
  address.protocol = address.protocol.replace("ws", "http");
  address.hash = "";
  return address.href;
}

/** Those of the transports that there are here; some programs have no EventSource. */
function transportsOf({ transports, WebSocket, EventSource }) {
  const known = Object.keys(TRANSPORTS);
  const unknown = transports.filter((name) => !known.includes(name));
  if (unknown.length > 0 || transports.length === 0)
    throw new TypeError(`transports are some of ${known.join(", ")}; these are [${transports}]`);
  const missing = { websocket: !WebSocket, sse: !EventSource };
  const usable = transports.filter((name) => !missing[name]);
  if (usable.length === 0)
    throw new TypeError(`there is no ${transports.join(" and no ")} here; pass "poll" as well`);
  return usable;
}

/** What a callback throws is the page's own affair, and costs nobody a notification. */
function guarded(call) {
  try {
    call();
  } catch (error) {
    if (globalThis.reportError) globalThis.reportError(error);
    else console.error(error);
  }
}
