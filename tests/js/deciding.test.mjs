/** What the client decides, apart from any connection. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Group, Ladder, backoff, isAfter, next } from "../../asgi_notify/js/asgi-notify.js";

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

/** A group, all that it tells, and its first reader. */
function group(since = null) {
  const told = [];
  const tell = (name, detail) => told.push([name, detail.id ?? detail.reason]);
  const one = new Group("g", tell);
  const [reader] = one.join(since, (detail) => tell("notification", detail));
  return [one, told, reader];
}

/** One more reader: what it gets, whether it has to be asked for, itself. */
function join(one, since) {
  const got = [];
  const [reader, isAsked] = one.join(since, ({ id }) => got.push(id));
  return [got, isAsked, reader];
}

test("a group asks from where it stands, and tells nothing twice", () => {
  const [one, told, reader] = group();
  assert.deepEqual(one.request(1), { type: "subscribe", group: "g", ref: 1 });
  one.subscribed({ ref: 1, position: "a-4" });
  for (const id of ["a-4", "a-5", "a-6", "a-5", "a-7"]) one.notification({ id, data: 0 });
  one.lost();
  assert.deepEqual(one.request(2), { type: "subscribe", group: "g", since: "a-7", ref: 2 });
  one.subscribed({ ref: 2, position: "a-7", recovered: true, replayed: 1 });
  for (const id of ["a-7", "a-8"]) one.notification({ id, data: 0 });
  assert.deepEqual(told.filter(([name]) => name === "notification").map(([, id]) => id),
    ["a-5", "a-6", "a-7", "a-8"]);
  assert.deepEqual(told.at(-2), ["recovered", undefined]);
});

test("what stands ahead of a replay does not make that a repeat", () => {
  const [one, told, reader] = group("a-4");
  one.request(1);
  one.notification({ id: "a-9", data: 0 });
  one.subscribed({ ref: 1, position: "a-4", recovered: true, replayed: 5 });
  for (const offset of [5, 6, 7, 8, 9]) one.notification({ id: `a-${offset}`, data: 0 });
  assert.equal(told.filter(([name]) => name === "notification").length, 5);
});

test("an answer to an earlier request is passed over", () => {
  const [one, told, reader] = group("a-4");
  one.request(1);
  one.request(2);
  one.subscribed({ ref: 1, position: "a-4", recovered: true });
  assert.equal(reader.state, "waiting");
  assert.equal(one.refused({ ref: 1, code: "forbidden", message: "no" }), false);
  assert.equal(reader.state, "waiting");
  assert.deepEqual(told, []);
});

test("where nothing could be resumed, that is told as a gap, and it goes on from the new position", () => {
  const [one, told, reader] = group("a-4");
  one.request(1);
  one.subscribed({ ref: 1, position: "b-2", recovered: false });
  assert.deepEqual(told, [["subscribed", undefined], ["gap", "unrecovered"]]);
  assert.equal(reader.position, "b-2");
});

test("a group without history has a gap after each reconnect, and none at first", () => {
  const [one, told, reader] = group();
  one.request(1);
  one.subscribed({ ref: 1, position: null });
  assert.deepEqual(told, [["subscribed", undefined]]);
  one.notification({ id: null, data: 0 });
  one.notification({ id: null, data: 0 });
  assert.equal(told.length, 3);
  one.lost();
  assert.deepEqual(one.request(2), { type: "subscribe", group: "g", ref: 2 });
  one.subscribed({ ref: 2, position: null });
  assert.deepEqual(told.at(-1), ["gap", "unrecovered"]);
});

test("a refusal stays, a failure may be tried again", () => {
  const [one, , reader] = group();
  one.request(1);
  assert.equal(one.refused({ ref: 1, code: "failed", message: "" }), true);
  assert.equal(reader.state, "waiting");
  assert.equal(one.refused({ ref: 1, code: "forbidden", message: "" }), false);
  one.lost();
  assert.equal(reader.state, "refused");
});

