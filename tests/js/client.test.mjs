/** The client over a WebSocket: what it asks for, when it comes back, what it tells. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../../asgi_notify/js/asgi-notify.js";
import { World } from "./fakes.mjs";

const ONLY = { transports: ["websocket"] };

/** A world in which a client reads group "a" from position e-1 on. */
function reading(options = ONLY) {
  const world = new World();
  const client = world.connect(options);
  const subscription = client.subscribe("a", world.take);
  world.socket.welcome();
  world.socket.answer("a", { position: "e-1" });
  return { world, client, subscription };
}

test("one socket brings several groups, each to its own callbacks", () => {
  const { world, client } = reading();
  const others = [];
  client.subscribe("b", ({ data }) => others.push(data));
  client.subscribe("a", ({ data }) => others.push(data));
  assert.equal(world.sockets.length, 1);
  assert.equal(world.socket.url, "ws://host/notifications/");
  assert.deepEqual(world.socket.protocols, ["asgi-notify.v1"]);
  assert.deepEqual(world.socket.sent.map(({ type, group }) => [type, group]),
    [["subscribe", "a"], ["subscribe", "b"]]);
  world.socket.answer("b");
  world.socket.notify("a", "e-2", "to a");
  world.socket.notify("b", null, "to b");
  world.socket.notify("c", null, "to nobody");
  assert.deepEqual(world.notifications, ["e-2 to a"]);
  assert.deepEqual(others, ["to a", "to b"]);
});

test("the address may be of any of the four schemes", () => {
  for (const [given, opened] of [
    ["http://h/n/?a=1#part", "ws://h/n/?a=1"], ["https://h/n/", "wss://h/n/"],
    ["ws://h/n/", "ws://h/n/"], ["wss://h/n/", "wss://h/n/"],
  ]) {
    const world = new World();
    world.connect(ONLY, given);
    assert.equal(world.socket.url, opened);
  }
  const world = new World();
  world.document.baseURI = "https://h/page/";
  world.connect(ONLY, "notifications/");
  assert.equal(world.socket.url, "wss://h/page/notifications/");
});

test("every subscription resumes from its own position after a reconnect", () => {
  const { world, client } = reading();
  client.subscribe("b", world.take, { since: "f-7" });
  world.socket.answer("b", { position: "f-7", recovered: true });
  world.socket.notify("a", "e-2");
  world.socket.lose();
  world.pass(0.5);
  world.socket.welcome();
  assert.deepEqual(world.socket.sent.map(({ group, since }) => [group, since]),
    [["a", "e-2"], ["b", "f-7"]]);
  world.socket.answer("a", { position: "e-2", recovered: true, replayed: 1 });
  world.socket.notify("a", "e-3");
  assert.deepEqual(world.told("recovered").at(-1), { group: "a", replayed: 1 });
  assert.deepEqual(world.notifications, ["e-2 text", "e-3 text"]);
  assert.deepEqual(world.states, ["open", "waiting", "connecting", "open"]);
});

test("a gap that the server tells is told", () => {
  const { world } = reading();
  world.socket.bring({ type: "gap", group: "a", reason: "full", lost: 3 });
  assert.deepEqual(world.told("gap"), [{ group: "a", reason: "full", lost: 3 }]);
});

test("attempts come later and later, and soon again after a connection that lasted", () => {
  const { world } = reading();
  const waits = () => world.told("state").filter(({ state }) => state === "waiting")
    .map(({ retryIn }) => retryIn);
  for (const wait of [0.5, 1, 2, 4, 8, 16, 30, 30]) {
    world.socket.lose();
    assert.equal(waits().at(-1), wait);
    const count = world.sockets.length;
    world.pass(wait - 0.001);
    assert.equal(world.sockets.length, count);
    world.pass(0.001);
    assert.equal(world.sockets.length, count + 1);
    world.socket.welcome();
  }
  world.pass(5);
  world.socket.lose();
  assert.equal(waits().at(-1), 0.5);
});

