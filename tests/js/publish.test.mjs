/** The client publishes over its WebSocket: once, however often the connection breaks meanwhile. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { World, settled } from "./fakes.mjs";

const ONLY = { transports: ["websocket"] };

function open(options = ONLY) {
  const world = new World();
  const client = world.connect(options);
  world.socket.welcome();
  return { world, client };
}

const published = (socket) => socket.sent.filter(({ type }) => type === "publish");

/** Let the server answer the last publication. */
function answer({ socket }, frame = {}) {
  const { ref, group } = socket.last("publish");
  socket.bring({ type: "published", group, position: "e-1", ref, ...frame });
}

function comeBack(world) {
  world.socket.lose();
  world.pass(2);
  world.socket.welcome();
}

test("a publication is answered with its position", async () => {
  const { world, client } = open();
  const answered = client.publish("chat", { text: "hello" });
  const { key, ref, ...frame } = world.socket.last("publish");
  assert.deepEqual(frame, { type: "publish", group: "chat", data: { text: "hello" } });
  assert.match(key, /^[0-9a-f]{32}$/);
  answer(world);
  assert.deepEqual(await answered, { position: "e-1" });
  const other = client.publish("chat", null, { key: "mine" });
  assert.equal(world.socket.last("publish").key, "mine");
  assert.notEqual(world.socket.last("publish").ref, ref);
  answer(world, { position: null });
  assert.deepEqual(await other, { position: null });
  assert.equal([...world.timers.values()].filter(({ at }) => at === 60).length, 0);
});

test("without an answer it is sent again, the same, behind the subscriptions", async () => {
  const { world, client } = open();
  client.subscribe("chat", world.take);
  const data = { text: "hello" };
  const answered = client.publish("chat", data);
  const [first] = published(world.socket);
  data.text = "changed";
  comeBack(world);
  comeBack(world);
  assert.deepEqual(published(world.socket), [first]);
  assert.deepEqual(world.socket.sent.map(({ type }) => type), ["subscribe", "publish"]);
  answer(world);
  assert.deepEqual(await answered, { position: "e-1" });
  comeBack(world);
  assert.deepEqual(published(world.socket), []);
});

test("what is published before there is a connection waits for it, in order", async () => {
  const world = new World();
  const client = world.connect(ONLY);
  client.publish("chat", 1);
  client.publish("chat", 2);
  assert.deepEqual(published(world.socket), []);
  world.socket.welcome();
  assert.deepEqual(published(world.socket).map(({ data }) => data), [1, 2]);
});

test("a refusal rejects with its code, and is no event", async () => {
  const { world, client } = open();
  const refused = client.publish("chat", "no");
  const { ref } = world.socket.last("publish");
  const error = { type: "error", code: "forbidden", message: "No.", group: "chat", ref };
  world.socket.bring(error);
  await assert.rejects(refused, { name: "Error", code: "forbidden", message: "No." });
  world.socket.bring({ ...error, code: "failed" }); // late: nobody waits for it any more
  assert.deepEqual(world.told("error"), []);
  assert.equal(client.state, "open");
});

test("it gives up after a minute", async () => {
  const { world, client } = open();
  let isOver = false;
  const late = client.publish("chat", "hello").finally(() => (isOver = true));
  world.socket.lose();
  world.pass(59);
  await settled();
  assert.ok(!isOver);
  world.pass(1);
  await assert.rejects(late, { code: "no_answer" });
  client.reconnect();
  world.socket.welcome();
  assert.deepEqual(published(world.socket), []);
});

test("no more wait than a hundred", async () => {
  const { world, client } = open();
  for (let count = 0; count < 100; count += 1) client.publish("chat", count);
  await assert.rejects(client.publish("chat", 100), { code: "too_many" });
  answer(world);
  client.publish("chat", 101);
  assert.equal(world.socket.last("publish").data, 101);
});

test("one that is too large ends alone", async () => {
  const { world, client } = open();
  client.publish("chat", "small");
  const large = client.publish("chat", "ü".repeat(9000));
  client.publish("chat", "small, too");
  world.socket.lose(1009);
  await assert.rejects(large, { code: "too_large" });
  world.pass(0.5);
  world.socket.welcome();
  assert.deepEqual(published(world.socket).map(({ data }) => data), ["small", "small, too"]);
});

test("where nothing is published, a frame that was too large is an end like others", () => {
  const { world, client } = open();
  world.socket.lose(1009);
  assert.equal(client.state, "waiting");
});

test("only what is JSON is published", async () => {
  const { world, client } = open();
  await assert.rejects(client.publish("chat", undefined), { code: "bad_request" });
  await assert.rejects(client.publish("chat", 1n), TypeError);
  assert.deepEqual(published(world.socket), []);
});

test("streams and polls publish nothing, and say so", async () => {
  for (const transports of [["sse"], ["poll"]]) {
    const client = new World().connect({ transports });
    await assert.rejects(client.publish("chat", "hello"), { code: "no_socket", message: /WebSocket/ });
  }
});

test("what waits for a WebSocket is refused once a stream has taken its place", async () => {
  const world = new World();
  const client = world.connect({ transports: ["websocket", "sse"] });
  client.subscribe("chat", world.take);
  const answered = client.publish("chat", "hello");
  world.socket.lose();
  world.pass(0.5);
  world.socket.lose();
  world.pass(1);
  world.streams.at(-1).bring({ type: "subscribed", position: null, replayed: 0 });
  await assert.rejects(answered, { code: "no_socket" });
  await assert.rejects(client.publish("chat", "again"), { code: "no_socket" });
  world.pass(30); // a WebSocket is tried beside it, and takes over
  world.socket.welcome();
  const second = client.publish("chat", "again");
  answer(world);
  assert.deepEqual(await second, { position: "e-1" });
});

test("whoever waits is told of the end", async () => {
  const { world, client } = open();
  const refused = client.publish("chat", "hello");
  world.socket.lose(4403, "Not you.");
  await assert.rejects(refused, { code: "forbidden", message: "Not you." });
  await assert.rejects(client.publish("chat", "hello"), { code: "closed" });
  client.reconnect();
  world.socket.welcome();
  const closed = client.publish("chat", "hello");
  client.close();
  await assert.rejects(closed, { code: "closed" });
  await assert.rejects(client.publish("chat", "hello"), { code: "closed" });
  assert.equal(world.timers.size, 0);
});

test("a notification says who has published it", () => {
  const { world, client } = open();
  const users = [];
  client.subscribe("chat", ({ user }) => users.push(user));
  world.socket.answer("chat");
  world.socket.bring({ type: "notification", group: "chat", id: null, data: "a", user: "42" });
  world.socket.notify("chat", null);
  assert.deepEqual(users, ["42", null]);
});
