"""A whole network on one machine: each service its own process, loopback ports, one folder for all of it.

| module | what it gives |
|---|---|
| `network` | the folder: genesis, keys, settings, ports, chosen once and found again |
| `launcher` | the processes: start, wait for readiness, kill, stop, pause; none outlives its launcher |
| `guard` | the tiny process that makes sure of the last |
| `clients` | connected clients of every process |
| `keeper` | what becomes of processes that run: started again when killed, paused, held dead |
| `session`, `control` | a devnet that runs until told to stop, and the socket by which it is told |
| `positions`, `logs` | what is asked of it: heights and roots, its logs |
| `audit` | whether a network kept its promises: conservation, both or neither, equal roots, a true log |

For development, demos and tests; its keys lie in plain files beside each other.
"""
