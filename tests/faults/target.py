"""Something to scan: a port that asks for a name in clear text, after a while."""

import socket
import threading


class SlowTarget:
    """
    On each connection it waits ``seconds`` and then says ``login:``, of which the ports engine makes two findings. A
    run of that engine is three connections: is it there, what does it say, is it still there.
    """

    CONNECTIONS_OF_A_RUN = 3

    def __init__(self, seconds: float = 0.5):
        self.seconds = seconds
        self.connections = 0
        self.was_asked, self.has_said = threading.Event(), threading.Event()

    def __enter__(self) -> "SlowTarget":
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self.was_asked.set()
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(self.seconds)
        with connection:
            try:
                connection.recv(1)  # who only looked whether we are there has gone
            except TimeoutError:
                self._greet(connection)
            except OSError:
                return

    def _greet(self, connection: socket.socket) -> None:
        try:
            connection.sendall(b"login: ")
        except OSError:
            return
        self.has_said.set()
