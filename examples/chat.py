"""A chat without a consumer of its own: a rule lets everybody read along, and publish.

Run it, and talk from two windows of a browser, or from Python with `asgi_notify.client`::

    asgi-notify serve examples.chat:app
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import asgi_notify as notify
from asgi_notify.auth import public

PAGE = """<!doctype html>
<title>Chat</title>
<ul id="said"></ul>
<form><input name="text" autofocus autocomplete="off"> <output></output></form>
<script type="module">
  import { connect } from "/static/asgi-notify.js";

  const client = connect("/notifications/");
  const [said, form] = [document.querySelector("#said"), document.forms[0]];
  client.subscribe("chat", ({ data, user }) => {
    const line = document.createElement("li");
    line.textContent = `${user ?? "somebody"}: ${data.text}`;
    said.append(line);
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await client.publish("chat", { text: form.text.value });
      form.reset();
    } catch (error) {
      form.querySelector("output").textContent = error.message;
    }
  });
</script>
"""


async def page(request: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


notify.channel_layers.set(
    "default", notify.InMemoryChannelLayer(history={"chat": notify.History()})
)

# Behind `Authentication`, each line would say which user has written it.
talk = public("chat", actions=["watch", "publish"])
rooms = [notify.path("notifications/", notify.NotificationConsumer.as_asgi(rule=talk))]
app = Starlette(
    routes=[
        Route("/", page),
        Mount("/static", StaticFiles(packages=[("asgi_notify", "js")])),
        Mount("/", notify.SameOriginValidator(notify.URLRouter(rooms))),
    ]
)
