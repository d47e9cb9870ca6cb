"""The demo: six swaps between rollups, one around three of them; a rollup is killed in the last.

| module | what it gives |
|---|---|
| `command` | options, the folder, the exit code |
| `story` | what is done, in order |
| `episode` | a swap: its steps, timed, told and checked |
| `market` | how traders make a swap, as anybody's program would |
| `proofs` | the swaps' receipts, fetched and verified |
| `checks` | what is checked at the end |
| `report` | what is shown and written |
"""
