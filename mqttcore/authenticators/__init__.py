"""Authenticators: generator functions that judge a client's credentials, see `mqttcore.auth`."""
