"""What makes inputs for tests of the register, and names what came of them."""
