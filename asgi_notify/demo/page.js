/** The page: which rooms are open, the key to publish with, and what is said aloud. */

import { Room } from "./room.js";

const MAX_ROOMS = 12; // each is a connection; a link must not open hundreds
const KEY = `asgi_notify key ${location.pathname}`;
const SPEAK_EVERY = 1_000; // ms, so that a burst is one sentence

const byId = (id) => document.getElementById(id);
const rooms = new Map(); // number, as a string of digits -> Room

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
  const isFull = rooms.size >= MAX_ROOMS && !rooms.has(number);
  return isFull ? `${MAX_ROOMS} rooms are open, as many as fit here. Close one first.` : "";
}

function showError(text) {
  byId("number-error").textContent = text;
  byId("number-error").hidden = !text;
  byId("number").ariaInvalid = text ? "true" : "false";
}

function openRoom(text) {
  const error = objection(text);
  showError(error);
  if (error) return null;
  const number = roomNumber(text);
  if (!rooms.has(number)) {
    const room = new Room(number, surroundings);
    rooms.set(number, room);
    byId("main").append(room.element);
    roomsChanged();
  }
  return rooms.get(number);
}

function closeRoom(room) {
  rooms.delete(room.number);
  room.close();
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

// The address of the page names the rooms, so that reloading and sharing it works.

function roomsChanged() {
  byId("empty").hidden = rooms.size > 0;
  const hash = rooms.size ? `#rooms=${[...rooms.keys()].join(",")}` : "";
  history.replaceState(null, "", `${location.pathname}${location.search}${hash}`);
}

function openRoomsOfAddress() {
  const named = new URLSearchParams(location.hash.slice(1)).get("rooms");
  if (named === null) return;
  const wanted = named.split(",").filter(Boolean).map((text) => roomNumber(text) ?? text);
  for (const room of [...rooms.values()]) if (!wanted.includes(room.number)) closeRoom(room);
  for (const text of wanted) if (!openRoom(text)) return;
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
  closed: closedByHand,
};

// The world outside

function checkRooms() {
  for (const room of rooms.values()) room.check();
}

addEventListener("online", checkRooms);
addEventListener("hashchange", openRoomsOfAddress);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen = 0;
  showUnseen();
  checkRooms();
});
setInterval(() => rooms.forEach((room) => room.tick()), 250);

byId("skip").onclick = (event) => {
  event.preventDefault(); // the address names the rooms, not the place on the page
  byId("main").focus();
};

openRoomsOfAddress();
roomsChanged();
showKey();
