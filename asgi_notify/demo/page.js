/** The page: which rooms are open, and over what, the key to publish with, what is said aloud. */

import { connect } from "./asgi-notify.js";
import { makeCopyable, sendCommand } from "./command.js";
import { Room, labelOf } from "./room.js";

// As the address and the form name them: which the client may use, and how many rooms fit.
const TRANSPORTS = {
  __proto__: null,
  websocket: { transports: ["websocket", "sse", "poll"], maxRooms: 12 }, // no link opens hundreds
  // Over HTTP/1.1 a browser keeps six connections to a server, in all its tabs
  // together. A stream holds one for good; sending and the page itself need some, too.
  sse: { transports: ["sse"], maxRooms: 4 },
  poll: { transports: ["poll"], maxRooms: 12 },
};
const KEY = `asgi_notify key ${location.pathname}`;
const SPEAK_EVERY = 1_000; // ms, so that a burst is one sentence

const byId = (id) => document.getElementById(id);
const rooms = new Map(); // number, as a string of digits -> Room
let transport = "websocket";

// Opening and closing

/** The room's number as the server spells it, or null. */
function roomNumber(text) {
  const digits = text.trim();
  return /^[0-9]{1,18}$/.test(digits) ? digits.replace(/^0+(?=[0-9])/, "") : null;
}

/** What is wrong with opening this room, as a sentence, or "". */
function objection(text) {
  if (text.trim() === "") return "Type a room number, such as 42.";
  const number = roomNumber(text);
  if (number === null) return `A room is a number of up to 18 digits; “${text.trim()}” is not.`;
  const { maxRooms } = TRANSPORTS[transport];
  const isFull = rooms.size >= maxRooms && !rooms.has(number);
  return isFull ? `${maxRooms} rooms are open, as many as fit over ${labelOf(transport)}. Close one first.` : "";
}

function showError(field, text) {
  byId(`${field}-error`).textContent = text;
  byId(`${field}-error`).hidden = !text;
  byId(field).ariaInvalid = text ? "true" : "false";
  if (text) byId(field).closest("details")?.setAttribute("open", "");
}

function openRoom(text) {
  const error = objection(text);
  showError("number", error);
  if (error) return null;
  const number = roomNumber(text);
  if (!rooms.has(number)) {
    const room = new Room(number, surroundings);
    rooms.set(number, room);
    byId("main").append(room.element);
    join(room);
    roomsChanged();
  }
  return rooms.get(number);
}

function closeRoom(room) {
  rooms.delete(room.number);
  room.close();
  showError("transport", ""); // it asked for this
  roomsChanged();
}

/** Closed by its button: whoever works by keyboard goes on from a neighbour, not from the top. */
function closedByHand(room) {
  const numbers = [...rooms.keys()];
  const next = numbers[numbers.indexOf(room.number) + 1] ?? numbers.at(-2);
  closeRoom(room);
  if (rooms.has(next)) rooms.get(next).focus();
  else byId("number").focus();
}

byId("open").onsubmit = (event) => {
  event.preventDefault();
  const field = byId("number");
  const room = openRoom(field.value);
  if (!room) return field.focus();
  field.select();
  room.element.scrollIntoView({ block: "nearest" });
};

// The transport, of all rooms

/** What is wrong with having the open rooms over this one, as a sentence, or "". */
function objectionTo(name) {
  const { maxRooms } = TRANSPORTS[name];
  const surplus = rooms.size - maxRooms;
  if (surplus <= 0) return "";
  const label = labelOf(name);
  return `Only ${maxRooms} rooms fit over ${label}, and ${rooms.size} are open. Close ${surplus} first.`;
}

function connectOver(name) {
  const error = objectionTo(name);
  showError("transport", error);
  if (!error && name !== transport) {
    transport = name;
    showError("number", ""); // what did not fit may fit now
    reconnectAll();
    roomsChanged();
  }
  byId(transport).checked = true;
  byId("transport-state").textContent = `· ${labelOf(transport)}`;
}

byId("transport").onchange = (event) => {
  connectOver(event.target.value);
  byId(transport).focus(); // back to the one that stays
};
byId("transport").form.onsubmit = (event) => event.preventDefault(); // by Enter

// Where there is room for it, the choice is always there; page.css says how wide that is.
const wide = matchMedia("(min-width: 56rem)");
const unfold = () => {
  byId("over").open = wide.matches;
};
wide.onchange = unfold;
unfold();

// The connection, one for all rooms

let client = null; // made for the first room
let lastState = null;
let isCut = false;
const tally = { replayed: 0, gaps: 0 };

/** A frame whose data keeps its digits where the browser can: 12345678901234567890 is none of its own. */
function readExactly(text) {
  const frame = JSON.parse(text);
  if (!JSON.rawJSON) return frame;
  const keep = (_, value, at) =>
    typeof value === "number" && at?.source ? JSON.rawJSON(at.source) : value;
  const exact = JSON.parse(text, keep);
  const all = (one) => one?.frames ?? [one];
  all(frame).forEach((each, index) => {
    if (each?.type === "notification") each.data = all(exact)[index].data;
  });
  return frame;
}

