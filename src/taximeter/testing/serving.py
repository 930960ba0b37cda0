"""What every server on loopback offers its tests: a life as a context manager, and where it is."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from taximeter.testing.loopback import LoopbackServer


class Serving:
    """A public face of a :class:`LoopbackServer`, which the subclass makes as ``_server``."""

    _server: LoopbackServer

    def start(self) -> Self:
        """Listen; the URLs are good from now on."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Break what is open and free the port. What has been seen stays readable."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if exc is None and self._server.failures:
            raise self._server.failures[0]

    @property
    def root_url(self) -> str:
        """``http://127.0.0.1:PORT``; base URL for Anthropic, Gemini and Azure."""
        return f"http://{self._server.host}:{self._server.port}"

    @property
    def base_url(self) -> str:
        """For the OpenAI SDK."""
        return f"{self.root_url}/v1"
