/** Streams and polls, and the way from one transport to another. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { World, settled } from "./fakes.mjs";

/** A world in which a client reads group "a" from position e-1 on, over streams. */
function streaming(options = {}) {
  const world = new World();
  const client = world.connect({ transports: ["sse", "poll"], ...options });
  client.subscribe("a", world.take);
  begin(world.streams[0], "e-1");
  return { world, client };
}

function begin(stream, position, more = {}) {
  stream.bring({ type: "welcome", connection: "c", version: 1 });
  stream.bring({ type: "subscribed", group: stream.query.get("group"), position, replayed: 0, ...more });
}

test("each group has a stream of its own, and resumes from its position", () => {
  const { world, client } = streaming();
  const other = client.subscribe("b", world.take, { since: "f-7" });
  assert.equal(client.state, "open");
  const asked = () => world.streams.map(({ query }) =>
    [query.get("group"), query.get("since"), query.get("protocol")]);
  assert.deepEqual(asked(), [["a", null, "asgi-notify.v1"], ["b", "f-7", "asgi-notify.v1"]]);
  begin(world.streams[1], "f-7", { recovered: true });
  world.streams[0].bring({ type: "notification", group: "a", id: "e-2", data: "one" });
  world.streams[0].lose();
  assert.equal(world.streams[1].isClosed, true);
  world.pass(0.5);
  assert.deepEqual(asked().slice(2),
    [["a", "e-2", "asgi-notify.v1"], ["b", "f-7", "asgi-notify.v1"]]);
  other.unsubscribe();
  assert.deepEqual(world.streams.map(({ isClosed }) => isClosed), [true, true, false, true]);
});

test("a stream that is refused is a refusal of its group alone", async () => {
  const { world, client } = streaming();
  client.subscribe("b", world.take);
  world.streams[1].lose();
  assert.equal(world.requests[0].query.get("timeout"), "0");
  world.requests[0].answer(403, { error: "not yours" });
  await settled();
  assert.deepEqual(world.told("error"), [{ group: "b", code: "forbidden", message: "not yours" }]);
  assert.equal(client.state, "open");
  assert.equal(world.streams[0].isClosed, false);
});

test("where every group is refused, the client is closed", async () => {
  for (const transports of [["sse"], ["poll"]]) {
    const world = new World();
    const client = world.connect({ transports });
    client.subscribe("a", world.take);
    world.streams[0]?.lose();
    world.requests[0].answer(404, {});
    await settled();
    assert.equal(client.state, "closed");
    assert.deepEqual(world.told("error").map(({ code, group }) => [code, group]),
      [["not_found", "a"], ["not_found", null]]);
    world.pass(1_000);
    assert.equal(world.streams.length + world.requests.length, transports[0] === "sse" ? 2 : 1);
  }
});

test("a stream that breaks before its first word, where polls pass, has failed", async () => {
  const world = new World();
  const client = world.connect({ transports: ["sse", "poll"] });
  client.subscribe("a", world.take);
  for (const wait of [0, 0.5]) {
    world.pass(wait);
    world.streams.at(-1).lose();
    world.requests.at(-1).answer(200, poll("e-1"));
    await settled();
    assert.equal(world.told("state").at(-1).reason, "Streams are blocked.");
  }
  assert.equal(client.transport, "poll");
});

test("streams end the connection as a socket does", () => {
  const { world } = streaming();
  world.streams[0].bring({ type: "going_away", retry_after: 4 });
  world.streams[0].lose();
  assert.equal(world.told("state").at(-1).retryIn, 4);
});

test("more groups than streams fit are polled", async () => {
  const { world, client } = streaming({ maxStreams: 2 });
  client.subscribe("b", world.take);
  assert.equal(client.transport, "sse");
  client.subscribe("c", world.take);
  assert.equal(client.transport, "poll");
  assert.deepEqual(world.streams.map(({ isClosed }) => isClosed), [true, true]);
  assert.deepEqual(world.requests.map(({ query }) => query.get("group")), ["a", "b"]);
  world.pass(1_000); // it does not go back to what they do not fit
  await settled();
  assert.equal(world.streams.length, 2);
});

test("a stream that waits for other tabs' streams gives way to polls, which share", () => {
  const { world, client } = streaming();
  client.subscribe("b", world.take);
  world.pass(9.9);
  assert.equal(client.transport, "sse");
  world.pass(0.1);
  assert.equal(client.transport, "poll");
  assert.deepEqual(world.requests.map(({ query }) => query.get("group")), ["a", "b"]);
});

