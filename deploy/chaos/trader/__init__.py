"""A trader of a chaos run: one process, `python -m deploy.chaos.trader`, which is killed like any other.

| module | what it gives |
|---|---|
| `deals` | what a trader does with its n-th swap, from the seed alone |
| `settings` | what the process is started with |
| `journal` | what it says that it did, a line each, as it does it |
| `trading` | the trader: proposes, accepts, quotes, pays; goes on from its wallet after a kill |
"""
