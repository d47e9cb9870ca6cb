"""Golden histories of the swap register: what was ordered, and what every implementation must make of it."""
