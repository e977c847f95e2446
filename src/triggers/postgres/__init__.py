"""PostgreSQL: pools, named statements, migrations, partitions, the database's clock, and the private server.

Imports nothing of the product but domain and errors; alone imports the database driver.
Keeps: nothing here knows a table that is not the schema's own, and every connection has its time limits.
"""
