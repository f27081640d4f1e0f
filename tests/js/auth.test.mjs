/** Who is there: fresh tokens for each connection, before a login expires, and once when refused. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { settled, World } from "./fakes.mjs";

const ONLY = { transports: ["websocket"] };

/** Gives "t1", "t2", ... or, with another beginning, tickets; notes how often it was asked. */
function counting(beginning = "t") {
  const auth = async () => {
    auth.count += 1;
    if (auth.failing.length) throw new Error(auth.failing.shift());
    return auth.isOver ? null : `${beginning}${auth.count}`;
  };
  return Object.assign(auth, { count: 0, failing: [], isOver: false });
}

const tokens = (socket) => socket.sent.filter(({ type }) => type === "auth").map(({ token }) => token);

const authenticated = (socket, expires_in = null) =>
  socket.bring({ type: "authenticated", user: "7", expires_at: expires_in, expires_in, ref: "auth" });

async function opened(options = {}) {
  const world = new World();
  const auth = options.auth ?? counting();
  const client = world.connect({ ...ONLY, ...options, auth });
  client.subscribe("a", world.take);
  await settled();
  world.socket.welcome();
  authenticated(world.socket, options.lasts ?? null);
  return { world, client, auth };
}

test("a token is shown in the first frame, in no address, and before all else", async () => {
  const world = new World();
  const client = world.connect({ ...ONLY, auth: counting() });
  client.subscribe("a", world.take);
  assert.equal(world.sockets.length, 0);
  await settled();
  world.socket.welcome();
  assert.equal(world.socket.url, "ws://host/notifications/");
  assert.deepEqual(world.socket.protocols, ["asgi-notify.v1"]);
  assert.deepEqual(world.socket.sent, [{ type: "auth", token: "t1", ref: "auth" }]);
  assert.equal(client.state, "connecting");
  authenticated(world.socket);
  assert.equal(client.state, "open");
  assert.deepEqual(world.socket.sent.slice(1).map(({ type, group }) => [type, group]), [["subscribe", "a"]]);
});

test("each connection has a fresh one", async () => {
  const { world } = await opened();
  world.socket.lose();
  world.pass(0.5);
  await settled();
  world.socket.welcome();
  assert.deepEqual(tokens(world.socket), ["t2"]);
});

test("a login is renewed before it expires, again and again, and not where it never does", async () => {
  const { world, auth } = await opened({ lasts: 100 });
  world.pass(25); // a server that pings
  for (const due of [90, 180]) {
    for (; world.now < due - 1; world.pass(Math.min(20, due - 1 - world.now))) world.socket.bring({ type: "ping" });
    assert.equal(auth.count, due / 90);
    world.pass(1);
    await settled();
    assert.equal(tokens(world.socket).at(-1), `t${due / 90 + 1}`);
    authenticated(world.socket, due === 90 ? 100 : null);
  }
  for (let i = 0; i < 20; i += 1) {
    world.pass(20);
    world.socket.bring({ type: "ping" });
  }
  assert.equal(auth.count, 3);
  assert.equal(world.sockets.length, 1);
});

test("renewals are spread over a tenth of the login's time", async () => {
  const { world, auth } = await opened({ lasts: 30, random: () => 0 });
  world.pass(23.9);
  assert.equal(auth.count, 1);
  world.pass(0.2);
  assert.equal(auth.count, 2);
});

test("what the welcome says of a login counts, as where a cookie has shown it", async () => {
  const world = new World();
  const auth = counting();
  world.connect({ ...ONLY, auth });
  await settled();
  world.socket.bring({
    type: "welcome", connection: "c", ping_interval: 25, pong_timeout: 10, version: 1, expires_in: 10,
  });
  world.socket.bring({ type: "error", code: "bad_request", message: "none are taken", ref: "auth" });
  assert.deepEqual(world.states, ["open"]);
  world.pass(9);
  await settled();
  assert.equal(auth.count, 2);
});

