"""The images: Dockerfiles for the controller and for an edit container, and how they are built without a registry."""