test("its own backoff can be passed, in part", () => {
  const { world } = reading({ ...ONLY, backoff: { base: 2 } });
  world.socket.lose();
  assert.equal(world.told("state").at(-1).retryIn, 2);
});

test("a server that goes away is left alone for as long as it asks", () => {
  const { world } = reading();
  world.socket.bring({ type: "going_away", retry_after: 7.5 });
  world.socket.lose(1012);
  assert.equal(world.told("state").at(-1).retryIn, 7.5);
  assert.equal(world.told("state").at(-1).reason, "The server is restarting.");
  world.pass(7.5);
  world.socket.lose();
  assert.equal(world.told("state").at(-1).retryIn, 1);
});

test("what is sent to this connection alone is an event of the client", () => {
  const { world, client } = reading();
  const seen = [];
  client.addEventListener("notification", ({ detail }) => seen.push(detail));
  world.socket.notify(null, null, "only you");
  assert.deepEqual(seen, [{ group: null, id: null, data: "only you", user: null }]);
  assert.deepEqual(world.notifications, []);
});

test("pings are answered", () => {
  const { world } = reading();
  world.socket.bring({ type: "ping" });
  assert.deepEqual(world.socket.sent.at(-1), { type: "pong" });
});

test("a server that is silent for longer than its pings take is given up", () => {
  const { world } = reading();
  world.pass(34);
  world.socket.bring({ type: "ping" });
  world.pass(34.9);
  assert.equal(world.states.at(-1), "open");
  world.pass(0.1);
  assert.equal(world.states.at(-1), "waiting");
  assert.equal(world.told("state").at(-1).reason, "The connection went silent.");
  assert.equal(world.sockets[0].isClosed, true);
});

test("a server that gives no welcome is given up", () => {
  const world = new World();
  world.connect({ ...ONLY, connectTimeout: 3 });
  world.pass(2.9);
  assert.deepEqual(world.states, []);
  world.pass(0.1);
  assert.deepEqual(world.states, ["waiting"]);
});

test("what was given up is not heard any more", () => {
  const { world } = reading();
  const [first] = world.sockets;
  world.pass(35.5);
  world.socket.welcome();
  world.socket.answer("a", { position: "e-1", recovered: true });
  first.notify("a", "e-2", "late");
  first.lose();
  assert.deepEqual(world.notifications, []);
  assert.equal(world.states.at(-1), "open");
});

for (const [code, name] of [[4401, "unauthorized"], [4403, "forbidden"], [4404, "not_found"]])
  test(`a connection closed with ${code} stays closed until it is asked for`, () => {
    const { world, client } = reading();
    world.socket.lose(code, "no entry");
    assert.deepEqual(world.told("error"), [{ code: name, message: "no entry", group: null }]);
    assert.equal(client.state, "closed");
    world.pass(1_000);
    world.tell("window", "online");
    assert.equal(world.sockets.length, 1);
    client.reconnect();
    world.socket.welcome();
    assert.equal(client.state, "open");
    assert.equal(world.socket.last("subscribe").since, "e-1");
  });

test("a refused group is told, and not asked for again with the others", () => {
  const { world, client } = reading();
  const refused = client.subscribe("b", world.take);
  const { ref } = world.socket.last("subscribe");
  world.socket.bring({ type: "error", code: "forbidden", message: "not yours", group: "b", ref });
  assert.deepEqual(world.told("error"), [{ group: "b", code: "forbidden", message: "not yours" }]);
  assert.equal(refused.state, "refused");
  assert.equal(client.state, "open");
  world.socket.lose();
  world.pass(1);
  world.socket.welcome();
  assert.deepEqual(world.socket.sent.map(({ group }) => group), ["a"]);
  client.reconnect();
  world.socket.welcome();
  assert.deepEqual(world.socket.sent.map(({ group }) => group), ["a", "b"]);
});

