#!/bin/bash
# Instructions that routing adds to a read that goes to a standby: the same proxy, with the split and without, counted by
# callgrind as bench/instructions.sh does, here of the worker's thread alone (monitors have one of their own).
#
#   bench/routed.sh [--check] [PROTOCOL]...     simple, extended and prepared, or those that are named
#
# --check: fails when it adds more than 3 %. KEEP=FOLDER keeps callgrind's files there. A connection that is opened amid one of
# the runs adds some 50 instructions: what is above the limit is counted again, up to three times in all.
set -euo pipefail

tool=routed.sh allowed=3
repo=$(realpath "$(dirname "$0")/..")
built=$repo/build-release/src/server/heliosdb-proxy
[[ -x $built ]] || { echo "$tool: a release build is needed: bench/instructions.sh makes it" >&2; exit 1; }
checks=false
if [[ ${1:-} == --check ]]; then
	checks=true
	shift
fi
(($# > 0)) || set -- simple extended prepared
# shellcheck source=bench/counted.sh
source "$repo/bench/counted.sh"

read -r port standby_port listen admin < <(free_ports 4)
make_primary "$port"
as "$bin/pg_basebackup" -h 127.0.0.1 -p "$port" -U bench -D standby -R -c fast
start_server standby "$standby_port"

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

	configure "$port" "$listen" "$admin" <<-END
		[[nodes]]
		host = "127.0.0.1"
		port = $standby_port
		role = "standby"
		[health]
		user = "bench"
		[load_balancer]
		read_write_split = $split
	END
	rm -f "$out"*
	start_proxy "$built" "$listen" --separate-threads=yes --callgrind-out-file="$out"
	if [[ $split == true ]]; then
		until (($(routed) > 0)); do # the catalog has been read, the standby is known
			ask "$listen"
			sleep 0.2
		done
	fi
	run_queries "$listen" "$protocol" "$queries"
	[[ $split == false ]] || (($(routed) >= queries)) || fail "not all reads went to the standby"
	end_proxy
	[[ -z ${KEEP:-} ]] || cp "$out"* "$KEEP/"
}

# difference SPLIT PROTOCOL: instructions of a query, of the thread that has most of them: the worker's.
difference()
{
	python3 - "$folder/callgrind.$1.$2" $few $many <<-'END'
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
	END
}

# measure PROTOCOL: $alone and $split are instructions of a query, $added in hundredths of a percent.
measure()
{
	count false "$1" $few
	count false "$1" $many
	alone=$(difference false "$1")
	count true "$1" $few
	count true "$1" $many
	split=$(difference true "$1")
	added=$(((split - alone) * 10000 / alone))
}

failed=0
for protocol; do
	measure "$protocol"
	for ((tries = 1; tries < 3 && added > allowed * 100; tries++)); do
		measure "$protocol"
	done
	printf '%-9s %d instructions a query, routed %d (%+d.%02d %%)\n' "$protocol" "$alone" "$split" $((added / 100)) $((added % 100))
	((added <= allowed * 100)) || failed=$((failed + 1))
done
if $checks; then
	echo "$(($# - failed)) passed, $failed failed"
	((failed == 0))
fi
