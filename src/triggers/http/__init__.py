"""What every request has: server, connections and their bounds, router, bodies, responses, problems, pages.

Imports nothing of the product but domain and errors: it knows no noun of the product.
Keeps: a body reaches its handler byte for byte, and nobody without a key holds more than a bounded share.
"""
