"""A network between processes that can be cut: `python -m deploy.chaos.links` forwards its TCP connections.

| module | what it gives |
|---|---|
| `proxy` | the forwarding: connections of a link, held, delayed, reset |
| `control` | the settings, and how the process is told what to do |
"""
