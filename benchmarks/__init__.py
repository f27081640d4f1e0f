"""How fast `asgi_notify` is beside its peers and beside a loop written by hand."""
