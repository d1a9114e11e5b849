"""What stands in for the outside world, ships with the package, and is for the demo and for tests only."""
