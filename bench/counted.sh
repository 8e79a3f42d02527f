# shellcheck shell=sh
# For bench/instructions.sh and bench/routed.sh: servers and a proxy under callgrind, in a folder that goes with the script.
# Expects: $tool, the script's name. Gives: $folder, the current one; $few and $many, numbers of queries whose counts' difference
# is theirs alone, without start, login and end.

# shellcheck disable=SC2034 # for those scripts
few=500 many=2500
bin=${HELIOS_PG_BIN:-/usr/lib/postgresql/15/bin}
export PGSSLMODE=disable PGGSSENCMODE=disable

fail()
{
	echo "${tool:?}: $*" >&2
	exit 1
}

if [ "$(id -u)" = 0 ]; then
	as() { runuser -u postgres -- "$@"; }
	owner=postgres
else
	as() { "$@"; }
	owner=$(id -un)
fi

servers='' proxy=''
clean()
{
	[ -z "$proxy" ] || kill -KILL "$proxy" 2> /dev/null || :
	for name in $servers; do
		as "$bin/pg_ctl" -D "$folder/$name" -m immediate -w stop > /dev/null 2>&1 || :
	done
	rm -rf "$folder"
}

command -v valgrind > /dev/null || fail "needs valgrind (scripts/install-deps test)"
folder=$(mktemp -d /tmp/helios-counted-XXXXXX)
trap clean EXIT
trap 'exit 1' INT TERM
chown "$owner" "$folder"
chmod 755 "$folder"
cd "$folder" || exit 1

# free_ports COUNT: that nobody has, below the range of outgoing connections.
free_ports()
{
	python3 -c '
import os, socket, sys
found = []
port = 20000 + os.getpid() % 5000
while len(found) < int(sys.argv[1]):
    port += 1
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
            found.append(str(port))
        except OSError:
            pass
print(*found)' "$1"
}

# start_server NAME PORT: the latter a folder that is made already.
start_server()
{
	servers="$1 $servers"
	as "$bin/pg_ctl" -D "$1" -l "$folder/$1.log" -w start > /dev/null \
		-o "-c port=$2 -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off" || fail "$(cat "$1.log")"
}

# make_primary PORT
make_primary()
{
	as "$bin/initdb" -D primary -U bench -A trust --locale=C --no-sync > initdb.log 2>&1 || fail "$(cat initdb.log)"
	start_server primary "$1"
	as "$bin/pgbench" -h 127.0.0.1 -p "$1" -U bench -i -q -s 1 postgres > init.log 2>&1 || fail "$(cat init.log)"
}

# configure PORT LISTEN ADMIN: the proxy of one node; the rest of the file comes from stdin.
configure()
{
	cat > proxy.toml <<-END
		[proxy]
		listen_address = "127.0.0.1:$2"
		admin_address = "${3:+127.0.0.1:$3}"
		workers = 1
		spin = "off"
		io = "epoll"
		[pool]
		mode = "transaction"
		max_connections = 4
		[auth]
		mode = "trust"
		[server_tls]
		mode = "disable"
		[log]
		level = "warn"
		connections = false
		disconnections = false
		[[nodes]]
		host = "127.0.0.1"
		port = $1
		role = "primary"
	END
	cat >> proxy.toml
}

# ask PORT
ask()
{
	"$bin/psql" -XAtq -h 127.0.0.1 -p "$1" -U bench -d postgres -c 'SELECT 1' > /dev/null 2>&1
}

# start_proxy BINARY LISTEN VALGRIND-OPTION...: not in a subshell, for $proxy must be known.
start_proxy()
{
	binary=$1 listen=$2
	shift 2
	valgrind --tool=callgrind "$@" "$binary" --config proxy.toml > valgrind.log 2>&1 &
	proxy=$!
	n=0
	until ask "$listen"; do
		n=$((n + 1))
		if [ $n -gt 600 ] || ! kill -0 "$proxy" 2> /dev/null; then
			fail "the proxy doesn't start: $(cat valgrind.log)"
		fi
		sleep 0.2
	done
}

# run_queries LISTEN PROTOCOL COUNT
run_queries()
{
	"$bin/pgbench" -h 127.0.0.1 -p "$1" -U bench -n -S -M "$2" -t "$3" --random-seed=1 postgres > pgbench.log 2>&1 ||
		fail "$(cat pgbench.log)"
}

end_proxy()
{
	kill -TERM "$proxy"
	wait "$proxy" || fail "the proxy failed: $(cat valgrind.log)"
	proxy=''
}
