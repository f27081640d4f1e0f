/** The types of asgi-notify.js. All times are seconds. */

export const PROTOCOL: "asgi-notify.v1";

export type TransportName = "websocket" | "sse" | "poll";

/** What a group was sent. */
export interface Notification<Data = unknown> {
  /** The group; null where it was sent to this connection alone. */
  readonly group: string | null;
  /** Its position in the group's history, to resume from; null where the group has none. */
  readonly id: string | null;
  readonly data: Data;
  /** The id of the user whose client has published it; null where the server did, or nobody known. */
  readonly user: string | null;
}

export interface Published {
  /** The id of the notification; null where the group has no history. */
  readonly position: string | null;
}

/** What `publish` rejects with. */
export interface PublishError extends Error {
  readonly code:
    | "unauthorized"
    | "forbidden"
    | "not_found"
    | "bad_request"
    | "failed"
    /** Larger than the server takes. */
    | "too_large"
    /** So many wait already that no further one is taken. */
    | "too_many"
    /** No answer came within 60 seconds. It may have been published. */
    | "no_answer"
    /** There is a stream or a poll, which cannot publish. */
    | "no_socket"
    | "closed"
    | (string & {});
}

export type State = "connecting" | "open" | "waiting" | "closed";

export interface StateDetail {
  readonly state: State;
  /** The transport at work, or tried next. */
  readonly transport: TransportName;
  /** Until the next attempt; null where none is due. */
  readonly retryIn: number | null;
  /** A sentence for people, or "". */
  readonly reason: string;
}

export interface SubscribedDetail {
  readonly group: string;
  /** Everything after it follows; null where the group has no history. */
  readonly position: string | null;
}

export interface RecoveredDetail {
  readonly group: string;
  /** How many notifications were missed, and follow now. */
  readonly replayed: number;
}

/** Here notifications of the group are missing, or may be. */
export interface GapDetail {
  readonly group: string;
  /**
   * "unrecovered": the history does not reach back to where this client stood, or
   * there is none. "full", "expired": the server let go of what was waiting for this client.
   * "unreadable": something came that the parser could not read.
   */
  readonly reason: "unrecovered" | "full" | "expired" | "unreadable" | (string & {});
  /** How many; null where nobody knows. */
  readonly lost: number | null;
}

export interface ErrorDetail {
  readonly code:
    | "unauthorized"
    | "forbidden"
    | "not_found"
    | "bad_request"
    | "too_many"
    | "no_answer"
    | "failed"
    | (string & {});
  /** A sentence for people. */
  readonly message: string;
  /** The group that was refused; null where it is about the connection. */
  readonly group: string | null;
}

export interface ClientEvents {
  state: CustomEvent<StateDetail>;
  subscribed: CustomEvent<SubscribedDetail>;
  recovered: CustomEvent<RecoveredDetail>;
  gap: CustomEvent<GapDetail>;
  error: CustomEvent<ErrorDetail>;
  /** What was sent to this connection alone, rather than to a group. */
  notification: CustomEvent<Notification>;
}

export interface Backoff {
  /** The longest wait after the first failure. Default: 0.5. */
  base: number;
  /** How much longer it may be after each further one. Default: 2. */
  factor: number;
  /** The longest wait of all. Default: 30. */
  max: number;
}

export interface Options {
  /** What to try, in this order. Default: all three. */
  transports?: readonly TransportName[];
  backoff?: Partial<Backoff>;
  /** How long a server may take to answer. Default: 10. */
  connectTimeout?: number;
  /** How long a poll waits for something to come. Default: 25. */
  pollTimeout?: number;
  /**
   * How many requests may stay open at once: of the six connections that a browser keeps
   * to a server over HTTP/1.1, in all its tabs together. Default: 4.
   */
  maxStreams?: number;
  /** When to try the first transport again while another works; doubles each time. Default: 30. */
  climbAfter?: number;
  /**
   * Returns a fresh token or ticket, or null where nobody is logged in any more. Called for each
   * connection, and before the login expires. Default: none, as where a cookie says who is there.
   */
  auth?: (() => string | null | undefined | Promise<string | null | undefined>) | null;
  /** Reads a frame. Default: JSON.parse. */
  parse?: (text: string) => unknown;

