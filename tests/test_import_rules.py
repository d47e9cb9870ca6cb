"""The import rules of pyproject.toml, each broken once on a small copy of the project's shape.

The rules themselves run in `./deploy/test` (import-linter on the real tree); here they are shown to bite, and
to permit what the design permits.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"

# Every module stands for what it may and may not do; all are empty until a test plants imports.
MODULES = (
    "lockstep.header",
    "sequencer.ledger",
    "sequencer.client.orders",
    "rollups.runtime",
    "rollups.client",
    "bridge.coordinator",
    "bridge.client",
    "bridge.settlement.log",
    "bridge.settlement.client",
    "deploy.devnet",
    "deploy.node.server",
)

PERMITTED = (
    ("sequencer.ledger", "lockstep.header"),
    ("sequencer.ledger", "deploy.node.server"),
    ("sequencer.ledger", "bridge.settlement.client"),
    ("sequencer.client.orders", "lockstep.header"),
    ("sequencer.client.orders", "deploy.node.server"),
    ("rollups.runtime", "sequencer.client.orders"),
    ("rollups.client", "sequencer.client.orders"),
    ("bridge.coordinator", "rollups.client"),
    ("bridge.coordinator", "bridge.settlement.client"),
    ("bridge.client", "bridge.settlement.client"),
    ("bridge.settlement.log", "rollups.runtime"),
    ("bridge.settlement.log", "bridge.settlement.client"),
    ("deploy.devnet", "bridge.client"),
    ("deploy.devnet", "deploy.node.server"),
    ("deploy.node.server", "lockstep.header"),
)

FORBIDDEN = (
    ("lockstep.header", "deploy.node.server", "lockstep"),
    ("lockstep.header", "sequencer.client.orders", "lockstep"),
    ("deploy.node.server", "deploy.devnet", "node"),
    ("deploy.node.server", "sequencer.client.orders", "node"),
    ("rollups.runtime", "sequencer.ledger", "sequencer"),
    ("deploy.devnet", "sequencer.ledger", "sequencer"),
    ("sequencer.ledger", "rollups.runtime", "rollups"),
    ("bridge.coordinator", "rollups.runtime", "rollups"),
    ("rollups.runtime", "bridge.coordinator", "bridge"),
    ("rollups.runtime", "bridge.settlement.log", "bridge"),
    ("bridge.coordinator", "bridge.settlement.log", "settlement"),
    ("bridge.settlement.log", "bridge.coordinator", "settlement-alone"),
    ("sequencer.ledger", "deploy.devnet", "deploy"),
    ("sequencer.client.orders", "sequencer.ledger", "clients"),
    ("bridge.client", "bridge.coordinator", "clients"),
    ("bridge.client", "sequencer", "clients"),
    ("bridge.settlement.client", "bridge.settlement.log", "clients"),
)


def lint(root: Path, imports: tuple[tuple[str, str], ...], *arguments: str) -> str:
    """Lay out MODULES under `root` with `imports` (importer, imported) in them; return the report."""
    for module in MODULES:
        path = root.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "".join(f"import {imported}\n" for importer, imported in imports if importer == module)
        )
        for parent in path.relative_to(root).parents[:-1]:
            (root / parent / "__init__.py").touch()
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-logo", "--no-cache", *arguments, PYPROJECT],
        cwd=root,
        # Ahead of everything, so that the copy is found and not the project.
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_what_the_design_permits(tmp_path: Path) -> None:
    report = lint(tmp_path, PERMITTED)
    assert "9 kept, 0 broken" in report, report


@pytest.mark.parametrize(("importer", "imported", "contract"), FORBIDDEN)
def test_what_the_design_forbids(tmp_path: Path, importer: str, imported: str, contract: str) -> None:
    report = lint(tmp_path, ((importer, imported),), "--contract", contract)
    assert "0 kept, 1 broken" in report, report
