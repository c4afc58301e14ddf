"""What holds for every driver that blocks."""
