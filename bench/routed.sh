#!/bin/bash
# Instructions that routing adds to a read that goes to a standby: the same proxy, with the split and without, counted by
# callgrind as bench/instructions.sh does, here of the worker's thread alone (monitors have one of their own).
#
#   bench/routed.sh [PROTOCOL]...     simple, extended and prepared, or those that are named
set -euo pipefail

few=500 many=2500
bin=${HELIOS_PG_BIN:-/usr/lib/postgresql/15/bin}
repo=$(realpath "$(dirname "$0")/..")
binary=$repo/build-release/src/server/heliosdb-proxy
[[ -x $binary ]] || { echo "routed.sh: a release build is needed: bench/instructions.sh makes it" >&2; exit 1; }
(($# > 0)) || set -- simple extended prepared

as()
{
	if ((EUID == 0)); then runuser -u postgres -- "$@"; else "$@"; fi
}

folder=$(mktemp -d /tmp/helios-routed-XXXXXX)
((EUID != 0)) || chown postgres "$folder"
chmod 755 "$folder"
proxy=''
clean()
{
	[[ -z $proxy ]] || kill -KILL "$proxy" 2>/dev/null || true
	for node in standby primary; do
		as "$bin/pg_ctl" -D "$folder/$node" -m immediate -w stop >/dev/null 2>&1 || true
	done
	rm -rf "$folder"
}
trap clean EXIT
trap 'exit 1' INT TERM
cd "$folder"

read -r port standby_port listen admin < <(python3 -c '
import socket
probes = [socket.socket() for _ in range(4)]
for probe in probes:
    probe.bind(("127.0.0.1", 0))
print(*(probe.getsockname()[1] for probe in probes))')

start()
{
	as "$bin/pg_ctl" -D "$1" -l "$folder/$1.log" -w start >/dev/null \
		-o "-c port=$2 -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
}

as "$bin/initdb" -D primary -U bench -A trust --locale=C --no-sync >/dev/null
start primary "$port"
as "$bin/pgbench" -h 127.0.0.1 -p "$port" -U bench -i -q -s 1 postgres >/dev/null 2>&1
as "$bin/pg_basebackup" -h 127.0.0.1 -p "$port" -U bench -D standby -R -c fast
start standby "$standby_port"
export PGSSLMODE=disable PGGSSENCMODE=disable

ask()
{
	"$bin/psql" -XAtq -h 127.0.0.1 -p "$listen" -U bench -d postgres -c 'SELECT 1' >/dev/null 2>&1
}

routed()
{
	python3 -c '
import re, sys, urllib.request
text = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics").read().decode()
print(re.search(r"routed_total\{to=.standby.,reason=.read.\} (\d+)", text)[1])' "$admin"
}

# count SPLIT PROTOCOL QUERIES: leaves a file for each thread.
count()
{
	local split=$1 protocol=$2 queries=$3 out=$folder/callgrind.$1.$2.$3

	cat >proxy.toml <<-EOF
		[proxy]
		listen_address = "127.0.0.1:$listen"
		admin_address = "127.0.0.1:$admin"
		workers = 1
		io = "epoll"
		spin = "off"
		[pool]
		mode = "transaction"
		max_connections = 4
		[auth]
		mode = "trust"
		[server_tls]
		mode = "disable"
		[log]
		level = "warn"
		[health]
		user = "bench"
		[load_balancer]
		read_write_split = $split
		[[nodes]]
		host = "127.0.0.1"
		port = $port
		role = "primary"
		[[nodes]]
		host = "127.0.0.1"
		port = $standby_port
		role = "standby"
	EOF
	valgrind --tool=callgrind --separate-threads=yes --callgrind-out-file="$out" "$binary" --config proxy.toml >valgrind.log 2>&1 &
	proxy=$!
	until ask; do
		kill -0 "$proxy" || { cat valgrind.log >&2; exit 1; }
		sleep 0.2
	done
	if [[ $split == true ]]; then
		until (($(routed) > 0)); do # the catalog has been read, the standby is known
			ask
			sleep 0.2
		done
	fi
	"$bin/pgbench" -h 127.0.0.1 -p "$listen" -U bench -n -S -M "$protocol" -t "$queries" --random-seed=1 postgres >pgbench.log 2>&1
	if [[ $split == true ]] && (($(routed) < queries)); then
		echo "routed.sh: not all reads went to the standby" >&2
		exit 1
	fi
	kill -TERM "$proxy"
	wait "$proxy"
	proxy=''
}

# difference SPLIT PROTOCOL: instructions of a query, of the thread that has most of them: the worker's.
difference()
{
	python3 - "$folder/callgrind.$1.$2" $few $many <<-'EOF'
		import glob, re, sys
		prefix, few, many = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
		def threads(queries):
		    found = {}
		    for path in glob.glob(f"{prefix}.{queries}-*"):
		        with open(path) as f:
		            total = re.search(r"^(?:totals|summary): (\d+)", f.read(), re.M)
		        found[path.rsplit("-", 1)[1]] = int(total[1]) if total else 0
		    return found
		first, then = threads(few), threads(many)
		print(max(then[t] - first.get(t, 0) for t in then) // (many - few))
	EOF
}

for protocol; do
	for split in false true; do
		count "$split" "$protocol" $few
		count "$split" "$protocol" $many
		declare "measured_$split=$(difference "$split" "$protocol")"
	done
	# shellcheck disable=SC2154 # declared above
	awk -v protocol="$protocol" -v alone="$measured_false" -v routed="$measured_true" \
		'BEGIN { printf "%-9s %d instructions a query, routed %d (%+.1f %%)\n", protocol, alone, routed, (routed / alone - 1) * 100 }'
done
