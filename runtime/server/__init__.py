"""The HTTP API: OpenAI's wire format over `AsyncEngine`.

Imported only to serve: it brings in FastAPI and uvicorn, which take longer to import than a small model takes
to load.
"""

from .app import create_app
from .serving import bind, serve, url_of

__all__ = ["bind", "create_app", "serve", "url_of"]
