"""What is deployed: AWS stacks and policies, Kubernetes manifests, images. Not part of the package."""
