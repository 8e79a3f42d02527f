#!/bin/sh
# Instructions that one worker executes for each query, counted by callgrind: a repeatable number on a busy machine.
#
#   bench/instructions.sh [BINARY] [PROTOCOL]...     simple, extended and prepared, or those that are named
#   bench/instructions.sh --check [BINARY]           fails when one is 3 % above bench/results/instructions.txt, or 4 % more
#                                                    with query statistics
#   bench/instructions.sh --record [BINARY]          writes that file anew, after a change that is worth its price
#
# BINARY is a release build; without it build-release is made and brought up to date. pgbench's select-only with a
# fixed seed runs twice with different numbers of queries; the difference between both counts is theirs alone, without
# start, login and end. KEEP=FOLDER keeps callgrind's files there (callgrind_annotate); MORE=FILE is added to proxy.toml.
set -eu

allowed=3 statistics_allowed=4
tool=instructions.sh
repo=$(realpath "$(dirname "$0")/..")
recorded=$repo/bench/results/instructions.txt

action=print
case ${1:-} in
--check | --record)
	action=${1#--}
	shift
	;;
-*)
	sed -n '2,11s/^# \{0,1\}//p' "$0"
	exit 2
	;;
esac
case ${1:-simple} in
simple | extended | prepared)
	built=$repo/build-release/src/server/heliosdb-proxy
	[ -e "$repo/build-release/build.ninja" ] ||
		(cd "$repo" && meson setup build-release -Dbuildtype=release -Dunit_tests=disabled > /dev/null)
	ninja -C "$repo/build-release" src/server/heliosdb-proxy >&2
	;;
*)
	built=$(realpath "$1")
	shift
	;;
esac
[ $# -gt 0 ] || set -- simple extended prepared
# shellcheck source=bench/counted.sh
. "$repo/bench/counted.sh"
[ -x "$built" ] || fail "there is no proxy at $built"

ports=$(free_ports 2)
port=${ports% *} listen=${ports#* }
make_primary "$port"
configure "$port" "$listen" "" < "${MORE:-/dev/null}"

# count PROTOCOL QUERIES: the instructions of a whole life of the proxy.
count()
{
	out=$folder/callgrind.$1.$2
	start_proxy "$built" "$listen" --callgrind-out-file="$out"
	run_queries "$listen" "$1" "$2"
	end_proxy
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

# is_above BASE PERCENT: $measured is more than so much above it.
is_above()
{
	[ $((measured * 100)) -gt $(($1 * (100 + $2))) ]
}

# compare PROTOCOL BASE PERCENT: $measured, and $change. Whatever disturbs a run only adds to its count, so what is above is counted
# twice, and the smaller count taken. Not as a condition: a failure in it would not end the script.
compare()
{
	measure "$1"
	if is_above "$2" "$3"; then
		again=$measured
		measure "$1"
		[ "$measured" -lt "$again" ] || measured=$again
	fi
	change=$(awk "BEGIN { printf \"%+.1f\", ($measured / $2 - 1) * 100 }")
}

# check PROTOCOL
check()
{
	before=$(sed -n "s/^$1 \([0-9]*\)$/\1/p" "$recorded")
	[ -n "$before" ] || fail "$recorded has no line for $1: bench/instructions.sh --record"
	compare "$1" "$before" "$allowed"
	if ! is_above "$before" "$allowed"; then
		echo "$1 $measured instructions a query, recorded $before ($change %)"
		passed=$((passed + 1))
		[ $((measured * 100)) -ge $((before * (100 - allowed))) ] ||
			echo "That is a gain worth keeping: bench/instructions.sh --record"
	else
		echo "FAILED $1 $measured instructions a query, recorded $before ($change %)"
		failed=$((failed + 1))
	fi
}

# check_statistics PROTOCOL: the same with [analytics], against what was just measured without.
check_statistics()
{
	without=$measured
	printf '[analytics]\nenabled = true\n' | configure "$port" "$listen" ""
	compare "$1" "$without" "$statistics_allowed"
	configure "$port" "$listen" "" < /dev/null
	if ! is_above "$without" "$statistics_allowed"; then
		echo "$1 with query statistics $measured instructions a query ($change %)"
		passed=$((passed + 1))
	else
		echo "FAILED $1 with query statistics $measured instructions a query ($change %, at most +$statistics_allowed %)"
		failed=$((failed + 1))
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
		check_statistics "$protocol"
	done
	if [ $failed -gt 0 ]; then
		echo "More than $allowed % above what is recorded, or query statistics cost more than they may. If that is worth it: bench/instructions.sh --record"
		[ "$(tools)" = "$(grep '^#' "$recorded")" ] ||
			printf 'The record was made with other tools:\n%s\nand these are\n%s\n' "$(grep '^#' "$recorded")" "$(tools)"
	fi
	echo "$passed passed, $failed failed"
	[ $failed = 0 ]
	;;
esac