test("a stream that waits, where there are no polls, is explained and comes in its turn", () => {
  const { world, client } = streaming({ transports: ["sse"] });
  const waiting = client.subscribe("b", world.take);
  world.pass(1_000);
  const [{ group, code, message }] = world.told("error");
  assert.deepEqual([group, code], ["b", "no_answer"]);
  assert.match(message, /no more than six connections/);
  assert.deepEqual([client.state, waiting.state], ["open", "waiting"]);
  begin(world.streams[1], "f-1");
  assert.equal(waiting.state, "live");
});

test("streams take any number where nothing else is allowed", () => {
  const { world, client } = streaming({ transports: ["sse"], maxStreams: 1 });
  client.subscribe("b", world.take);
  assert.equal(client.transport, "sse");
  assert.equal(world.streams.length, 2);
});

/** The answer to a poll, as the server spells it. */
const poll = (position, frames = [], more = {}) => ({
  frames: [{ type: "subscribed", group: "a", position, replayed: frames.length, ...more }, ...frames],
  position,
});

/** A world in which a client has polled group "a" once. */
async function polling(options = {}, groups = ["a"]) {
  const world = new World();
  const client = world.connect({ transports: ["poll"], ...options });
  for (const group of groups) client.subscribe(group, world.take);
  world.requests[0].answer(200, poll("e-1"));
  await settled();
  return { world, client };
}

const notification = (id) => ({ type: "notification", group: "a", id, data: "text" });

test("the first poll asks for the position, each other one for what comes after it", async () => {
  const { world, client } = await polling({ pollTimeout: 20 });
  assert.equal(client.state, "open");
  const asked = () => world.requests.map(({ query }) => [query.get("since"), query.get("timeout")]);
  assert.deepEqual(asked(), [[null, "0"], ["e-1", "20"]]);
  world.requests[1].answer(200, poll("e-3", [notification("e-2"), notification("e-3")], { recovered: true }));
  await settled();
  assert.deepEqual(world.notifications, ["e-2 text", "e-3 text"]);
  world.requests[2].answer(200, poll("e-9", [], { recovered: true })); // nothing that a client is told
  await settled();
  assert.deepEqual(asked().slice(2), [["e-3", "20"], ["e-9", "20"]]);
  world.requests[3].fail(new TypeError("Failed to fetch"));
  await settled();
  assert.equal(client.state, "waiting");
  world.pass(0.5);
  assert.deepEqual(asked().at(-1), ["e-9", "0"]);
  world.requests.at(-1).answer(200, poll("e-10", [notification("e-10")], { recovered: true }));
  await settled();
  assert.deepEqual(world.told("recovered"), [{ group: "a", replayed: 1 }]);
});

test("a poll that cannot go on from its position tells a gap, once", async () => {
  const { world } = await polling();
  world.requests[1].answer(200, poll("f-4", [], { recovered: false }));
  await settled();
  assert.deepEqual(world.told("gap"), [{ group: "a", reason: "unrecovered", lost: null }]);
  world.requests[2].fail(new TypeError("Failed to fetch"));
  await settled();
  world.pass(0.5);
  assert.equal(world.requests.at(-1).query.get("since"), "f-4");
});

test("more groups than connections fit take turns, in short polls", async () => {
  const { world } = await polling({ maxStreams: 2 }, ["a", "b", "c"]);
  const asked = () => world.requests.map(({ query }) => [query.get("group"), query.get("timeout")]);
  assert.deepEqual(asked(), [["a", "0"], ["b", "0"], ["c", "0"]]);
  world.requests[1].answer(200, poll(null));
  await settled();
  assert.deepEqual(asked().at(-1), ["a", "1"]);
});

test("a poll that is not answered is given up", async () => {
  const { world, client } = await polling();
  world.pass(35);
  await settled();
  assert.equal(world.requests[1].isAborted, true);
  assert.equal(client.state, "waiting");
});

test("a server in trouble is tried again, and one that answers no JSON as well", async () => {
  for (const [status, body] of [[503, { error: "later" }], [429, {}], [200, "a page of a proxy"]]) {
    const { world, client } = await polling();
    world.requests[1].answer(status, body);
    await settled();
    assert.equal(client.state, "waiting");
  }
});

test("a client that leaves ends its polls", async () => {
  const { world, client } = await polling({}, ["a", "b"]);
  client.close();
  await settled();
  assert.deepEqual(world.requests.slice(1).map(({ isAborted }) => isAborted), [true, true]);
  assert.deepEqual(world.states, ["open", "closed"]);
});