  // The surroundings, for tests and for programs that are no browser.
  WebSocket?: new (url: string, protocols: string[]) => WebSocket;
  EventSource?: new (url: string) => EventSource;
  fetch?: typeof fetch;
  setTimeout?: (action: () => void, milliseconds: number) => unknown;
  clearTimeout?: (timer: any) => void;
  /** A clock that goes on evenly. */
  now?: () => number;
  /** At least 0 and less than 1. */
  random?: () => number;
  window?: EventTarget;
  document?: EventTarget & { readonly baseURI?: string; readonly visibilityState?: string };
}

export interface Subscription {
  readonly group: string;
  /** Of the last notification, or of the subscription where nothing has come; to resume from. */
  readonly position: string | null;
  readonly state: "waiting" | "live" | "refused";
  unsubscribe(): void;
}

/** Connect to the notifications at an address: `/notifications/`, of http, https, ws or wss. */
export function connect(url: string | URL, options?: Options): Client;

/** An EventTarget, of these events alone. */
export class Client {
  constructor(url: string | URL, options?: Options);
  readonly state: State;
  /** The transport at work, or tried next. */
  readonly transport: TransportName;
  /**
   * Have `callback` called with each notification of the group, once each.
   *
   * @param options.since the position to go on from; what was sent after it comes first,
   *   to this callback alone. Without it, what is sent from now on.
   */
  subscribe<Data = unknown>(
    group: string,
    callback: (notification: Notification<Data>) => void,
    options?: { since?: string | null },
  ): Subscription;
  /**
   * Send a notification to a group, where the server lets this client: once, also where the
   * connection breaks meanwhile.
   *
   * @param options.key 1 to 64 visible ASCII characters: what was published with the same one
   *   in the last minutes is not published again. Without it, a new one.
   */
  publish(group: string, data: unknown, options?: { key?: string }): Promise<Published>;
  /** Try now: end the wait, replace the connection, or ask again after a refusal. */
  reconnect(): void;
  /** Drop the connection and stay away until `reconnect()`. */
  disconnect(): void;
  /** End it for good. */
  close(): void;

  addEventListener<Name extends keyof ClientEvents>(
    name: Name,
    listener: (event: ClientEvents[Name]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Name extends keyof ClientEvents>(
    name: Name,
    listener: (event: ClientEvents[Name]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
}

// What decides, without a connection.

/** Seconds to wait after so many failures in a row. */
export function backoff(failures: number, growth: Backoff, random?: () => number): number;

/** Whether a notification of this id is new to one who has read up to this position. */
export function isAfter(id: string, position: string | null): boolean;

/** The state that follows, or undefined where that cannot happen. */
export function next(
  state: State,
  happening: "again" | "opened" | "lost" | "ended",
): State | undefined;

/** Which of the transports is to be tried. */
export class Ladder {
  constructor(names: readonly TransportName[]);
  readonly name: TransportName;
  readonly first: TransportName;
  opened(): void;
  failed(): void;
  forget(): void;
  down(): void;
  top(): void;
}

/** Those who read one group, and how far each of them has read. */
export class Group {
  constructor(name: string, tell: (name: string, detail: any) => void);
  readonly name: string;
  /** Take in a subscriber; also tells whether the server has to be asked for it. */
  join(
    since: string | null | undefined,
    take: (notification: Notification) => void,
  ): [Reader, boolean];
  leave(reader: Reader): void;
  has(reader: Reader): boolean;
  readonly isEmpty: boolean;
  readonly isRefused: boolean;
  request(ref: number): { type: "subscribe"; group: string; since?: string; ref: number };
  lost(): void;
  retry(): void;
  /** Whether the server has to be asked again, for others of them. */
  subscribed(frame: {
    ref?: unknown;
    position?: string | null;
    recovered?: boolean;
    replayed?: number;
  }): boolean;
  notification(frame: { id?: string | null; data: unknown; user?: string | null }): void;
  reached(frame: { position: string | null }): void;
  gap(frame: { reason: string; lost?: number | null }): void;
  unreadable(): void;
  refused(frame: { ref?: unknown; code: string; message: string }): boolean;
}

/** One subscriber of a group. */
interface Reader {
  readonly state: "waiting" | "live" | "refused";
  readonly position: string | null;
}
