"""PostgreSQL and Redis. Nothing outside this room imports a driver of either."""
