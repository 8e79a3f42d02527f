#!/bin/sh
# Instructions that one worker executes for each query, counted by callgrind: a repeatable number on a busy machine.
#
#   bench/instructions.sh [BINARY] [PROTOCOL]...     simple, extended and prepared, or those that are named
#   bench/instructions.sh --check [BINARY]           fails when one is 3 % above bench/results/instructions.txt
#   bench/instructions.sh --record [BINARY]          writes that file anew, after a change that is worth its price
#
# BINARY is a release build; without it build-release is made and brought up to date. pgbench's select-only with a
# fixed seed runs twice with different numbers of queries; the difference between both counts is theirs alone, without
# start, login and end. KEEP=FOLDER keeps callgrind's files there (callgrind_annotate).
set -eu

few=500 many=2500 allowed=3
bin=${HELIOS_PG_BIN:-/usr/lib/postgresql/15/bin}
repo=$(realpath "$(dirname "$0")/..")
recorded=$repo/bench/results/instructions.txt

fail()
{
	echo "instructions.sh: $*" >&2
	exit 1
}

action=print
case ${1:-} in
--check | --record)
	action=${1#--}
	shift
	;;
-*)
	sed -n '2,10s/^# \{0,1\}//p' "$0"
	exit 2
	;;
esac
command -v valgrind > /dev/null || fail "needs valgrind (scripts/install-deps test)"
case ${1:-simple} in
simple | extended | prepared)
	binary=$repo/build-release/src/server/heliosdb-proxy
	[ -e "$repo/build-release/build.ninja" ] ||
		(cd "$repo" && meson setup build-release -Dbuildtype=release -Dunit_tests=disabled > /dev/null) ||
		fail "build-release can't be made"
	ninja -C "$repo/build-release" src/server/heliosdb-proxy >&2 || fail "the release build fails"
	;;
*)
	binary=$(realpath "$1")
	shift
	;;
esac
[ -x "$binary" ] || fail "there is no proxy at $binary"
[ $# -gt 0 ] || set -- simple extended prepared

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
# Two ports that nobody has, below the range of outgoing connections.
free_ports()
{
	python3 -c '
import os, socket
found = []
port = 20000 + os.getpid() % 5000
while len(found) < 2:
    port += 1
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
            found.append(str(port))
        except OSError:
            pass
print(*found)'
}

ports=$(free_ports)
port=${ports% *} listen=${ports#* }

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
		if [ $n -gt 600 ] || ! kill -0 "$proxy" 2> /dev/null; then
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

# measure PROTOCOL: $measured is the number of instructions of a query.
measure()
{
	count "$1" $few
	first=$counted
	count "$1" $many
	measured=$(((counted - first) / (many - few)))
}

# What the numbers hang on besides our code. A test machine with other versions may need a record of its own.
tools()
{
	echo "# $(cc --version | head -n 1); $(getconf GNU_LIBC_VERSION); $(valgrind --version); $("$bin/postgres" --version)"
}

# check PROTOCOL: whatever disturbs a run only adds to its count, so the smaller of two counts.
check()
{
	before=$(sed -n "s/^$1 \([0-9]*\)$/\1/p" "$recorded")
	[ -n "$before" ] || fail "$recorded has no line for $1: bench/instructions.sh --record"
	measure "$1"
	if [ $((measured * 100)) -gt $((before * (100 + allowed))) ]; then
		again=$measured
		measure "$1"
		[ "$measured" -lt "$again" ] || measured=$again
	fi
	change=$(awk "BEGIN { printf \"%+.1f\", ($measured / $before - 1) * 100 }")
	if [ $((measured * 100)) -gt $((before * (100 + allowed))) ]; then
		echo "FAILED $1 $measured instructions a query, recorded $before ($change %)"
		failed=$((failed + 1))
	else
		echo "$1 $measured instructions a query, recorded $before ($change %)"
		passed=$((passed + 1))
		[ $((measured * 100)) -ge $((before * (100 - allowed))) ] ||
			echo "That is a gain worth keeping: bench/instructions.sh --record"
	fi
}

case $action in
print)
	for protocol; do
		measure "$protocol"
		echo "$protocol $measured"
	done
	;;
record)
	lines=$(tools)
	for protocol; do
		measure "$protocol"
		lines=$(printf '%s\n%s %s' "$lines" "$protocol" "$measured")
	done
	echo "$lines" | tee "$recorded"
	;;
check)
	passed=0 failed=0
	for protocol; do
		check "$protocol"
	done
	if [ $failed -gt 0 ]; then
		echo "More than $allowed % above what is recorded. If that is worth it: bench/instructions.sh --record"
		[ "$(tools)" = "$(grep '^#' "$recorded")" ] ||
			printf 'The record was made with other tools:\n%s\nand these are\n%s\n' "$(grep '^#' "$recorded")" "$(tools)"
	fi
	echo "$passed passed, $failed failed"
	[ $failed = 0 ]
	;;
esac
