"""The tests: unit, vectors, simulation, integration, chaos. Run by `./deploy/test`."""
