"""Takes every connection and whatever comes on it, as an HTTP/2 peer whose windows never close. Prints its address."""
import selectors
import socket
import struct

import http2

WINDOW = 1 << 30
READ = 1 << 18


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print("127.0.0.1:%d" % listener.getsockname()[1], flush=True)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    hello = (http2.frame(http2.SETTINGS, 0, 0, struct.pack(">HI", http2.SETTING_INITIAL_WINDOW, WINDOW)) +
             http2.frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW)))
    while True:
        for key, _ in selector.select():
            connection = key.fileobj
            try:
                if connection is listener:
                    connection, _ = listener.accept()
                    selector.register(connection, selectors.EVENT_READ)
                    connection.sendall(hello)
                elif not connection.recv(READ):
                    raise OSError
            except OSError:
                if connection is not listener:
                    selector.unregister(connection)
                    connection.close()


if __name__ == "__main__":
    main()
