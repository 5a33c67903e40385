"""One construct for each concern. A part knows the settings and what it is given, never the stack that it is in."""
