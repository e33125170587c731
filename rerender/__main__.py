"""`python -m rerender`."""

import sys

from rerender.cli import main

sys.exit(main())
