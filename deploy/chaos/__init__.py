"""`lockstep chaos`: a network under load whose processes are killed, paused, cut off and robbed.

| module | what it gives |
|---|---|
| `trader` | the load: traders as processes that are killed too |
| `links` | the network between processes, which can be cut |
| `cutting` | which of the ways to cut it is taken |
| `network` | the folder: a devnet with a second coordinator, traders, and links |
| `faults` | what is done to whom, from the seed alone |
| `injector` | the doing of it, and the noticing of what ends by itself |
| `disks` | faults of a process's data: copies, older copies, none |
| `judge` | whether the network kept its promises, meanwhile and at the end |
| `history` | everything that was done, by traders and to processes, in a file |
| `running` | one run from start to verdict |
| `showing`, `command` | what people see, and what they type |
"""
