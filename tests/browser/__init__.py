"""Tests in a browser; a package, so that it is closed before the tests of other folders begin."""
