"""``python -m facetalk`` is the same as the ``facetalk`` command."""

import sys

from facetalk.cli import main

sys.exit(main())
