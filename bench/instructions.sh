#!/bin/sh
# Instructions that one worker executes for each query, counted by callgrind: a repeatable number on a busy machine.
#
#   bench/instructions.sh BINARY [simple|extended|prepared]...
#
# pgbench's select-only with a fixed seed runs twice with different numbers of queries; the difference between both
# counts is theirs alone, without start, login and end. KEEP=FOLDER keeps callgrind's files there (callgrind_annotate).
set -eu

few=500 many=2500
bin=${HELIOS_PG_BIN:-/usr/lib/postgresql/15/bin}

fail()
{
	echo "instructions.sh: $*" >&2
	exit 1
}

if [ $# -lt 1 ] || [ ! -x "$1" ]; then
	fail "usage: bench/instructions.sh BINARY [simple|extended|prepared]..."
fi
binary=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- simple extended prepared
command -v valgrind > /dev/null || fail "needs valgrind"

if [ "$(id -u)" = 0 ]; then
	as() { runuser -u postgres -- "$@"; }
	owner=postgres
else
	as() { "$@"; }
	owner=$(id -un)
fi

folder=$(mktemp -d /tmp/helios-instructions-XXXXXX)
chown "$owner" "$folder"
chmod 755 "$folder"
proxy=
port=$((21000 + $$ % 5000))
listen=$((port + 5000))

clean()
{
	[ -z "$proxy" ] || kill -KILL "$proxy" 2> /dev/null || :
	as "$bin/pg_ctl" -D "$folder/data" -m immediate -w stop > /dev/null 2>&1 || :
	rm -rf "$folder"
}
trap clean EXIT
trap 'exit 1' INT TERM

cd "$folder"
as "$bin/initdb" -D data -U bench -A trust --locale=C --no-sync > initdb.log 2>&1 || fail "$(cat initdb.log)"
as "$bin/pg_ctl" -D data -l "$folder/postgres.log" -w start > /dev/null \
	-o "-c port=$port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off" ||
	fail "$(cat postgres.log)"
as "$bin/pgbench" -h 127.0.0.1 -p "$port" -U bench -i -q -s 1 postgres > init.log 2>&1 || fail "$(cat init.log)"

cat > proxy.toml <<-EOF
	[proxy]
	listen_address = "127.0.0.1:$listen"
	admin_address = ""
	workers = 1
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
	port = $port
	role = "primary"
EOF
chown "$owner" proxy.toml

# count PROTOCOL QUERIES: the instructions of a whole life of the proxy. Not in a subshell: $proxy must be known.
count()
{
	out=$folder/callgrind.$1.$2
	valgrind --tool=callgrind --callgrind-out-file="$out" "$binary" --config proxy.toml > valgrind.log 2>&1 &
	proxy=$!
	n=0
	until PGSSLMODE=disable "$bin/psql" -XAtq -h 127.0.0.1 -p "$listen" -U bench -d postgres -c "SELECT 1" \
		> /dev/null 2>&1; do
		n=$((n + 1))
		if [ $n -gt 150 ] || ! kill -0 "$proxy" 2> /dev/null; then
			fail "the proxy doesn't start: $(cat valgrind.log)"
		fi
		sleep 0.2
	done
	PGSSLMODE=disable PGGSSENCMODE=disable "$bin/pgbench" -h 127.0.0.1 -p "$listen" -U bench -n -S -M "$1" -t "$2" \
		--random-seed=1 postgres > pgbench.log 2>&1 || fail "$(cat pgbench.log)"
	kill -TERM "$proxy"
	wait "$proxy" || fail "the proxy failed: $(cat valgrind.log)"
	proxy=
	counted=$(sed -n 's/^summary: *\([0-9]*\).*/\1/p; s/^totals: *\([0-9]*\).*/\1/p' "$out" | tail -n 1)
	[ -z "${KEEP:-}" ] || cp "$out" "$KEEP/"
}

for protocol; do
	count "$protocol" $few
	first=$counted
	count "$protocol" $many
	echo "$protocol $(((counted - first) / (many - few)))"
done
