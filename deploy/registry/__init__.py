"""Changing the registry of a running chain, from the command line: `lockstep rollup register`, `rotate`, ...

| module | what it gives |
|---|---|
| `following` | the registry as of now, followed and verified from the genesis file |
| `changing` | a change: what it is to say, whose key signs it, its way into the order and its effect |
| `showing` | the registry and what became of a change, as tables for people and as JSON for programs |
| `command` | what can be typed |

Nothing is asked of anybody who would have to be believed: the registry is what the order says, and a change
is judged here by the very rules that judge it there, before it is sent.
"""
