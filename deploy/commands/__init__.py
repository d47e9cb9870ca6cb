"""The commands of `lockstep` that people type against a running network, one module for each group.

`frame` is how they all run, print and fail; `parameters` is what can be typed; `connecting` is how they reach
the network. What a command does lies in the clients: these modules only ask and show.
"""
