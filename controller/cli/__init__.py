"""What people type and see. One file a family of commands; `render.py` and `documents.py` for what is shown."""
