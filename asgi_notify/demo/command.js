/** Commands for a terminal, and the buttons that copy them. */

const DEFAULT = /^http:\/\/(127\.0\.0\.1|localhost):8000\/$/; // where the command line looks by itself

/** Relative to the page, so that it works under any prefix. */
const home = new URL(".", location.href);

/** An address as a shell takes it whole; without quotes, where no shell of any system needs them. */
const quoted = (url) => (/^[\w:/.-]+$/.test(url) ? url : `'${url.replaceAll("'", "%27")}'`);

export const roomURL = (number) => new URL(`notifications/${number}/`, home);

/** What sends to a room with the command line of this package. */
export function sendCommand(number) {
  const where = DEFAULT.test(home.href) ? "" : ` --url ${quoted(home.href)}`;
  return `asgi-notify send${where} ${number} "Hello"`;
}

/** What sends to a room with nothing but curl. */
export function curlCommand(number, hasKey) {
  const lines = ["curl -H 'Content-Type: application/json'"];
  if (hasKey) lines.push(`-H "Authorization: Bearer $ASGI_NOTIFY_PUBLISH_KEY"`);
  lines.push(`-d '{"data": "Hello"}'`, quoted(roomURL(number).href));
  return lines.join(" \\\n  ");
}

/** Have the button of a `.command` copy its text; browsers let no page of plain HTTP do so. */
export function makeCopyable(command, announce) {
  const button = command.querySelector(".copy");
  button.hidden = !navigator.clipboard;
  button.onclick = async () => {
    await navigator.clipboard.writeText(command.querySelector("code").textContent);
    announce("The command was copied.");
  };
}
