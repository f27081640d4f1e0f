"""A Django database whose connections notice when they were cut, as those to a server do."""
