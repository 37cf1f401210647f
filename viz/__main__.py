"""`python -m viz` is `whiskers`."""

import sys

from viz.cli import main

sys.exit(main())
