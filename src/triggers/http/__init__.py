"""The HTTP server: connections and their bounds, the router, bodies, responses, problems and pages.

Imports no other room, only modules such as domain and errors. It knows no concept of the product.
Keeps: a body reaches its handler byte for byte, and callers without a key can use only bounded memory.
"""
