"""Stubs of the schemas beside them, made by `deploy/stubs`."""
