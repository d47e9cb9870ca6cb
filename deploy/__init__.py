"""How processes run: the kit they are built on, the launchers, the command line."""
