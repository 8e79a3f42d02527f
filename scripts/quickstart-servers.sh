# shellcheck shell=bash disable=SC2154
# The servers of ./quickstart: PostgreSQL's three and the proxy; their configuration, creation, start and stop. Sourced by
# quickstart, which has the variables (dir, bin, port, node_port ...), as_user and the locks.

# ---- PostgreSQL ----

# SQL on a node as superuser, over the socket in our folder.
node_sql()
{
	local name=$1
	shift
	in_dir_as_user "$bin/psql" "${psql_options[@]}" -h "$dir/run" -p "${node_port[$name]}" -U postgres -d "${db:-postgres}" "$@"
}

write_node_conf()
{
	local name=$1
	{
		cat <<-EOF
			# Written by ./quickstart at each start.
			port = ${node_port[$name]}
			listen_addresses = '127.0.0.1'
			unix_socket_directories = '$dir/run'
			unix_socket_permissions = 0700
			cluster_name = '$name'
			max_connections = 200
			shared_buffers = 32MB
			max_wal_size = 128MB
			max_slot_wal_keep_size = 512MB
			wal_level = replica
			wal_log_hints = on
			hot_standby = on
			max_wal_senders = 10
			max_replication_slots = 10
			password_encryption = 'scram-sha-256'
			synchronous_standby_names = 'FIRST 1 ("standby-sync")'
			logging_collector = off
			log_line_prefix = '%m [%p] %q%u@%d %a '
		EOF
		if [[ $name != primary ]]; then
			cat <<-EOF
				primary_conninfo = 'host=$dir/run port=${node_port[primary]} user=postgres application_name=$name'
				primary_slot_name = '${name//-/_}'
			EOF
		fi
	} | write_file "$name/quickstart.conf"
}

create_primary()
{
	in_dir_as_user rm -rf "$dir/primary.new"
	in_dir_as_user "$bin/initdb" -D "$dir/primary.new" -U postgres -E UTF8 --locale=C.UTF-8 --no-sync -k \
		--auth-local=trust --auth-host=scram-sha-256 || return 1
	echo "include 'quickstart.conf'" | in_dir_as_user tee -a "$dir/primary.new/postgresql.conf" >/dev/null
	# The folder is closed to others (0700), so trust on its socket is trust in its owner only.
	write_file primary.new/pg_hba.conf <<-EOF
		local  all          postgres                trust
		local  replication  postgres                trust
		local  all          all                     scram-sha-256
		host   all          all       127.0.0.1/32  scram-sha-256
	EOF
	in_dir_as_user mv "$dir/primary.new" "$dir/primary"
}

