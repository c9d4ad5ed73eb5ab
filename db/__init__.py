"""PostgreSQL: migrations, repositories, bulk writes."""
