"""The auditor: follows a network from outside, works everything out again, and says what does not hold.

`plain` is the second implementation, `checkers` what must hold (a library: chaos runs, simulations and soak
runs use the same), `following` and its neighbours ask a network, `command` is `lockstep audit`.
"""
