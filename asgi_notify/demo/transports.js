/**
 * What brings the notifications of a room to the page: a WebSocket, or a stream
 * of server-sent events. Knows nothing of the page.
 *
 * Each is one attempt. It begins when it is made, calls `on.opened()`, then
 * `on.text(text)` for each text, and at its end `on.lost(why)`, where `why` is a
 * sentence or undefined. Once closed it calls nothing any more.
 */

/** What a close code means to the one who looks at the page. */
const REASONS = new Map([
  [1001, "The server is shutting down."],
  [1006, "The connection broke."],
  [1009, "A message was too large."],
  [1011, "The server failed."],
  [1012, "The server is restarting."],
  [1013, "This page read too slowly and missed some notifications."],
]);

export class Socket {
  static label = "WebSocket";
  static maxRooms = 12; // each is a connection; a link must not open hundreds
  static noAnswer = "The server did not answer in time.";

  #socket;

  constructor(url, on) {
    const address = new URL(url);
    address.protocol = address.protocol.replace("http", "ws");
    this.#socket = new WebSocket(address);
    this.#socket.onopen = () => on.opened();
    this.#socket.onmessage = (event) => on.text(event.data);
    this.#socket.onclose = (event) => on.lost(event.reason || REASONS.get(event.code));
  }

  /** Ask for a "pong", which comes as a text. */
  ping() {
    this.#socket.send("ping");
  }

  close() {
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }
}

/**
 * It has no `ping`: nothing can be asked over it, and no script sees the comments
 * that keep it alive. That it died without a word is for the browser to notice,
 * which tells when the network changes or TCP gives up.
 */
export class Stream {
  static label = "Server-Sent Events";
  // Over HTTP/1.1 a browser keeps six connections to a server, in all its tabs
  // together. A stream holds one for good; sending and the page itself need some, too.
  static maxRooms = 4;
  static noAnswer =
    "No answer came in time. A browser may keep no more than six connections to a server, " +
    "in all its tabs together: close a room, or use WebSocket.";

  #source;

  constructor(url, on) {
    this.#source = new EventSource(url);
    this.#source.onopen = () => on.opened();
    this.#source.onmessage = (event) => on.text(event.data);
    // It would come back by itself from some errors, and never from others:
    // whoever hears of one closes it, and makes another.
    this.#source.onerror = () => on.lost();
  }

  close() {
    this.#source.onopen = this.#source.onmessage = this.#source.onerror = null;
    this.#source.close();
  }
}
