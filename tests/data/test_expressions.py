"""The names of the expressions are those of the shipped head, in its order."""

import json

from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.models import find_model


def test_names_are_the_shipped_heads():
    config = json.loads((find_model("default").folder / "head" / "config.json").read_text())
    assert tuple(config["expression_names"]) == EXPRESSION_NAMES
    assert [INDEX[name] for name in EXPRESSION_NAMES] == list(range(53))
    for name in EXPRESSION_NAMES:
        if name.endswith("_L"):
            assert INDEX[name[:-2] + "_R"] == INDEX[name] + 1
