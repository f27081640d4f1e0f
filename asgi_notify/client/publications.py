"""What a client has published over its socket, until the server has answered.

Nothing waits for the network here. `Publications` says which texts to send, and takes the
answers that come. The connection may break between a publication and its answer, so that nobody
knows whether it arrived: it is sent again, with the same key, and the server publishes it once.
"""

from itertools import count
from uuid import uuid4

import anyio

from ..exceptions import InvalidMessage, MisuseError, NotifyError, TooLarge
from ..jsontext import json_text
from ..names import require_group_name
from ..protocol.frames import require_shallow
from .errors import ServerUnavailable, refused_publication
from .items import Frame, text_of

__all__ = ["Publication", "Publications"]

ANSWERS = "publish "  # what their refs begin with; those of subscriptions are numbers
UNDER_WAY = 16  # at once; a third of what the default limits let a client send in a second
# Seconds. Servers know a key for 300; who sent again after that might publish twice.
PUBLISH_TIMEOUT = 60.0


class Publication:
    """One notification on its way to the server.

    Attributes:
        group: that it goes to.
        ref: which the answer is known by.
        text: the frame, with a key.

    Raises:
        InvalidMessage: the data cannot be sent.
    """

    def __init__(self, group: str, data: object, key: str | None, ref: str) -> None:
        self.group = require_group_name(group)
        self.ref = ref
        frame = {
            "type": "publish", "group": group, "key": str(uuid4()) if key is None else key,
            "ref": ref,
        }  # fmt: skip
        self.text = f'{json_text(frame)[:-1]},"data":{_spelled(data)}}}'
        self._position: str | None = None
        self._error: Exception | None = None
        self._answered = anyio.Event()

    def answer(self, position: str | None, error: Exception | None = None) -> None:
        """What became of it."""
        self._position, self._error = position, error
        self._answered.set()

    async def wait(self) -> str | None:
        """Its position, once the server has said it.

        Raises:
            NotifyError: it was refused, or there is no way on.
        """
        await self._answered.wait()
        if self._error is not None:
            raise self._error
        return self._position


class Publications:
    """Those of one client that have no answer yet, over all its connections.

    Attributes:
        turn: what each publication holds while it is under way, so that a new connection
            has no more than `UNDER_WAY` of them to send again.
    """

    def __init__(self) -> None:
        self.turn = anyio.Semaphore(UNDER_WAY)
        self._waiting: dict[str, Publication] = {}
        self._refs = count(1)
        self._ending: Exception | None = None

    def make(self, group: str, data: object, key: str | None) -> Publication:
        """A publication that is not under way yet.

        Raises:
            InvalidMessage: the data cannot be sent.
            InvalidName: no group can be called that.
        """
        return Publication(group, data, key, f"{ANSWERS}{next(self._refs)}")

    def add(self, publication: Publication) -> None:
        """It is under way from now on.

        Raises:
            NotifyError: the client has ended meanwhile.
        """
        if self._ending is not None:
            raise self._ending
        self._waiting[publication.ref] = publication

    def remove(self, publication: Publication) -> None:
        """Nobody waits for the answer any more."""
        self._waiting.pop(publication.ref, None)

    @property
    def are_waiting(self) -> bool:
        """Whether an answer to any of them is to come."""
        return bool(self._waiting)

    def resume(self) -> list[str]:
        """A new connection begins; returns all that has no answer, in the order of its making."""
        return [each.text for each in self._waiting.values()]

    def take(self, frame: Frame) -> bool:
        """Take in a frame of the server's; returns whether it was the answer to a publication."""
        ref = frame.get("ref")
        if not isinstance(ref, str) or not ref.startswith(ANSWERS):
            return False
        publication = self._waiting.pop(ref, None)
        if publication is None:  # nobody waits for it any more
            return True
        if frame["type"] == "published":
            publication.answer(text_of(frame, "position") or None)
        else:
            code, sentence = text_of(frame, "code"), text_of(frame, "message")
            publication.answer(None, refused_publication(publication.group, code, sentence))
        return True

    def too_large(self) -> None:
        """The server has closed because a frame was too large: of these it is the largest.

        Sent again, it would only end the next connection, too.
        """
        if self._waiting:
            largest = max(self._waiting.values(), key=lambda each: len(each.text.encode()))
            self.remove(largest)
            size = len(largest.text.encode())
            sentence = f"a frame of {size} bytes is more than the server takes; publish less"
            largest.answer(None, TooLarge(sentence))

    def end(self, error: Exception | None = None) -> None:
        """There is no way on: whoever waits is told, and whoever comes later."""
        self._ending = error or MisuseError(
            "the client was closed before the server had answered; it may have been published"
        )
        for publication in list(self._waiting.values()):
            publication.answer(None, self._ending)
        self._waiting.clear()


def unanswered() -> NotifyError:
    """The error of a publication that had no answer in time."""
    return ServerUnavailable(
        f"the server has not answered within {PUBLISH_TIMEOUT:g} s; it may have been published: "
        "to try again without harm, give it a key of your own, and the same one each time"
    )


def _spelled(data: object) -> str:
    try:
        text = json_text(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"the data cannot be published as JSON: {error}") from error
    require_shallow(text)
    return text