test("who joins from an earlier position gets all from there, and the others nothing twice", () => {
  const [one, told] = group("a-4");
  one.request(1);
  one.subscribed({ ref: 1, position: "a-4", recovered: true, replayed: 1 });
  one.notification({ id: "a-5", data: 0 });
  const [got, isAsked] = join(one, "a-2");
  assert.equal(isAsked, true);
  assert.deepEqual(one.request(2), { type: "subscribe", group: "g", since: "a-2", ref: 2 });
  one.notification({ id: "a-6", data: 0 }); // on its way before the answer
  assert.equal(one.subscribed({ ref: 2, position: "a-2", recovered: true, replayed: 4 }), false);
  for (const offset of [3, 4, 5, 6, 7]) one.notification({ id: `a-${offset}`, data: 0 });
  assert.deepEqual(got, ["a-3", "a-4", "a-5", "a-6", "a-7"]);
  assert.deepEqual(told.filter(([name]) => name === "notification").map(([, id]) => id),
    ["a-5", "a-6", "a-7"]);
});

test("who joins from a later position gets what comes after it", () => {
  const [one] = group("a-4");
  one.request(1);
  one.subscribed({ ref: 1, position: "a-4", recovered: true, replayed: 9 });
  const [got] = join(one, "a-6");
  assert.equal(one.request(2).since, "a-6");
  one.subscribed({ ref: 2, position: "a-4", recovered: true, replayed: 9 });
  for (const offset of [5, 6, 7]) one.notification({ id: `a-${offset}`, data: 0 });
  assert.deepEqual(got, ["a-7"]);
});

test("what was too far back for one is asked for again for the others", () => {
  const [one, told, reader] = group("a-7");
  const [, , early] = join(one, "a-2");
  assert.equal(one.request(1).since, "a-2");
  assert.equal(one.subscribed({ ref: 1, position: "a-9", recovered: false }), true);
  assert.deepEqual([early.state, early.position], ["live", "a-9"]);
  assert.equal(reader.state, "waiting");
  assert.equal(one.request(2).since, "a-7");
  assert.equal(one.subscribed({ ref: 2, position: "a-7", recovered: true, replayed: 2 }), false);
  for (const offset of [8, 9]) one.notification({ id: `a-${offset}`, data: 0 });
  assert.deepEqual(told.map(([name, what]) => (what ? `${name} ${what}` : name)), [
    "subscribed", "gap unrecovered", "subscribed", "recovered",
    "notification a-8", "notification a-9",
  ]);
});

test("who joins without a position gets what comes from now on, and nobody is asked", () => {
  const [one, , reader] = group("a-4");
  const [, isAskedWithTheFirst, waiting] = join(one);
  assert.equal(isAskedWithTheFirst, true); // nothing was asked yet
  one.request(1);
  assert.equal(join(one)[1], false);
  one.subscribed({ ref: 1, position: "a-4", recovered: true });
  assert.equal(waiting.position, "a-4");
  one.notification({ id: "a-5", data: 0 });
  const [got, isAsked, live] = join(one);
  assert.deepEqual([isAsked, live.state, live.position], [false, "live", "a-5"]);
  one.leave(reader);
  for (const id of ["a-5", "a-6"]) one.notification({ id, data: 0 });
  assert.deepEqual(got, ["a-6"]);
});

test("a poll that went less far than one has read takes nothing back", () => {
  const [one, , reader] = group("a-4");
  one.request(1);
  one.subscribed({ ref: 1, position: "a-4", recovered: true });
  one.reached({ position: "a-3" });
  assert.equal(reader.position, "a-4");
  for (const position of ["a-6", "b-1", null]) one.reached({ position });
  assert.equal(reader.position, "b-1");
});

test("what cannot be read is a gap for whoever is live, and for nobody else", () => {
  const [one, told] = group();
  one.unreadable();
  one.request(1);
  one.subscribed({ ref: 1, position: "a-4" });
  one.unreadable();
  assert.deepEqual(told, [["subscribed", undefined], ["gap", "unreadable"]]);
});

test("behind a gap it goes on with what follows, in the same history and in a new one", () => {
  for (const following of ["a-9", "b-1"]) {
    const [one, told, reader] = group("a-4");
    one.request(1);
    one.subscribed({ ref: 1, position: "a-4", recovered: true });
    one.gap({ reason: "unrecovered", lost: 4 });
    one.notification({ id: following, data: 0 });
    assert.deepEqual(told.slice(-2), [["gap", "unrecovered"], ["notification", following]]);
    assert.deepEqual([reader.state, reader.position], ["live", following]);
  }
});
