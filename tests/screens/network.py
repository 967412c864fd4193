"""A network that can be cut."""

import contextlib
import socket
import threading


class Network:
    """Passes connections on to a server, at an address that stays its own."""

    def __init__(self, port: int):
        self.server = ("127.0.0.1", port)
        self.lock, self.ends, self.listener = threading.Lock(), [], None
        self.port = 0
        self.mend()

    def mend(self) -> None:
        """Lets connections in."""
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def refuse(self) -> None:
        """Lets no new connection in."""
        # Without it, who waits for one would go on to.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def cut(self) -> None:
        """Ends all connections, and lets no new one in."""
        self.refuse()
        with self.lock:
            for end in self.ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self.ends.clear()

    def accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self.server)
                with self.lock:
                    self.ends += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self.copy, args=(source, sink), daemon=True).start()

    def copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