create_standby()
{
	local name=$1 slot=${1//-/_}

	in_dir_as_user rm -rf "$dir/$name.new"
	node_sql primary -c "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '$slot' AND NOT active" &&
		in_dir_as_user "$bin/pg_basebackup" -h "$dir/run" -p "${node_port[primary]}" -U postgres -D "$dir/$name.new" \
			--wal-method=stream --checkpoint=fast --create-slot --slot="$slot" --no-sync &&
		in_dir_as_user touch "$dir/$name.new/standby.signal" &&
		in_dir_as_user mv "$dir/$name.new" "$dir/$name"
}

explain_postgresql()
{
	local name=$1 log=$2

	show_end_of "$log"
	if grep -q 'Address already in use' "$log"; then
		die "$name: port ${node_port[$name]} was taken by another program a moment ago." 'Run ./quickstart again: it looks for another one.'
	elif grep -q 'No space left on device' "$log"; then
		die "$name: the disk is full." 'Make room, then run ./quickstart again.'
	elif grep -qE 'could not (create|resize|map) (shared memory|semaphores)|could not open shared memory' "$log"; then
		die "$name: the system gives no shared memory." 'In a container: give it more (--shm-size=256m), or mount /dev/shm.'
	fi
	die "the PostgreSQL server \"$name\" does not start." "Its log: $log" './quickstart reset starts over with empty data.'
}

start_node()
{
	local name=$1 log=$dir/logs/$1.log

	if is_running "$name"; then
		note "$name runs already, on port ${node_port[$name]}"
		return
	fi
	write_node_conf "$name"
	write_file "${log#"$dir"/}" </dev/null
	holding_lock "$name" --wait "$bin/pg_ctl" start -D "$dir/$name" -l "$log" -w -t 60 -s >/dev/null 2>&1 </dev/null ||
		explain_postgresql "$name" "$log"
	note "$name runs on port ${node_port[$name]}"
}

start_postgresql()
{
	local name log=$dir/logs/create.log

	write_file "${log#"$dir"/}" </dev/null
	if [[ ! -d $dir/primary ]]; then
		run_logged 'initdb of the primary' "$log" create_primary || explain_postgresql primary "$log"
	fi
	start_node primary
	for name in "${nodes[@]:1}"; do
		if [[ ! -d $dir/$name ]]; then
			run_logged "pg_basebackup of $name" "$log" create_standby "$name" || explain_postgresql "$name" "$log"
		fi
		start_node "$name"
	done
	if ! wait_for 30 standbys_stream; then
		show_end_of "$dir/logs/standby-sync.log" 5
		show_end_of "$dir/logs/standby-async.log" 5
		die 'the standbys do not follow the primary.' './quickstart reset starts over with empty data.'
	fi
	note 'both standbys stream from the primary, one of them synchronously'
	create_application || die "the user $app_user and the database $database cannot be made." "The primary's log: $dir/logs/primary.log"
}

standbys_stream()
{
	[[ $(node_sql primary -c "SELECT count(*), count(*) FILTER (WHERE sync_state = 'sync') FROM pg_stat_replication
		WHERE state = 'streaming'") == '2|1' ]]
}

# The application's user and database. The password goes in by standard input, where ps does not show it.
create_application()
{
	node_sql primary <<-EOF &&
		SELECT format('CREATE ROLE %I LOGIN', '$app_user')
		WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$app_user') \\gexec
		ALTER ROLE $app_user PASSWORD '$password';
		SELECT 'CREATE ROLE monitor LOGIN IN ROLE pg_monitor'
		WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'monitor') \\gexec
		ALTER ROLE monitor PASSWORD '$password';
		SELECT format('CREATE DATABASE %I OWNER %I', '$database', '$app_user')
		WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '$database') \\gexec
	EOF
		db=$database node_sql primary <<-EOF
			SET client_min_messages = warning;
			CREATE TABLE IF NOT EXISTS visits (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), note text);
			ALTER TABLE visits OWNER TO $app_user;
			CREATE OR REPLACE FUNCTION served_by() RETURNS text LANGUAGE sql STABLE
			AS \$\$ SELECT current_setting('cluster_name') \$\$;
		EOF
}

stop_node()
{
	local name=$1

	is_running "$name" || return 0
	in_dir_as_user "$bin/pg_ctl" stop -D "$dir/$name" -m fast -w -t 30 -s >/dev/null 2>&1 ||
		in_dir_as_user "$bin/pg_ctl" stop -D "$dir/$name" -m immediate -w -t 10 -s >/dev/null 2>&1 || true
	wait_for 5 is_stopped "$name" || die "$name does not end." "Its process id is in $dir/$name/postmaster.pid"
	note "$name stopped"
}

# ---- the proxy ----

write_proxy_conf()
{
	write_file proxy.toml <<-EOF
		# Written by ./quickstart at each start of the proxy. To keep your own: copy it, and run
		#   $dir/bin/heliosdb-proxy --config your.toml
		# Here both addresses are of this machine only; 0.0.0.0 would open them to others.
		[proxy]
		listen_address = "127.0.0.1:$port"
		admin_address = "127.0.0.1:$admin_port"

		[pool]
		mode = "transaction"
		min_connections = 5
		max_connections = 100
		idle_timeout_secs = 300

		[load_balancer]
		strategy = "least_connections"
		read_write_split = true

		# With a user the monitors find out which node is the primary, and how far the standbys lag: so reads can go there.
		[health]
		user = "monitor"
		password = "$password"
		check_interval_secs = 5
		check_query = "SELECT 1"
		failure_threshold = 3

		[[nodes]]
		name = "primary"
		host = "127.0.0.1"
		port = ${node_port[primary]}
		role = "primary"

		[[nodes]]
		name = "standby-sync"
		host = "127.0.0.1"
		port = ${node_port[standby-sync]}
		role = "standby"
		sync = true

		[[nodes]]
		name = "standby-async"
		host = "127.0.0.1"
		port = ${node_port[standby-async]}
		role = "standby"
	EOF
}

# The shell that becomes the proxy leaves its process id; while the lock is held, the id is the proxy's.
launch_proxy()
{
	# shellcheck disable=SC2016 # the inner shell expands
	holding_lock proxy --fork sh -c 'echo $$ >"$0/proxy.pid" && exec "$0/bin/heliosdb-proxy" --config "$0/proxy.toml"' "$dir"
}

proxy_answers()
{
	proxy_psql -c 'SELECT 1'
}

# It may have been replaced by SIGUSR2, or be starting: ask the lock, and then the port.
proxy_answers_or_died()
{
	is_stopped proxy || proxy_answers
}

start_proxy()
{
	local log=$dir/logs/proxy.log

	if is_running proxy; then
		note "the proxy runs already, on port $port"
		return
	fi
	write_proxy_conf
	write_file "${log#"$dir"/}" </dev/null
	if ! in_dir_as_user "$dir/bin/heliosdb-proxy" --check-config --config "$dir/proxy.toml" >>"$log" 2>&1; then
		show_end_of "$log"
		die 'the proxy refuses its configuration.' "The file: $dir/proxy.toml"
	fi
	launch_proxy >>"$log" 2>&1 </dev/null
	wait_for 5 is_running proxy || true
	if ! wait_for 20 proxy_answers_or_died || is_stopped proxy; then
		show_end_of "$log"
		if grep -qi 'address already in use' "$log"; then
			die "port $port or $admin_port was taken by another program a moment ago." 'Run ./quickstart again: it looks for others.'
		fi
		die 'the proxy does not answer.' "Its log: $log" "Its configuration: $dir/proxy.toml"
	fi
	note "the proxy runs on port $port, its admin API on port $admin_port"
	if ! wait_for 5 admin_answers; then
		warn "its admin API does not answer on port $admin_port; the log is $log"
	fi
}

# By bash's own /dev/tcp: a bare Debian has no HTTP client.
admin_answers()
{
	(
		exec 3<>"/dev/tcp/127.0.0.1/$admin_port"
		printf 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
		read -r -t 5 _ status _ <&3
		[[ $status == 200 ]]
	) 2>/dev/null
}

stop_proxy()
{
	local pid signal

	is_running proxy || return 0
	pid=$(in_dir_as_user cat "$dir/proxy.pid")
	# The first asks it to finish the transactions under way, the second to end at once.
	for signal in TERM:15 TERM:5 KILL:5; do
		is_running proxy || break
		# The shell's own kill: a bare Debian has no other.
		# shellcheck disable=SC2016 # the inner shell expands
		in_dir_as_user sh -c 'kill -s "$1" "$2"' sh "${signal%:*}" "$pid" 2>/dev/null || true
		wait_for "${signal#*:}" is_stopped proxy || true
	done
	is_stopped proxy || die 'the proxy does not end.' "Its process id is $pid."
	note 'proxy stopped'
}
