"""The one door to strangers: which addresses may be dialled, names, connections, and the client.

Imports nothing of the product but domain and errors; alone opens connections to hosts that a tenant named.
Keeps: no address is dialled that was not judged first, and every byte of an answer has a bound.
"""
