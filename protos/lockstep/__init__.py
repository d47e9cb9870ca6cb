"""What processes must agree on: the schemas of `v1/`, and the pure code that gives their bytes a meaning.

Owns bytes, hashing, trees, signatures, headers, transactions, the swap register, errors and limits. Does no
I/O and holds no service's state. Specification: protos/README.md.
"""
