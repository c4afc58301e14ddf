"""What the contract promises, tried on every driver: a new driver adds one file to `drivers/` and nothing else."""
