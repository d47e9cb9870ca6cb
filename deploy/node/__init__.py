"""The process kit that sequencer, rollup node, settlement log and bridge run on.

| module | what it gives |
|---|---|
| `settings` | a typed record from a TOML file and the environment, with errors that name the field |
| `logs` | one log on stderr for machines or people, that cannot tell a secret |
| `datadir` | a folder that one process owns, files replaced whole, a durable cell for what was signed last |
| `chain_files` | the genesis file and the private key that a process starts from |
| `database` | SQLite with one writing connection, durable transactions, bounded reads |
| `server` | a gRPC server with limits, health, reflection, TLS and graceful stop |
| `interceptor` | what every call passes: deadlines, bounds, error mapping |
| `client` | channels with the mirrored options, bounded retries with the same request |
| `rpc_errors` | how an expected error travels over gRPC, both ways |
| `tls` | certificates of servers and clients |
| `process` | start, stop, exit codes, the readiness line |
| `command` | the command line that every service has |
| `failpoints` | named points at which a test makes the process die or fail |
| `failures` | what ends a process, each with its exit code |

It knows nothing of the protocol beyond `lockstep.errors`, and no service's state.
"""
