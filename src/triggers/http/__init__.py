"""What every request has: the server, connections and their bounds, bodies, answers, problems and pages.

Imports nothing of the product but domain and errors: it knows no noun of the product.
Keeps: a body reaches its handler byte for byte, and nobody without a key holds more than a bounded share.
"""
