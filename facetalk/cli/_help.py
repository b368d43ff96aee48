"""How verbs print their help."""

from __future__ import annotations

import argparse
import re


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default of an option to its help, where there is one and the help does not tell it in words.

    "(default: None)" helps nobody, and neither does a path of this machine beside "the copy in the package".
    """

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.help is not None and re.search(r"\bdefault(:| \d|\))", action.help) is not None
        if action.default is None or action.default is False or told:
            return action.help
        return super()._get_help_string(action)
