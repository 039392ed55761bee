"""The Kubernetes API as routers, reconcilers and the journal of a cluster use it. Nobody else imports
the package `kubernetes`."""
