"""Two processes that talk: `python -m tests.chaos.echoing (serve | ask) HOST PORT NAME.toml`.

Who asks prints a line for every byte that comes back, and goes on at once.
"""

import socket
import sys


def main() -> None:
    """Talk until killed."""
    role, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if role == "serve":
        with socket.create_server((host, port)) as server:
            tell("ready")
            connection, _ = server.accept()
            with connection:
                while byte := connection.recv(1):
                    connection.sendall(byte)
    else:
        with socket.create_connection((host, port)) as connection:
            while True:
                connection.sendall(b"?")
                connection.recv(1)
                tell("heard")


def tell(what: str) -> None:
    """Print a line, now."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