test("a renewal that fails, or is refused, is tried again, later each time", async () => {
  const auth = counting();
  const { world } = await opened({ lasts: 10, auth });
  auth.failing = ["away"];
  world.pass(9);
  await settled();
  assert.deepEqual(tokens(world.socket), ["t1"]);
  world.pass(0.5);
  await settled();
  assert.deepEqual(tokens(world.socket), ["t1", "t3"]);
  world.socket.bring({ type: "error", code: "unauthorized", message: "no", ref: "auth" });
  world.pass(0.9);
  await settled();
  assert.equal(auth.count, 3);
  world.pass(0.1);
  await settled();
  assert.deepEqual(tokens(world.socket), ["t1", "t3", "t4"]);
});

test("a function that fails is asked again later and later, and blames no transport", async () => {
  const auth = counting();
  auth.failing = Array(8).fill("away");
  const world = new World();
  const client = world.connect({ auth });
  for (const wait of [0.5, 1, 2, 4, 8, 16, 30, 30]) {
    await settled();
    assert.deepEqual([client.state, client.transport], ["waiting", "websocket"]);
    assert.equal(world.told("state").at(-1).retryIn, wait);
    assert.equal(world.told("state").at(-1).reason, "There is no token: away");
    world.pass(wait);
  }
  await settled();
  assert.equal(world.sockets.length, 1);
});

test("a function that never answers is given up, and its late answer passed over", async () => {
  const world = new World();
  const late = [];
  const client = world.connect({ ...ONLY, auth: () => new Promise((resolve) => late.push(resolve)) });
  world.pass(10);
  assert.equal(client.state, "waiting");
  world.pass(0.5);
  late[0]("old");
  await settled();
  assert.equal(world.sockets.length, 0);
  late[1]("new");
  await settled();
  world.socket.welcome();
  assert.deepEqual(tokens(world.socket), ["new"]);
});

test("after 4401 one fresh token is tried, and after the next one none", async () => {
  const { world, client, auth } = await opened();
  world.socket.lose(4401, "the credential has expired");
  assert.equal(client.state, "waiting");
  world.pass(0.5);
  await settled();
  world.socket.welcome();
  world.socket.lose(4401, "this login has been ended");
  assert.equal(client.state, "closed");
  assert.deepEqual(world.told("error"),
    [{ code: "unauthorized", message: "this login has been ended", group: null }]);
  world.pass(100);
  await settled();
  assert.equal(auth.count, 2);
  client.reconnect();
  await settled();
  world.socket.welcome();
  authenticated(world.socket);
  assert.equal(client.state, "open");
});

test("a fresh token that is taken makes another try possible, later each time", async () => {
  const { world, client } = await opened();
  for (const wait of [0.5, 1, 2, 4]) {
    world.socket.lose(4401);
    assert.equal(world.told("state").at(-1).retryIn, wait);
    world.pass(wait);
    await settled();
    world.socket.welcome();
    authenticated(world.socket);
  }
  assert.equal(client.state, "open");
});

test("where nobody is logged in, it ends, and asks nobody", async () => {
  const auth = counting();
  auth.isOver = true;
  const world = new World();
  const client = world.connect({ ...ONLY, auth });
  await settled();
  assert.equal(client.state, "closed");
  assert.deepEqual(world.told("error"), [{ code: "unauthorized", message: "Nobody is logged in.", group: null }]);
  assert.equal(world.sockets.length, 0);
  const renewing = await opened({ lasts: 10 });
  renewing.auth.isOver = true;
  renewing.world.pass(9);
  await settled();
  assert.equal(renewing.client.state, "closed");
  assert.equal(renewing.world.socket.isClosed, true);
});

test("without the option, 4401 is the end, also where the server waits for a token", () => {
  const world = new World();
  const client = world.connect(ONLY);
  world.socket.bring({
    type: "welcome", connection: "c", ping_interval: 25, pong_timeout: 10, version: 1, auth_timeout: 10,
  });
  assert.equal(client.state, "closed");
  assert.match(world.told("error")[0].message, /pass the option auth/);
});

