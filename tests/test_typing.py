"""An application's consumers, written as the documents have them, pass a type checker."""

import re
from pathlib import Path

from mypy import api

ROOT = Path(__file__).parent.parent

# Strict, but for the annotations that the documents' short examples leave out.
OPTIONS = ["--strict", "--allow-untyped-defs", "--allow-untyped-calls", "--check-untyped-defs"]


def test_consumers_pass_with_annotations_and_as_the_documents_have_them(tmp_path: Path) -> None:
    text = (ROOT / "docs/consumers.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert any("receive_json(self, content)" in block for block in blocks)
    files = [tmp_path / f"block_{number}.py" for number in range(len(blocks))]
    for file, block in zip(files, blocks, strict=True):
        file.write_text(block)
    own = ROOT / "tests/apps/typed.py"
    printed, errors, _ = api.run(
        [*OPTIONS, "--no-error-summary", "--cache-dir=/dev/null", str(own), *map(str, files)]
    )
    assert printed + errors == ""
