"""`python -m viz.report` is `eval-report`."""

import sys

from viz.report.cli import main

sys.exit(main())
