"""A proxy with its admin API, for what it costs to be watched."""

import os

from harness.process import Server, free_port, give

CONFIG = """
[proxy]
listen_address = "127.0.0.1:{port}"
admin_address = "127.0.0.1:{admin}"
{proxy}
[pool]
mode = "transaction"
{pool}
[auth]
mode = "trust"
[server_tls]
mode = "disable"
[log]
level = "warn"
[[nodes]]
host = "127.0.0.1"
port = {node}
role = "primary"
{more}
"""


def start_watched(folder, name, binary, postgres, proxy="", pool="", more=""):
    """proxy, pool: lines of those sections; more: further sections. Its admin port is in .admin."""
    port, admin = free_port(), free_port()
    path = os.path.join(folder, f"{name}.toml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(CONFIG.format(port=port, admin=admin, node=postgres.port, proxy=proxy, pool=pool, more=more))
    give(path)
    server = Server(folder, name, [binary, "--config", path], port)
    server.admin = admin
    return server
