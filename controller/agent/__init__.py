"""The half of editctl that runs inside an edit container, and the controller's way to talk to it.

Standard library, `controller.core.identity` and `controller.errors` only: this package is installed into the users'
images, where nothing of the controller's own dependencies belongs.
"""
