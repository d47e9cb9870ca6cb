"""The auditor's guide lists the invariants that there are."""

import re

from deploy.audit.invariants import Invariant
from tests.test_tidy import ROOT


def test_the_guide_lists_every_invariant() -> None:
    guide = (ROOT / "deploy" / "audit" / "README.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+) \|$", guide, re.MULTILINE)
    assert rows == [(each.name, each.value) for each in Invariant]
    for target in re.findall(r"\]\(([^)]+)\)", guide):
        assert (ROOT / "deploy" / "audit" / target).exists(), target
