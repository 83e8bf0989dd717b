"""alflow makes the data set and the neural-network potential together, by itself."""
