"""The only code that connects to endpoints: allowed addresses, names, connections, and the client.

Imports only domain and errors of the product. No other room connects to hosts that a tenant named.
Keeps: only checked addresses are dialled, and the size of an answer is bounded.
"""
