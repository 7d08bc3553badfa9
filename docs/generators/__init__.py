"""Generated pages, one module per family. A family is a module with ``pages(catalog)``; `registry` finds it."""
