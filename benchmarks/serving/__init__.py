"""How fast one worker answers: coalmine.serving, its bare HTTP stack, and other model servers.

`load` asks, `process` runs and watches a server, `contenders` says which servers there are and
`cases` what they serve; `rounds` measures them in turn, `targets` judges and `chart` draws.
"""
