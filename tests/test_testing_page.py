"""The test on the page about testing is a test."""

import re
from pathlib import Path

[_SOURCE] = re.findall(r"^```python\n(.*?)^```$", Path("docs/testing.md").read_text(), re.MULTILINE | re.DOTALL)
exec(compile(_SOURCE, "docs/testing.md", "exec"), globals())
