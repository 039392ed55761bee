"""The model server: one release of one model, over the Open Inference Protocol v2.

`python -m coalmine.serving --release DIR --slot blue --port N`, on a laptop and in an image
alike. It reads a release from a folder and knows nothing of Git, DVC or the cluster.
"""
