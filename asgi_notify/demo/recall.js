/**
 * How a room that is opened shows what was sent before: from where to ask for it.
 *
 * A server replays what came after a position, if its history still reaches back to
 * that, and does not say how far it reaches. So the page remembers the positions that it
 * has seen, for all tabs of this browser; a tab that knows of none, or of one that is
 * too old, goes back from where the server stands now, half as far each time.
 */

const SIZE = 100; // notifications that the default application keeps for each room
const KEPT = 295_000; // ms, which is a little less than its 300 s: they began before the page knew
const MAX_ROOMS = 50; // remembered; the one that was not used for the longest time goes first
const SAVE_AFTER = 1_000; // ms, so that a burst is written once
const KEY = `asgi_notify positions ${location.pathname}`;

/** The parts of a position. To other pages it has no parts; this one comes with its server. */
function parsed(position) {
  const [, epoch, offset] = /^(.*)-([0-9]+)$/.exec(position ?? "") ?? [];
  return epoch === undefined ? null : { epoch, offset: Number(offset) };
}

/** From which position a room asks, until the server has a history that reaches back to it. */
export class Recall {
  #end = null; // where the server stood when it was first asked

  /** `since` is the first to be tried; null asks the server where it stands. */
  constructor(since) {
    this.since = since;
  }

  /** Whether nothing can be missing after `since`: it is where the room was once connected. */
  get isCertain() {
    return this.#end !== null && this.since === `${this.#end.epoch}-${this.#end.offset}`;
  }

  /**
   * The server, which stands at `position`, replayed nothing after `since`. Whether it is
   * worth asking again, from the `since` that is there now.
   */
  again(position) {
    this.#end ??= parsed(position);
    if (this.#end === null || this.isCertain) return false;
    const { epoch, offset } = this.#end;
    const tried = parsed(this.since);
    const isOfNow = tried?.epoch === epoch;
    const back = isOfNow ? Math.floor((offset - tried.offset) / 2) : offset;
    const isFirst = this.since === null;
    this.since = `${epoch}-${offset - Math.max(0, Math.min(back, SIZE))}`;
    return !(isFirst && offset === 0);
  }
}

/** The positions that this browser has seen in one room, and when. */
export class Trail {
  #group;
  #places; // [position, ms since 1970], the oldest first
  #saving = null;

  constructor(group) {
    this.#group = group;
    const places = read()[group];
    this.#places = Array.isArray(places) ? places.filter(Array.isArray) : [];
    this.#shorten();
    addEventListener("pagehide", this.save);
  }

  /** The oldest that the server's history may still reach back to, or null. */
  get start() {
    return this.#places[0]?.[0] ?? null;
  }

  /** When the page came to this position, as a Date, or undefined where it never did. */
  timeOf(position) {
    const place = this.#places.find(([known]) => known === position);
    return place && new Date(place[1]);
  }

  /** The page has come as far as this. */
  reached(position, time = new Date()) {
    if (position === null || this.timeOf(position)) return;
    this.#places.push([position, time.getTime()]);
    this.#shorten();
    this.#saving ??= setTimeout(this.save, SAVE_AFTER);
  }

  /** Begin anew, where the server has no history any more of what was seen. */
  restart(position) {
    this.#places = [];
    this.reached(position);
  }

  close() {
    removeEventListener("pagehide", this.save);
    this.save();
  }

  save = () => {
    if (this.#saving === null) return;
    clearTimeout(this.#saving);
    this.#saving = null;
    const { [this.#group]: _, ...others } = read();
    const all = [...Object.entries(others), [this.#group, this.#places]].slice(-MAX_ROOMS);
    try {
      localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(all)));
    } catch {
      // A browser told to keep nothing: a reload then asks as a new tab does.
    }
  };

  /** The first is where the second was missing, and of use for as long as that is kept. */
  #shorten() {
    const tooOld = Date.now() - KEPT;
    while (this.#places.length > SIZE + 1 || this.#places[1]?.[1] < tooOld) this.#places.shift();
  }
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}
