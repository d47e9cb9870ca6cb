"""A network between processes that can be cut: by a process that forwards its connections, or by the kernel.

| module | what it gives |
|---|---|
| `proxy` | the forwarding: connections of a link, held, delayed, reset |
| `control` | the settings of `python -m deploy.chaos.links`, and how the process is told what to do |
| `namespaces` | a network namespace for each process, and rules that drop packets between them |
"""
