"""``python -m asgi_notify`` is the command ``asgi-notify``."""

from .cli import main

if __name__ == "__main__":
    main()
