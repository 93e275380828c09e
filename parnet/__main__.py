"""`python -m parnet` is `parnet`. Stage: outermost. Must not know: what the commands do."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
