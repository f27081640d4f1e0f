"""How what a client has sent is shown in a log: on one line, legible, and not long."""

__all__ = ["MOST_OF_SENTENCE", "legible"]

MOST = 200  # characters of a path or a name
MOST_OF_SENTENCE = 500  # of an error's sentence, which may repeat some of them


def legible(text: object, most: int = MOST) -> str:
    """A text in which nothing can be taken for something else, such as a further line.

    What Python does not print as it is, such as a line feed, an escape or a character that
    turns the direction of the writing, is spelled as in a Python string; of much, the middle is
    left out.

    Args:
        text: what a client has sent; of anything else, what ``str`` makes of it.
        most: characters that are shown.
    """
    shown = str(text)
    if len(shown) > most:
        kept = most // 2 - 2
        shown = f"{shown[:kept]}...{shown[-kept:]}"
    if shown.isprintable():  # nearly always
        return shown
    spelled = "".join(each if each.isprintable() else repr(each)[1:-1] for each in shown)
    return legible(spelled, most)