test("a subscription that failed on the server is tried again, later and later", () => {
  const { world } = reading();
  for (const wait of [0.5, 1, 2]) {
    world.socket.lose();
    world.pass(wait);
    world.socket.welcome();
  }
  const { ref } = world.socket.last("subscribe");
  world.socket.bring({ type: "error", code: "failed", message: "oh", group: "a", ref });
  assert.equal(world.told("state").at(-1).retryIn, 4);
});

test("an error of no group, and a frame of no known kind, leave the connection as it is", () => {
  const { world, client } = reading();
  world.socket.bring({ type: "error", code: "bad_frame", message: "what?", ref: null });
  assert.deepEqual(world.told("error"), [{ code: "bad_frame", message: "what?", group: null }]);
  world.socket.bring({ type: "news_of_version_2", group: "a" });
  world.socket.bring("no JSON");
  world.socket.bring("null");
  world.socket.bring("7");
  assert.equal(client.state, "open");
});

test("a callback that throws is reported, and costs nobody a notification", (t) => {
  const { world, client } = reading();
  const reported = t.mock.method(console, "error", () => {});
  const mistake = new Error("the page's own");
  client.subscribe("a", () => {
    throw mistake;
  });
  const after = [];
  client.subscribe("a", ({ id }) => after.push(id));
  world.socket.notify("a", "e-2");
  world.socket.notify("a", "e-3");
  assert.deepEqual(after, ["e-2", "e-3"]);
  assert.deepEqual(world.notifications, ["e-2 text", "e-3 text"]);
  assert.deepEqual(reported.mock.calls.map((call) => call.arguments[0]), [mistake, mistake]);
});

test("the last one to leave a group unsubscribes from it", () => {
  const { world, client, subscription } = reading();
  const second = client.subscribe("a", world.take);
  subscription.unsubscribe();
  subscription.unsubscribe();
  assert.equal(world.socket.last("unsubscribe"), undefined);
  world.socket.notify("a", "e-2");
  assert.equal(second.position, "e-2");
  second.unsubscribe();
  assert.equal(world.socket.last("unsubscribe").group, "a");
  world.socket.notify("a", "e-3");
  assert.deepEqual(world.notifications, ["e-2 text"]);
  client.subscribe("a", world.take);
  assert.equal(world.socket.last("subscribe").since, undefined);
});

test("a callback may unsubscribe while it is called", () => {
  const { world, client } = reading();
  const seen = [];
  const first = client.subscribe("a", () => second.unsubscribe());
  const second = client.subscribe("a", () => seen.push("second"));
  world.socket.notify("a", "e-2");
  assert.deepEqual(seen, []);
  first.unsubscribe();
});

test("disconnected, it stays away whatever happens, and comes back when it is told to", () => {
  const { world, client } = reading();
  client.disconnect();
  assert.equal(world.socket.isClosed, true);
  assert.equal(world.told("state").at(-1).retryIn, null);
  world.pass(1_000);
  world.tell("window", "offline");
  world.tell("window", "online");
  world.tell("document", "visibilitychange");
  assert.equal(world.sockets.length, 1);
  client.reconnect();
  assert.equal(world.sockets.length, 2);
  world.socket.welcome();
  assert.equal(world.socket.last("subscribe").since, "e-1");
});

test("closed, it is deaf and silent for good", () => {
  const { world, client } = reading();
  client.close();
  client.close();
  client.reconnect();
  client.disconnect();
  world.tell("window", "online");
  world.pass(1_000);
  assert.deepEqual(world.states, ["open", "closed"]);
  assert.equal(world.sockets.length, 1);
  assert.equal(world.timers.size, 0);
  assert.throws(() => client.subscribe("b", world.take), /connect\(\) makes another/);
});

test("the network's return ends the wait", () => {
  const { world } = reading();
  world.tell("window", "offline");
  assert.equal(world.states.at(-1), "waiting");
  assert.equal(world.told("state").at(-1).reason, "The network is away.");
  world.pass(20);
  assert.equal(world.sockets.length, 1);
  world.tell("window", "online");
  assert.equal(world.states.at(-1), "connecting");
  world.socket.welcome();
  assert.equal(world.socket.last("subscribe").since, "e-1");
});

