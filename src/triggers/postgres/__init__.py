"""PostgreSQL: pools, named statements, migrations, partitions, the database's clock, and the private server.

Imports only domain and errors of the product. It is the only room that imports the database driver.
Keeps: every connection has time limits.
"""
