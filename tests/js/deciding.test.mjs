/** What the client decides, apart from any connection. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Ladder, Reader, backoff, isAfter, next } from "../../asgi_notify/js/asgi-notify.js";

const GROWTH = { base: 0.5, factor: 2, max: 30 };

test("the wait is drawn from a range that doubles up to its limit", () => {
  const most = [0, 1, 2, 5, 6, 7, 5_000].map((failures) => backoff(failures, GROWTH, () => 1));
  assert.deepEqual(most, [0.5, 1, 2, 16, 30, 30, 30]);
  assert.equal(backoff(3, GROWTH, () => 0), 0);
  assert.equal(backoff(3, GROWTH, () => 0.25), 1);
});

test("a notification is new where its offset is, or its epoch", () => {
  assert.equal(isAfter("aaaa-2", "aaaa-1"), true);
  assert.equal(isAfter("aaaa-10", "aaaa-9"), true);
  assert.equal(isAfter("aaaa-9", "aaaa-10"), false);
  assert.equal(isAfter("aaaa-9", "aaaa-9"), false);
  assert.equal(isAfter("bbbb-1", "aaaa-9"), true);
  assert.equal(isAfter("aaaa-1", null), true);
});

test("ids of another spelling are new unless they are the same", () => {
  assert.equal(isAfter("one", "other"), true);
  assert.equal(isAfter("one", "one"), false);
});

test("what cannot happen in a state leads nowhere", () => {
  assert.equal(next("connecting", "opened"), "open");
  assert.equal(next("open", "lost"), "waiting");
  assert.equal(next("waiting", "opened"), undefined);
  assert.equal(next("closed", "lost"), undefined);
});

/** Fails to open so many times. */
function fail(ladder, times) {
  for (let each = 0; each < times; each += 1) ladder.failed();
  return ladder.name;
}

test("a transport that fails to open twice in a row gives way to the next, and the last to the first", () => {
  const ladder = new Ladder(["websocket", "sse"]);
  assert.equal(fail(ladder, 1), "websocket");
  assert.equal(fail(ladder, 1), "sse");
  assert.equal(fail(ladder, 2), "websocket");
});

test("a transport that has worked gives way after six failures, each row counted anew", () => {
  const ladder = new Ladder(["websocket", "sse"]);
  ladder.opened();
  assert.equal(fail(ladder, 5), "websocket");
  ladder.opened();
  assert.equal(fail(ladder, 5), "websocket");
  assert.equal(fail(ladder, 1), "sse");
  assert.equal(fail(ladder, 2), "websocket");
});

test("what worked in another network says nothing of this one", () => {
  const ladder = new Ladder(["websocket", "sse"]);
  ladder.opened();
  ladder.forget();
  assert.equal(fail(ladder, 2), "sse");
});

function reader(since = null) {
  const told = [];
  return [new Reader("g", since, (name, detail) => told.push([name, detail.id ?? detail.reason])), told];
}

test("a reader asks from where it stands, and tells nothing twice", () => {
  const [group, told] = reader();
  assert.deepEqual(group.request(1), { type: "subscribe", group: "g", ref: 1 });
  group.subscribed({ ref: 1, position: "a-4" });
  for (const id of ["a-4", "a-5", "a-6", "a-5", "a-7"]) group.notification({ id, data: 0 });
  group.lost();
  assert.deepEqual(group.request(2), { type: "subscribe", group: "g", since: "a-7", ref: 2 });
  group.subscribed({ ref: 2, position: "a-7", recovered: true, replayed: 1 });
  for (const id of ["a-7", "a-8"]) group.notification({ id, data: 0 });
  assert.deepEqual(told.filter(([name]) => name === "notification").map(([, id]) => id),
    ["a-5", "a-6", "a-7", "a-8"]);
  assert.deepEqual(told.at(-2), ["recovered", undefined]);
});

test("what stands ahead of a replay does not make that a repeat", () => {
  const [group, told] = reader("a-4");
  group.request(1);
  group.notification({ id: "a-9", data: 0 });
  group.subscribed({ ref: 1, position: "a-4", recovered: true, replayed: 5 });
  for (const offset of [5, 6, 7, 8, 9]) group.notification({ id: `a-${offset}`, data: 0 });
  assert.equal(told.filter(([name]) => name === "notification").length, 5);
});

test("an answer to an earlier request is passed over", () => {
  const [group, told] = reader("a-4");
  group.request(1);
  group.request(2);
  group.subscribed({ ref: 1, position: "a-4", recovered: true });
  assert.equal(group.state, "waiting");
  assert.equal(group.refused({ ref: 1, code: "forbidden", message: "no" }), false);
  assert.equal(group.state, "waiting");
  assert.deepEqual(told, []);
});

test("where nothing could be resumed, that is told as a gap, and it goes on from the new position", () => {
  const [group, told] = reader("a-4");
  group.request(1);
  group.subscribed({ ref: 1, position: "b-2", recovered: false });
  assert.deepEqual(told, [["subscribed", undefined], ["gap", "unrecovered"]]);
  assert.equal(group.position, "b-2");
});

test("a group without history has a gap after each reconnect, and none at first", () => {
  const [group, told] = reader();
  group.request(1);
  group.subscribed({ ref: 1, position: null });
  assert.deepEqual(told, [["subscribed", undefined]]);
  group.notification({ id: null, data: 0 });
  group.notification({ id: null, data: 0 });
  assert.equal(told.length, 3);
  group.lost();
  assert.deepEqual(group.request(2), { type: "subscribe", group: "g", ref: 2 });
  group.subscribed({ ref: 2, position: null });
  assert.deepEqual(told.at(-1), ["gap", "unrecovered"]);
});

test("a refusal stays, a failure may be tried again", () => {
  const [group] = reader();
  group.request(1);
  assert.equal(group.refused({ ref: 1, code: "failed", message: "" }), true);
  assert.equal(group.state, "waiting");
  assert.equal(group.refused({ ref: 1, code: "forbidden", message: "" }), false);
  group.lost();
  assert.equal(group.state, "refused");
});
