"""editctl: keeps the edit containers on ECS as the session rows want them."""

__version__ = "0.1.0"
