/** How texts read on the page: JSON in lines, the beginning of what is long, whole sentences. */

// More than either is cut, to about two thirds: what is hidden is worth the click.
const LONG = { lines: 9, characters: 420 };
const SHOWN = { lines: 6, characters: 280 };

export const plural = (count, noun) => `${count.toLocaleString()} ${noun}${count === 1 ? "" : "s"}`;

/** What the server says, as the page's own sentences stand; a name such as user_7 stays as it is. */
export function sentence(text) {
  const begun = text.replace(/^[a-z]+(?=[ ,':;]|$)/, (word) => word[0].toUpperCase() + word.slice(1));
  return begun && !/[.!?…]['")]?$/.test(begun) ? `${begun}.` : begun;
}

/** The elements that show a notification's text; the whole of a long one on demand. */
export function shown(text) {
  const json = readable(text);
  const body = document.createElement(json ? "pre" : "p");
  const whole = json ?? text;
  body.textContent = whole; // never markup, whatever was sent
  const start = beginning(whole);
  return start === null ? [body] : [body, opener(body, start, whole)];
}

function opener(body, start, whole) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "whole";
  const show = (isWhole) => {
    body.textContent = isWhole ? whole : start;
    button.textContent = isWhole ? "Show less" : `Show all ${plural(whole.length, "character")}`;
    button.ariaExpanded = String(isWhole);
  };
  button.onclick = () => {
    show(button.ariaExpanded === "false");
    button.scrollIntoView({ block: "nearest" }); // where it is now, the focus is too
  };
  show(false);
  return button;
}

/** The beginning of a long text, or null where it can be shown whole. */
function beginning(text) {
  const lines = text.split("\n", LONG.lines + 1);
  if (lines.length <= LONG.lines && text.length <= LONG.characters) return null;
  const cut = lines.slice(0, SHOWN.lines).join("\n").slice(0, SHOWN.characters);
  const end = text[cut.length] === "\n" ? "\n…" : " …";
  return cut.replace(/[\ud800-\udbff]$/, "").trimEnd() + end; // no half of a character
}

/** JSON with its lines broken for reading, or null where the text is none. */
function readable(text) {
  if (!/^\s*[{[]/.test(text)) return null;
  // Numbers keep their digits where the browser can: 12345678901234567890 is none of its own.
  const keep = (_, value, at) =>
    typeof value === "number" && JSON.rawJSON && at ? JSON.rawJSON(at.source) : value;
  try {
    return JSON.stringify(JSON.parse(text, keep), null, 2);
  } catch {
    return null;
  }
}
