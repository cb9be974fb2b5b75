"""The tests on the page about testing are tests."""

import re
from pathlib import Path

_PAGE = Path("docs/testing.md").read_text()
for _block in re.finditer(r"^```python\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL):
    # With the lines of the page in tracebacks.
    _source = "\n" * _PAGE.count("\n", 0, _block.start(1)) + _block[1]
    exec(compile(_source, "docs/testing.md", "exec"), globals())
