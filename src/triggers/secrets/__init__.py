"""The key ring that encrypts stored secrets, and the signing secrets of subscriptions.

Imports nothing of the product but domain and errors.
Keeps: a secret is stored only encrypted, and stands in no log and no error text.
"""