function makeClient() {
  const { transports } = TRANSPORTS[transport];
  const made = connect("notifications/", { transports, parse: readExactly });
  const roomOf = ({ group }) => rooms.get(group?.replace("user_", ""));
  const listen = (name, listener) => made.addEventListener(name, ({ detail }) => {
    if (made === client) listener(detail);
  });
  listen("state", (detail) => {
    lastState = detail;
    showCut(detail);
    for (const room of rooms.values()) room.stateChanged(detail);
  });
  for (const name of ["subscribed", "recovered", "gap"])
    listen(name, (detail) => roomOf(detail)?.[name](detail));
  listen("error", (detail) => roomOf(detail)?.refused(detail));
  return made;
}

function join(room) {
  client ??= makeClient();
  room.join(client);
  const { state, transport: over } = client;
  room.stateChanged(lastState ?? { state, transport: over, retryIn: null, reason: "" });
}

/** All rooms go over to another client, each from where it stands. */
function reconnectAll() {
  client?.close();
  client = lastState = null;
  for (const room of rooms.values()) join(room);
}

/** No attempt is due: it was cut by hand. */
function showCut({ state, retryIn }) {
  isCut = state === "waiting" && retryIn === null;
  byId("cut").textContent = isCut ? "Connect again" : "Cut the connection";
}

byId("cut").onclick = () => {
  if (isCut) client?.reconnect();
  else client?.disconnect();
};

function count(name, more) {
  tally[name] += more;
  byId(name).textContent = tally[name].toLocaleString();
}

// The address of the page names the rooms and the transport, so that reloading and
// sharing it works.

function roomsChanged() {
  byId("empty").hidden = rooms.size > 0;
  const parts = [];
  if (rooms.size) parts.push(`rooms=${[...rooms.keys()].join(",")}`);
  if (transport !== "websocket") parts.push(`transport=${transport}`);
  const hash = parts.length ? `#${parts.join("&")}` : "";
  history.replaceState(null, "", `${location.pathname}${location.search}${hash}`);
}

function obeyAddress() {
  const address = new URLSearchParams(location.hash.slice(1));
  const wanted = address.get("rooms")?.split(",").filter(Boolean)
    .map((text) => roomNumber(text) ?? text);
  for (const room of [...rooms.values()])
    if (wanted && !wanted.includes(room.number)) closeRoom(room);
  connectOver(address.get("transport") in TRANSPORTS ? address.get("transport") : "websocket");
  wanted?.every(openRoom); // up to the first that has a fault, which is shown
  roomsChanged();
}

// The key

let key = "";
const goOnFromKey = () => byId("key").firstElementChild.focus();
let afterKey = goOnFromKey;

try {
  key = sessionStorage.getItem(KEY) ?? "";
} catch {
  // A browser told to keep nothing: the key then lives as long as the page.
}

/** Open the field for the key; once it is given, go back to where it was missing. */
function askForKey(then) {
  const from = document.activeElement;
  afterKey = () => {
    from.focus();
    then();
  };
  byId("key").open = true;
  byId("key-field").focus();
}

function showKey() {
  byId("key-state").textContent = key ? "· in use" : "";
  for (const room of rooms.values()) room.showCommand();
}

byId("key-form").onsubmit = (event) => {
  event.preventDefault();
  key = byId("key-field").value;
  byId("key-field").value = "";
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // As above.
  }
  byId("key").open = false;
  showKey();
  const then = afterKey;
  afterKey = goOnFromKey;
  then();
};

// What is said aloud: a second's worth at once, and a count where that is much.

const unsaid = [];
let speaking = null;

function announce(text) {
  unsaid.push(text.slice(0, 200));
  speaking ??= setTimeout(() => {
    const spoken = unsaid.length > 3 ? [`${unsaid.length} changes and notifications.`] : unsaid;
    byId("announcer").textContent = spoken.join(" ");
    unsaid.length = 0;
    speaking = null;
  }, SPEAK_EVERY);
}

let unseen = 0;

function noticed(room, text) {
  announce(`Room ${room.number}: ${text}`);
  if (document.hidden) unseen += 1;
  showUnseen();
}

function showUnseen() {
  document.title = unseen ? `(${unseen}) asgi_notify` : "asgi_notify";
}

const surroundings = {
  get key() {
    return key;
  },
  askForKey,
  announce,
  noticed,
  count,
  closed: closedByHand,
};

// The world outside

addEventListener("hashchange", obeyAddress);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen = 0;
  showUnseen();
});
setInterval(() => rooms.forEach((room) => room.tick()), 250);

byId("skip").onclick = (event) => {
  event.preventDefault(); // the address names the rooms, not the place on the page
  byId("main").focus();
};

byId("send-command").textContent = sendCommand(42);
makeCopyable(byId("empty").querySelector(".command"), announce);
obeyAddress();
showKey();