/** A world without WebSockets, in which group "a" came over a stream instead. */
function withoutSockets(options = {}) {
  const world = new World();
  const client = world.connect(options);
  client.subscribe("a", world.take);
  for (const wait of [0, 0.5]) {
    world.pass(wait);
    world.socket.lose();
  }
  world.pass(1);
  begin(world.streams[0], "e-1");
  return { world, client };
}

test("a WebSocket that was never welcomed gives way to a stream after two attempts", () => {
  const { world, client } = withoutSockets();
  assert.deepEqual([client.state, client.transport], ["open", "sse"]);
  assert.equal(world.sockets.length, 2);
});

test("a WebSocket that was welcomed is tried again as often as it breaks", () => {
  const world = new World();
  const client = world.connect({ random: () => 0 });
  for (let times = 0; times < 6; times += 1) {
    world.pass(0);
    world.socket.welcome();
    world.socket.lose();
  }
  assert.equal(client.transport, "websocket");
});

test("a server that restarts is waited for over the WebSocket, which has worked before", () => {
  const world = new World();
  const client = world.connect({ random: () => 0 });
  client.subscribe("a", world.take);
  world.socket.welcome();
  for (let times = 0; times < 6; times += 1) {
    world.socket.lose(); // the first was open, the others never are
    world.pass(0);
  }
  assert.equal(client.transport, "websocket");
  world.socket.welcome();
  assert.deepEqual([client.state, world.streams.length], ["open", 0]);
});

test("where the network has changed, what worked before is not waited for", () => {
  const world = new World();
  const client = world.connect();
  client.subscribe("a", world.take);
  world.socket.welcome();
  world.tell("window", "offline");
  world.tell("window", "online");
  for (const wait of [0, 1]) {
    world.pass(wait);
    world.socket.lose();
  }
  assert.equal(client.transport, "sse");
});

test("it climbs back to a WebSocket beside the stream, which goes on until that stands", () => {
  const { world, client } = withoutSockets({ climbAfter: 20 });
  world.pass(19.9);
  assert.equal(world.sockets.length, 2);
  world.pass(0.1);
  assert.equal(world.sockets.length, 3);
  assert.deepEqual(world.socket.sent, []);
  world.socket.lose();
  assert.deepEqual([client.state, client.transport], ["open", "sse"]);
  world.pass(39.9); // the next attempt takes twice as long
  assert.equal(world.sockets.length, 3);
  world.streams[0].bring(notification("e-2"));
  world.pass(0.1);
  world.socket.welcome();
  assert.deepEqual([client.state, client.transport], ["open", "websocket"]);
  assert.equal(world.streams[0].isClosed, true);
  assert.equal(world.socket.last("subscribe").since, "e-2");
  world.socket.answer("a", { position: "e-2", recovered: true });
  world.socket.notify("a", "e-3");
  assert.deepEqual(world.notifications, ["e-2 text", "e-3 text"]);
  world.pass(35); // and it is watched, as any WebSocket is
  assert.equal(client.state, "waiting");
});

test("a stream is replaced where the network returns, since it cannot be asked for a sign", () => {
  const { world } = streaming();
  world.tell("window", "online");
  assert.equal(world.streams[0].isClosed, true);
  assert.equal(world.streams[1].query.get("since"), "e-1");
});

test("over streams a second subscription takes the place of the first, which loses nothing", () => {
  const { world, client } = streaming();
  const bring = (stream, id) => stream.bring({ type: "notification", group: "a", id, data: "text" });
  bring(world.streams[0], "e-2");
  const seen = [];
  client.subscribe("a", ({ id }) => seen.push(id), { since: "e-4" });
  assert.equal(world.streams[0].isClosed, true);
  assert.equal(world.streams[1].query.get("since"), "e-2");
  begin(world.streams[1], "e-2", { recovered: true, replayed: 3 });
  for (const id of ["e-3", "e-4", "e-5"]) bring(world.streams[1], id);
  assert.deepEqual(world.notifications, ["e-2 text", "e-3 text", "e-4 text", "e-5 text"]);
  assert.deepEqual(seen, ["e-5"]);
});

test("over streams what is too far back for the second is asked for again for the first", () => {
  const { world, client } = streaming();
  client.subscribe("a", world.take, { since: "e-0" });
  begin(world.streams[1], "e-9", { recovered: false });
  assert.equal(world.streams[2].query.get("since"), "e-1");
  begin(world.streams[2], "e-1", { recovered: true, replayed: 9 });
  assert.equal(world.told("gap").length, 1);
});

test("a frame of a stream that cannot be read is a gap of its group", () => {
  const { world } = streaming();
  world.streams[0].onmessage({ data: "no JSON" });
  assert.deepEqual(world.told("gap"), [{ group: "a", reason: "unreadable", lost: null }]);
});
