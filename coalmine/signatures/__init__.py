"""Who signed what: OpenSSH's signatures and its list of allowed signers, read without any program.

Git makes them (`coalmine/registry/signing.py`); here they are checked. No I/O.
"""
