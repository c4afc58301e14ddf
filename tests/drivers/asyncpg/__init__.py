"""What only asyncpg has."""
