"""The protocol a second time, from protos/README.md in the plainest way: dictionaries, lists, recursion.

It exists to disagree with the first implementation if that has a fault. So it shares with it no code that
orders, decides, executes or commits, nor any that reads what is ordered. Shared are, and a test holds it to
these: `lockstep.signing`, because one verifier of Ed25519 is the protocol's own rule (section 2);
`lockstep.genesis`, which reads the genesis file and the definitions of rollups, both JSON; and the error that
it raises.

Where the first implementation steps a swap through a table of phases, this one notes what was said of it and
looks for the first place that decides it. Slower; meant to keep up with a network, not to be one.
"""
