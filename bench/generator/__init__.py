"""A load generator for any MQTT broker: raw sockets and the standard library, none of the code that it measures.

What is sent is encoded beforehand, and what may come is known beforehand: a packet that is not is a fault.
"""
