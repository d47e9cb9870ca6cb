"""The bridge: assembling and driving swaps, and the traders' client; beside it the settlement log.

| module | what it owns |
|---|---|
| `phases` | the table of a swap's phases, and what follows from each for people |
| `swap` | the rules of driving one swap, pure |
| `levels` | how far rollups and settlement log have got with a swap, pure |
| `requests` | what traders ask, read and checked, pure |
| `calls`, `blocks`, `progress` | what a trader's command, a block, and news of levels do to the swaps |
| `book`, `storage`, `writing`, `reading` | what is known now, its database, what writes it, what reads it |
| `coordinator`, `senders`, `order` | the tasks, and the seam to the sequencer |
| `observing` | the tasks that ask rollups and settlement log how far they have got |
| `service`, `watching`, `streams`, `messages`, `history` | the gRPC service |
| `client` | for traders: the service's client, and the trader's own half |

A trader's swap goes down that list: a call becomes a command, the command changes the swap, what is to be
sent is durable with it, a sender sends it, and a block that comes back decides.
"""
