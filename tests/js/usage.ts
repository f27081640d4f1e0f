/** How a typed page uses the client; checked by tsc, never run. */

import { connect, type GapDetail, type PublishError, type State } from "../../asgi_notify/js/asgi-notify.js";

interface Invoice {
  amount: string;
}

const client = connect(new URL("https://host/notifications/"), {
  transports: ["websocket", "poll"],
  backoff: { max: 10 },
});
const subscription = client.subscribe<Invoice>("user_42", ({ id, data }) => {
  const shown: string = data.amount + (id ?? "");
  console.log(shown);
}, { since: localStorage.getItem("position") });
client.addEventListener("gap", ({ detail }: CustomEvent<GapDetail>) => console.log(detail.lost));
client.addEventListener("state", ({ detail }) => {
  const state: State = detail.state;
  const seconds: number = detail.retryIn ?? 0;
  console.log(state, seconds);
});
const position: string | null = subscription.position;
console.log(position);
connect("/notifications/", { auth: async () => "token" });
connect("/notifications/", { auth: () => null });
// @ts-expect-error a token is a text
connect("/notifications/", { auth: async () => 7 });
// @ts-expect-error there is no such transport
connect("/notifications/", { transports: ["pigeon"] });
// @ts-expect-error there is no such event
client.addEventListener("gaps", () => {});
// @ts-expect-error data is not known to be anything
client.subscribe("user_42", ({ data }) => data.amount);
client.subscribe("chat", ({ user }) => console.log(user ?? "somebody"));
client.publish("chat", { text: "hello" }, { key: "1" }).then(
  ({ position }) => console.log(position ?? "no history"),
  (error: PublishError) => console.log(error.code === "no_socket", error.message),
);
// @ts-expect-error data is missing
client.publish("chat");
subscription.unsubscribe();
client.close();
