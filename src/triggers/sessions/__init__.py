"""Sessions of people in the console: signing in with an API key or a one-time link, and signing out.

Imports keys, and what lies below.
Keeps: a session has at most the rights of its key and ends with it, and a link opens at most one session.
"""