test("a network that is said to be away is tried all the same, once in a while", () => {
  const { world } = reading();
  world.tell("window", "offline");
  world.pass(30);
  assert.equal(world.states.at(-1), "connecting");
});

test("a page that is looked at again ends the wait, one that is hidden does not", () => {
  const { world } = reading();
  for (let times = 0; times < 4; times += 1) {
    world.socket.lose();
    world.pass(10);
  }
  world.socket.lose();
  world.document.visibilityState = "hidden";
  world.tell("document", "visibilitychange");
  assert.equal(world.states.at(-1), "waiting");
  world.document.visibilityState = "visible";
  world.tell("document", "visibilitychange");
  assert.equal(world.states.at(-1), "connecting");
});

test("a connection in doubt is asked for a sign, and replaced at once where none comes", () => {
  const { world } = reading();
  world.tell("document", "visibilitychange");
  assert.deepEqual(world.socket.last("ping"), { type: "ping", ref: "check" });
  world.pass(4.9);
  world.socket.bring({ type: "pong", ref: "check" });
  world.pass(5);
  assert.equal(world.sockets.length, 1);
  world.tell("window", "online");
  world.pass(5);
  assert.equal(world.sockets.length, 2);
  assert.equal(world.states.at(-1), "connecting");
});

test("frames can be read with a parser of one's own", () => {
  const parse = (text) => JSON.parse(text, (key, value) => (key === "data" ? `own ${value}` : value));
  const { world } = reading({ ...ONLY, parse });
  world.socket.notify("a", "e-2");
  assert.deepEqual(world.notifications, ["e-2 own text"]);
});

test("a transport that there is not is refused with those that there are", () => {
  assert.throws(() => connect("http://h/", { transports: ["pigeon"] }), /websocket, sse, poll/);
  assert.throws(() => connect("http://h/", { transports: [] }), /websocket, sse, poll/);
  const bare = { transports: ["websocket", "sse"], WebSocket: undefined, EventSource: undefined };
  assert.throws(() => connect("http://h/", bare), /no websocket and no sse here; pass "poll"/);
});

test("a second subscription goes on from its own position, and the first gets nothing twice", () => {
  const { world, client } = reading();
  world.socket.notify("a", "e-2");
  const seen = [];
  const second = client.subscribe("a", ({ id }) => seen.push(id), { since: "e-0" });
  assert.equal(world.socket.last("subscribe").since, "e-0");
  world.socket.notify("a", "e-3"); // sent before the server has heard of the second
  world.socket.answer("a", { position: "e-0", recovered: true, replayed: 3 });
  for (const id of ["e-1", "e-2", "e-3", "e-4"]) world.socket.notify("a", id);
  assert.deepEqual(seen, ["e-1", "e-2", "e-3", "e-4"]);
  assert.deepEqual(world.notifications, ["e-2 text", "e-3 text", "e-4 text"]);
  assert.equal(second.position, "e-4");
  world.socket.lose();
  world.pass(0.5);
  world.socket.welcome();
  assert.deepEqual(world.socket.sent.map(({ since }) => since), ["e-4"]);
});

test("a second subscription whose position is lost is told, and the first has no gap", () => {
  const { world, client } = reading();
  const seen = [];
  client.subscribe("a", ({ id }) => seen.push(id), { since: "old-7" });
  world.socket.answer("a", { position: "e-1", recovered: false });
  assert.deepEqual(world.told("gap"), [{ group: "a", reason: "unrecovered", lost: null }]);
  world.socket.notify("a", "e-2");
  assert.deepEqual(seen, ["e-2"]);
  assert.deepEqual(world.notifications, ["e-2 text"]);
  assert.equal(world.socket.sent.filter(({ type }) => type === "subscribe").length, 2);
});

test("what cannot be read is a gap of every group that is live", () => {
  const { world, client } = reading();
  client.subscribe("b", world.take);
  world.socket.bring("no JSON");
  assert.deepEqual(world.told("gap"), [{ group: "a", reason: "unreadable", lost: null }]);
});
