"""Second, plain implementations to test the real ones against, and what makes inputs for both."""
