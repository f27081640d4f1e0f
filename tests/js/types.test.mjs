/** That the types tell of everything there is, and of nothing else. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import * as module from "../../asgi_notify/js/asgi-notify.js";

const types = await readFile(new URL("../../asgi_notify/js/asgi-notify.d.ts", import.meta.url), "utf8");

test("every export has its type", () => {
  const typed = [...types.matchAll(/^export (?:const|function|class) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(typed.sort(), Object.keys(module).sort());
});

test("every member of a class has its type", () => {
  for (const name of ["Client", "Group", "Ladder"]) {
    const [, body] = types.split(`export class ${name} `);
    for (const member of Object.getOwnPropertyNames(module[name].prototype))
      assert.match(body.split("\n}")[0], new RegExp(`\\b${member}\\b`), `${name}.${member}`);
  }
});
