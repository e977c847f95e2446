"""The key ring that encrypts stored secrets, and the signing secrets of subscriptions.

Imports only domain and errors of the product.
Keeps: secrets are stored only encrypted, and no log or error contains one.
"""
