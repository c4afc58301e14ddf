"""What is special to one driver, and what is hard."""
