# shellcheck shell=bash
# What quickstart, check and scripts/* share: messages, long steps with progress, being root.
# Sourced with `set -euo pipefail` in force. Nothing here reads /proc or needs a terminal.

if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
	bold=$'\e[1m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m' on_terminal=yes
else
	bold='' red='' dim='' plain='' on_terminal=''
fi

say()
{
	printf '%s\n' "$*"
}

# A finding under the step that is running.
note()
{
	printf '    %s\n' "$*"
}

warn()
{
	printf '    %s%s%s\n' "$bold" "$*" "$plain" >&2
}

# die WHAT [WHAT TO DO...]: one line each.
die()
{
	printf '\n%s%s: %s%s\n' "$red" "${0##*/}" "$1" "$plain" >&2
	shift
	while (($# > 0)); do
		printf '    %s\n' "$1" >&2
		shift
	done
	exit 1
}

# The end of a log, indented, for a message about what failed.
show_end_of()
{
	local log=$1 lines=${2:-15}

	[[ -s $log ]] || return 0
	printf '\n    last lines of %s:\n' "$log" >&2
	tail -n "$lines" "$log" | sed 's/^/    | /' >&2
}

seconds_since()
{
	printf '%d s' $((SECONDS - $1))
}

running_step=''
step_may_be_stopped=yes # no: it is waited for instead; for package managers

# Runs a command whose output goes to a log, and shows that time passes. Returns the command's status. It gets a process
# group of its own (set -m), so that stop_running_step reaches all of it.
run_logged()
{
	local label=$1 log=$2 began=$SECONDS shown=0 now status=0
	shift 2

	if [[ $step_may_be_stopped == yes ]]; then
		set -m
	fi
	"$@" >>"$log" 2>&1 </dev/null &
	running_step=$!
	set +m
	while kill -0 "$running_step" 2>/dev/null; do
		now=$((SECONDS - began))
		if [[ $on_terminal ]]; then
			printf '\r    %s %s... %d s%s\e[K' "$dim" "$label" "$now" "$plain"
		elif ((now >= shown + (shown < 60 ? 15 : 60))); then # rarer when it takes long
			shown=$now
			printf '    %s ... %d s\n' "$label" "$now"
		fi
		sleep 0.2
	done
	wait "$running_step" || status=$?
	running_step=''
	if [[ $on_terminal ]]; then
		printf '\r\e[K'
	fi
	if ((status == 0)); then
		note "$label: done in $(seconds_since "$began")"
	fi
	return "$status"
}

# For EXIT traps.
stop_running_step()
{
	[[ $running_step ]] || return 0
	if [[ $step_may_be_stopped == yes ]]; then
		kill -- "-$running_step" 2>/dev/null || true
	else
		warn 'waiting for the program that runs to end'
	fi
	wait "$running_step" 2>/dev/null || true
	running_step=''
}

# Runs a command as root: directly, or by sudo. need_root says beforehand why it is wanted.
as_root()
{
	if ((EUID == 0)); then
		"$@"
	else
		sudo "$@"
	fi
}

# need_root WHAT FOR [WITHOUT IT]: ends the script when neither root nor sudo is to be had.
need_root()
{
	((EUID == 0)) && return 0
	if ! command -v sudo >/dev/null; then
		die "$1 needs root, and there is no sudo here." "${@:2}" "Or run this as root."
	fi
	sudo -n true 2>/dev/null && return 0
	if [[ ! -t 0 ]]; then
		die "$1 needs root; sudo asks for a password, and there is no terminal to type it." "${@:2}" "Or run this as root."
	fi
	say "    $1 needs root: sudo may ask for your password."
	sudo -v || die "sudo refused." "${@:2}" "Or run this as root."
}

# Free space at a path (or its nearest parent that exists), in MB. Empty when it cannot be told.
free_megabytes()
{
	local path=$1 numbers

	while [[ ! -e $path && $path != / ]]; do
		path=$(dirname "$path")
	done
	# stat, not df: df wants /proc/mounts.
	numbers=$(stat -f -c '%a * %S' "$path" 2>/dev/null) || return 0
	printf '%d' $(((numbers) / 1048576))
}
