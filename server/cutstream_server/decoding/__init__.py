"""Decodes in processes of their own: what a file does to a decoder it does not do to the service.

`pool` is the service's side, `process` the program that decodes, `memory` what both of them see.
"""
