"""The demo: five swaps between two rollups, one of which is killed in the last.

| module | what it gives |
|---|---|
| `command` | options, the folder, the exit code |
| `story` | what is done, in order |
| `market` | how traders make a swap, as anybody's program would |
| `checks` | what is checked at the end |
| `report` | what is shown and written |
"""
