"""A sequencer with a planted bug, which chaos must see: it orders on an older copy of its folder."""

import sequencer.__main__
import sequencer.anchoring
import sequencer.embedded


def main() -> None:
    """Run it."""
    for module, guard in ((sequencer.embedded, "find_loss"), (sequencer.anchoring, "find_loss_against_log")):
        assert hasattr(module, guard), "the guard that is switched off is there"
        setattr(module, guard, lambda *_: None)
    sequencer.__main__.main()
