"""The standard latdiff installation: every first-party part, and the named recipes."""