test("a client that is closed meanwhile opens nothing", async () => {
  const world = new World();
  const client = world.connect({ ...ONLY, auth: counting() });
  client.close();
  await settled();
  assert.equal(world.sockets.length, 0);
});

// Streams and polls.

test("each stream shows a ticket of its own, and a token stands in no address", async () => {
  const world = new World();
  const client = world.connect({ transports: ["sse", "poll"], auth: counting("ticket.") });
  client.subscribe("a", world.take);
  client.subscribe("b", world.take);
  await settled();
  assert.deepEqual(world.streams.map(({ query }) => [query.get("group"), query.get("ticket")]),
    [["a", "ticket.1"], ["b", "ticket.2"]]);
  world.streams[0].bring({ type: "subscribed", position: null, replayed: 0 });
  assert.equal(client.state, "open");
});

test("with a token, which a stream cannot show, there are polls", async () => {
  const world = new World();
  const sent = [];
  const client = world.connect({
    transports: ["sse", "poll"],
    auth: counting(),
    fetch: (address, { headers }) => {
      sent.push([new URL(address).searchParams.get("ticket"), headers.Authorization]);
      return new Promise(() => {});
    },
  });
  client.subscribe("a", world.take);
  client.subscribe("b", world.take);
  await settled();
  assert.equal(client.transport, "poll");
  assert.deepEqual(world.streams, []);
  assert.deepEqual(sent, [[null, "Bearer t1"], [null, "Bearer t1"]]);
});

test("a poll that is answered 401 has one fresh token asked for", async () => {
  const world = new World();
  const auth = counting();
  const client = world.connect({ transports: ["poll"], auth });
  client.subscribe("a", world.take);
  await settled();
  world.requests[0].answer(401, { error: "expired" });
  await settled();
  assert.equal(client.state, "waiting");
  world.pass(0.5);
  await settled();
  assert.equal(auth.count, 2);
  world.requests[1].answer(401, { error: "no" });
  await settled();
  assert.equal(client.state, "closed");
  assert.deepEqual(world.told("error"), [{ code: "unauthorized", message: "no", group: null }]);
});

test("a socket that is tried beside polls has a token of its own", async () => {
  const world = new World();
  const client = world.connect({ transports: ["websocket", "poll"], auth: counting() });
  client.subscribe("a", world.take);
  for (let i = 0; i < 2; i += 1) {
    await settled();
    world.socket.lose();
    world.pass(1);
  }
  await settled();
  assert.equal(client.transport, "poll");
  world.requests[0].answer(200, { frames: [{ type: "subscribed", position: null, replayed: 0 }], position: null });
  await settled();
  const count = world.sockets.length;
  world.pass(30);
  await settled();
  assert.equal(world.sockets.length, count + 1);
  world.socket.welcome();
  assert.equal(tokens(world.socket).length, 1);
  authenticated(world.socket, 100);
  assert.deepEqual([client.state, client.transport], ["open", "websocket"]);
});

test("a group that a fresh token does not allow any more has ended, and the others go on", async () => {
  const { world, client } = await opened();
  const other = client.subscribe("b", world.take);
  world.socket.answer("a");
  world.socket.answer("b");
  world.socket.bring({ type: "error", code: "too_many", message: "too fast", ref: null });
  const error = { code: "forbidden", message: "not yours any more", group: "b" };
  world.socket.bring({ type: "error", ref: null, ...error });
  assert.deepEqual(world.told("error").filter(({ group }) => group === "b"), [error]);
  assert.equal(other.state, "refused");
  world.socket.notify("a", null, "hello");
  world.socket.notify("b", null, "secret");
  assert.deepEqual(world.notifications, ["hello"]);
  assert.equal(client.state, "open");
});
